//! `lastgood serve`: the daemon. One thread drives each service; others deliver notices and answer metrics.

mod answers;
mod bells;
mod chance;
mod delivery;
mod due;
mod duties;
mod gates;
mod late;
mod outcomes;
mod outlived;
mod pages;
mod readiness;
mod reconcile;
mod signals;
mod switchboard;
mod times;

use self::{
    bells::{listen, ring},
    chance::rand_byte,
    outcomes::Counting,
    outlived::outlived,
    readiness::{Asking, Readiness},
    times::{Times, is_again},
};
use super::Ended;
use crate::{
    adopt,
    app::{App, log_trouble},
    drive,
    exit::Exit,
    progress::Progress,
    screen::Trouble,
    traffic,
};
use clap::Args;
use jiff::tz::TimeZone;
use lastgood_domain::{
    event::{Aim, Verdict},
    facts::Liveness,
    rollout::{Checked, Input},
    service::{Condition, Phase},
    terms::{Actor, InstanceName, ServiceName, Span, Timestamp},
    words,
};
use lastgood_drivers::metric::Watch;
use lastgood_engine::{
    alerts::Reconciler,
    config::ServiceConfig,
    deliver::Wake,
    drive::{Happening, World as _},
    preflight::Asker,
    schedule, world,
};
use lastgood_server::switches::SwitchServer;
use lastgood_store::DriverLock;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

/// Longest sleep of a driver: a bell that was not heard is made good after this.
const SLEEP_MAX: Span = Span::seconds(5);
/// How often the head of every chain is signed.
const SIGN_EVERY: Duration = Duration::from_secs(60);
/// How often Alertmanagers are compared with what is wrong; they are told at least once a minute anyway.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// How often reminders, ends and pages are looked for: shorter than any step of a chain that people set.
const DUE_EVERY: Duration = Duration::from_secs(5);
/// How often notices that were delivered long ago are removed.
const CLEAR_EVERY: Duration = Duration::from_secs(3_600);
/// How often the daemon looks whether it was told to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Run the daemon: schedules, deferred instances, monitoring, notices, metrics.
#[derive(Debug, Args)]
pub(crate) struct Serve {}

/// What wakes the drivers, by service: a driver that begins anew takes the place of the one before.
type Bells = Arc<Mutex<BTreeMap<ServiceName, Sender<Happening>>>>;

/// When each driver last looked after its service.
type Pulses = Arc<Mutex<BTreeMap<ServiceName, Timestamp>>>;

