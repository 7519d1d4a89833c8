//! The places where a kill must do no harm: the crash tests end the process at each of them.
//!
//! In debug builds, `LASTGOOD_CRASH_AFTER=N` kills this process, as a power cut would, at the N-th boundary it
//! comes to: before and after each append to a service's log, before and after each effect, and before each act
//! of a restore that changes a disk. Release builds know no boundaries.

/// Comes to a boundary.
#[cfg(debug_assertions)]
pub(crate) fn cross() {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static LAST: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var("LASTGOOD_CRASH_AFTER").ok().and_then(|text| text.parse().ok()));
    static CROSSED: AtomicU64 = AtomicU64::new(0);
    if let Some(last) = *LAST
        && CROSSED.fetch_add(1, Ordering::SeqCst) + 1 == last
    {
        // A kill that fails must not look like a crash that did no harm: the test sees that the process went on.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Until the signal arrives nothing more is done.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Comes to a boundary.
#[cfg(not(debug_assertions))]
pub(crate) const fn cross() {}

/// Comes to a boundary before each act of a restore.
#[derive(Debug)]
pub(crate) struct EachAct;

impl lastgood_drivers::state::Steps for EachAct {
    fn before(&self, _: &str) {
        cross();
    }
}
