//! What a world has besides where a service moves by share of its traffic: a router, people, tunnels, load.
//!
//! Tables are made and told by the engine's own code; the router that gets them, what may happen to it, and what is
//! checked whenever traffic moves are written here.

pub(crate) mod checks;
pub(crate) mod guard;
pub(crate) mod keeper;
pub(crate) mod random;
mod router;

use crate::{
    act::{failed, hindered},
    machine::{Data, Machine, ROWS_MAX},
    release::Fault,
};
use lastgood_domain::{
    effect::Answer,
    event::{Event, GateControl, GateFacts, Record, Settings, Verdict},
    facts::ResumeFacts,
    service::Service,
    terms::{Digest, InstanceName, ServiceName, Span},
    traffic::{Route, SEATS, Share, Table, TrafficSettings},
};
use lastgood_engine::config::{Config, InstanceConfig, ServiceConfig};
pub(crate) use router::Router;
use router::{Tunnel, carriers};
use std::{collections::BTreeMap, path::Path, sync::LazyLock};

/// Requests of a stage after which the pretended guard may say healthy.
const ENOUGH: u64 = 20;

/// Failed requests after which it says failing.
const TOO_MANY: u64 = 3;

/// Longest tunnel in milliseconds, if nobody closes it.
const TUNNEL_MAX: u64 = 150_000;

/// Longest time a client takes to answer a Close, in milliseconds: the router waits no longer.
const CLOSING_MAX: u64 = 10_000;

/// Both instances of the service on one data folder, or each on its own.
static CONFIGS: LazyLock<Option<[ServiceConfig; 2]>> =
    LazyLock::new(|| Some([config(["a", "a"])?, config(["a", "b"])?]));

fn config([a, b]: [&str; 2]) -> Option<ServiceConfig> {
    let text = format!(
        r#"[service.web]
channel = {{ directory = "releases", version_file = "VERSION" }}
command = ["{{release}}/web"]
state = {{ directory = "{{data}}" }}
traffic = {{ proxy = {{ listen = ["127.0.0.1:8000"] }} }}
probe = [{{ name = "works", http = {{ method = "GET", path = "/" }}, expect = {{ status = 200 }} }}]
instance = [
  {{ name = "a", port = 8101, other_port = 8102, data = "{a}" }},
  {{ name = "b", port = 8103, other_port = 8104, data = "{b}" }},
]
"#
    );
    let path = Path::new("/lastgood.toml");
    Config::parse(&text, path, Path::new("/")).ok()?.service.into_values().next()
}

/// What a world has besides where traffic moves by share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: &'static ServiceConfig,
    name: ServiceName,
    /// Whose data an instance works on.
    homes: BTreeMap<InstanceName, InstanceName>,
    settings: TrafficSettings,
    /// How long a promoted release is watched.
    pub(crate) watch: Span,
    /// The state that the whole log folds to: what anybody reads who tells the router.
    logged: Service,
    pub(crate) router: Router,
    /// Requests in a minute.
    pub(crate) load: u64,
    /// Whether the resume gate can't be asked.
    pub(crate) gate_broken: bool,
    /// How often a required gate does not say yes, in a thousand.
    pub(crate) no_permille: u64,
    /// Every route that was ordered, and when.
    routes: Vec<(Route, i64)>,
    /// The newest of them that the router has confirmed.
    confirmed: Option<usize>,
    /// Healthy, as the guard said it: of whom, at which share, when.
    healthy: Vec<(Digest, Share, i64)>,
}

impl Shared {
    /// Makes a world of one or two instances; `None` if the configuration above is none, which its tests show not to be.
    pub(crate) fn new(two: bool, apart: bool) -> Option<Self> {
        let config = CONFIGS.as_ref()?.get(usize::from(apart))?;
        let mut settings = config.settings().traffic?;
        if !two {
            settings.sides.iter_mut().for_each(|side| side.truncate(1));
            settings.holders.truncate(1);
        }
        let data = |name: &InstanceName| config.instance(name).map(|one| &one.data);
        let home = |name: &InstanceName| settings.holders.iter().find(|holder| data(holder) == data(name));
        let names = settings.sides.iter().flatten();
        let homes = names.filter_map(|name| Some((name.clone(), home(name)?.clone()))).collect();
        Some(Self {
            config,
            name: ServiceName::new("web").ok()?,
            homes,
            settings,
            watch: Span::ZERO,
            logged: Service::default(),
            router: Router::default(),
            load: 600,
            gate_broken: false,
            no_permille: 0,
            routes: Vec::new(),
            confirmed: None,
            healthy: Vec::new(),
        })
    }

