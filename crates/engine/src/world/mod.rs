//! The real world: performs effects through the drivers, each in a thread of its own.

mod act;
mod checked;
mod crew;
mod data;
mod deaths;
mod gate;
mod launchable;
mod others;
mod quiet;
mod rehearse;
mod routing;
mod sealed;
mod site;
mod sole_holder;
mod standing;
mod switching;
mod unit;

pub use gate::subject;
pub use others::who_else_writes;
pub use rehearse::worker_main as rehearsal_main;
pub use site::{Site, SiteError};
pub(crate) use site::{aside_of, runtime_of};

use crate::traffic::{Prober, Watchman};
use crate::{
    boundary,
    drive::{Happening, World},
};
use crew::Crew;
use deaths::Deaths;
use lastgood_domain::{
    effect::{Answer, Effect},
    failure::{Failure, REPORT},
    service::Service,
    terms::{InstanceName, OrderId, Timestamp},
};
use lastgood_drivers::metric::ReleaseCounters;
use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longest wait in one go: the time of day may be set while we wait, so it is looked at again this often.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The same where nobody rings: what a person has written since, such as a rollback, must not wait for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Snapshots and rehearsals at a time: they are limited by the disk, and users need it as well.
const HEAVY_MAX: usize = 2;

/// One service's world.
pub struct Host {
    site: Arc<Site>,
    deaths: Deaths,
    crew: Crew,
    sender: Sender<Happening>,
    receiver: Receiver<Happening>,
    /// Longest wait for a happening before the log is looked at again.
    patience: Duration,
    /// Effects under way or waiting for their lane.
    under_way: usize,
    lanes: BTreeMap<Lane, Waiting>,
    /// Ids that starts after a death took so far: no orders, so they have none of the log.
    revivals: u64,
    /// One key for each instance: copying its data has a lane of its own, but nothing else happens to it meanwhile.
    keys: BTreeMap<InstanceName, Arc<Mutex<()>>>,
    /// The state that the newest effects were ordered in; orders of one decision share it.
    state: Option<Arc<Service>>,
    /// Watches shared traffic.
    watchman: Option<Watchman>,
    /// Looks what holds the service from outside its log.
    holds: Option<Holds>,
}

/// Says what holds a service's forward moves and stands nowhere in its log, if anything does.
pub type Holds = Box<dyn Fn(&Service) -> Option<String> + Send>;

/// Effects of one lane run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Instance(InstanceName),
    Heavy(usize),
    Shared,
    /// Nothing waits before a router is told: of two tables the newer wins.
    Route(OrderId),
    /// Gates are asked beside each other: one that hangs holds up no other.
    Gate(OrderId),
}

#[derive(Clone)]
struct Job {
    service: Arc<Service>,
    order: OrderId,
    effect: Effect,
    /// Set when its order is no longer outstanding.
    void: Arc<AtomicBool>,
    revives: Option<Revival>,
}

/// What belongs to a start after a death.
#[derive(Clone, Default)]
struct Revival {
    /// Set when the instance is to be stopped: a way back waits for no program that never becomes ready.
    superseded: Arc<AtomicBool>,
}

impl Job {
    /// Gives up a start after a death; any other effect comes to its end.
    fn give_up(&self) {
        if let Some(revival) = &self.revives {
            revival.superseded.store(true, Ordering::SeqCst);
        }
    }

    /// Tells whether it is worth ending early once nobody wants it: it is long, and changes nothing but its own copy.
    fn is_given_up(&self) -> bool {
        matches!(self.effect, Effect::Snapshot { .. } | Effect::Rehearse { .. }) && self.void.load(Ordering::SeqCst)
    }
}

/// Jobs behind the one that runs in a lane.
type Waiting = VecDeque<Job>;

impl Host {
    /// Makes the world of one service; nothing is touched yet.
    ///
    /// Errors: `machine-exhausted` if it has no file descriptors or threads left for us.
    pub fn new(site: Site) -> Result<Self, Failure> {
        let (sender, receiver) = channel();
        let site = Arc::new(site);
        let deaths = Deaths::begin(&site, sender.clone()).map_err(|error| {
            let what = format!("can't watch for instances that exit: {error}");
            Failure::new(
                "machine-exhausted",
                what,
                Some("see who holds the file descriptors: ls /proc/PID/fd | wc -l; ulimit -n"),
            )
        })?;
        let (crew, lanes, keys) = (Crew::default(), BTreeMap::new(), BTreeMap::new());
        let counters = site.config.traffic.as_ref().and_then(|traffic| traffic.guard.prometheus.clone());
        let watchman = site.router.as_ref().map(|router| {
            let (name, router) = (site.name.clone(), Arc::clone(router));
            Watchman::begin(name, router, counters.map(ReleaseCounters::new), prober(&site), sender.clone(), now)
        });
        Ok(Self {
            site,
            deaths,
            crew,
            sender,
            receiver,
            patience: WAIT_MAX,
            under_way: 0,
            lanes,
            revivals: 0,
            keys,
            state: None,
            watchman,
            holds: None,
        })
    }

