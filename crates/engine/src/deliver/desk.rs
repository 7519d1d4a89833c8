//! Where claimed messages wait for a thread, and which goes next: an endpoint that hangs must not hold them all.

use crate::links::Finish;
use lastgood_domain::terms::{Span, Timestamp};
use lastgood_drivers::notice::{Delivery, Endpoint, Message, Sender};
use lastgood_store::Claimed;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Instant,
};

/// Threads that an endpoint gets until it has answered once in this pass.
const UNPROVEN_MAX: usize = 2;
/// After this many attempts in a row without any answer, an endpoint's waiting messages are handed back.
const SILENCES_MAX: u32 = 3;

/// A message that left the desk, and how.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) message: Claimed,
    pub(super) at: Timestamp,
    pub(super) took: Span,
    pub(super) end: End,
}

/// How a message left the desk.
#[derive(Debug)]
pub(super) enum End {
    /// It was tried.
    Answered(Delivery),
    /// Its endpoint is not configured.
    Unknown,
    /// Its endpoint can't be used now, for this reason.
    Unusable(String),
    /// Not tried: its endpoint has not answered others.
    Silent,
    /// Not tried: no thread had time before its lease would end, or the pass ends.
    HandedBack,
}

impl Sent {
    /// Says what went wrong, if anything did.
    pub(super) fn problem(&self) -> Option<String> {
        match &self.end {
            End::Answered(Delivery::Delivered { .. }) | End::Silent | End::HandedBack => None,
            End::Answered(
                Delivery::Retry { class, why, .. }
                | Delivery::Dead { class, why, .. }
                | Delivery::Gone { class, why, .. },
            ) => Some(format!("{class}: {why}")),
            End::Unknown => Some("endpoint-unknown: it is no longer in lastgood.toml".into()),
            End::Unusable(why) => Some(format!("endpoint-unusable: {why}")),
        }
    }
}

/// A claimed message and the last moment to begin sending it.
struct Waiting {
    message: Claimed,
    begin_before: Timestamp,
}

/// How an endpoint does in this pass.
#[derive(Default)]
struct Standing {
    in_flight: usize,
    answered: bool,
    silences: u32,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<String, VecDeque<Waiting>>,
    standings: BTreeMap<String, Standing>,
    /// The endpoint served last; the next one's turn is after it.
    last: String,
    handed_back: Vec<Sent>,
    closed: bool,
}

/// The desk between the clerk and the threads.
pub(super) struct Desk {
    state: Mutex<State>,
    news: Condvar,
    threads: usize,
}

/// Closes the desk when it goes out of scope.
pub(super) struct Closing<'a>(&'a Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.news.notify_all();
    }
}

impl Desk {
    pub(super) fn new(threads: usize) -> Self {
        Self { state: Mutex::default(), news: Condvar::new(), threads }
    }

    pub(super) fn close_on_drop(&self) -> Closing<'_> {
        Closing(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked elsewhere leaves whole messages behind; what it held is taken back by its lease.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays claimed messages down, each to be begun before `begin_before`.
    pub(super) fn put(&self, batch: Vec<Claimed>, begin_before: Timestamp, now: Timestamp) {
        let mut state = self.state();
        for message in batch {
            if state.standings.get(&message.endpoint).is_some_and(|standing| standing.silences >= SILENCES_MAX) {
                state.handed_back.push(unsent(message, now, End::Silent));
            } else {
                let line = state.waiting.entry(message.endpoint.clone()).or_default();
                line.push_back(Waiting { message, begin_before });
            }
        }
        drop(state);
        self.news.notify_all();
    }

    /// Hands back what can no longer be begun in time, and what goes to endpoints that don't answer.
    pub(super) fn hand_back_before(&self, now: Timestamp) {
        let state = &mut *self.state();
        for (endpoint, line) in &mut state.waiting {
            let silent = state.standings.get(endpoint).is_some_and(|standing| standing.silences >= SILENCES_MAX);
            while let Some(waiting) = line.pop_front_if(|waiting| silent || waiting.begin_before <= now) {
                let end = if silent { End::Silent } else { End::HandedBack };
                state.handed_back.push(unsent(waiting.message, now, end));
            }
        }
    }

    /// Hands back all that waits: the pass ends.
    pub(super) fn hand_back_waiting(&self, now: Timestamp) {
        let state = &mut *self.state();
        for line in std::mem::take(&mut state.waiting).into_values() {
            state.handed_back.extend(line.into_iter().map(|waiting| unsent(waiting.message, now, End::HandedBack)));
        }
    }

    /// Takes what was handed back, for the clerk to settle.
    pub(super) fn take_handed_back(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state().handed_back)
    }