    /// Gives the settings that the configuration leads to.
    pub(crate) fn traffic_settings(&self) -> &TrafficSettings {
        &self.settings
    }

    /// Keeps the settings that the world is played with.
    pub(crate) fn configure(&mut self, settings: &Settings) {
        if let Some(traffic) = &settings.traffic {
            (self.settings, self.watch) = (traffic.clone(), settings.watch);
        }
    }

    /// Sees what was appended, as everybody can who reads the log.
    pub(crate) fn log(&mut self, records: &[Record], elapsed: i64) {
        for record in records {
            self.logged.apply(record);
            match &record.event {
                Event::Ordered { effect: lastgood_domain::effect::Effect::Route { route }, .. } => {
                    self.routes.push((route.clone(), elapsed));
                }
                Event::Answered { answer: Answer::Routed { .. }, .. } if self.logged.traffic.confirmed => {
                    self.confirmed = self.routes.len().checked_sub(1);
                }
                _ => {}
            }
        }
    }

    /// Makes the table that follows from a state.
    pub(crate) fn table(&self, service: &Service, route: &Route) -> Option<Table> {
        let listens = |one: &InstanceConfig| (self.config.bind.clone(), one.port);
        lastgood_engine::traffic::table(
            &self.name,
            service,
            route,
            self.config,
            Some(&Default::default()),
            None,
            &listens,
        )
        .ok()
    }

    /// Makes the table of now.
    pub(crate) fn newest_table(&self) -> Option<Table> {
        self.table(&self.logged, self.logged.traffic.route.as_ref()?)
    }

    /// Makes the table of `route` from the log of now; none if the log says something newer.
    fn newest_of(&self, route: &Route) -> Option<Table> {
        let is_newest = self.logged.traffic.route.as_ref() == Some(route);
        is_newest.then(|| self.newest_table()).flatten()
    }

    /// Tells whether the guard said healthy of this stage since it began.
    pub(crate) fn said_healthy(&self, release: &Digest, share: Share, since: i64) -> bool {
        self.healthy.iter().any(|(of, at_share, at)| of == release && *at_share == share && *at >= since)
    }
}

impl Machine {
    /// Names the place whose data an instance works on.
    pub(crate) fn home<'a>(&'a self, name: &'a InstanceName) -> &'a InstanceName {
        self.shared.as_ref().and_then(|shared| shared.homes.get(name)).unwrap_or(name)
    }

    /// Lets time pass up to a moment.
    pub(crate) fn pass(&mut self, elapsed: i64) {
        let now = self.elapsed.max(elapsed);
        let passed = u64::try_from(now - self.elapsed).unwrap_or(0);
        self.elapsed = now;
        let wall = self.now();
        let fails = self.trial_fails();
        let Some(shared) = &mut self.shared else { return };
        shared.router.count(shared.load, passed, fails);
        shared.router.close_tunnels(now, wall, &mut self.chance);
        if shared.router.back_at.is_some_and(|at| at <= now) {
            shared.router.rises();
        }
        let due: Vec<Table> = shared.router.post.extract_if(.., |(at, _)| *at <= now).map(|(_, table)| table).collect();
        for table in due {
            // It comes late, and is refused if it is too old.
            drop(self.carry(&table));
        }
    }

    /// Gives the next moment at which the router changes by itself.
    pub(crate) fn next_of_router(&self) -> Option<i64> {
        let router = &self.shared.as_ref()?.router;
        router.post.iter().map(|(at, _)| *at).chain(router.back_at).min()
    }

    /// Ends the router's process, with its tunnels and its counts; its table is on disk, unless that is lost too.
    pub(crate) fn router_falls(&mut self, with_its_table: bool) {
        let back_at = self.elapsed + 100 + i64::try_from(self.chance.below(5_000)).unwrap_or(0);
        let Some(shared) = &mut self.shared else { return };
        shared.router.falls(with_its_table, back_at);
    }

    /// Tells whether users of the release on trial fail now.
    fn trial_fails(&self) -> bool {
        let Some(release) = self.shared.as_ref().and_then(|shared| shared.router.trial().map(|(release, _)| release))
        else {
            return false;
        };
        self.is_broken(&release)
    }

