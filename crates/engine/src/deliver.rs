//! Carries the outbox: claims what is due, lets a few threads send it, settles many results at once.
//!
//! One thread owns the store; the threads that send see neither it nor each other's messages. Order per
//! (endpoint, subject) is the store's: it gives the next of a line when the one before is settled. A kill loses
//! nothing; what was in flight is sent again under the same id.

mod desk;
mod wake;

pub use wake::Wake;

use crate::links::Finish;
use desk::{Desk, Sent};
use lastgood_domain::{
    failure::Coded,
    terms::{Span, Timestamp},
};
use lastgood_drivers::notice::{Delivery, Endpoint, NoticeConfig, REQUEST_TIMEOUT, Sender};
use lastgood_store::{MessageId, Outcome, Settlement, Store, StoreError, open_private};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Most messages in hand: tens per thread keep the threads busy while one transaction settles the last ones.
const IN_HAND_MAX: usize = 512;
/// Most results settled in one transaction.
const SETTLE_MAX: usize = 512;
/// Results are gathered this long, so that a transaction (some milliseconds of disk) pays for many.
const GATHER: Duration = Duration::from_millis(10);
/// While messages are in flight, the clerk looks at least this often for others that became due.
const LOOK: Duration = Duration::from_secs(1);
/// One pass ends after this, whatever is left: `lastgood run` must end.
const PASS_MAX: Duration = Duration::from_secs(60);
/// Shortest pause between two passes of the daemon that nobody asked for.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause: another process (`lastgood run`, `lastgood notices replay`) enqueues without waking us.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Messages of an endpoint that does not answer wait this long, so that they don't keep threads from others.
const SILENT_PAUSE: Span = Span::seconds(30);
/// An endpoint without a usable secret is asked again after this; a person has to mend it.
const UNUSABLE_PAUSE: Span = Span::seconds(60);
/// The sender's lock lies beside the outbox: two senders would take back each other's leases.
const LOCK_FILE: &str = "deliver.lock";

/// Gives the value of a secret by its name, if there is one.
pub type SecretLookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Why nothing could be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Another process delivers from this store.
    #[error("another process delivers notices from {}", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock can't be used.
    #[error("the lock file {} can't be used", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for DeliverError {
    fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "notice-sender-busy",
            Self::Lock { .. } => "notice-sender-lock-failed",
            Self::Store(inner) => inner.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { path } => Some(format!("it sends them; see who it is: fuser -v {}", path.display())),
            Self::Lock { path, .. } => Some(format!("check owner, mode and file system: ls -l {}", path.display())),
            Self::Store(inner) => inner.hint(),
        }
    }
}

/// What one pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Accepted by their receivers.
    pub delivered: u64,
    /// To be tried again, by their schedule.
    pub retried: u64,
    /// Handed back unsent: the endpoint doesn't answer or can't be used now.
    pub held_back: u64,
    /// Dead now: each deserves an alarm.
    pub dead: Vec<MessageId>,
    /// Set aside: the receiver is gone or no longer configured.
    pub parked: Vec<MessageId>,
    /// The last problem of each endpoint, such as `http-401: answered 401: bad signature`. Without secrets.
    pub problems: BTreeMap<String, String>,
    /// Whether the pass ran out of time with messages still due.
    pub unfinished: bool,
}

/// The one sender of a store.
pub struct Deliverer {
    store: Store,
    configs: BTreeMap<String, NoticeConfig>,
    secrets: SecretLookup,
    sender: Sender,
    threads: usize,
    finish: Option<Finish>,
    _lock: File,
}

impl Deliverer {
    /// Becomes the sender of `store`, and takes back what an earlier sender had in flight when it died.
    ///
    /// Errors: [`DeliverError::Busy`] while another process is the sender.
    pub fn new(
        mut store: Store,
        configs: BTreeMap<String, NoticeConfig>,
        secrets: SecretLookup,
        threads: usize,
        now: Timestamp,
    ) -> Result<Self, DeliverError> {
        let lock = lock(&store)?;
        store.reclaim_all(now)?;
        let threads = threads.clamp(1, 64);
        Ok(Self { store, configs, secrets, sender: Sender::new(threads), threads, finish: None, _lock: lock })
    }

