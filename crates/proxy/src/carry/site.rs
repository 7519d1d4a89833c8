//! One service: what all threads share of it, and what each has for itself.

use super::{Alarms, now_ms};
use crate::{
    observe::{Ledger, People, Ring},
    route::Routing,
    settings::{Network, Serving},
};
use lastgood_domain::{
    terms::{Digest, ServiceName, Span, Timestamp},
    traffic::{Table, wire::Live},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

/// Locks, also after a thread has panicked while it held the lock: what is kept behind our locks is whole at all times.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives [`now_ms`] as a number that may be reckoned back from.
fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// What all threads share of one service.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) service: ServiceName,
    pub(crate) serving: Serving,
    /// No new connections, and the last request on each.
    pub(crate) stopping: Arc<AtomicBool>,
    /// When a stop ends tunnels; 0 where there is none, or another process takes over.
    tunnels_until: Arc<AtomicU64>,
    pub(crate) ring: Mutex<Ring>,
    people: Mutex<BTreeMap<Digest, Arc<People>>>,
    connections: AtomicU32,
    from: Mutex<HashMap<IpAddr, u32>>,
    tunnels: AtomicU32,
    /// When its table was told last, in milliseconds of [`now_ms`], below 0 for what another process heard before this one
    /// began; [`NEVER`] if it was only read.
    heard: AtomicI64,
}

/// Nobody has told a table yet.
const NEVER: i64 = i64::MIN;

impl Door {
    pub(crate) fn new(
        service: ServiceName,
        serving: Serving,
        stopping: Arc<AtomicBool>,
        tunnels_until: Arc<AtomicU64>,
    ) -> Self {
        Self {
            service,
            serving,
            stopping,
            tunnels_until,
            ring: Mutex::default(),
            people: Mutex::default(),
            connections: AtomicU32::new(0),
            from: Mutex::default(),
            tunnels: AtomicU32::new(0),
            heard: AtomicI64::new(NEVER),
        }
    }

    /// Notes that its table was told `ago` milliseconds before now.
    pub(crate) fn hear(&self, ago: u64) {
        let ago = i64::try_from(ago).unwrap_or(i64::MAX);
        // Whoever heard later is right, also where an older word comes by another way.
        self.heard.fetch_max(now().saturating_sub(ago), Ordering::Relaxed);
    }

    /// Gives how long ago its table was told; `None` if it was only read.
    pub(crate) fn unheard(&self) -> Option<Span> {
        match self.heard.load(Ordering::Relaxed) {
            NEVER => None,
            heard => Some(Span(now().saturating_sub(heard).unsigned_abs())),
        }
    }

    /// Lets a connection in, unless there are too many.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Entered> {
        let limits = &self.serving.limits;
        let counted = (!self.is_trusted(from)).then_some(from);
        if let Some(from) = counted {
            let mut all = locked(&self.from);
            let count = all.entry(from).or_default();
            if *count >= limits.connections_per_address {
                return None;
            }
            *count += 1;
        }
        let entered = Entered { door: self.clone(), from: counted };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            // Dropping the guard counts it out again.
            return None;
        }
        Some(entered)
    }

    /// Tells whether `address` is a proxy in front.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.serving.trusted_proxies.iter().any(|network: &Network| network.has(address))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells whether another process takes over, so that what it has idle can wait for its own deadlines.
    pub(crate) fn is_succeeded(&self) -> bool {
        self.is_stopping() && self.tunnels_until.load(Ordering::Relaxed) == 0
    }

    /// Lets a tunnel be opened, unless there are too many.
    pub(crate) fn open_tunnel(self: &Arc<Self>) -> Option<OpenTunnel> {
        let open = OpenTunnel(self.clone());
        (self.tunnels.fetch_add(1, Ordering::Relaxed) < self.serving.limits.tunnels).then_some(open)
    }

    fn people(&self, release: &Digest) -> Arc<People> {
        locked(&self.people).entry(*release).or_default().clone()
    }

    /// Gives the shared counts of people, and forgets releases that no thread counts for.
    pub(crate) fn all_people(&self) -> Vec<(Digest, Arc<People>)> {
        let mut people = locked(&self.people);
        people.retain(|_, people| Arc::strong_count(people) > 1);
        people.iter().map(|(release, people)| (*release, people.clone())).collect()
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Entered {
    door: Arc<Door>,
    from: Option<IpAddr>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.door.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(from) = self.from {
            let mut all = locked(&self.door.from);
            if let Some(count) = all.get_mut(&from) {
                *count -= 1;
                if *count == 0 {
                    all.remove(&from);
                }
            }
        }
    }
}

/// A tunnel that counts towards the limit.
#[derive(Debug)]
pub(crate) struct OpenTunnel(Arc<Door>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One service within one thread.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) door: Arc<Door>,
    pub(crate) alarms: Arc<Alarms>,
    routing: Mutex<Arc<Routing>>,
    ledgers: Mutex<BTreeMap<Digest, Arc<Ledger>>>,
}

impl Site {
    pub(crate) fn new(door: Arc<Door>, alarms: Arc<Alarms>) -> Self {
        Self { door, alarms, routing: Mutex::default(), ledgers: Mutex::default() }
    }

    /// Gives the table in use.
    pub(crate) fn routing(&self) -> Arc<Routing> {
        locked(&self.routing).clone()
    }

    /// Uses another table from now on.
    pub(crate) fn route(&self, table: &Table) {
        let before = self.routing();
        let routing = Arc::new(Routing::new(table, &before, |release| self.ledger(release)));
        for (release, ledger) in &*locked(&self.ledgers) {
            let deadline = table.leaving.iter().find(|leaving| leaving.side.release == *release);
            let deadline = deadline.and_then(|leaving| leaving.deadline);
            ledger.drain_at(deadline.map_or(0, |Timestamp(ms)| u64::try_from(ms).unwrap_or(0).max(1)));
        }
        *locked(&self.routing) = routing;
    }

    fn ledger(&self, release: &Digest) -> Arc<Ledger> {
        let mut ledgers = locked(&self.ledgers);
        ledgers.entry(*release).or_insert_with(|| Arc::new(Ledger::new(self.door.people(release)))).clone()
    }

    /// Lists the ledgers, and forgets those that nobody uses any more.
    pub(crate) fn ledgers(&self) -> Vec<(Digest, Arc<Ledger>)> {
        let mut ledgers = locked(&self.ledgers);
        let all = ledgers.iter().map(|(release, ledger)| (*release, ledger.clone())).collect();
        // Held by the map and by `all` just made: neither by a table nor by a request. What it counted is taken now.
        ledgers.retain(|_, ledger| Arc::strong_count(ledger) > 2);
        all
    }

    /// Tells what goes on, without taking what was counted.
    pub(crate) fn live(&self) -> Vec<Live> {
        let live = |(release, ledger): (&Digest, &Arc<Ledger>)| {
            let (in_flight, tunnels) = ledger.live();
            Live { release: *release, in_flight, tunnels, people: 0 }
        };
        locked(&self.ledgers).iter().map(live).collect()
    }

    /// Closes connections to instances that waited too long.
    pub(crate) fn tidy(&self, now_ms: u64) {
        self.routing().drop_stale(now_ms, u64::from(self.door.serving.limits.reuse_seconds) * 1_000);
    }
}