    /// Tells whether users of a release fail now.
    pub(crate) fn is_broken(&self, release: &Digest) -> bool {
        let Some(which) = self.recipe(release) else { return false };
        let Some(recipe) = self.recipes.get(which) else { return false };
        let ups = self.places.values().filter(|place| place.up == Some(which));
        let oldest = ups.map(|place| self.elapsed - place.since).max().unwrap_or(0);
        recipe.faults.iter().any(|fault| match fault {
            Fault::BreaksUsers => true,
            Fault::BreaksLate(Span(after)) => u64::try_from(oldest).is_ok_and(|age| age >= *after),
            _ => false,
        })
    }

    /// People come through the router, each to who answers for the seat: they write, and some open a tunnel.
    pub(crate) fn people_come(&mut self) {
        let share = self.weather.rows_permille;
        let Some(table) = self.shared.as_ref().and_then(|shared| shared.router.carried()).cloned() else { return };
        for _ in 0..2 {
            let seat = u16::try_from(self.chance.below(u64::from(SEATS))).unwrap_or(0);
            let Some(side) = table.side_of(seat) else { return };
            let Some(instance) = self.chance.pick(&side.upstreams).map(|one| one.instance.clone()) else { continue };
            let wanted = self.recipe(&side.release);
            let Some(up) = self.places.get(&instance).and_then(|place| place.up) else { continue };
            if wanted != Some(up) {
                self.violated(format!("{instance}: people of {} are sent to something else", side.tag));
            }
            if self.chance.permille(150) {
                let until = self.elapsed + 1_000 + i64::try_from(self.chance.below(TUNNEL_MAX)).unwrap_or(0);
                let tunnel = Tunnel { release: side.release, instance: instance.clone(), until, closing: false };
                if let Some(shared) = &mut self.shared {
                    shared.router.tunnels.push(tunnel);
                }
            }
            if self.rows >= ROWS_MAX || !self.chance.permille(share) || !self.serves(&instance, up, true) {
                continue;
            }
            let (home, row) = (self.home(&instance).clone(), 1_u128 << self.rows);
            if let Some(place) = self.places.get_mut(&home)
                && let Some(Data { rows, .. }) = &mut place.live
            {
                *rows |= row;
                place.acked |= row;
                self.rows += 1;
            }
        }
    }

    /// Asks a required gate: each time it may say something else.
    pub(crate) fn ask_gate(&mut self, stage: u32) -> Option<Answer> {
        if stage == 0 {
            return None;
        }
        let Some(no_permille) = self.shared.as_ref().map(|shared| shared.no_permille) else {
            return hindered("no-gates", "this world has no gates");
        };
        let says = |verdict, control: Option<Verdict>| {
            let because = || String::from("so it fell out");
            let control = control.map(|verdict| GateControl { verdict, because: because() });
            Some(Answer::GateAsked { facts: GateFacts { verdict, because: because(), control, took: Span(5) } })
        };
        if !self.chance.permille(no_permille) {
            return says(Verdict::Pass, None);
        }
        match self.chance.below(6) {
            0 => says(Verdict::Fail, Some(Verdict::Pass)),
            1 => says(Verdict::Fail, Some(Verdict::Fail)),
            2 => says(Verdict::CannotTell, None),
            3 => says(Verdict::Hold, Some(Verdict::Pass)),
            4 => hindered("gate-timeout", "no end in time"),
            _ => failed("gate-unknown", "it is not in the configuration any more"),
        }
    }

    /// Tries whether sessions can be resumed.
    pub(crate) fn resume(&mut self, stage: u32, candidate: &Digest) -> Option<Answer> {
        if stage == 0 {
            return None;
        }
        let forgets =
            self.recipe(candidate).and_then(|at| self.recipes.get(at)).is_some_and(|one| one.has(&Fault::Forgets));
        match &self.shared {
            None => hindered("no-router", "this world has no router"),
            Some(shared) if shared.gate_broken => hindered("resume-control", "last-good can't be resumed either"),
            Some(_) if forgets => failed("resume-failed", "messages were lost"),
            Some(_) => Some(Answer::ResumePassed { facts: ResumeFacts::default() }),
        }
    }

