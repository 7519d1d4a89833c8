//! A table made ready for one thread: each request is answered from it without a lock of anybody else's.

use crate::{carry::upstream::Idle, observe::Ledger};
use lastgood_domain::{
    terms::{Digest, Span},
    traffic::{Answering, Closed, Fallback, Lease, Share, Side, Table, seat},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Milliseconds during which an instance that refused a connection is passed over, if others answer.
const PASSED_OVER_MS: u64 = 1_000;

/// One instance, as one thread sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Hash of the instance's name: people stay with their instance even if its address changes.
    name: u64,
    /// Until when it is passed over, in milliseconds of [`crate::carry::now_ms`].
    down_until: AtomicU64,
    /// Connections that wait for their next request, the freshest last.
    pub(crate) idle: Mutex<Vec<Idle>>,
}

impl Peer {
    /// Remembers that it refused a connection.
    pub(crate) fn refused(&self, now_ms: u64) {
        self.down_until.store(now_ms + PASSED_OVER_MS, Ordering::Relaxed);
    }

    fn is_down(&self, now_ms: u64) -> bool {
        self.down_until.load(Ordering::Relaxed) > now_ms
    }
}

/// One release, as one thread sees it.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) release: Digest,
    pub(crate) ledger: Arc<Ledger>,
    peers: Vec<Arc<Peer>>,
}

impl Party {
    /// Chooses the person's instance: the highest of the hashes of person ([`steady`]) and instance, so that people stay when
    /// others come and go. One that refused a moment ago, or that is `not`, is chosen only if no other is there.
    pub(crate) fn peer(&self, person: u64, now_ms: u64, not: Option<&Peer>) -> Option<Arc<Peer>> {
        if let [only] = &self.peers[..] {
            return Some(only.clone());
        }
        let rank = |peer: &&Arc<Peer>| {
            let is_avoided = not.is_some_and(|not| not.address == peer.address);
            (!is_avoided, !peer.is_down(now_ms), mix(person ^ peer.name))
        };
        self.peers.iter().max_by_key(rank).cloned()
    }
}

/// Hashes ids and instances the same in every process: FNV-1a (public domain).
pub(crate) fn steady(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The finaliser of MurmurHash3 (public domain).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// A table as one thread uses it.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    salt: String,
    share: Share,
    last_good: Option<Arc<Party>>,
    candidate: Option<Arc<Party>>,
    /// Kept for their tunnels' sake and for what is counted; nothing new goes there.
    leaving: Vec<Arc<Party>>,
    /// What requests of lastgood's own carry.
    synthetic: Option<String>,
    closed: Vec<Closed>,
    lease: Option<Lease>,
    /// Which answers count as those of a fallback.
    fallback: Option<Arc<Fallback>>,
}

/// Tells how long ago the table was told; it is asked only where that decides.
pub(crate) type Unheard<'a> = &'a dyn Fn() -> Option<Span>;

/// Where a request goes.
pub(crate) enum Choice<'a> {
    /// To this release.
    To(&'a Arc<Party>),
    /// Nowhere: its route is closed, and this is the answer.
    Closed(&'a Answering),
    /// Nowhere: the whole service is closed, or there is no table yet.
    Nowhere,
}

impl Routing {
    /// Makes `table` ready; instances that stay keep their connections.
    pub(crate) fn new(table: &Table, before: &Self, ledger: impl Fn(&Digest) -> Arc<Ledger>) -> Self {
        let party = |side: &Side| {
            let old = before.parties().find(|party| party.release == side.release);
            let peers = side.upstreams.iter().map(|upstream| {
                let name = steady(upstream.instance.as_str().as_bytes());
                let stayed = old.and_then(|old| {
                    old.peers.iter().find(|peer| peer.address == upstream.address && peer.name == name)
                });
                stayed.cloned().unwrap_or_else(|| {
                    let address = upstream.address;
                    Arc::new(Peer { address, name, down_until: AtomicU64::new(0), idle: Mutex::default() })
                })
            });
            Arc::new(Party { release: side.release, ledger: ledger(&side.release), peers: peers.collect() })
        };
        Self {
            salt: table.salt.clone(),
            share: table.share,
            last_good: table.last_good.as_ref().map(party),
            candidate: table.candidate.as_ref().map(party),
            leaving: table.leaving.iter().map(|leaving| party(&leaving.side)).collect(),
            synthetic: table.synthetic.clone(),
            closed: table.closed.clone(),
            lease: table.lease.clone(),
            fallback: table.fallback.clone().map(Arc::new),
        }
    }

    /// Gives what counts as an answer by a fallback, if anything does, and whether this request's route does.
    pub(crate) fn fallback(&self, method: &[u8], target: &[u8]) -> Option<(Arc<Fallback>, bool)> {
        let fallback = self.fallback.as_ref()?;
        let (method, target) = (String::from_utf8_lossy(method), String::from_utf8_lossy(target));
        let by_route = fallback.routes.iter().any(|route| route.covers(&method, &target));
        Some((fallback.clone(), by_route))
    }

    /// Lists all releases of the table.
    pub(crate) fn parties(&self) -> impl Iterator<Item = &Arc<Party>> {
        self.last_good.iter().chain(&self.candidate).chain(&self.leaving)
    }

    /// Gives what a request must carry to be lastgood's own.
    pub(crate) fn synthetic(&self) -> Option<&str> {
        self.synthetic.as_deref()
    }

    /// Decides where a request of lastgood's own goes: to the candidate, where people may go.
    pub(crate) fn choose_synthetic(&self, method: &[u8], target: &[u8], unheard: Unheard<'_>) -> Choice<'_> {
        match self.closed_answer(method, target, unheard) {
            Some(answer) => Choice::Closed(answer),
            None => self.candidate.as_ref().map_or(Choice::Nowhere, Choice::To),
        }
    }

    /// Decides where a request of the person `id` goes.
    pub(crate) fn choose(&self, id: &[u8], method: &[u8], target: &[u8], unheard: Unheard<'_>) -> Choice<'_> {
        if (!self.closed.is_empty() || self.lease.is_some())
            && let Some(answer) = self.closed_answer(method, target, unheard)
        {
            return Choice::Closed(answer);
        }
        let party = match &self.candidate {
            Some(candidate) if self.share.has(seat(id, self.salt.as_bytes())) => Some(candidate),
            _ => self.last_good.as_ref(),
        };
        party.map_or(Choice::Nowhere, Choice::To)
    }

    /// Finds the answer of the first closed route that covers the request.
    fn closed_answer(&self, method: &[u8], target: &[u8], unheard: Unheard<'_>) -> Option<&Answering> {
        let over = self.lease.iter().filter(|lease| lease.is_over(unheard())).flat_map(|lease| &lease.closed);
        let mut closed = self.closed.iter().chain(over).peekable();
        closed.peek()?;
        let (method, target) = (String::from_utf8_lossy(method), String::from_utf8_lossy(target));
        closed
            .find(|closed| closed.routes.iter().any(|route| route.covers(&method, &target)))
            .map(|closed| &closed.answer)
    }

    /// Gives who answers in the place of a release that failed: last-good, never the candidate.
    pub(crate) fn rescue(&self) -> Option<&Arc<Party>> {
        self.last_good.as_ref()
    }

    /// Drops connections that waited longer than `reuse_ms`.
    pub(crate) fn drop_stale(&self, now_ms: u64, reuse_ms: u64) {
        for peer in self.parties().flat_map(|party| &party.peers) {
            let mut idle = peer.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|idle| idle.since_ms + reuse_ms > now_ms);
        }
    }
}