    /// Gives a handle through which anyone may report what happened.
    pub fn reporter(&self) -> Sender<Happening> {
        self.sender.clone()
    }

    /// Gives what the effects work with.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Looks at the log by itself, and often: nobody tells this world when somebody has written.
    pub fn nobody_rings(&mut self) {
        self.patience = LOOK_EVERY;
    }

    /// Asks `holds` before each step of a way forward.
    pub fn look_for_holds(&mut self, holds: Holds) {
        self.holds = Some(holds);
    }

    /// Watches the instances that run, so that an unasked end is noticed.
    pub fn watch(&self, instances: impl IntoIterator<Item = InstanceName>) {
        for instance in instances {
            self.deaths.watch(&instance);
        }
    }

    /// Starts an instance that died once more, in its own lane; tells when it runs, that it died again, or what of the
    /// machine stood in the way.
    pub fn revive(&mut self, service: &Service, instance: InstanceName) {
        let Some(release) = service.instances.get(&instance).and_then(|one| one.release) else { return };
        let order = OrderId(u64::MAX - self.revivals);
        self.revivals += 1;
        let (service, effect) = (Arc::new(self.site.home.here(service.clone())), Effect::Start { instance, release });
        self.queue(Job { service, order, effect, revives: Some(Revival::default()), void: Arc::default() });
    }

    /// Waits until no effect is under way, or `is_enough`: whoever takes the lock next must not meet them.
    pub fn wait_until_idle(&mut self, is_enough: &dyn Fn() -> bool) {
        while self.is_busy() && !is_enough() {
            self.happenings(None);
        }
    }

    /// Gives up every start after a death, so that nobody waits for its end; the next driver goes on with it.
    pub fn give_up_revivals(&self) {
        self.lanes.values().flatten().for_each(Job::give_up);
    }

    fn lane_of(effect: &Effect, order: OrderId) -> Lane {
        match effect {
            Effect::Snapshot { .. } | Effect::LayReady { .. } => Lane::Heavy(order.0 as usize % HEAVY_MAX),
            Effect::Rehearse { .. } | Effect::ClearRehearsal => Lane::Heavy(0),
            Effect::Route { .. } => Lane::Route(order),
            Effect::AskGate { .. } => Lane::Gate(order),
            _ => effect.instance().map_or(Lane::Shared, |instance| Lane::Instance(instance.clone())),
        }
    }

    /// Gives the key to the instance that an effect acts on or copies; what lies ready or is rehearsed is no instance.
    fn key_to(&mut self, effect: &Effect) -> Option<Arc<Mutex<()>>> {
        if matches!(effect, Effect::LayReady { .. } | Effect::Rehearse { .. }) {
            return None;
        }
        effect.instance().map(|instance| Arc::clone(self.keys.entry(instance.clone()).or_default()))
    }

    fn spawn(&mut self, job: Job) {
        let (site, deaths, sender) = (Arc::clone(&self.site), self.deaths.clone(), self.sender.clone());
        let (order, key) = (job.order, self.key_to(&job.effect));
        let work = move || {
            let _mine = key.as_ref().map(|key| key.lock().unwrap_or_else(PoisonError::into_inner));
            boundary::cross();
            let act = AssertUnwindSafe(|| match &job.revives {
                _ if job.is_given_up() => given_up(),
                None => act::act(&site, &deaths, &job.service, job.order, &job.effect, &job.void),
                Some(revival) => act::revive(&site, &deaths, &job.service, &job.effect, &revival.superseded),
            });
            // A driver that panics must not leave its order open for ever.
            let answer = catch_unwind(act).unwrap_or_else(|_| Answer::Hindered {
                failure: Failure::new(
                    "internal",
                    "a driver panicked; its message is in the daemon's own output",
                    Some(REPORT),
                ),
            });
            boundary::cross();
            // The receiver is gone only when the driver itself ends; the order is then performed again.
            let _ = sender.send(Happening::Answered { order: job.order, answer });
        };
        if let Err(error) = self.crew.give(Box::new(work)) {
            let failure = Failure::new(
                "thread-refused",
                format!("no thread for order {order}: {error}"),
                Some("check the limits: ulimit -u; TasksMax= of the daemon's unit"),
            );
            let _ = self.sender.send(Happening::Answered { order, answer: Answer::Hindered { failure } });
        }
    }

