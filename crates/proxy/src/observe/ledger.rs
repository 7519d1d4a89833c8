//! One thread's counts for one release.

use super::People;
use crate::carry::now_seconds;
use lastgood_domain::traffic::{Counts, Fallback};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// What one thread counts for one release; the lock is the thread's own but for an instant each second.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
    in_flight: AtomicU64,
    tunnels: AtomicU64,
    /// When the release's tunnels are closed, in milliseconds since 1970; 0 for never.
    drain_at: AtomicU64,
    people: Arc<People>,
}

impl Ledger {
    /// Makes an empty one; `people` are shared by all threads.
    pub(crate) fn new(people: Arc<People>) -> Self {
        Self { people, ..Self::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was counted since the last time.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.counts())
    }

    /// Gives the numbers of requests and of tunnels that have not ended.
    pub(crate) fn live(&self) -> (u64, u64) {
        (self.in_flight.load(Ordering::Relaxed), self.tunnels.load(Ordering::Relaxed))
    }

    /// Sets when tunnels are closed, in milliseconds since 1970; 0 for never.
    pub(crate) fn drain_at(&self, unix_ms: u64) {
        self.drain_at.store(unix_ms, Ordering::Relaxed);
    }

    /// Tells whether tunnels must be closed now.
    pub(crate) fn is_due(&self, unix_ms: u64) -> bool {
        let at = self.drain_at.load(Ordering::Relaxed);
        at != 0 && unix_ms >= at
    }

    /// Counts a person who brought an id.
    pub(crate) fn saw(&self, person: u64, now_seconds: u32) {
        let new = self.people.saw(person, now_seconds);
        if new > 0 {
            self.counts().people += new;
        }
    }

    /// Counts a tunnel that was opened; it counts as live until the guard is dropped.
    pub(crate) fn tunnel(self: &Arc<Self>, person: Option<u64>) -> Tunnel {
        self.counts().opened += 1;
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        Tunnel { ledger: self.clone(), person }
    }

    /// Counts what came to an end, as a person's where one brought an id: who failed before is told apart.
    fn count(&self, person: Option<u64>, count: impl FnOnce(&mut Counts)) {
        let counts = &mut *self.counts();
        let (trials, failed) = (counts.trials(), counts.failed());
        count(counts);
        if let Some(person) = person
            && counts.trials() > trials
        {
            counts.again.merge(&self.people.ended(person, counts.failed() > failed, now_seconds()));
        }
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Clean,
    Cut,
    Error,
    Drained,
}

/// An open tunnel of a release.
#[derive(Debug)]
pub(crate) struct Tunnel {
    ledger: Arc<Ledger>,
    /// The hash of the id of whose it is, if one was brought.
    person: Option<u64>,
}

impl Tunnel {
    /// Gives its release's ledger.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Counts its end.
    pub(crate) fn ended(self, how: Ended) {
        self.ledger.count(self.person, |Counts { closes, .. }| {
            let count = match how {
                Ended::Clean => &mut closes.clean,
                Ended::Cut => &mut closes.cut,
                Ended::Error => &mut closes.errors,
                Ended::Drained => &mut closes.drained,
            };
            *count += 1;
        });
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.ledger.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request on its way; counted once, at its end, for the release that it was first sent to.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Who is counted.
    first: Arc<Ledger>,
    /// Where it is in flight.
    at: Arc<Ledger>,
    started: Instant,
    /// Status and microseconds to the first byte, when there is an answer.
    answer: Option<(u16, u64)>,
    failed: bool,
    counted: bool,
    /// Whether it is lastgood's own.
    synthetic: bool,
    /// The hash of the id of whose it is, if one was brought.
    person: Option<u64>,
    /// What counts as an answer by a fallback, and whether the request's route does.
    fallback: Option<(Arc<Fallback>, bool)>,
}

impl Flight {
    /// Starts one; `started` is when the request arrived.
    pub(crate) fn new(ledger: &Arc<Ledger>, started: Instant, synthetic: bool, person: Option<u64>) -> Self {
        ledger.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            first: ledger.clone(),
            at: ledger.clone(),
            started,
            answer: None,
            failed: false,
            counted: false,
            synthetic,
            person,
            fallback: None,
        }
    }

    /// Says what counts as an answer by a fallback, and whether the request's route does.
    pub(crate) fn may_be_by(&mut self, fallback: (Arc<Fallback>, bool)) {
        self.fallback = Some(fallback);
    }

    /// The release that it was sent to failed, and it goes to `other` now.
    pub(crate) fn rescued_by(&mut self, other: &Arc<Ledger>) {
        self.failed = true;
        other.in_flight.fetch_add(1, Ordering::Relaxed);
        self.at.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.at = other.clone();
    }

    /// The head of a final answer is there.
    pub(crate) fn answered(&mut self, status: u16) {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.answer = Some((status, micros));
    }

    /// The release failed to answer, or to answer to the end.
    pub(crate) fn aborted(mut self) {
        let retried = u64::from(self.failed);
        self.count(|counts| {
            counts.aborted += 1;
            counts.retried += retried;
        });
    }

    /// It became a tunnel of the release that answered.
    pub(crate) fn tunnel(&self) -> Tunnel {
        self.at.tunnel(self.person)
    }

    fn count(&mut self, count: impl FnOnce(&mut Counts)) {
        if !std::mem::replace(&mut self.counted, true) {
            let synthetic = self.synthetic;
            self.first.count(self.person, |counts| {
                let before = if synthetic { counts.requests() } else { 0 };
                count(counts);
                if synthetic {
                    counts.synthetic += counts.requests() - before;
                }
            });
        }
    }
}

impl Drop for Flight {
    /// What was not said to be aborted was answered, or its client left before.
    fn drop(&mut self) {
        self.at.in_flight.fetch_sub(1, Ordering::Relaxed);
        let (answer, failed) = (self.answer, self.failed);
        let is_degraded = |status: u16| match &self.fallback {
            Some((fallback, by_route)) => status < 500 && (*by_route || fallback.status.contains(&status)),
            None => false,
        };
        let degraded = u64::from(answer.is_some_and(|(status, _)| is_degraded(status)));
        self.count(|counts| match (answer, failed) {
            (answer, true) => {
                counts.aborted += 1;
                counts.retried += 1;
                counts.saved += u64::from(answer.is_some());
            }
            (Some((status, micros)), false) => {
                counts.status[usize::from(status / 100).clamp(1, 5) - 1] += 1;
                counts.latency.add(micros);
                counts.degraded += degraded;
            }
            (None, false) => counts.left += 1,
        });
    }
}