    /// Completes messages when they are sent, with what must not be stored.
    #[must_use]
    pub fn finishing(mut self, finish: Option<Finish>) -> Self {
        self.finish = finish;
        self
    }

    /// Sends everything that is due or becomes due meanwhile, for a minute at most.
    ///
    /// Secrets are read anew, so a rotation needs no restart.
    pub fn deliver_due(&mut self, now: Timestamp) -> Result<Report, DeliverError> {
        self.pass(now, &Wake::default())
    }

    /// Delivers until `wake` is told to stop, and tells `seen` about every pass that did something or failed.
    ///
    /// A failed store is tried again: a full disk is mended by a person while we wait.
    pub fn run_forever(
        &mut self,
        clock: &dyn Fn() -> Timestamp,
        wake: &Wake,
        seen: &mut dyn FnMut(Result<&Report, &DeliverError>),
    ) {
        while !wake.is_stopped() {
            match self.pass(clock(), wake) {
                Ok(report) if report == Report::default() => {}
                Ok(report) => seen(Ok(&report)),
                Err(error) => seen(Err(&error)),
            }
            let due = self.store.next_due().ok().flatten();
            let until_due = due.map_or(PAUSE_MAX, |due| due.since(clock()).duration());
            wake.wait(until_due.clamp(PAUSE_MIN, PAUSE_MAX));
        }
    }

    fn pass(&mut self, now: Timestamp, wake: &Wake) -> Result<Report, DeliverError> {
        let endpoints = Arc::new(self.prepare());
        let desk = Arc::new(Desk::new(self.threads));
        let (hand_in, results) = mpsc::channel();
        let began = Instant::now();
        thread::scope(|scope| {
            // However the pass ends, the threads go home: the scope waits for them.
            let _closing = desk.close_on_drop();
            for _ in 0..self.threads {
                let (desk, endpoints, sender, hand_in) =
                    (Arc::clone(&desk), Arc::clone(&endpoints), self.sender.clone(), hand_in.clone());
                let finish = self.finish.clone();
                scope.spawn(move || {
                    let hands = desk::Hands { endpoints: &endpoints, sender: &sender, finish: finish.as_ref() };
                    desk::send_all(&desk, &hands, &hand_in, || elapsed(now, began));
                });
            }
            drop(hand_in);
            let mut pass = Pass { store: &mut self.store, desk: &desk, report: Report::default(), now, began };
            pass.run(&results, wake, lease(&self.configs))?;
            Ok(pass.report)
        })
    }

    fn prepare(&self) -> BTreeMap<String, Result<Endpoint, String>> {
        let prepared = |(name, config): (&String, &NoticeConfig)| {
            let endpoint = Endpoint::prepare(name, &config.endpoint, &*self.secrets);
            (name.clone(), endpoint.map_err(|error| error.to_string()))
        };
        self.configs.iter().map(prepared).collect()
    }
}

