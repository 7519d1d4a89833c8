//! The pretended router: it keeps one table, refuses an older one, and may be slow, deaf, dead or robbed.

use super::{CLOSING_MAX, Shared};
use crate::{
    act::{Job, hindered},
    chance::Chance,
    machine::Machine,
};
use lastgood_domain::{
    effect::Answer,
    terms::{Digest, InstanceName, ServiceName, Span, Timestamp},
    traffic::{Route, SEATS, Share, Side, Slice, Table},
};
use lastgood_engine::traffic::{Load, Routed, RouterError, tell};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long a driver goes on telling a router that does not confirm, in milliseconds.
const ROUTE_WAIT: i64 = 10_000;

/// Something that lasts and is lost with what it goes through.
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    pub(crate) release: Digest,
    pub(crate) instance: InstanceName,
    pub(crate) until: i64,
    /// Whether the router has begun to close it.
    pub(crate) closing: bool,
}

/// A router and what it has counted.
#[derive(Debug, Default)]
pub(crate) struct Router {
    up: bool,
    /// When its process is started again.
    pub(super) back_at: Option<i64>,
    /// Nobody can start it.
    pub(crate) stays_away: bool,
    /// What it carries; it is on disk before it is confirmed.
    pub(super) table: Option<Table>,
    /// Tables that are on their way to it.
    pub(super) post: Vec<(i64, Table)>,
    /// How often a table takes its time.
    pub(crate) lag_permille: u64,
    /// Whether it was started since somebody looked.
    pub(super) untold: bool,
    pub(super) tunnels: Vec<Tunnel>,
    /// Requests to the release on trial since its stage began, in thousandths, and those that failed in all its stages.
    requests: u64,
    failures: u64,
}

/// Lists who gets people.
pub(super) fn carriers(table: &Table) -> Vec<&Side> {
    let last_good = table.last_good.as_ref().filter(|_| table.share < Share::ALL);
    last_good.into_iter().chain(table.candidate.as_ref().filter(|_| table.share > Share::NONE)).collect()
}

/// Finds whose requests are counted, and at which share.
fn trial(table: &Table) -> Option<(Digest, Share)> {
    match &table.candidate {
        Some(candidate) => Some((candidate.release, table.share)),
        None => table.last_good.as_ref().map(|side| (side.release, Share::ALL)),
    }
}

impl Router {
    /// Gives the table that people are sent by.
    pub(crate) fn carried(&self) -> Option<&Table> {
        self.table.as_ref().filter(|_| self.up)
    }

    pub(crate) fn trial(&self) -> Option<(Digest, Share)> {
        trial(self.carried()?)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// Its process ends: what it held in memory is gone.
    pub(super) fn falls(&mut self, with_its_table: bool, back_at: i64) {
        let Self { table, stays_away, lag_permille, .. } = std::mem::take(self);
        let table = table.filter(|_| !with_its_table);
        *self = Self { table, back_at: (!stays_away).then_some(back_at), stays_away, lag_permille, ..Self::default() };
    }

    pub(super) fn rises(&mut self) {
        (self.up, self.untold, self.back_at) = (true, true, None);
    }

    /// Gives the requests of the stage and all failures, or nothing if it can't be asked.
    pub(crate) fn counts(&self) -> Option<(u64, u64)> {
        self.up.then_some((self.requests / 1_000, self.failures / 1_000))
    }

    /// Counts the requests of some milliseconds.
    pub(super) fn count(&mut self, load: u64, passed: u64, fails: bool) {
        let Some((_, share)) = self.trial() else { return };
        let new = load * passed * u64::from(share.seats()) / (60 * u64::from(SEATS));
        self.requests += new;
        self.failures += if fails { new } else { 0 };
    }

    /// Ends tunnels whose time is over, and closes those of a release whose deadline has come.
    pub(super) fn close_tunnels(&mut self, now: i64, wall: Timestamp, chance: &mut Chance) {
        let leaving = self.table.iter().filter(|_| self.up).flat_map(|table| &table.leaving);
        let over: Vec<Digest> = leaving
            .filter(|one| one.deadline.is_some_and(|deadline| deadline <= wall))
            .map(|one| one.side.release)
            .collect();
        for tunnel in self.tunnels.iter_mut().filter(|tunnel| !tunnel.closing && over.contains(&tunnel.release)) {
            let closed = now + i64::try_from(chance.below(CLOSING_MAX)).unwrap_or(0);
            (tunnel.until, tunnel.closing) = (tunnel.until.min(closed), true);
        }
        self.tunnels.retain(|tunnel| tunnel.until > now);
    }

    fn take(&mut self, table: &Table) -> Result<(), RouterError> {
        if !self.up {
            let at = "proxy/control".to_owned();
            return Err(RouterError::Unreachable { at, source: std::io::ErrorKind::ConnectionRefused.into() });
        }
        table.check().map_err(|source| RouterError::TableWrong { source })?;
        if let Some(has) = &self.table
            && (has.epoch > table.epoch || has.epoch == table.epoch && has != table)
        {
            return Err(RouterError::TableOlder { asked: table.epoch, has: has.epoch });
        }
        let (before, after) = (self.table.as_ref().and_then(trial), trial(table));
        if before != after {
            self.requests = 0;
        }
        if before.map(|(release, _)| release) != after.map(|(release, _)| release) {
            self.failures = 0;
        }
        self.table = Some(table.clone());
        Ok(())
    }
}

impl Machine {
    /// Gives the router a table and checks what that does.
    pub(super) fn carry(&mut self, table: &Table) -> Result<(), RouterError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        let before = shared.router.table.clone();
        shared.router.take(table)?;
        if before.as_ref() != Some(table) {
            self.moved(before.as_ref(), table);
        }
        Ok(())
    }

