//! The children of this process: reaped, and how each ended written down.

use super::super::{identity::Identity, launcher::write_whole};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Longest wait for our reaper after a child has ended: it only has to be scheduled.
const REAP_WAIT: Duration = Duration::from_secs(1);
/// A reaper thread only waits and writes one small file.
const REAPER_STACK_BYTES: usize = 128 * 1024;

/// The children of this process that are not reaped yet.
#[derive(Debug, Default)]
pub(super) struct Children {
    alive: Mutex<BTreeSet<u32>>,
    reaped: Condvar,
}

/// How an instance's main process ended, as its parent saw it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) identity: Identity,
    pub(super) why: String,
}

impl Children {
    /// Takes over a child: a thread of its own reaps it and writes down how it ended.
    pub(super) fn adopt(self: &Arc<Self>, mut child: Child, end_path: PathBuf, identity: Option<Identity>) {
        let pid = child.id();
        self.lock().insert(pid);
        let children = Arc::clone(self);
        let reap = move || {
            let status = child.wait();
            if let (Ok(status), Some(identity)) = (status, identity) {
                let end = End { identity, why: said(status) };
                // Without it the end is reported as unknown, which is true then.
                let _ = serde_json::to_vec(&end).map(|bytes| write_whole(&end_path, &bytes));
            }
            children.lock().remove(&pid);
            children.reaped.notify_all();
        };
        let spawned =
            std::thread::Builder::new().name(format!("reap-{pid}")).stack_size(REAPER_STACK_BYTES).spawn(reap);
        if spawned.is_err() {
            // No thread to be had: it stays a zombie until we end, which harms nobody; nobody may wait for it.
            self.lock().remove(&pid);
        }
    }

    /// Waits until a child that has ended is reaped; others are no child of ours.
    pub(super) fn wait_reaped(&self, pid: u32) {
        let alive = self.lock();
        // The result is only read: after the time-out the end is reported as unknown.
        let _ = self.reaped.wait_timeout_while(alive, REAP_WAIT, |alive| alive.contains(&pid));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => unknown_end(),
    }
}

pub(super) fn unknown_end() -> String {
    "ended; its exit status is unknown, for lastgood was not its parent any more".into()
}
