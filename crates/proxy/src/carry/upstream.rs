//! Connections to instances, and those kept for the next request.

use super::{Alarm, now_ms, site::locked};
use crate::{route::Peer, settings::Limits};
use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
};
use tokio::net::TcpStream;

/// The most connections that one thread keeps to one instance.
const KEPT_MAX: usize = 256;

/// A connection that waits for its next request.
#[derive(Debug)]
pub(crate) struct Idle {
    stream: TcpStream,
    /// Since when.
    pub(crate) since_ms: u64,
}

/// A connection to an instance.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// It has carried a request before; the instance may be about to close it.
    pub(crate) reused: bool,
}

impl Upstream {
    /// Takes a kept connection or makes a new one.
    ///
    /// Errors: the instance refused or did not answer in time; it is passed over for a moment then.
    pub(crate) async fn to(peer: &Peer, limits: &Limits, alarm: &Alarm, fresh: Fresh) -> io::Result<Self> {
        if fresh == Fresh::No
            && let Some(stream) = kept(peer, limits)
        {
            return Ok(Self { stream, reused: true });
        }
        alarm.set(limits.connect_seconds);
        let mut connecting = pin!(TcpStream::connect(peer.address));
        let connected = poll_fn(|cx: &mut Context<'_>| {
            if alarm.poll().is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            connecting.as_mut().poll(cx)
        });
        match connected.await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                Ok(Self { stream, reused: false })
            }
            Err(error) => {
                alarm.clear();
                peer.refused(now_ms());
                Err(error)
            }
        }
    }

    /// Keeps the connection for the next request.
    pub(crate) fn keep(self, peer: &Peer) {
        let mut idle = locked(&peer.idle);
        if idle.len() < KEPT_MAX {
            idle.push(Idle { stream: self.stream, since_ms: now_ms() });
        }
    }
}

/// Whether a kept connection will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fresh {
    Yes,
    No,
}

/// Takes the freshest kept connection that was not closed meanwhile.
fn kept(peer: &Peer, limits: &Limits) -> Option<TcpStream> {
    let oldest = now_ms().saturating_sub(u64::from(limits.reuse_seconds) * 1_000);
    loop {
        let idle = locked(&peer.idle).pop()?;
        if idle.since_ms < oldest {
            continue;
        }
        // Anything but "nothing there yet" means that it was closed, or speaks out of turn. Costs no system call.
        match idle.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(idle.stream),
            _ => {}
        }
    }
}