impl Serve {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let services = app.services(None)?;
        if services.is_empty() && duties::are_none(app) {
            app.service(None)?;
        }
        let mut locks = BTreeMap::new();
        let mut held = None;
        for service in &services {
            match drive::lock(app, service, drive::DAEMON) {
                Ok(lock) => drop(locks.insert(service.clone(), lock)),
                Err(trouble) => held = Some(trouble),
            }
        }
        // A service that somebody else has now is driven when that one lets go; with none of them there is nothing to do.
        if let Some(trouble) = held.filter(|_| locks.is_empty()) {
            return Err(trouble);
        }
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
                Trouble::say(
                    Exit::Failed,
                    "internal",
                    format!("can't install signal handlers: {error}"),
                    lastgood_domain::failure::REPORT,
                )
            })?;
        }
        let pulses = Pulses::default();
        let readiness = Readiness::default();
        let states = signals::States::default();
        let bells = Bells::default();
        let delivery = Arc::new(Wake::default());
        let proxy = traffic::proxy(app)?;
        let has_routers = app.config.service.values().any(|service| service.traffic.is_some());
        let (nudge, nudges) = traffic::nudges();
        let switches = switchboard::open(app, &delivery, has_routers.then_some(nudge))?;
        let pages = pages::pages(app, &services, &pulses, &readiness, &states, proxy.as_ref(), switches.as_ref());
        let (_server, address) = pages::answer(app, &pages)?;
        signals::forget(app)?;
        listen(app, &bells, &delivery, switches.as_ref().map(SwitchServer::bell))?;
        let count = words::count(services.len() as u64, "service");
        app.screen.tell(&format!("lastgood serves {count}; metrics and health at http://{address}"));
        thread::scope(|scope| {
            for service in &services {
                let (bells, delivery, stop, pulses) = (&bells, &delivery, &stop, &pulses);
                let alive = move || {
                    let mut pulses = pulses.lock().unwrap_or_else(PoisonError::into_inner);
                    pulses.insert(service.clone(), world::now());
                };
                let lock = locks.remove(service);
                scope.spawn(move || keep_driving(app, service, lock, bells, delivery, stop, &alive));
            }
            if has_routers {
                let (stop, services, proxy) = (&stop, &services, proxy.as_ref());
                scope.spawn(move || traffic::keep_routers(app, proxy, services, stop, &nudges));
            }
            if !app.config.preflight.is_empty() {
                let (stop, readiness) = (&stop, &readiness);
                scope.spawn(move || readiness.keep_looking(app, stop));
            }
            for (name, config) in &app.config.signal {
                let (states, delivery, stop) = (&states, &delivery, &stop);
                scope.spawn(move || signals::watch(app, name, config, states, delivery, stop));
            }
            for (name, config) in &app.config.gate {
                let Some(every) = config.watch else { continue };
                let stop = &stop;
                scope.spawn(move || gates::watch(app, name, config, every.0, stop));
            }
            if !app.config.notice.is_empty() {
                let delivery = &delivery;
                scope.spawn(move || delivery::deliver(app, delivery));
            }
            let (due, told) = (&stop, &delivery);
            scope.spawn(move || duties::attend(app, due, told));
            let enforcing = &stop;
            scope.spawn(move || crate::enforce::keep(app, enforcing));
            let mut reconcilers: Vec<Reconciler> = app.config.notice.values().filter_map(Reconciler::new).collect();
            let mut since_reconciled = RECONCILE_EVERY;
            let mut since_signed = Duration::ZERO;
            // At once: what became due while nobody was here is said first.
            let (mut since_due, mut desk) = (DUE_EVERY, None);
            let mut since_cleared = CLEAR_EVERY;
            while !stop.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
                since_reconciled += LOOK_EVERY;
                if since_reconciled >= RECONCILE_EVERY {
                    since_reconciled = Duration::ZERO;
                    reconcile::reconcile(app, &pages, &mut reconcilers);
                }
                since_due += LOOK_EVERY;
                if since_due >= DUE_EVERY {
                    since_due = Duration::ZERO;
                    due::say(app, &services, &mut desk);
                }
                since_cleared += LOOK_EVERY;
                if since_cleared >= CLEAR_EVERY {
                    since_cleared = Duration::ZERO;
                    delivery::clear(app);
                }
                since_signed += LOOK_EVERY;
                if since_signed >= SIGN_EVERY {
                    since_signed = Duration::ZERO;
                    sign(app);
                }
            }
            delivery.stop();
            ring(&bells);
        });
        sign(app);
        Ok(Exit::Done)
    }
}

fn sign(app: &App) {
    let signed = super::evidence::signer(app)
        .and_then(|(signer, anchor)| super::evidence::sign_all(&mut app.store()?, &signer, &anchor, app));
    if let Err(trouble) = signed {
        app.screen.trouble(&trouble);
    }
}

