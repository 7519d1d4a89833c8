//! The machine as the engine's loop sees it: orders go in, happenings come out, time passes in between.

use crate::{
    act::{self, Job},
    invariants::Checker,
    machine::{Machine, Place},
    release::Fault,
    shared::guard::Guard,
};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::Record,
    facts::Outcomes,
    service::Service,
    terms::{InstanceName, OrderId, Timestamp},
};
use lastgood_engine::{
    drive::{Happening, Log, LogError, World},
    fold,
};
use std::{cell::RefCell, rc::Rc};

/// Steps after which one wait is given up: far more than any wait needs, so that a loop shows as a failure.
const STEPS_MAX: u32 = 10_000;

/// Longest step of an effect in milliseconds; a slow release takes ten times as long.
const STEP_MAX: u64 = 400;

/// Records between two kept states: a prime, so that they fall on every kind of record.
const KEPT_EVERY: usize = 31;

/// One driver's hands: they die with it.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) machine: Rc<RefCell<Machine>>,
    jobs: Vec<Job>,
    /// Performs nothing: a driver that only writes.
    pub(crate) tied: bool,
    /// Outcomes that wait to be told.
    pub(crate) counted: Option<Outcomes>,
    /// What was found when it began, and waits to be told.
    pub(crate) found: Vec<Happening>,
    guard: Guard,
}

impl Hands {
    pub(crate) fn new(machine: Rc<RefCell<Machine>>) -> Self {
        Self { machine, jobs: Vec::new(), tied: false, counted: None, found: Vec::new(), guard: Guard::default() }
    }

    /// Starts an instance that died once more, in its own lane.
    pub(crate) fn revive(&mut self, service: &Service, instance: &InstanceName) {
        let Some(release) = service.instances.get(instance).and_then(|one| one.release) else { return };
        let mut machine = self.machine.borrow_mut();
        let effect = Effect::Start { instance: instance.clone(), release };
        let next_at = machine.elapsed + took(&mut machine, &effect);
        self.jobs.push(Job { revives: true, ..Job::new(service, OrderId(u64::MAX), &effect, next_at) });
    }

    /// Finds the job whose next step is due first among those that may run: one per lane, in order.
    fn next_job(&self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (at, job) in self.jobs.iter().enumerate() {
            let lane = job.effect.instance();
            // Nothing waits before a router is told: of two tables the newer wins.
            let waits = |other: &Job| other.effect.instance() == lane && other.told_since.is_none();
            if job.told_since.is_none() && self.jobs.iter().take(at).any(waits) {
                continue;
            }
            if best.and_then(|best| self.jobs.get(best)).is_none_or(|first| job.next_at < first.next_at) {
                best = Some(at);
            }
        }
        best
    }

    /// Does one step of one job; gives its end.
    fn work(&mut self, at: usize) -> Vec<Happening> {
        let mut machine = self.machine.borrow_mut();
        if machine.point() {
            return Vec::new();
        }
        let Some(job) = self.jobs.get_mut(at) else { return Vec::new() };
        let answer = act::advance(&mut machine, job);
        machine.look();
        let Some(answer) = answer else {
            job.next_at = machine.elapsed + took(&mut machine, &job.effect);
            return Vec::new();
        };
        if job.rounds > 1 {
            // Doing it twice must be the same as once.
            (job.rounds, job.stage) = (1, 0);
            job.next_at = machine.elapsed + took(&mut machine, &job.effect);
            return Vec::new();
        }
        let Job { order, revives, effect, .. } = self.jobs.remove(at);
        if revives {
            return revived(&effect, answer).into_iter().collect();
        }
        // Done, but the driver dies before it hears of it.
        if machine.point() {
            return Vec::new();
        }
        let mut told = vec![Happening::Answered { order, answer }];
        let share = machine.weather.twice_permille;
        if machine.chance.permille(share) {
            told.push(told[0].clone());
        }
        told
    }
}

/// Says what became of an instance that was started again.
fn revived(effect: &Effect, answer: Answer) -> Option<Happening> {
    let instance = effect.instance()?.clone();
    match answer {
        Answer::Started { .. } => Some(Happening::Revived { instance }),
        Answer::Failed { failure } => Some(Happening::Died { instance, why: failure.to_string() }),
        Answer::Hindered { failure } => Some(Happening::NotRevived { instance, failure }),
        _ => None,
    }
}

fn took(machine: &mut Machine, effect: &Effect) -> i64 {
    let slow = match effect {
        Effect::Start { release, .. } | Effect::Rehearse { release, .. } => machine
            .recipe(release)
            .and_then(|at| machine.recipes.get(at))
            .is_some_and(|recipe| recipe.has(&Fault::Slow)),
        _ => false,
    };
    let millis = 50 + machine.chance.below(STEP_MAX) * if slow { 10 } else { 1 };
    i64::try_from(millis).unwrap_or(0)
}

impl World for Hands {
    fn perform(&mut self, service: &Service, order: OrderId, effect: &Effect) {
        let mut machine = self.machine.borrow_mut();
        if self.tied || machine.point() {
            return;
        }
        let next_at = machine.elapsed + took(&mut machine, effect);
        let job = Job::new(service, order, effect, next_at);
        let share = machine.weather.twice_permille;
        let rounds = if machine.chance.permille(share) { 2 } else { 1 };
        let told_since = matches!(effect, Effect::Route { .. }).then_some(machine.elapsed);
        self.jobs.push(Job { rounds, told_since, ..job });
    }

