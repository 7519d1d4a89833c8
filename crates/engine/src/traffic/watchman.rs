//! Asks the router each moment how a release on trial does, and tells the driver what its guard says.
//!
//! Nothing here decides: a verdict goes to the step function, which knows what it means.

use super::{
    newest::{Place, place},
    table::synthetic,
};
use crate::drive::Happening;
use lastgood_domain::{
    event::{Health, Settings, Verdict},
    guard::{Doubt, Fallbacks, Guard, GuardSettings, GuardVerdict},
    rollout::Judging,
    service::{Phase, Service},
    terms::{Digest, InstanceName, ServiceName, Timestamp},
    traffic::{DegradedSettings, Share, Slice},
};
use lastgood_drivers::{metric::ReleaseCounters, traffic::Router};
use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

/// How often the router is asked: it finishes a slice each second, and a total failure is to be found within one.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A verdict that stays the same is told again so often, with its newest numbers.
const TELL_EVERY: u64 = 10;

/// What is to be watched now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Duty {
    /// The release on trial and its stage.
    trial: Option<Trial>,
    /// A release that was left and finishes what it has.
    leaves: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trial {
    candidate: Digest,
    /// Whose traffic it is held against; none after a promotion.
    last_good: Option<Digest>,
    share: Share,
    /// Both with their tags, for whoever counts by these.
    tags: Vec<(Digest, String)>,
    /// An instance of the candidate, and what requests of lastgood's own to it carry.
    own: Option<(InstanceName, String)>,
    /// When the stage began.
    began: Timestamp,
    /// Whether it is watched on after its promotion.
    promoted: bool,
    /// What it is held to: what its run began with, not what the configuration says by now.
    guard: GuardSettings,
    /// When it counts as degraded.
    degraded: Option<DegradedSettings>,
}

/// Asks an instance's release as a person would, with what tells the router whose request it is.
pub(crate) type Probe = dyn Fn(&InstanceName, &str) + Send + Sync;

/// Probes of lastgood's own, for where people are too few.
pub(crate) struct Prober {
    /// From the begin of one to the next.
    pub(crate) every: Duration,
    /// How it is done.
    pub(crate) probe: Arc<Probe>,
    /// Whether one is under way.
    pub(crate) busy: Arc<AtomicBool>,
    pub(crate) last: Option<Instant>,
}

impl Prober {
    /// Probes, unless it is too soon or the last one has not ended.
    fn turn(&mut self, instance: &InstanceName, own: &str) {
        if self.last.is_some_and(|last| last.elapsed() < self.every) || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        self.last = Some(Instant::now());
        let (probe, busy) = (Arc::clone(&self.probe), Arc::clone(&self.busy));
        let (instance, own) = (instance.clone(), own.to_owned());
        thread::spawn(move || {
            // What came of it is counted by the router.
            probe(&instance, &own);
            busy.store(false, Ordering::SeqCst);
        });
    }
}

/// Watches one service's traffic from a thread of its own until it is dropped.
pub(crate) struct Watchman {
    duty: Arc<Mutex<Duty>>,
}

impl Watchman {
    /// Begins to watch; says what it sees to `tell`.
    pub(crate) fn begin(
        name: ServiceName,
        router: Arc<dyn Router>,
        counters: Option<ReleaseCounters>,
        prober: Option<Prober>,
        tell: Sender<Happening>,
        now: fn() -> Timestamp,
    ) -> Self {
        let duty = Arc::new(Mutex::new(Duty { trial: None, leaves: None }));
        let kept = Arc::downgrade(&duty);
        let mut round = Round { name, router, counters, prober, unheard: None, tell, now, watch: None, emptied: None };
        thread::spawn(move || round.run(&kept));
        Self { duty }
    }

    /// Says how the service stands; cheap, and to be called after each change.
    pub(crate) fn note(&self, service: &Service, settings: &Settings, now: Timestamp) {
        let standby = service.traffic.standby.as_ref();
        let leaves = standby.filter(|one| !one.empty && now < one.until).map(|one| one.side.release);
        let duty = Duty { trial: trial(service, settings, now), leaves };
        *self.duty.lock().unwrap_or_else(PoisonError::into_inner) = duty;
    }
}