    /// Checks a change of the router's table.
    fn moved(&mut self, before: Option<&Table>, table: &Table) {
        let mut wrong = Vec::new();
        if before.is_some_and(|before| before.epoch >= table.epoch) {
            wrong.push(format!("the router went on to table {}, which is not newer", table.epoch));
        }
        let ordered = self.ordered_at(table);
        let had: Vec<Digest> =
            before.map(|before| carriers(before).iter().map(|side| side.release).collect()).unwrap_or_default();
        for side in carriers(table).iter().filter(|side| !had.contains(&side.release)) {
            let which = self.recipe(&side.release);
            // One that ended since it was looked at last can't be known to be down.
            let is_ready = |name: &InstanceName| {
                self.places
                    .get(name)
                    .is_some_and(|place| place.up == which || place.up.is_none() && place.since >= ordered)
            };
            let ready = side.upstreams.iter().filter(|one| is_ready(&one.instance)).count();
            let is_new = table.candidate.as_ref().is_some_and(|candidate| candidate.release == side.release);
            // Behind a table that was lost everything is new, and nobody is moved by it.
            if before.is_some() && (ready == 0 || is_new && ready < side.upstreams.len()) {
                wrong.push(format!("people go to {}, of which {ready} of {} are up", side.tag, side.upstreams.len()));
            }
        }
        self.violations.append(&mut wrong);
    }

    /// Finds when the newest order for a table like this was given.
    fn ordered_at(&self, table: &Table) -> i64 {
        let of = |side: Option<&Side>| side.map(|side| side.release);
        let Some(shared) = &self.shared else { return 0 };
        let like = shared.routes.iter().rev().find(|(route, _)| {
            route.last_good.as_ref().map(|side| side.release) == of(table.last_good.as_ref())
                && route.candidate.as_ref().map(|side| side.release) == of(table.candidate.as_ref())
                && route.share == table.share
        });
        like.map_or(0, |(_, at)| *at)
    }

    /// Tells the router once: it may answer late, or not at all.
    pub(super) fn tell_once(&mut self, table: &Table, route: &Route) -> Result<(), RouterError> {
        let (elapsed, is_late) = (self.elapsed, {
            let permille = self.shared.as_ref().map_or(0, |shared| shared.router.lag_permille);
            self.chance.permille(permille)
        });
        let late = 50 + i64::try_from(self.chance.below(8_000)).unwrap_or(0);
        let Some(shared) = &mut self.shared else { return Ok(()) };
        if is_late && shared.router.up {
            shared.router.post.push((elapsed + late, table.clone()));
            return Err(RouterError::Silent { at: "proxy/control".into(), waited: Duration::from_secs(1) });
        }
        let newest = shared.newest_of(route);
        let line = Line(Mutex::new(self));
        tell(&line, table.clone(), &|| newest.clone()).map(drop)
    }

    /// Carries out an order to the router, as the engine's hands do: look whether it is void, tell, and again.
    pub(crate) fn told(&mut self, job: &mut Job, stage: u32, route: &Route) -> Option<Answer> {
        let no_router = || hindered("no-router", "this world has no router");
        let Some(shared) = &self.shared else { return no_router() };
        let Some(begun) = job.told_since else { return no_router() };
        if stage.is_multiple_of(2) {
            job.table = shared.newest_of(route);
            return job.table.is_none().then_some(Answer::Routed { took: Span(3) });
        }
        let Some(table) = job.table.take() else { return no_router() };
        match self.tell_once(&table, route) {
            Ok(()) => Some(Answer::Routed { took: Span(3) }),
            Err(_) if self.elapsed - begun > ROUTE_WAIT => {
                hindered("router-silent", "the router did not confirm in time")
            }
            Err(_) => None,
        }
    }

    /// Tells a router that was started what the log says, as whoever keeps it up does.
    pub(crate) fn keep_router(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        if !shared.router.up || !shared.router.untold {
            return;
        }
        let Some((table, route)) = shared.newest_table().zip(shared.logged.traffic.route.clone()) else { return };
        shared.router.untold = false;
        if self.tell_once(&table, &route).is_err()
            && let Some(shared) = &mut self.shared
        {
            shared.router.untold = true;
        }
    }

    /// Tells the router what the log says, as a command does that changed what is closed.
    pub(crate) fn tell_newest(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.router.untold = true;
        }
        self.keep_router();
    }
}

impl Shared {
    /// Tells whether a release has an open tunnel or gets people; `None` if the router can't be asked.
    pub(crate) fn is_in_use(&self, release: &Digest) -> Option<bool> {
        let router = &self.router;
        if !router.up {
            return None;
        }
        let carries = router.table.iter().flat_map(carriers).any(|side| side.release == *release);
        Some(carries || router.tunnels.iter().any(|tunnel| tunnel.release == *release))
    }
}

/// The way to the router, as the engine's code that tells it sees it.
struct Line<'a>(Mutex<&'a mut Machine>);

impl lastgood_engine::traffic::Router for Line<'_> {
    fn route(&self, table: &Table) -> Result<Routed, RouterError> {
        let mut machine = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machine.carry(table)?;
        Ok(Routed { epoch: table.epoch, share: table.share, took: Duration::ZERO })
    }

    fn slices(&self, _: &ServiceName, _: u64) -> Result<Vec<Slice>, RouterError> {
        Ok(Vec::new())
    }

    fn look(&self, _: &ServiceName) -> Result<Vec<Load>, RouterError> {
        Ok(Vec::new())
    }
}