    /// Checks, when an instance has been stopped, that nobody was on it.
    pub(crate) fn look_at_stopped(&mut self, instance: &InstanceName) {
        let Some(shared) = &self.shared else { return };
        let on = shared.router.tunnels.iter().filter(|one| one.instance == *instance).count();
        let sent = shared.router.table.as_ref().is_some_and(|table| {
            carriers(table).iter().any(|side| side.upstreams.iter().any(|one| one.instance == *instance))
        });
        self.tunnels_break(instance);
        if on > 0 {
            self.violated(format!("{instance} was stopped with {on} tunnels"));
        }
        if sent {
            self.violated(format!("{instance} was stopped while people are sent to it"));
        }
    }

    /// Ends the tunnels to an instance whose process has ended.
    pub(crate) fn tunnels_break(&mut self, instance: &InstanceName) {
        if let Some(shared) = &mut self.shared {
            shared.router.tunnels.retain(|tunnel| tunnel.instance != *instance);
        }
    }

    /// Checks what must hold of traffic at every moment.
    pub(crate) fn look_at_traffic(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(shared) = &self.shared else { return wrong };
        let Some(table) = shared.router.carried() else { return wrong };
        let mut holding: Vec<Digest> = carriers(table).iter().map(|side| side.release).collect();
        holding.extend(shared.router.tunnels.iter().map(|tunnel| tunnel.release));
        holding.sort();
        holding.dedup();
        if holding.len() > 2 {
            wrong.push(format!("{} releases hold traffic", holding.len()));
        }
        // What was confirmed is never undone by something that was ordered before it.
        let says = |(route, _): &(Route, i64)| {
            let release = |side: &Option<lastgood_domain::traffic::RouteSide>| side.as_ref().map(|side| side.release);
            let carried = |side: &Option<lastgood_domain::traffic::Side>| side.as_ref().map(|side| side.release);
            release(&route.last_good) == carried(&table.last_good)
                && release(&route.candidate) == carried(&table.candidate)
                && route.share == table.share
        };
        let allowed = shared.routes.get(shared.confirmed.unwrap_or(0)..).unwrap_or_default();
        if !allowed.iter().any(says) {
            wrong.push(format!("table {} undoes what was confirmed after it", table.epoch));
        }
        let forgets =
            table.candidate.as_ref().and_then(|side| self.recipe(&side.release)).and_then(|at| self.recipes.get(at));
        if forgets.is_some_and(|recipe| recipe.has(&Fault::Forgets))
            && shared.settings.resume
            && table.share.seats() > SEATS / 4
        {
            wrong.push(format!("{} of the people are on a release that forgets their sessions", table.share));
        }
        wrong
    }

    /// Checks, when everything has calmed down, that the router carries what the log says.
    pub(crate) fn look_at_the_end(&mut self) {
        let Some(shared) = &self.shared else { return };
        let wanted = shared.newest_table();
        let has = shared.router.carried().cloned();
        let of = |table: &Table| {
            let side = |side: &Option<lastgood_domain::traffic::Side>| side.as_ref().map(|one| one.release);
            (side(&table.last_good), side(&table.candidate), table.share, table.closed.clone())
        };
        let rejected = |table: &Table| {
            let serves = shared.logged.last_good;
            carriers(table)
                .iter()
                .any(|side| shared.logged.rejected.contains_key(&side.release) && Some(side.release) != serves)
        };
        // Where nobody of last-good is up, people stay where they get answers, and somebody is paged.
        let down = |name| self.places.get(name).is_none_or(|place| place.up.is_none());
        let stuck = shared.logged.traffic.last_good().is_some_and(|side| side.instances.iter().all(down));
        let stays = shared.logged.traffic.confirmed && has.as_ref().is_some_and(rejected) && !stuck;
        if wanted.as_ref().map(of) != has.as_ref().map(of) {
            self.violated("the router does not carry what the log says".into());
        }
        if stays {
            self.violated("people are sent to a rejected release".into());
        }
    }

    /// Sets how many people come and how slow the router is.
    pub(crate) fn set_traffic(&mut self, load: u64, lag_permille: u64) {
        if let Some(shared) = &mut self.shared {
            (shared.load, shared.router.lag_permille) = (load, lag_permille);
        }
    }

    /// Ends all trouble with the router.
    pub(crate) fn bring_router_back(&mut self) {
        if let Some(shared) = &mut self.shared {
            (shared.router.stays_away, shared.gate_broken, shared.no_permille) = (false, false, 0);
            if !shared.router.is_up() {
                shared.router.rises();
            }
        }
    }
}