/// Finds what is on trial: a candidate with a share, or a promoted release that is still watched, also while the next
/// one is looked at and has none.
fn trial(service: &Service, settings: &Settings, now: Timestamp) -> Option<Trial> {
    let route = service.traffic.route.as_ref().filter(|_| service.traffic.confirmed)?;
    if let Some(run) = service.run.as_ref().filter(|run| !run.phase.leaves_traffic()) {
        let Phase::Shifting { until: Some(until), .. } = &run.phase else { return None };
        let candidate = route.candidate.as_ref()?.release;
        let steps = run.settings.traffic.iter().flat_map(|traffic| &traffic.steps);
        let bake = steps.into_iter().find(|step| step.share == route.share)?.bake;
        let began = Timestamp(until.0.saturating_sub_unsigned(bake.0));
        let last_good = route.last_good.as_ref().map(|side| side.release).filter(|_| route.share != Share::ALL);
        let traffic = run.settings.traffic.as_ref()?;
        let (guard, degraded) = (traffic.guard.clone(), traffic.degraded);
        let tags = tags(service, candidate, last_good);
        let instance = route.candidate.as_ref().and_then(|side| side.instances.first().cloned());
        let own = instance.zip(synthetic(service, route));
        return Some(Trial {
            candidate,
            last_good,
            tags,
            own,
            share: route.share,
            began,
            promoted: false,
            guard,
            degraded,
        });
    }
    let promoted = service.promoted_at.filter(|_| service.previous_good.is_some())?;
    let watched = now.since(promoted) < settings.watch;
    let candidate = route.last_good.as_ref()?.release;
    (watched && service.last_good == Some(candidate)).then_some(Trial {
        candidate,
        last_good: None,
        tags: tags(service, candidate, None),
        own: None,
        share: Share::ALL,
        began: promoted,
        promoted: true,
        guard: settings.traffic.as_ref()?.guard.clone(),
        degraded: settings.traffic.as_ref()?.degraded,
    })
}

fn tags(service: &Service, candidate: Digest, last_good: Option<Digest>) -> Vec<(Digest, String)> {
    let releases = [Some(candidate), last_good].into_iter().flatten();
    releases.map(|release| (release, service.name_of(Some(&release)))).collect()
}

struct Round {
    name: ServiceName,
    router: Arc<dyn Router>,
    /// Who counts, if not the router.
    counters: Option<ReleaseCounters>,
    /// Who asks where people don't.
    prober: Option<Prober>,
    /// Why nothing was counted at the last look.
    unheard: Option<String>,
    tell: Sender<Happening>,
    now: fn() -> Timestamp,
    watch: Option<Watch>,
    /// The release last said to be empty.
    emptied: Option<Digest>,
}

/// One stage under watch.
struct Watch {
    trial: Trial,
    guard: Guard,
    /// What is answered by a fallback, if anything counts as one.
    fallbacks: Option<Fallbacks>,
    /// The newest second taken.
    taken: u64,
    /// The same of the router's seconds, which tell of fallbacks also where another one counts for the guard.
    seen: u64,
    /// What was told last, and when in seconds since 1970.
    told: Option<(Verdict, u64)>,
    /// The same of what fallbacks answer.
    told_health: Option<(Health, u64)>,
}

impl Watch {
    /// Gives what is to be told of fallbacks: a change, and what lasts now and then.
    fn degrading(&mut self, on: Judging, second: u64) -> Option<Happening> {
        let fallbacks = self.fallbacks.as_ref()?;
        let health = fallbacks.health();
        let stale = |(told, at): (Health, u64)| told != health || second.saturating_sub(at) >= TELL_EVERY;
        if health == Health::CannotTell || !self.told_health.is_none_or(stale) {
            return None;
        }
        self.told_health = Some((health, second));
        Some(Happening::Degrading { on, health, because: fallbacks.says() })
    }
}

impl Round {
    fn run(&mut self, duty: &Weak<Mutex<Duty>>) {
        while let Some(kept) = duty.upgrade() {
            let duty = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
            drop(kept);
            if self.trial(duty.trial).is_err() || self.leaves(duty.leaves).is_err() {
                // The driver has ended.
                return;
            }
            thread::sleep(ASK_EVERY);
        }
    }

    fn trial(&mut self, trial: Option<Trial>) -> Result<(), ()> {
        // Between two stages nothing is asked, and nothing of what speaks against the candidate is forgotten.
        let Some(trial) = trial else { return Ok(()) };
        if self.watch.as_ref().is_none_or(|watch| watch.trial != trial) {
            self.watch = Some(self.begin(trial));
        }
        let slices = self.slices();
        let Some(watch) = &mut self.watch else { return Ok(()) };
        // Whoever else counts for the guard knows no fallbacks.
        let of_router = (self.counters.is_some() && watch.fallbacks.is_some())
            .then(|| self.router.slices(&self.name, watch.seen).unwrap_or_default());
        let now = (self.now)();
        let second = u64::try_from(now.0 / 1_000).unwrap_or(0);
        for slice in &slices {
            match place(&mut watch.taken, slice.second, second) {
                Place::Next => {}
                Place::SetBack => {
                    watch.guard.clock_set_back(of_second(slice.second));
                }
                Place::Taken => continue,
            }
            watch.guard.take(slice);
        }
        if let Some(fallbacks) = &mut watch.fallbacks {
            for slice in of_router.as_ref().unwrap_or(&slices) {
                match place(&mut watch.seen, slice.second, second) {
                    Place::Next => {}
                    Place::SetBack => fallbacks.clock_set_back(),
                    Place::Taken => continue,
                }
                fallbacks.take(slice);
            }
        }
        let said = watch.guard.verdict(now);
        if has_seen_too_little(&said)
            && let (Some(prober), Some((instance, own))) = (&mut self.prober, &watch.trial.own)
        {
            prober.turn(instance, own);
        }
        let verdict = verdict(&said);
        let stale = |(told, at): (Verdict, u64)| told != verdict || second.saturating_sub(at) >= TELL_EVERY;
        // A promoted release that has not had enough requests yet is no news: what was said of it last stands.
        let is_news = !(watch.trial.promoted && watch.told.is_none() && has_seen_too_little(&said));
        let on = Judging { release: watch.trial.candidate, share: watch.trial.share };
        if is_news && watch.told.is_none_or(stale) {
            watch.told = Some((verdict, second));
            let because = numbers(&said, self.unheard.as_deref());
            self.tell.send(Happening::Judged { on, verdict, because }).map_err(drop)?;
        }
        match watch.degrading(on, second) {
            Some(news) => self.tell.send(news).map_err(drop),
            None => Ok(()),
        }
    }