    /// Waits for a message that may be sent now; `None` when the desk is closed.
    fn next(&self) -> Option<Claimed> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(message) = state.pick(self.threads) {
                return Some(message);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how an endpoint did.
    fn ended(&self, endpoint: &str, end: &End) {
        let mut state = self.state();
        let standing = state.standings.entry(endpoint.into()).or_default();
        standing.in_flight = standing.in_flight.saturating_sub(1);
        match end {
            // Without a status nobody answered. Any status, even 500, is an answer.
            End::Answered(Delivery::Retry { code: None, .. }) => {
                standing.silences += 1;
                standing.answered = false;
            }
            _ => {
                standing.silences = 0;
                standing.answered = true;
            }
        }
        let more = state.waiting.get(endpoint).is_some_and(|line| !line.is_empty());
        drop(state);
        if more {
            self.news.notify_all();
        }
    }
}

impl State {
    /// Picks the next endpoint's first message: endpoints take turns, unproven ones get few threads.
    fn pick(&mut self, threads: usize) -> Option<Claimed> {
        let may = |endpoint: &String, standings: &BTreeMap<String, Standing>| match standings.get(endpoint) {
            Some(Standing { in_flight, answered: true, .. }) => *in_flight < threads,
            Some(Standing { in_flight, silences, .. }) => *in_flight < UNPROVEN_MAX && *silences < SILENCES_MAX,
            None => true,
        };
        let ready =
            |(endpoint, line): &(&String, &VecDeque<Waiting>)| !line.is_empty() && may(endpoint, &self.standings);
        let later = (std::ops::Bound::Excluded(self.last.clone()), std::ops::Bound::Unbounded);
        let endpoint = self.waiting.range(later).find(&ready).or_else(|| self.waiting.iter().find(&ready))?.0.clone();
        let waiting = self.waiting.get_mut(&endpoint)?.pop_front()?;
        self.standings.entry(endpoint.clone()).or_default().in_flight += 1;
        self.last = endpoint;
        Some(waiting.message)
    }
}

fn unsent(message: Claimed, at: Timestamp, end: End) -> Sent {
    Sent { message, at, took: Span::ZERO, end }
}

/// What a thread sends with.
pub(super) struct Hands<'a> {
    pub(super) endpoints: &'a BTreeMap<String, Result<Endpoint, String>>,
    pub(super) sender: &'a Sender,
    pub(super) finish: Option<&'a Finish>,
}

impl Hands<'_> {
    fn send(&self, endpoint: &Endpoint, message: &Claimed, attempt_at: Timestamp) -> Delivery {
        let finished = self.finish.and_then(|finish| finish(&message.endpoint, &message.body));
        let delivery = self.sender.deliver(
            endpoint,
            &Message {
                id: message.id.as_str(),
                kind: &message.kind,
                subject: &message.subject,
                body: finished.as_deref().unwrap_or(&message.body),
                attempt_at,
            },
        );
        if finished.is_some() { wordless(delivery) } else { delivery }
    }
}

/// Drops the receiver's own words, which are kept and shown: they may repeat what was sent, and with it the secret.
fn wordless(delivery: Delivery) -> Delivery {
    let words = || "its words are not kept, because it was sent a link".into();
    match delivery {
        Delivery::Delivered { code } => Delivery::Delivered { code },
        Delivery::Retry { code, after, class, .. } => Delivery::Retry { code, after, class, why: words() },
        Delivery::Dead { code, class, .. } => Delivery::Dead { code, class, why: words() },
        Delivery::Gone { code, class, .. } => Delivery::Gone { code, class, why: words() },
    }
}

/// Sends what the desk gives until it closes: the life of one thread.
pub(super) fn send_all(desk: &Desk, hands: &Hands<'_>, hand_in: &mpsc::Sender<Sent>, clock: impl Fn() -> Timestamp) {
    while let Some(message) = desk.next() {
        let began = Instant::now();
        let end = match hands.endpoints.get(&message.endpoint) {
            None => End::Unknown,
            Some(Err(why)) => End::Unusable(why.clone()),
            Some(Ok(endpoint)) => End::Answered(hands.send(endpoint, &message, clock())),
        };
        let took = Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        desk.ended(&message.endpoint, &end);
        if hand_in.send(Sent { message, at: clock(), took, end }).is_err() {
            // The clerk has gone: the store failed. The leases bring the messages back.
            return;
        }
    }
}
