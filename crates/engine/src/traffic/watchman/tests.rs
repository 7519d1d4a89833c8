//! What the watch counts when the clock is set back, and where another one than the router counts for the guard.

use super::*;
use lastgood_domain::{guard::GuardVerdict, traffic::Counts};
use lastgood_drivers::traffic::{Load, Routed, RouterError};
use std::sync::{
    atomic::{AtomicI64, AtomicU64},
    mpsc,
};

/// Asks of one second, as often as the watch really asks.
const ASKS: u64 = 20;

static NOW: AtomicI64 = AtomicI64::new(0);

fn now() -> Timestamp {
    Timestamp(NOW.load(Ordering::SeqCst))
}

/// Finishes a second each second, one request in each, of a candidate by a fallback; begins anew when the clock is set
/// back, as routers do.
#[derive(Default)]
struct Seconds {
    slices: Mutex<Vec<Slice>>,
    finished: AtomicU64,
}

impl Seconds {
    fn finish(&self, second: u64) {
        let counts = Counts { status: [0, 1, 0, 0, 0], degraded: 1, ..Counts::default() };
        let mut slices = self.slices.lock().unwrap();
        slices.retain(|slice| slice.second < second);
        let fine = Counts { status: [0, 1, 0, 0, 0], ..Counts::default() };
        slices.push(Slice { second, counts: vec![(Digest::of(b"2"), counts), (Digest::of(b"1"), fine)] });
        self.finished.store(second, Ordering::SeqCst);
    }
}

impl Router for Seconds {
    fn route(&self, table: &lastgood_domain::traffic::Table) -> Result<Routed, RouterError> {
        Ok(Routed { epoch: table.epoch, share: table.share, took: Duration::ZERO })
    }

    fn slices(&self, _: &ServiceName, after: u64) -> Result<Vec<Slice>, RouterError> {
        let finished = self.finished.load(Ordering::SeqCst);
        let slices = self.slices.lock().unwrap();
        if after <= finished + 10 {
            return Ok(slices.iter().filter(|slice| slice.second > after).cloned().collect());
        }
        Ok(slices.iter().filter(|slice| slice.second >= finished.min(940)).cloned().collect())
    }

    fn look(&self, _: &ServiceName) -> Result<Vec<Load>, RouterError> {
        Ok(Vec::new())
    }
}

/// Watches a stage over these seconds of the clock; gives how many requests are missing for a verdict, and of how many
/// that the router has counted.
fn missing(clock: impl Iterator<Item = u64>) -> (u64, u64) {
    let seconds = Arc::new(Seconds::default());
    let (tell, _told) = mpsc::channel();
    let name = ServiceName::new("web").unwrap();
    let router: Arc<dyn Router> = Arc::clone(&seconds) as Arc<dyn Router>;
    let mut round =
        Round { name, router, counters: None, prober: None, unheard: None, tell, now, watch: None, emptied: None };
    let trial = Trial {
        candidate: Digest::of(b"2"),
        last_good: None,
        share: Share::percent(5),
        tags: Vec::new(),
        own: None,
        began: Timestamp(999_000),
        promoted: false,
        guard: GuardSettings::default(),
        degraded: None,
    };
    let (mut before, mut counted) = (None, 0);
    for second in clock {
        for ask in 0..ASKS {
            NOW.store((second * 1_000 + ask * 50) as i64, Ordering::SeqCst);
            if ask == 1 && before == Some(second - 1) {
                seconds.finish(second - 1);
                counted += 1;
            }
            round.trial(Some(trial.clone())).unwrap();
        }
        before = Some(second);
    }
    let GuardVerdict::CannotTell { missing_requests, .. } = round.watch.as_ref().unwrap().guard.verdict(now()) else {
        panic!("these are too few for a verdict");
    };
    (missing_requests, counted)
}

#[test]
fn a_clock_that_is_set_back_multiplies_no_request() {
    let steady = missing(1_000..1_009);
    assert_eq!(steady.1, 8);
    assert!(steady.0 > 0);
    // The second that was not over when the clock was set back is counted by none of the two.
    assert_eq!(missing((1_000..1_005).chain(940..945)), steady);
}

static LATER: AtomicI64 = AtomicI64::new(0);

fn later() -> Timestamp {
    Timestamp(LATER.load(Ordering::SeqCst))
}

#[test]
fn where_a_prometheus_counts_for_the_guard_the_router_tells_of_fallbacks() {
    let seconds = Arc::new(Seconds::default());
    let (tell, told) = mpsc::channel();
    let router: Arc<dyn Router> = Arc::clone(&seconds) as Arc<dyn Router>;
    // Nobody answers there: what the guard does not hear keeps nothing from being seen.
    let counters = serde_json::json!({ "url": "http://127.0.0.1:1", "requests": "a", "errors": "b", "slow": "c" });
    let counters = Some(ReleaseCounters::new(serde_json::from_value(counters).unwrap()));
    let name = ServiceName::new("web").unwrap();
    let mut round =
        Round { name, router, counters, prober: None, unheard: None, tell, now: later, watch: None, emptied: None };
    let degraded = DegradedSettings { percent: 20, against_last_good_percent: 150, outcomes_min: 20, goes_back: false };
    let trial = Trial {
        candidate: Digest::of(b"2"),
        last_good: Some(Digest::of(b"1")),
        share: Share::percent(5),
        tags: vec![(Digest::of(b"2"), "2".into())],
        own: None,
        began: Timestamp(999_000),
        promoted: false,
        guard: GuardSettings::default(),
        degraded: Some(degraded),
    };
    for second in 1_000..1_040 {
        LATER.store(second as i64 * 1_000, Ordering::SeqCst);
        seconds.finish(second - 1);
        round.trial(Some(trial.clone())).unwrap();
    }
    let said = told.try_iter().find_map(|one| match one {
        Happening::Degrading { health, because, .. } => Some((health, because)),
        _ => None,
    });
    let (health, because) = said.expect("it is told");
    assert_eq!(health, Health::Degraded);
    assert!(because.contains("20 of 20 answers came by a fallback"), "each counts once: {because}");
}