    /// Gives what was counted since; whoever can't be asked gives nothing, and the guard says so by itself.
    fn slices(&mut self) -> Vec<Slice> {
        let Some(watch) = &self.watch else { return Vec::new() };
        let Some(counters) = &mut self.counters else {
            return self.router.slices(&self.name, watch.taken).unwrap_or_default();
        };
        let second = u64::try_from((self.now)().0 / 1_000).unwrap_or(0);
        match counters.slice(&watch.trial.tags, second) {
            Ok(slice) => {
                if slice.is_some() {
                    self.unheard = None;
                }
                slice.into_iter().collect()
            }
            Err(error) => {
                self.unheard = Some(error.to_string());
                Vec::new()
            }
        }
    }

    fn begin(&self, trial: Trial) -> Watch {
        let before = self.watch.as_ref().filter(|watch| watch.trial.candidate == trial.candidate);
        let guard = match before {
            Some(watch) => watch.guard.next_stage(trial.last_good, trial.began),
            None => Guard::new(trial.guard.clone(), trial.candidate, trial.last_good, trial.began),
        };
        let fallbacks = trial.degraded.map(|settings| match before.and_then(|watch| watch.fallbacks.as_ref()) {
            Some(fallbacks) => fallbacks.next_stage(trial.last_good),
            None => Fallbacks::new(settings, trial.candidate, trial.last_good),
        });
        // The second in which the stage began belongs to the one before.
        let taken = u64::try_from(trial.began.0 / 1_000).unwrap_or(0);
        Watch { trial, guard, fallbacks, taken, seen: taken, told: None, told_health: None }
    }

    /// Tells once that a release that was left has nothing to finish any more.
    fn leaves(&mut self, leaves: Option<Digest>) -> Result<(), ()> {
        let Some(release) = leaves.filter(|release| self.emptied != Some(*release)) else {
            if leaves.is_none() {
                self.emptied = None;
            }
            return Ok(());
        };
        let Ok(loads) = self.router.look(&self.name) else { return Ok(()) };
        let load = loads.iter().find(|load| load.release == release);
        if load.is_none_or(|load| load.in_flight == 0 && load.tunnels.unwrap_or(0) == 0) {
            self.emptied = Some(release);
            return self.tell.send(Happening::Emptied { release }).map_err(drop);
        }
        Ok(())
    }
}

fn of_second(second: u64) -> Timestamp {
    Timestamp(i64::try_from(second.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

const fn has_seen_too_little(said: &GuardVerdict) -> bool {
    matches!(said, GuardVerdict::CannotTell { why: Doubt::NoCandidateTraffic | Doubt::TooFew, .. })
}

/// Gives the numbers of a verdict without its name, which stands before them wherever they are said.
fn numbers(said: &GuardVerdict, unheard: Option<&str>) -> String {
    let no_counts = matches!(said, GuardVerdict::CannotTell { why: Doubt::NoCounts, .. });
    let says = match unheard.filter(|_| no_counts) {
        Some(why) => format!("{}: {why}", said.says()),
        None => said.says(),
    };
    let named = ["healthy: ", "cannot tell: ", "cannot tell yet: ", "watching: "]
        .iter()
        .find_map(|name| says.strip_prefix(name));
    named.unwrap_or(&says).to_owned()
}

const fn verdict(said: &GuardVerdict) -> Verdict {
    match said {
        GuardVerdict::Healthy { .. } => Verdict::Pass,
        GuardVerdict::Failed { .. } => Verdict::Fail,
        GuardVerdict::CannotTell { .. } | GuardVerdict::Watching { .. } => Verdict::CannotTell,
    }
}

#[cfg(test)]
mod tests;