/// Drives one service until the daemon ends; trouble is said, and it begins anew after a while. In between it lets go of
/// the lock: a daemon that can't drive must not keep others from going back.
fn keep_driving(
    app: &App,
    service: &ServiceName,
    mut lock: Option<DriverLock>,
    bells: &Bells,
    delivery: &Wake,
    stop: &AtomicBool,
    alive: &dyn Fn(),
) {
    let is_told = || stop.load(Ordering::SeqCst);
    let mut said = None;
    while !is_told() {
        let taken = lock.take().map_or_else(|| drive::lock(app, service, drive::DAEMON), Ok);
        let driven = taken.and_then(|_lock| {
            let mut driving = outlived(service, || Driving::begin(app, service, bells))?;
            said = None;
            let ended = outlived(service, || driving.until(stop, delivery, alive));
            // Nobody else may drive before what was begun has ended, whatever ended us.
            driving.driver.world.wait_until_idle(&is_told);
            ended
        });
        let Err(trouble) = driven else { continue };
        // The same trouble every few seconds is no news.
        if said.as_ref() != Some(&trouble.failure) {
            app.screen.trouble(&trouble);
            said = Some(trouble.failure);
        }
        for _ in 0..50 {
            if is_told() {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// One service under way in the daemon.
struct Driving<'a> {
    app: &'a App,
    name: &'a ServiceName,
    config: ServiceConfig,
    driver: drive::RealDriver,
    times: Times,
    counting: Option<Counting>,
    /// A run that begins once what stands before a move is looked at.
    asking: Option<Asking>,
    /// Remembers what hangs.
    asker: Asker,
    /// Instances being started again after they died.
    reviving: BTreeMap<InstanceName, Timestamp>,
    /// Instances that run something else than the log says: they are left alone.
    foreign: Vec<InstanceName>,
    by: Actor,
}

impl<'a> Driving<'a> {
    fn begin(app: &'a App, name: &'a ServiceName, bells: &Bells) -> Result<Self, Trouble> {
        let folded = app.look(name)?;
        let progress = Progress::of_daemon(app.screen, name.clone(), folded.service.clone());
        let driver = drive::open(app, &app.config, name, app.home.service(name), folded, Some(progress))?;
        bells.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), driver.world.reporter());
        let config = app.config.service[name].clone();
        let now = world::now();
        let times = Times::new(Instant::now(), driver.world.site().quiet());
        let mut driving = Self {
            app,
            name,
            config,
            driver,
            times,
            counting: None,
            asking: None,
            asker: Asker::default(),
            reviving: BTreeMap::new(),
            foreign: Vec::new(),
            by: Actor::new("lastgood:schedule").expect("a fixed valid name"),
        };
        // Arming never fires a missed run: the next time is computed from now.
        driving.arm(now);
        driving.foreign = adopt::foreign(&mut driving.driver)?;
        driving.adopt();
        Ok(driving)
    }

    fn arm(&mut self, now: Timestamp) {
        let chance = f64::from(rand_byte()) / 256.0;
        let zone = TimeZone::system();
        let next = self.config.schedule.as_ref().and_then(|one| schedule::next(one, now, &zone, chance));
        self.times.arm(now, next);
    }

    /// Finds the instances again that ran before this daemon did.
    fn adopt(&self) {
        for (name, state) in &self.driver.service().instances {
            if !self.is_configured(name) {
                if state.release.is_some() {
                    let what = format!("{}/{name} is no longer in the configuration and is left alone", self.name);
                    self.app.screen.tell(&what);
                }
                continue;
            }
            if state.release.is_none()
                || state.condition == Condition::Between
                || self.driver.service().stays_down(name)
                || self.foreign.contains(name)
            {
                continue;
            }
            let site = self.driver.world.site();
            match site.runtime.liveness(self.name, name) {
                Ok(Liveness::Up { .. }) => self.driver.world.watch([name.clone()]),
                Ok(Liveness::Down { why }) if state.again_at.is_none() => {
                    let _ = self.driver.world.reporter().send(Happening::Died { instance: name.clone(), why });
                }
                Ok(Liveness::Down { .. }) => {}
                Err(error) => self.app.screen.trouble(&Trouble::new(Exit::Failed, &error)),
            }
        }
    }

    fn is_configured(&self, instance: &InstanceName) -> bool {
        self.driver.world.site().config.instance(instance).is_some()
    }

    fn until(&mut self, stop: &AtomicBool, delivery: &Wake, alive: &dyn Fn()) -> Result<(), Trouble> {
        loop {
            alive();
            let stopping = stop.load(Ordering::SeqCst);
            // An effect under way is finished: its answer belongs into the log.
            if stopping && !self.driver.world.is_busy() {
                return Ok(());
            }
            if stopping {
                self.driver.world.give_up_revivals();
            }
            let before = self.driver.service().records;
            let now = world::now();
            if !stopping {
                self.due(now)?;
            }
            self.driver.turn(Some(self.sleeps_until(now))).map_err(|error| drive::drive_trouble(&error))?;
            if self.driver.service().records != before {
                delivery.ring();
            }
            if self.driver.service().run.is_none() && !self.driver.world.is_busy() {
                // What the way back went on without is looked for again.
                drive::refuse_forward(&self.driver)?;
                self.driver.keep().map_err(|error| log_trouble(&error))?;
            }
        }
    }

    fn sleeps_until(&self, now: Timestamp) -> Timestamp {
        let again = self.driver.service().instances.values().filter_map(|one| one.again_at);
        let steady = Instant::now();
        let cools = self.driver.service().traffic.cools_at().map(|at| at.max(now.after(self.times.cool.left(steady))));
        let review = now.after(self.times.review.left(steady));
        let looks = self.driver.world.site().quiet().map(|_| now.after(self.times.look.left(steady)));
        let times = [self.times.run(), cools, looks, Some(review), Some(now.after(SLEEP_MAX))];
        let due = |at: &Timestamp| *at > now;
        times.into_iter().flatten().chain(again).filter(due).min().unwrap_or(now.after(SLEEP_MAX))
    }

    fn due(&mut self, now: Timestamp) -> Result<(), Trouble> {
        self.begin_asked(now)?;
        let steady = Instant::now();
        if self.times.is_set_back(now) {
            self.arm(now);
        }
        self.look_for_quiet(steady);
        let idle = self.driver.service().run.is_none() && self.asking.is_none();
        if idle && self.times.run().is_some_and(|at| at <= now) {
            self.arm(now);
            self.start(Aim::Track)?;
        } else if idle && self.times.drain.take(steady) && self.somebody_late_is_idle(now) {
            self.start(Aim::Drain)?;
        }
        let cools = self.driver.service().traffic.cools_at().is_some_and(|at| at <= now);
        // One that could not be stopped is tried again, but not at once.
        if cools && self.driver.service().run.is_none() && self.times.cool.take(steady) {
            self.start(Aim::Cool)?;
        }
        if self.times.review.take(steady) {
            self.review()?;
        }
        self.revive(now);
        Ok(())
    }

    /// Begins a run; a forward one first looks at what must stand before it, while all else goes on.
    fn start(&mut self, aim: Aim) -> Result<(), Trouble> {
        match Asking::before(&aim, self.app, self.name, &self.asker, self.driver.world.reporter()) {
            Some(asking) => self.asking = Some(asking),
            None => self.begin_now(aim, None)?,
        }
        Ok(())
    }

    /// Begins the run that waited for what was looked at.
    fn begin_asked(&mut self, now: Timestamp) -> Result<(), Trouble> {
        let Some((aim, checked)) = self.asking.as_ref().and_then(Asking::answered) else { return Ok(()) };
        self.asking = None;
        let passes = checked.as_ref().is_none_or(|checked| checked.verdict == Verdict::Pass);
        match aim {
            // Another run came in between; this one is due after it.
            Aim::Track if self.driver.service().run.is_some() => self.times.arm(now, Some(now)),
            // Asked every minute: as under a hold, nothing is said.
            Aim::Drain if self.driver.service().run.is_some() || !passes => {}
            aim => self.begin_now(aim, checked)?,
        }
        Ok(())
    }

    fn begin_now(&mut self, aim: Aim, checked: Option<Checked>) -> Result<(), Trouble> {
        let by = self.by.clone();
        let stopped = self.app.stopped(self.name, self.driver.service());
        let begun = self.driver.begin(aim, stopped, checked, &by);
        begun.map(drop).map_err(|error| drive::drive_trouble(&error))
    }

    fn review(&mut self) -> Result<(), Trouble> {
        let by = self.by.clone();
        let review = Input::Review { settings: self.config.settings() };
        self.driver.put(review, &by).map_err(|error| drive::drive_trouble(&error))?;
        let again = self.app.config.holds.review_after.0;
        for due in self.driver.service().reviews_due(world::now(), again) {
            self.driver.put(Input::Say(due), &by).map_err(|error| drive::drive_trouble(&error))?;
        }
        self.count();
        Ok(())
    }

    /// Counts users' outcomes since the promotion, while it is watched.
    fn count(&mut self) {
        let Some(watch) = self.config.watch.clone() else { return };
        let promoted = self.driver.service().promoted_at;
        let known = self.counting.take().filter(|counting| counting.is_of(promoted));
        let counting = known.map_or_else(
            || {
                let logs = self.driver.world.site().watched_logs(&watch);
                Counting::open(self.app, self.name, Watch::new(&watch, logs), promoted)
            },
            Ok,
        );
        let counted = counting.and_then(|counting| self.counting.insert(counting).count(self.app));
        match counted {
            Ok(outcomes) => drop(self.driver.world.reporter().send(Happening::Counted(outcomes))),
            Err(error) => self.app.screen.trouble(&Trouble::new(Exit::CannotTell, &error)),
        }
    }

    /// Starts what died again, when its back-off is over and no run has it.
    fn revive(&mut self, now: Timestamp) {
        let service = self.driver.service();
        let theirs = match service.run.as_ref().map(|run| &run.phase) {
            None => Vec::new(),
            // Last-good carries people while the candidate gets its shares.
            Some(Phase::Shifting { steps, .. }) => steps.keys().cloned().collect(),
            Some(_) => return,
        };
        let due: Vec<(InstanceName, Timestamp)> = service
            .instances
            .iter()
            .filter_map(|(name, one)| Some((name.clone(), one.again_at?)))
            .filter(|(name, at)| is_again(*at, now) && self.reviving.get(name) != Some(at))
            .filter(|(name, _)| self.is_configured(name))
            .filter(|(name, _)| !theirs.contains(name) && !self.foreign.contains(name) && !service.stays_down(name))
            .collect();
        for (name, at) in due {
            self.reviving.insert(name.clone(), at);
            let service = self.driver.service().clone();
            self.driver.world.revive(&service, name);
        }
    }
}
