//! The daemon's side of signals: each is read on its interval by a thread of its own, so that a slow one delays no other.

use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_domain::{
    failure::Failure,
    signal::{Event, Judged, State, sentence},
    terms::{Actor, SignalName, Timestamp},
};
use lastgood_engine::{
    config::SignalConfig,
    deliver::Wake,
    letter::rfc3339,
    signals::{Desk, History, Signal},
    world,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a thread looks whether it was told to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What each signal said last.
pub(super) type States = Arc<Mutex<BTreeMap<SignalName, State>>>;

/// Who writes what signals say.
fn by() -> Actor {
    Actor::new("lastgood:signals").expect("a fixed valid name")
}

/// Ends what stands of signals that are no longer configured.
pub(super) fn forget(app: &App) -> Result<(), Trouble> {
    let mut desk = Desk::new(app.store()?, app.routes());
    let failed = |error| Trouble::new(Exit::Failed, &error);
    let standing: Vec<SignalName> = desk.look().map_err(failed)?.standing.keys().cloned().collect();
    for signal in standing.into_iter().filter(|name| !app.config.signal.contains_key(name)) {
        let decide = |signals: &lastgood_domain::signal::Signals| {
            signals.standing.contains_key(&signal).then(|| Event::Forgotten { signal: signal.clone() })
        };
        desk.say(&by(), world::now(), &decide).map_err(failed)?;
    }
    Ok(())
}

/// Reads one signal again and again until the daemon ends; trouble is said, and the next reading tries anew.
pub(super) fn watch(
    app: &App,
    name: &SignalName,
    config: &SignalConfig,
    states: &States,
    delivery: &Wake,
    stop: &AtomicBool,
) {
    let mut history = History::read(app.home.root(), name);
    let mut silent_since = None;
    // A stranger to the store is opened once, and again after trouble.
    let mut desk = None;
    while !stop.load(Ordering::SeqCst) {
        let due = Instant::now() + config.every.duration();
        let now = world::now();
        let judged = read(app, name, &mut history, now);
        silent_since = (judged.state == State::CannotTell).then(|| silent_since.unwrap_or(now));
        states.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), judged.state);
        if let Err(trouble) = write(app, name, config, &judged, silent_since, now, &mut desk, delivery) {
            app.screen.trouble(&trouble);
            desk = None;
        }
        while Instant::now() < due && !stop.load(Ordering::SeqCst) {
            thread::sleep(LOOK_EVERY.min(due.saturating_duration_since(Instant::now())));
        }
    }
}

fn read(app: &App, name: &SignalName, history: &mut History, now: Timestamp) -> Judged {
    // Made ready each time: a secret may have been rotated.
    let prepared = std::env::current_exe().map(|program| Signal::prepare(&app.config, name, Path::new(&program)));
    let judged = match prepared {
        Ok(Ok(Some(signal))) => signal.check(history, now),
        Ok(Ok(None)) => Judged::unknown("it is not configured"),
        Ok(Err(error)) => Judged::unknown(Failure::of(error.coded()).to_string()),
        Err(error) => Judged::unknown(format!("can't find lastgood's own program: {error}")),
    };
    if let Err(error) = history.keep(app.home.root(), name) {
        app.screen.tell(&format!("the samples of signal {name} can't be kept: {error}"));
    }
    judged
}

#[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and there is one caller")]
fn write(
    app: &App,
    name: &SignalName,
    config: &SignalConfig,
    judged: &Judged,
    silent_since: Option<Timestamp>,
    now: Timestamp,
    desk: &mut Option<Desk>,
    delivery: &Wake,
) -> Result<(), Trouble> {
    let desk = match desk {
        Some(desk) => desk,
        None => desk.insert(Desk::new(app.store()?, app.routes())),
    };
    let patience = config.cannot_tell_after.0;
    let said =
        desk.say(&by(), now, &|signals| signals.decide(name, config.severity, judged, silent_since, patience, now));
    if let Some(record) = said.map_err(|error| Trouble::new(Exit::Failed, &error))? {
        delivery.ring();
        app.screen.tell(&format!("{} {}", rfc3339(record.at), sentence(&record)));
    }
    Ok(())
}
