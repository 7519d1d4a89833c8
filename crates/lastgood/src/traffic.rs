//! Keeps the router as the log says it should be, whoever drives: the daemon, a command, or nobody.

mod stops;

use crate::{app::App, drive, exit::Exit, screen::Trouble};
use lastgood_domain::{failure::Failure, terms::ServiceName};
use lastgood_drivers::traffic::RouterError;
use lastgood_engine::{
    config::InstanceConfig,
    traffic::{self, ProxyHost},
    world::Site,
};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use stops::Stops;

/// Looks between two times that a HAProxy is told its table again.
const HAPROXY_ROUNDS: u32 = 25;
/// How often a router is told within a lease that the switches stand as they stood: three times may be late or lost.
const TOLD_IN_LEASE: u32 = 4;
/// How often it is looked whether the proxy and the switches are as they were.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Gives the proxy of this state folder, if any service is carried by it.
pub(crate) fn proxy(app: &App) -> Result<Option<ProxyHost>, Trouble> {
    Ok(ProxyHost::of(&app.config, &drive::program()?))
}

/// Tells a service's router its newest table, as the log has it; nothing for a service that was never routed.
///
/// Errors: `router-…` if it does not confirm, with exit 11 if it can't be asked; the log stands, and whoever drives tells it again.
pub(crate) fn assert_table(app: &App, name: &ServiceName) -> Result<bool, Trouble> {
    /// Times that the log may move on while it is told; each mover tells by itself.
    const TRIES: u32 = 5;
    let trouble = |failure: Failure| Trouble { exit: Exit::of_router(&failure), failure };
    if app.look(name)?.service.traffic.route.is_none() {
        return Ok(false);
    }
    let site = Site::open(&app.config, name, app.home.service(name), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let Some(router) = &site.router else { return Ok(false) };
    if let Some(proxy) = &site.proxy {
        proxy.ensure().map_err(trouble)?;
    }
    let listens = |one: &InstanceConfig| site.listens(one);
    let declared = app.config.switches.as_ref();
    let mut tries = 0;
    loop {
        tries += 1;
        let service = app.look(name)?.service;
        let Some(route) = &service.traffic.route else { return Ok(false) };
        let switches = traffic::switches_of(app.config.switches.as_ref(), app.home.root());
        let table = traffic::table(name, &service, route, &site.config, switches.as_ref(), declared, &listens)
            .map_err(trouble)?;
        let newest = || {
            let now = app.look(name).ok()?.service;
            let switches = traffic::switches_of(app.config.switches.as_ref(), app.home.root());
            let route = now.traffic.route.as_ref().filter(|newest| *newest == route)?;
            traffic::table(name, &now, route, &site.config, switches.as_ref(), declared, &listens).ok()
        };
        match traffic::tell(router.as_ref(), table, &newest) {
            Ok(_) => return Ok(true),
            Err(RouterError::TableOlder { .. }) if tries < TRIES => {}
            Err(error) => return Err(trouble(Failure::of(&error))),
        }
    }
}

/// Tells the routers of all services in which a kill switch closes something; gives which they are.
pub(crate) fn assert_switches(app: &App) -> Result<Vec<ServiceName>, Trouble> {
    let closes = app
        .config
        .service
        .iter()
        .filter(|(_, service)| service.traffic.as_ref().is_some_and(|traffic| !traffic.closes.is_empty()));
    // One service whose router does not answer keeps no switch from closing the others.
    let (mut told, mut failed) = (Vec::new(), None);
    for (name, _) in closes {
        match assert_table(app, name) {
            Ok(true) => told.push(name.clone()),
            Ok(false) => {}
            Err(trouble) => failed = Some(trouble),
        }
    }
    failed.map_or(Ok(told), Err)
}

/// Tells all routers; one that does not answer keeps the others from nothing.
fn assert_all(app: &App, services: &[ServiceName]) -> Result<(), Trouble> {
    let told = services.iter().map(|service| assert_table(app, service).map(drop));
    // Each is asked before the first trouble is given.
    told.collect::<Vec<_>>().into_iter().collect()
}

/// Somebody who waits until the routers are told how the switches stand; called with what kept one from it.
type Told = Box<dyn FnOnce(Option<Failure>) + Send>;

/// Wakes whoever keeps the routers.
pub(crate) struct Nudge(Sender<Told>);

impl Nudge {
    /// Has all routers told what the logs say now, and calls `told` after that.
    pub(crate) fn nudge(&self, told: Told) {
        // Without anybody who keeps routers nobody waits for them either.
        let _ = self.0.send(told);
    }
}

/// Makes what wakes whoever keeps the routers, and what that one listens to.
pub(crate) fn nudges() -> (Nudge, Receiver<Told>) {
    let (sender, receiver) = channel();
    (Nudge(sender), receiver)
}

/// Gives the services of which a router closes routes when it hears nothing for the lease, and how often it is told.
fn leased(app: &App, services: &[ServiceName]) -> Option<(Vec<ServiceName>, Duration)> {
    let every = app.config.switches.as_ref()?.lease.duration() / TOLD_IN_LEASE;
    let closes = |name: &&ServiceName| {
        let traffic = app.config.service.get(*name).and_then(|service| service.traffic.as_ref());
        traffic.is_some_and(|traffic| !traffic.closes.is_empty())
    };
    let leased: Vec<ServiceName> = services.iter().filter(closes).cloned().collect();
    (!leased.is_empty()).then_some((leased, every))
}

/// Does something during which nobody else may be there to tell a service's router that its switches stand as they stood.
pub(crate) fn in_contact<T>(app: &App, service: &ServiceName, act: impl FnOnce() -> T) -> T {
    let services = std::slice::from_ref(service);
    if leased(app, services).is_none() {
        return act();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (nudge, nudges) = nudges();
        scope.spawn(|| {
            let nudges = nudges;
            keep_routers(app, None, services, &stop, &nudges);
        });
        // Dropped last, also where `act` panics: the other thread wakes and ends.
        let _ends = Ends { stop: &stop, _nudge: nudge };
        act()
    })
}

