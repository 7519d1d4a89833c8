//! Deadlines of connections, looked at ten times a second by one thread, instead of a timer for each.
//!
//! A request sets and clears several deadlines; a store of a number each costs nothing, a timer does. The price is that
//! a time-out may come 100 ms late.

use crate::observe::Ledger;
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Gives the milliseconds since this process first asked.
pub(crate) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Never 0, which means "no deadline".
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX) + 1
}

/// What a connection is doing, as far as a stop of the proxy must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waits for a request.
    Idle = 0,
    /// Carries a request.
    Busy = 1,
    /// Is a tunnel.
    Tunnel = 2,
    /// Is an HTTP/2 connection, which is told of a stop at once.
    Many = 3,
}

/// The deadline of one connection; its task is woken when it passes.
#[derive(Debug)]
pub(crate) struct Alarm {
    due: AtomicU64,
    phase: AtomicU8,
    /// Since when it is in its phase.
    since: AtomicU64,
    /// There is something to look at: the deadline, or `told`.
    rung: AtomicBool,
    /// A drain or a stop wants it to end.
    told: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Of a tunnel: the release whose drain closes it.
    pub(crate) drained_with: OnceLock<Arc<Ledger>>,
}

impl Alarm {
    fn new() -> Self {
        Self {
            due: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Busy as u8),
            since: AtomicU64::new(now_ms()),
            rung: AtomicBool::new(false),
            told: AtomicBool::new(false),
            waker: Mutex::new(None),
            drained_with: OnceLock::new(),
        }
    }

    /// Remembers whom to wake. All of a connection's waiting is done by one task, so once is enough.
    pub(crate) fn attach(&self, cx: &Context<'_>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    /// Sets the deadline `seconds` from now.
    pub(crate) fn set(&self, seconds: u32) {
        self.due.store(now_ms() + u64::from(seconds) * 1_000, Ordering::Relaxed);
    }

    /// Takes the deadline away.
    pub(crate) fn clear(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// Enters a phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.since.store(now_ms(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Tells whether the deadline has passed, or a drain or a stop wants the connection to end; the task must be attached.
    ///
    /// A ring that came too late, for a deadline that was set anew or a connection that has work again, is none.
    pub(crate) fn poll(&self) -> Poll<()> {
        if !self.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.rung.store(false, Ordering::Relaxed);
        let due = self.due.load(Ordering::Relaxed);
        let is_told = self.told.swap(false, Ordering::AcqRel) && !self.is(Phase::Busy);
        if is_told || (due != 0 && due <= now_ms()) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }
}

/// When a stop ends connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping {
    /// Those that were idle for so many milliseconds are closed; `None` leaves them until their own deadline.
    pub(crate) idle_ms: Option<u64>,
    /// Whether tunnels are closed too.
    pub(crate) tunnels: bool,
}

/// The alarms of one thread's connections.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    slots: Mutex<Slots>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slots {
    alarms: Vec<Option<Arc<Alarm>>>,
    free: Vec<usize>,
}

impl Alarms {
    /// Makes an alarm that is looked at until the guard is dropped.
    pub(crate) fn add(self: &Arc<Self>) -> Watched {
        let alarm = Arc::new(Alarm::new());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free.pop().unwrap_or(slots.alarms.len());
        if slot == slots.alarms.len() {
            slots.alarms.push(None);
        }
        slots.alarms[slot] = Some(alarm.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        Watched { alarm, slot, alarms: self.clone() }
    }

    /// Rings all whose time has come.
    pub(crate) fn look(&self, now_ms: u64, unix_ms: u64, stopping: Option<Stopping>) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for alarm in slots.alarms.iter().flatten() {
            let due = alarm.due.load(Ordering::Relaxed);
            let drained = || alarm.drained_with.get().is_some_and(|ledger| ledger.is_due(unix_ms));
            let stopped = || {
                stopping.is_some_and(|stopping| {
                    let since = alarm.since.load(Ordering::Relaxed);
                    alarm.is(Phase::Idle) && stopping.idle_ms.is_some_and(|idle| since + idle <= now_ms)
                        || alarm.is(Phase::Many)
                        || alarm.is(Phase::Tunnel) && stopping.tunnels
                })
            };
            if drained() || stopped() {
                alarm.told.store(true, Ordering::Release);
                alarm.ring();
            } else if due != 0 && due <= now_ms {
                alarm.ring();
            }
        }
    }

    /// Gives the number of connections, and of HTTP/2 requests.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// An alarm that is looked at while this lives.
#[derive(Debug)]
pub(crate) struct Watched {
    alarm: Arc<Alarm>,
    slot: usize,
    alarms: Arc<Alarms>,
}

impl std::ops::Deref for Watched {
    type Target = Alarm;

    fn deref(&self) -> &Alarm {
        &self.alarm
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut slots = self.alarms.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.alarms[self.slot] = None;
        slots.free.push(self.slot);
        self.alarms.count.fetch_sub(1, Ordering::Relaxed);
    }
}
