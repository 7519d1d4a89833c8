//! `lastgood serve`: the daemon. One thread drives each service; others deliver notices and answer metrics.

mod due;
mod reconcile;
mod switchboard;

use super::Ended;
use crate::{
    app::{App, log_trouble},
    drive,
    exit::Exit,
    progress::Progress,
    screen::Trouble,
    traffic, wake,
};
use clap::Args;
use jiff::tz::TimeZone;
use lastgood_domain::{
    event::Aim,
    facts::{Busyness, Liveness},
    failure::Coded,
    rollout::Input,
    service::{Condition, Phase},
    terms::{Actor, InstanceName, ServiceName, Span, Timestamp},
    words,
};
use lastgood_drivers::metric::{Count, Watch};
use lastgood_engine::{
    alerts::Reconciler,
    config::ServiceConfig,
    deliver::Wake,
    drive::{Happening, World as _},
    letter::rfc3339,
    schedule, world,
};
use lastgood_server::{
    DriverState, Lookout, Pages, Server, Snapshot,
    switches::{Bell, SwitchServer},
};
use lastgood_store::{DriverLock, MessageId, NoticeState, Reader};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::Duration,
};

/// Longest sleep of a driver: a bell that was not heard is made good after this.
const SLEEP_MAX: Span = Span::seconds(5);
/// How often users' outcomes are counted and staleness is looked at.
const REVIEW_EVERY: Span = Span::seconds(10);
/// How often late instances are asked again whether they are idle.
const DRAIN_EVERY: Span = Span::minutes(1);
/// Threads that deliver notices.
const DELIVERY_THREADS: usize = 4;
/// How often the head of every chain is signed.
const SIGN_EVERY: Duration = Duration::from_secs(60);
/// A driver that has not looked for this long is dead: it looks every 5 s at least.
const PULSE_AGE_MAX: Span = Span::seconds(30);
/// How often Alertmanagers are compared with what is wrong; they are told at least once a minute anyway.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// How often reminders, ends and pages are looked for: shorter than any step of a chain that people set.
const DUE_EVERY: Duration = Duration::from_secs(5);
/// How often the daemon looks whether it was told to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Run as the daemon: follow schedules, move late instances, watch, deliver notices.
#[derive(Debug, Args)]
pub(crate) struct Serve {}

/// What wakes the drivers, one for each service.
type Bells = Arc<Mutex<Vec<Sender<Happening>>>>;

/// When each driver last looked after its service.
type Pulses = Arc<Mutex<BTreeMap<ServiceName, Timestamp>>>;

impl Serve {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let services = app.services(None)?;
        if services.is_empty() && app.config.switches.is_none() {
            app.service(None)?;
        }
        let locks: Vec<DriverLock> =
            services.iter().map(|service| drive::lock(app, service, drive::DAEMON)).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
                Trouble::say(Exit::Failed, "internal", format!("signals can't be handled: {error}"), "report this")
            })?;
        }
        let pulses = Pulses::default();
        let pages = pages(app, &services, &pulses);
        let (_server, address) = answer(app, &pages)?;
        let bells = Bells::default();
        let delivery = Arc::new(Wake::default());
        let proxy = traffic::proxy(app)?;
        let switches = switchboard::open(app, &delivery)?;
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
                scope.spawn(move || keep_driving(app, service, bells, delivery, stop, &alive));
            }
            if app.config.service.values().any(|service| service.traffic.is_some()) {
                let (stop, services, proxy) = (&stop, &services, proxy.as_ref());
                scope.spawn(move || traffic::keep_routers(app, proxy, services, stop));
            }
            if !app.config.notice.is_empty() {
                let delivery = &delivery;
                scope.spawn(move || deliver(app, delivery));
            }
            let mut reconcilers: Vec<Reconciler> = app.config.notice.values().filter_map(Reconciler::new).collect();
            let mut since_reconciled = RECONCILE_EVERY;
            let mut since_signed = Duration::ZERO;
            // At once: what became due while nobody was here is said first.
            let mut since_due = DUE_EVERY;
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
                    due::say(app, &services);
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
        drop(locks);
        Ok(Exit::Done)
    }
}