    fn queue(&mut self, job: Job) {
        self.under_way += 1;
        let waiting = self.lanes.entry(Self::lane_of(&job.effect, job.order)).or_default();
        if matches!(job.effect, Effect::Stop { .. }) {
            waiting.iter().for_each(Job::give_up);
        }
        waiting.push_back(job.clone());
        if waiting.len() == 1 {
            self.spawn(job);
        }
    }

    /// Lets the lane of an order that ended go on with its next; gives what the loop is told.
    fn hear(&mut self, happening: Happening) -> Option<Happening> {
        let Happening::Answered { order, answer } = happening else { return Some(happening) };
        self.under_way -= 1;
        let lane = self.lanes.iter_mut().find(|(_, jobs)| jobs.front().is_some_and(|job| job.order == order));
        let Some((lane, jobs)) = lane else { return Some(Happening::Answered { order, answer }) };
        let lane = lane.clone();
        let ended = jobs.pop_front();
        match jobs.front() {
            None => drop(self.lanes.remove(&lane)),
            Some(next) => {
                let job = next.clone();
                self.spawn(job);
            }
        }
        match ended {
            Some(Job { revives: Some(revival), effect, .. }) => revived(&effect, answer, &revival),
            _ => Some(Happening::Answered { order, answer }),
        }
    }
}

impl World for Host {
    fn perform(&mut self, service: &Service, order: OrderId, effect: &Effect) {
        let same = self.state.take().filter(|state| state.records == service.records);
        let state = same.unwrap_or_else(|| Arc::new(self.site.home.here(service.clone())));
        self.state = Some(Arc::clone(&state));
        self.queue(Job { service: state, order, effect: effect.clone(), revives: None, void: Arc::default() });
    }

    fn happenings(&mut self, until: Option<Timestamp>) -> Vec<Happening> {
        let most = self.patience;
        let left = until.map_or(most, |until| until.since(self.now()).duration().min(most));
        let mut all = match self.receiver.recv_timeout(left) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
        };
        all.extend(self.receiver.try_iter());
        all.into_iter().filter_map(|happening| self.hear(happening)).collect()
    }

    fn note(&mut self, service: &Service) {
        let is_outstanding = |order| service.run.as_ref().is_some_and(|run| run.orders.contains_key(order));
        for job in self.lanes.values().flatten().filter(|job| !is_outstanding(&job.order)) {
            job.void.store(true, Ordering::SeqCst);
        }
        if let Some(watchman) = &self.watchman {
            watchman.note(service, &self.site.config.settings(), now());
        }
    }

    fn held(&self, service: &Service) -> Option<String> {
        self.holds.as_ref().and_then(|holds| holds(service))
    }

    fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    fn now(&self) -> Timestamp {
        now()
    }
}

/// Says what became of an instance that was to be started again; nothing where its run wants it stopped by now.
fn revived(effect: &Effect, answer: Answer, revival: &Revival) -> Option<Happening> {
    let instance = effect.instance()?.clone();
    match answer {
        Answer::Started { .. } => Some(Happening::Revived { instance }),
        _ if revival.superseded.load(Ordering::SeqCst) => None,
        Answer::Failed { failure } => Some(Happening::Died { instance, why: failure.to_string() }),
        Answer::Hindered { failure } => Some(Happening::NotRevived { instance, failure }),
        _ => None,
    }
}

/// Answers for a job that nobody waits for; the answer is refused by its order.
fn given_up() -> Answer {
    Answer::Hindered {
        failure: Failure::new("internal", "the run no longer needs it", Some("see where it stands: lastgood status")),
    }
}

/// Makes what probes the candidate where people are too few, if that is configured.
fn prober(site: &Arc<Site>) -> Option<Prober> {
    let traffic = site.config.traffic.as_ref()?;
    let synthetic = traffic.guard.synthetic.as_ref()?;
    let front = synthetic.front.clone().or_else(|| traffic.front())?;
    let (site, every) = (Arc::clone(site), synthetic.every.duration());
    let probe = move |instance: &InstanceName, own: &str| {
        if let Some(instance) = site.config.instance(instance) {
            let target = site.candidates_seat(instance, front.clone(), own);
            let _ = site.todays(instance).probe().run(&target, site.config.ready_timeout.duration());
        }
    };
    Some(Prober { every, probe: Arc::new(probe), busy: Arc::default(), last: None })
}

/// Reads the machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