/// Ends whoever keeps the routers beside an act.
struct Ends<'a> {
    stop: &'a AtomicBool,
    _nudge: Nudge,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Keeps the built-in proxy up and all routers' tables those of the log; they carry on by themselves while we are gone.
/// Ends when `stop` is set, which it looks for at least every [`LOOK_EVERY`], and at once when nobody can nudge any more.
pub(crate) fn keep_routers(
    app: &App,
    proxy: Option<&ProxyHost>,
    services: &[ServiceName],
    stop: &AtomicBool,
    nudges: &Receiver<Told>,
) {
    let (mut first, mut seen, mut rounds) = (true, None, 0_u32);
    let mut stops = Stops::default();
    // Who has no router has nothing to be told, and damage in its records is no reason not to tell the others.
    let has_router =
        |name: &&ServiceName| app.config.service.get(*name).is_some_and(|service| service.traffic.is_some());
    let services: Vec<ServiceName> = services.iter().filter(has_router).cloned().collect();
    let leased = leased(app, &services);
    let mut told_at = Instant::now();
    let mut said = None;
    let mut waiting: Vec<Told> = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        // Before the logs are read: whoever asks has written by now.
        waiting.extend(nudges.try_iter());
        let ensured = proxy.map_or(Ok(false), ProxyHost::ensure);
        let told = ensured.map_err(|failure| Trouble { exit: Exit::Failed, failure }).and_then(|started| {
            // What was decided while nobody could tell it, and what a proxy without its folder has lost.
            // A switch may be tripped over HTTP, by a guard, or by a command that was killed before it told the proxy; and
            // a record of a trip may be damaged, which no number of records shows.
            let switches = traffic::switches_of(app.config.switches.as_ref(), app.home.root());
            let turned = seen.as_ref() != Some(&switches);
            seen = Some(switches);
            // As for switches: the command that stopped entries may be gone.
            let (stopped, unread) = stops.have_changed(app, &services);
            let told = if std::mem::take(&mut first) || started || turned || stopped {
                told_at = Instant::now();
                assert_all(app, &services)
            } else if let Some((leased, every)) = &leased
                && told_at.elapsed() + LOOK_EVERY >= *every
            {
                told_at = Instant::now();
                assert_all(app, leased)
            } else {
                // A HAProxy that was reloaded has its own weights again, and says so to nobody.
                rounds += 1;
                let is_haproxy = |name: &&ServiceName| {
                    app.config.service[*name].traffic.as_ref().is_some_and(|traffic| traffic.haproxy.is_some())
                };
                match rounds % HAPROXY_ROUNDS {
                    0 => assert_all(app, &services.iter().filter(is_haproxy).cloned().collect::<Vec<_>>()),
                    _ => Ok(()),
                }
            };
            // One service that can't be read keeps no router from being told; it is said afterwards.
            unread.map_or(told, Err)
        });
        let trouble = told.err();
        for waiter in waiting.drain(..) {
            waiter(trouble.as_ref().map(|trouble| trouble.failure.clone()));
        }
        if let Some(trouble) = trouble {
            first = true;
            // Once for each kind of trouble, not each second.
            if said.replace(trouble.failure.code.clone()).as_ref() != Some(&trouble.failure.code) {
                app.screen.trouble(&trouble);
            }
        } else {
            said = None;
        }
        match nudges.recv_timeout(LOOK_EVERY) {
            Ok(waiter) => waiting.push(waiter),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if stop.load(Ordering::SeqCst) => return,
            // A daemon without a switchboard.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK_EVERY),
        }
    }
}