/// Tells how things stand, folding only what is new since it was asked last.
fn pages(app: &App, services: &[ServiceName], pulses: &Pulses) -> Pages {
    let endpoints: Vec<String> = app.routes().into_iter().map(|route| route.endpoint).collect();
    let lookout = Mutex::new(Lookout::new(services, &endpoints));
    let (state_dir, freeze_file) = (app.home.root().to_path_buf(), app.config.freeze_file());
    let (services, pulses) = (services.to_vec(), Arc::clone(pulses));
    Arc::new(move || {
        let now = world::now();
        let mut lookout = lookout.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = match Reader::open(&state_dir) {
            Ok(reader) => lookout.look(&reader, now).unwrap_or_else(|error| Snapshot::failed(&error, now)),
            Err(error) => Snapshot::failed(&error, now),
        };
        snapshot.freeze_file = freeze_file.exists();
        let pulses = pulses.lock().unwrap_or_else(PoisonError::into_inner);
        for service in &services {
            let last_look = pulses.get(service).copied();
            let alive = last_look.is_some_and(|at| now.since(at) < PULSE_AGE_MAX);
            snapshot.drivers.insert(service.clone(), DriverState { alive, last_look });
        }
        snapshot
    })
}

/// Answers metrics and health until it is dropped; gives the address too.
fn answer(app: &App, pages: &Pages) -> Result<(Server, SocketAddr), Trouble> {
    let failed = |error: &dyn Coded| Trouble::new(Exit::Failed, error);
    let listener = lastgood_server::bind(app.config.listen).map_err(|error| failed(&error))?;
    // A port of 0 is one that the system chose.
    let address = listener.local_addr().unwrap_or(app.config.listen);
    let server = lastgood_server::serve(listener, Arc::clone(pages)).map_err(|error| failed(&error))?;
    Ok((server, address))
}

fn ring(bells: &Bells) {
    for bell in bells.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // A driver that has ended needs no bell.
        let _ = bell.send(Happening::Woken);
    }
}

/// Passes the bell that other commands ring on to all drivers.
fn listen(app: &App, bells: &Bells, delivery: &Arc<Wake>, board: Option<Bell>) -> Result<(), Trouble> {
    let socket = wake::listen(app.home.root()).map_err(|error| {
        Trouble::say(
            Exit::Failed,
            "state-dir-unusable",
            format!("the bell can't be hung up: {error}"),
            "check the state folder",
        )
    })?;
    let (bells, delivery) = (Arc::clone(bells), Arc::clone(delivery));
    thread::spawn(move || {
        let mut buffer = [0; 16];
        while socket.recv(&mut buffer).is_ok() {
            // A switch is what must not wait.
            board.iter().for_each(Bell::ring);
            ring(&bells);
            delivery.ring();
        }
    });
    Ok(())
}

fn sign(app: &App) {
    let signed = super::evidence::signer(app)
        .and_then(|(signer, anchor)| super::evidence::sign_all(&mut app.store()?, &signer, &anchor, app));
    if let Err(trouble) = signed {
        app.screen.trouble(&trouble);
    }
}

fn deliver(app: &App, wake: &Wake) {
    match drive::deliverer(app, DELIVERY_THREADS) {
        Err(trouble) => app.screen.trouble(&trouble),
        Ok(mut deliverer) => deliverer.run_forever(&world::now, wake, &mut |seen| {
            let told = match seen {
                Ok(report) => tell_dead(app, &report.dead),
                Err(error) => Err(Trouble::new(Exit::Failed, error)),
            };
            if let Err(trouble) = told {
                app.screen.trouble(&trouble);
            }
        }),
    }
}