fn lock(store: &Store) -> Result<File, DeliverError> {
    let path = store.path().parent().map(|dir| dir.join(LOCK_FILE)).unwrap_or_else(|| LOCK_FILE.into());
    let file = open_private(&path);
    let file = file.map_err(|source| DeliverError::Lock { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(DeliverError::Busy { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(DeliverError::Lock { path, source }),
    }
}

/// Twice the longest time one attempt may take: a live sender always settles before its lease ends.
fn lease(configs: &BTreeMap<String, NoticeConfig>) -> Span {
    let longest = configs.values().map(|config| config.endpoint.timeout()).max().unwrap_or(REQUEST_TIMEOUT);
    Span(longest.max(REQUEST_TIMEOUT).0 * 2)
}

fn elapsed(now: Timestamp, began: Instant) -> Timestamp {
    now.after(Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

/// One pass of the clerk: the only one who writes.
struct Pass<'a> {
    store: &'a mut Store,
    desk: &'a Desk,
    report: Report,
    now: Timestamp,
    began: Instant,
}

impl Pass<'_> {
    /// Claims, gathers and settles until nothing is due and nothing in hand, or the time is over.
    fn run(&mut self, results: &mpsc::Receiver<Sent>, wake: &Wake, lease: Span) -> Result<(), DeliverError> {
        let mut in_hand = 0_usize;
        loop {
            let now = elapsed(self.now, self.began);
            let closing = wake.is_stopped() || self.began.elapsed() >= PASS_MAX;
            let mut claimed = 0;
            if closing {
                self.desk.hand_back_waiting(now);
            } else {
                // What waited for a thread until its lease is half over goes back: it could not be sent in time.
                self.desk.hand_back_before(now);
                if in_hand < IN_HAND_MAX / 2 {
                    let batch = self.store.claim(now, now.after(lease), IN_HAND_MAX - in_hand)?;
                    claimed = batch.len();
                    in_hand += claimed;
                    self.desk.put(batch, now.after(Span(lease.0 / 2)), now);
                }
            }
            let handed_back = self.desk.take_handed_back();
            if in_hand == 0 && claimed == 0 && handed_back.is_empty() {
                self.report.unfinished = closing && self.store.next_due()?.is_some_and(|due| due <= now);
                return Ok(());
            }
            let sent = if handed_back.is_empty() { gather(results, in_hand) } else { handed_back };
            in_hand = in_hand.saturating_sub(sent.len());
            self.settle(&sent)?;
        }
    }

    fn settle(&mut self, sent: &[Sent]) -> Result<(), DeliverError> {
        let settlements: Vec<_> = sent.iter().map(settlement).collect();
        let settled = self.store.settle(&settlements)?;
        for (settlement, sent) in settlements.iter().zip(sent) {
            if settled.stale.contains(&settlement.id) || settled.dead.contains(&settlement.id) {
                note(&mut self.report, sent);
                continue;
            }
            match &settlement.outcome {
                Outcome::Delivered => self.report.delivered += 1,
                Outcome::Retry { .. } => self.report.retried += 1,
                Outcome::Parked { .. } => self.report.parked.push(settlement.id.clone()),
                Outcome::NotSent { .. } => self.report.held_back += 1,
                Outcome::Failed { .. } => {}
            }
            note(&mut self.report, sent);
        }
        self.report.dead.extend(settled.dead);
        Ok(())
    }
}

/// Waits for the first result, then for those that come right after it: `in_hand` at most, since no more will come.
fn gather(results: &mpsc::Receiver<Sent>, in_hand: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    let Ok(first) = results.recv_timeout(LOOK) else { return sent };
    sent.push(first);
    let until = Instant::now() + GATHER;
    while sent.len() < SETTLE_MAX.min(in_hand) {
        match results.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(next) => sent.push(next),
            Err(_) => break,
        }
    }
    sent
}

fn note(report: &mut Report, sent: &Sent) {
    if let Some(problem) = sent.problem() {
        report.problems.insert(sent.message.endpoint.clone(), problem);
    }
}

fn settlement(sent: &Sent) -> Settlement {
    let (code, outcome) = match &sent.end {
        desk::End::Answered(delivery) => outcome(delivery),
        desk::End::Unknown => (
            None,
            Outcome::Parked {
                class: "endpoint-unknown".into(),
                text: format!("[notice.{}] is no longer in lastgood.toml", sent.message.endpoint),
            },
        ),
        desk::End::Unusable(_) => (None, Outcome::NotSent { again: sent.at.after(UNUSABLE_PAUSE) }),
        desk::End::Silent => (None, Outcome::NotSent { again: sent.at.after(SILENT_PAUSE) }),
        desk::End::HandedBack => (None, Outcome::NotSent { again: sent.at }),
    };
    Settlement {
        id: sent.message.id.clone(),
        attempt: sent.message.attempt,
        at: sent.at,
        code,
        took: sent.took,
        outcome,
        jitter: random(),
    }
}

fn outcome(delivery: &Delivery) -> (Option<u16>, Outcome) {
    match delivery.clone() {
        Delivery::Delivered { code } => (code, Outcome::Delivered),
        Delivery::Retry { code, after, class, why } => (code, Outcome::Retry { class, text: why, retry_after: after }),
        Delivery::Dead { code, class, why } => (code, Outcome::Failed { class, text: why }),
        Delivery::Gone { code, class, why } => (code, Outcome::Parked { class, text: why }),
    }
}

/// Spreads retries; the standard library's hasher seeds are random enough for that.
fn random() -> u32 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(seed >> 32).unwrap_or_default()
}
