//! What must be so, looked at when the daemon starts, every hour, and before each forward move.

use crate::app::App;
use lastgood_domain::{
    event::{Aim, Verdict},
    rollout::Checked,
    terms::ServiceName,
};
use lastgood_engine::{
    drive::Happening,
    letter::rfc3339,
    preflight::{self, Asker, Choice},
    world,
};
use lastgood_server::Readiness as Seen;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread,
    time::Instant,
};

/// How often everything declared is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(3_600);

/// How it stood when it was looked at last.
#[derive(Debug, Clone, Default)]
pub(super) struct Readiness {
    seen: Arc<Mutex<Option<Seen>>>,
}

impl Readiness {
    /// Gives what was seen last; none before the first look.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks now and every hour until it is told to stop; says what does not pass once, and when it passes again.
    pub(super) fn keep_looking(&self, app: &App, stop: &AtomicBool) {
        let asker = Asker::default();
        let mut wrong = BTreeSet::new();
        while !stop.load(Ordering::SeqCst) {
            let looked = Instant::now();
            let reports = preflight::look(&app.config, &Choice::default(), &asker);
            let mut checks: BTreeMap<_, u64> = BTreeMap::new();
            for report in &reports {
                *checks.entry((report.severity, report.state)).or_default() += 1;
                let now = rfc3339(world::now());
                let (name, says) = (&report.name, &report.says);
                match &report.failure {
                    Some(failure) if wrong.insert(name.clone()) => {
                        let fix = failure.hint.as_ref().map_or_else(String::new, |hint| format!("; fix: {hint}"));
                        app.screen.tell(&format!("{now} preflight {name}: {failure}{fix}"));
                    }
                    None if wrong.remove(name) => {
                        app.screen.tell(&format!("{now} preflight {name} passes again: {says}"))
                    }
                    _ => {}
                }
            }
            let seen = Seen { at: world::now(), checks };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
            while looked.elapsed() < LOOK_EVERY && !stop.load(Ordering::SeqCst) {
                thread::sleep(super::LOOK_EVERY);
            }
        }
    }
}

/// A run that begins once what must stand before it is looked at.
///
/// A thread looks, so that a way back that is asked for meanwhile waits for nothing.
pub(super) struct Asking {
    aim: Aim,
    answer: Receiver<Option<Checked>>,
}

impl Asking {
    /// Begins to look, if the run moves forward and something is declared; `bell` wakes the driver afterwards.
    pub(super) fn before(
        aim: &Aim,
        app: &App,
        service: &ServiceName,
        asker: &Asker,
        bell: Sender<Happening>,
    ) -> Option<Self> {
        let forward = matches!(aim, Aim::Track | Aim::Drain);
        if !forward || !app.config.preflight.values().any(|check| check.guards(service)) {
            return None;
        }
        let (tell, answer) = mpsc::channel();
        let (config, service, asker) = (app.config.clone(), service.clone(), asker.clone());
        thread::spawn(move || {
            // The daemon may have ended meanwhile.
            let _ = tell.send(preflight::before_deploy(&config, &service, &asker));
            let _ = bell.send(Happening::Woken);
        });
        Some(Self { aim: aim.clone(), answer })
    }

    /// Gives the run and what was seen, once that is known.
    pub(super) fn answered(&self) -> Option<(Aim, Option<Checked>)> {
        match self.answer.try_recv() {
            Ok(checked) => Some((self.aim.clone(), checked)),
            Err(TryRecvError::Empty) => None,
            // It broke before it could tell: that is no yes.
            Err(TryRecvError::Disconnected) => {
                let because = "preflight could not be evaluated".into();
                Some((self.aim.clone(), Some(Checked { verdict: Verdict::CannotTell, because })))
            }
        }
    }
}