/// Tells of each notice that is given up.
fn tell_dead(app: &App, dead: &[MessageId]) -> Result<(), Trouble> {
    /// Dead messages looked at: more than anybody leaves lying.
    const LOOK_MAX: usize = 10_000;
    if dead.is_empty() {
        return Ok(());
    }
    let Some(reader) = app.reader()? else { return Ok(()) };
    let failed = reader.notices(NoticeState::Failed, LOOK_MAX).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    for row in failed.iter().filter(|row| dead.contains(&row.id)) {
        let tries = words::count(row.attempts.into(), "try");
        let why = row.why.as_deref().map_or_else(String::new, |why| format!(" ({})", words::one_line(why)));
        app.screen.tell(&format!(
            "{} notice {} of {}#{} to {} is dead after {tries}{why}; send it again: lastgood notices replay {}",
            rfc3339(app.now()),
            row.id,
            row.chain,
            row.seq,
            row.endpoint,
            row.id
        ));
    }
    Ok(())
}

/// Drives one service until the daemon ends; trouble is said, and it begins anew after a while.
fn keep_driving(app: &App, service: &ServiceName, bells: &Bells, delivery: &Wake, stop: &AtomicBool, alive: &dyn Fn()) {
    while !stop.load(Ordering::SeqCst) {
        let driving = Driving::begin(app, service, bells);
        if let Err(trouble) = driving.and_then(|mut driving| driving.until(stop, delivery, alive)) {
            app.screen.trouble(&trouble);
            for _ in 0..50 {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(LOOK_EVERY);
            }
        }
    }
}

/// One service under way in the daemon.
struct Driving<'a> {
    app: &'a App,
    name: &'a ServiceName,
    config: ServiceConfig,
    driver: drive::RealDriver,
    next_run: Option<Timestamp>,
    next_review: Timestamp,
    next_drain: Timestamp,
    next_cool: Timestamp,
    counter: Option<(Watch, Count)>,
    /// Since when outcomes are counted: the promotion they belong to.
    counted_for: Option<Timestamp>,
    /// Instances being started again after they died.
    reviving: BTreeMap<InstanceName, Timestamp>,
    by: Actor,
}

impl<'a> Driving<'a> {
    fn begin(app: &'a App, name: &'a ServiceName, bells: &Bells) -> Result<Self, Trouble> {
        let folded = app.look(name)?;
        let progress = Progress::of_daemon(app.screen, name.clone(), folded.service.clone());
        let driver = drive::open(app, &app.config, name, app.home.service(name), folded, Some(progress))?;
        bells.lock().unwrap_or_else(PoisonError::into_inner).push(driver.world.reporter());
        let config = app.config.service[name].clone();
        let now = world::now();
        let mut driving = Self {
            app,
            name,
            config,
            driver,
            next_run: None,
            next_review: now,
            next_drain: now.after(DRAIN_EVERY),
            next_cool: now,
            counter: None,
            counted_for: None,
            reviving: BTreeMap::new(),
            by: Actor::new("lastgood:schedule").expect("a fixed valid name"),
        };
        // Arming never fires a missed run: the next time is computed from now.
        driving.arm(now);
        driving.adopt();
        Ok(driving)
    }

    fn arm(&mut self, now: Timestamp) {
        let chance = f64::from(rand_byte()) / 256.0;
        let zone = TimeZone::system();
        self.next_run = self.config.schedule.as_ref().and_then(|one| schedule::next(one, now, &zone, chance));
    }