    fn happenings(&mut self, until: Option<Timestamp>) -> Vec<Happening> {
        let mut happened = Vec::new();
        happened.extend(self.counted.take().map(Happening::Counted));
        happened.append(&mut self.found);
        for _ in 0..STEPS_MAX {
            if self.machine.borrow().dead.is_some() {
                return Vec::new();
            }
            let job = self.next_job().and_then(|at| self.jobs.get(at).map(|job| (at, job.next_at)));
            let (limit, fate, router, elapsed) = {
                let machine = self.machine.borrow();
                let limit = until.map(|until| until.0 - machine.skew);
                (limit, machine.next_turn_of_fate(), machine.next_of_router(), machine.elapsed)
            };
            let all = [job.map(|(_, at)| at), fate, router, self.guard.next()];
            let Some(next) = all.into_iter().flatten().min() else {
                if happened.is_empty() {
                    self.machine.borrow_mut().pass(limit.unwrap_or(elapsed));
                }
                return happened;
            };
            // What is due within the same moment is told together, so that answers meet in one decision.
            if (!happened.is_empty() && next > elapsed + 20) || limit.is_some_and(|limit| next > limit) {
                if happened.is_empty() {
                    self.machine.borrow_mut().pass(limit.unwrap_or(elapsed));
                }
                return happened;
            }
            {
                let mut machine = self.machine.borrow_mut();
                machine.pass(next);
                machine.users_write();
                let fates = machine.fate();
                if !fates.is_empty() {
                    machine.look();
                }
                if machine.shared.is_some() {
                    machine.keep_router();
                    machine.look();
                    happened.append(&mut self.guard.happenings(&mut machine));
                }
                happened.extend(fates.into_iter().map(|(instance, died)| {
                    if died {
                        Happening::Died { instance, why: "exit status 1".into() }
                    } else {
                        Happening::Revived { instance }
                    }
                }));
            }
            if let Some((at, due)) = job
                && due <= next
            {
                happened.extend(self.work(at));
            }
        }
        self.machine.borrow_mut().violated("one wait took too many steps".into());
        happened
    }

    fn note(&mut self, service: &Service) {
        let machine = self.machine.borrow();
        if let Some(shared) = &machine.shared {
            self.guard.note(service, shared.watch, machine.now());
        }
    }

    fn held(&self, _: &Service) -> Option<String> {
        self.machine.borrow().weather.freeze()
    }

    fn is_busy(&self) -> bool {
        !self.jobs.is_empty() || !self.found.is_empty()
    }

    fn now(&self) -> Timestamp {
        self.machine.borrow().now()
    }
}

/// The chain of the one service, which outlives every driver.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) records: Vec<Record>,
    pub(crate) checker: Checker,
}

/// One driver's view of the chain.
#[derive(Debug)]
pub(crate) struct Pen {
    pub(crate) chain: Rc<RefCell<Chain>>,
    pub(crate) machine: Rc<RefCell<Machine>>,
    seen: usize,
}

impl Pen {
    pub(crate) fn new(chain: Rc<RefCell<Chain>>, machine: Rc<RefCell<Machine>>) -> Self {
        Self { chain, machine, seen: 0 }
    }

    /// Begins behind a state that some earlier driver kept, with whatever was under way then; gives that state as it
    /// was read back.
    pub(crate) fn behind_a_kept_state(chain: Rc<RefCell<Chain>>, machine: Rc<RefCell<Machine>>) -> (Self, Service) {
        let (seen, service) = {
            let records = &chain.borrow().records;
            // Drivers keep it whenever they like. Every place comes up in some world, and no dice are thrown for it.
            let seen = records.len() - records.len() % KEPT_EVERY;
            (seen, Service::fold(records.get(..seen).unwrap_or_default()))
        };
        let service = fold::from_bytes(&fold::to_bytes(&service)).unwrap_or_default();
        (Self { chain, machine, seen }, service)
    }
}

fn died() -> LogError {
    LogError::damaged("the driver died")
}

impl Log for Pen {
    fn news(&mut self) -> Result<Vec<Record>, LogError> {
        if self.machine.borrow().dead.is_some() {
            return Err(died());
        }
        let chain = self.chain.borrow();
        let news = chain.records.get(self.seen..).unwrap_or_default().to_vec();
        self.seen = chain.records.len();
        Ok(news)
    }

    fn append(&mut self, _: &Service, records: &[Record]) -> Result<(), LogError> {
        let mut machine = self.machine.borrow_mut();
        if machine.point() {
            return Err(died());
        }
        let mut chain = self.chain.borrow_mut();
        if self.seen != chain.records.len() {
            return Err(LogError::Moved);
        }
        let Chain { records: all, checker } = &mut *chain;
        let elapsed = machine.elapsed;
        if let Some(shared) = &mut machine.shared {
            shared.log(records, elapsed);
        }
        checker.observe(records, &mut machine);
        all.extend_from_slice(records);
        self.seen = all.len();
        // Written, but the driver dies before it does anything.
        if machine.point() { Err(died()) } else { Ok(()) }
    }
}

/// Tells whether an instance is where its log says it is, after everything has calmed down.
pub(crate) fn agrees(machine: &Machine, name: &InstanceName, place: &Place, service: &Service) -> bool {
    let Some(known) = service.instances.get(name) else { return true };
    match known.release.and_then(|release| machine.recipe(&release)) {
        None => place.up.is_none(),
        Some(which) => match place.up {
            Some(up) => up == which,
            // A release that crashes or can't start live may be down between two tries.
            None if machine.shared.is_some() && (!service.traffic.carries(name) || known.again_at.is_some()) => true,
            None => machine.recipes.get(which).is_some_and(|recipe| {
                recipe
                    .faults
                    .iter()
                    .any(|fault| matches!(fault, Fault::Dies(..) | Fault::StartFails | Fault::StartFailsLive))
            }),
        },
    }
}
