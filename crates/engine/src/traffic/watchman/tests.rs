//! What the watch counts when the clock is set back.

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

/// Finishes a second each second, one request in each; begins anew when the clock is set back, as routers do.
#[derive(Default)]
struct Seconds {
    slices: Mutex<Vec<Slice>>,
    finished: AtomicU64,
}

impl Seconds {
    fn finish(&self, second: u64) {
        let counts = Counts { status: [0, 1, 0, 0, 0], ..Counts::default() };
        let mut slices = self.slices.lock().unwrap();
        slices.retain(|slice| slice.second < second);
        slices.push(Slice { second, counts: vec![(Digest::of(b"2"), counts)] });
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