    /// Finds the instances again that ran before this daemon did.
    fn adopt(&self) {
        for (name, state) in &self.driver.service().instances {
            if state.release.is_none()
                || state.condition == Condition::Between
                || self.driver.service().stays_down(name)
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

    fn until(&mut self, stop: &AtomicBool, delivery: &Wake, alive: &dyn Fn()) -> Result<(), Trouble> {
        loop {
            alive();
            let stopping = stop.load(Ordering::SeqCst);
            // An effect under way is finished: its answer belongs into the log.
            if stopping && !self.driver.world.is_busy() {
                return Ok(());
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
                self.driver.keep().map_err(|error| log_trouble(&error))?;
            }
        }
    }

    fn sleeps_until(&self, now: Timestamp) -> Timestamp {
        let again = self.driver.service().instances.values().filter_map(|one| one.again_at);
        let cools = self.driver.service().traffic.cools_at().map(|at| at.max(self.next_cool));
        let times = [self.next_run, cools, Some(self.next_review), Some(now.after(SLEEP_MAX))];
        let due = |at: &Timestamp| *at > now;
        times.into_iter().flatten().chain(again).filter(due).min().unwrap_or(now.after(SLEEP_MAX))
    }

    fn due(&mut self, now: Timestamp) -> Result<(), Trouble> {
        let idle = self.driver.service().run.is_none();
        if idle && self.next_run.is_some_and(|at| at <= now) {
            self.arm(now);
            self.start(Aim::Track)?;
        } else if idle && self.next_drain <= now {
            self.next_drain = now.after(DRAIN_EVERY);
            if self.somebody_late_is_idle(now) {
                self.start(Aim::Drain)?;
            }
        }
        let cools = self.driver.service().traffic.cools_at().is_some_and(|at| at <= now);
        if cools && self.driver.service().run.is_none() && self.next_cool <= now {
            // One that could not be stopped is tried again, but not at once.
            self.next_cool = now.after(DRAIN_EVERY);
            self.start(Aim::Cool)?;
        }
        if self.next_review <= now {
            self.next_review = now.after(REVIEW_EVERY);
            self.review()?;
        }
        self.revive(now);
        Ok(())
    }

    fn start(&mut self, aim: Aim) -> Result<(), Trouble> {
        let by = self.by.clone();
        self.driver
            .begin(aim, self.app.stopped(self.name, self.driver.service()), &by)
            .map(drop)
            .map_err(|error| drive::drive_trouble(&error))
    }

    /// Tells whether an instance that was left for later can move now: in the window, quiet, nothing held.
    fn somebody_late_is_idle(&self, now: Timestamp) -> bool {
        let service = self.driver.service();
        let held = self.app.stopped(self.name, service).is_some() || service.standing_holds(now).next().is_some();
        if held || !schedule::in_window(&self.config.rollout.drain, now, &TimeZone::system()) {
            return false;
        }
        let late = service.instances.iter().filter(|(_, one)| {
            one.release.is_some()
                && one.release != service.last_good
                && matches!(one.condition, Condition::Deferred { .. })
        });
        let site = self.driver.world.site();
        late.map(|(name, _)| site.busyness(name)).any(|busyness| matches!(busyness, None | Some(Busyness::Idle)))
    }

    fn review(&mut self) -> Result<(), Trouble> {
        let by = self.by.clone();
        let settings = self.config.settings();
        self.driver
            .put(Input::Review { settings: settings.clone() }, &by)
            .map_err(|error| drive::drive_trouble(&error))?;
        self.count();
        Ok(())
    }

    /// Counts users' outcomes since the promotion, while it is watched.
    fn count(&mut self) {
        let Some(watch) = self.config.watch.clone() else { return };
        let promoted = self.driver.service().promoted_at;
        if self.counted_for != promoted || self.counter.is_none() {
            let logs = self.driver.world.site().watched_logs(&watch);
            let counter = Watch::new(&watch, logs);
            let begun = counter.begin();
            self.counter = begun.ok().map(|count| (counter, count));
            self.counted_for = promoted;
        }
        let Some((counter, count)) = &mut self.counter else { return };
        match counter.count(count) {
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
            .filter(|(name, at)| *at <= now && self.reviving.get(name) != Some(at))
            .filter(|(name, _)| !theirs.contains(name) && !service.stays_down(name))
            .collect();
        for (name, at) in due {
            self.reviving.insert(name.clone(), at);
            self.driver.world.revive(self.driver.service(), name);
        }
    }
}

/// Draws a byte for the jitter; no randomness at hand is no reason not to run.
fn rand_byte() -> u8 {
    let mut byte = [0; 1];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut byte)) {
        Ok(()) => byte[0],
        Err(_) => 128,
    }
}
