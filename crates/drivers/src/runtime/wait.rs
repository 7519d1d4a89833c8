//! Waiting for deaths without polling: the kernel makes a process handle readable when its process ends.

use super::RuntimeError;
use lastgood_domain::terms::{InstanceName, ServiceName, Span};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, BorrowedFd, OwnedFd},
};
use std::{
    io,
    time::{Duration, Instant},
};

/// The main process of one instance, watched for its death.
#[derive(Debug)]
pub struct Watched {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceName,
    /// Its main process.
    pub pid: u32,
    pub(crate) handle: OwnedFd,
}

/// Waits until one of the watched dies, `wake` becomes readable or the time is over.
///
/// Gives the indexes of the dead, in order; empty after `wake` or the time-out. Adopted processes and units
/// count as well as children. `wake` is for the daemon's own signal (a pipe, an eventfd).
pub fn wait_exit(watched: &[Watched], wake: Option<BorrowedFd<'_>>, timeout: Span) -> Result<Vec<usize>, RuntimeError> {
    let mut handles: Vec<BorrowedFd<'_>> = watched.iter().map(|one| one.handle.as_fd()).collect();
    handles.extend(wake);
    let ready = wait_any(&handles, Instant::now() + timeout.duration())
        .map_err(|source| RuntimeError::io("wait for the instances below", "/proc", source))?;
    Ok(ready.into_iter().filter(|&index| index < watched.len()).collect())
}

/// Waits until any handle is readable or `until` has come; gives the indexes of the readable ones.
pub(crate) fn wait_any(handles: &[BorrowedFd<'_>], until: Instant) -> io::Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> =
        handles.iter().map(|handle| PollFd::from_borrowed_fd(*handle, PollFlags::IN)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut polled, Some(&timespec(left))) {
            Ok(_) => break,
            // A signal handler ran: the time that is left is counted anew, so this loop ends with it.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let ready = polled.iter().enumerate().filter(|(_, one)| !one.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

/// Waits until all handles have become readable or `until` has come; gives those that have not.
pub(crate) fn wait_all<T: AsFd>(mut waiting: Vec<T>, until: Instant) -> io::Result<Vec<T>> {
    while !waiting.is_empty() {
        let handles: Vec<_> = waiting.iter().map(AsFd::as_fd).collect();
        let ready = wait_any(&handles, until)?;
        if ready.is_empty() {
            break;
        }
        let mut index = 0;
        waiting.retain(|_| {
            index += 1;
            !ready.contains(&(index - 1))
        });
    }
    Ok(waiting)
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        // Longer than any configured time, and far from the type's end.
        tv_sec: span.as_secs().min(u32::MAX.into()).cast_signed(),
        tv_nsec: span.subsec_nanos().into(),
    }
}
