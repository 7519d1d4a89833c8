//! Takes connections in and gives each to the thread that has the fewest.
//!
//! One socket for each address, not one for each thread: connections are spread by count rather than by chance, and a
//! hand-over passes a socket with all that waits in its queue.

use crate::{
    carry::{
        Door,
        lane::{Arrived, Lane},
    },
    error::ProxyError,
};
use lastgood_domain::traffic::wire::Listening;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};
use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// Connections that may wait to be accepted; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4_096;
/// How long nothing is accepted when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Connections taken from one socket before the others are looked at.
const AT_ONCE: usize = 256;

/// One listening socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Which service, in the order of the settings.
    pub(crate) service: usize,
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
}

impl Socket {
    /// Opens a socket and listens.
    pub(crate) fn open(service: usize, address: SocketAddr) -> Result<Self, ProxyError> {
        let failed = |source: io::Error| ProxyError::Listen { address, source };
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let opened = || -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        let socket = opened().map_err(|error| failed(error.into()))?;
        Ok(Self { service, address, listener: TcpListener::from(socket) })
    }

    /// Says whose it is, for a hand-over.
    pub(crate) fn listening(&self, doors: &[Arc<Door>]) -> Listening {
        Listening { service: doors[self.service].service.clone(), address: self.address }
    }
}

/// Accepts until `stopping` is set and `wake` is readable; blocks this thread.
pub(crate) fn accept(
    sockets: &[Socket],
    doors: &[Arc<Door>],
    lanes: &[(Arc<Lane>, UnboundedSender<Arrived>)],
    stopping: &AtomicBool,
    wake: &OwnedFd,
) {
    let mut turn = 0;
    while !stopping.load(Ordering::Acquire) {
        let mut waited: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::from_borrowed_fd(socket.listener.as_fd(), PollFlags::IN)).collect();
        waited.push(PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN));
        if poll(&mut waited, None).is_err() {
            continue;
        }
        for (socket, polled) in sockets.iter().zip(&waited) {
            if polled.revents().is_empty() {
                continue;
            }
            for _ in 0..AT_ONCE {
                match socket.listener.accept() {
                    Ok((stream, from)) => {
                        let Some(entered) = doors[socket.service].enter(from.ip().to_canonical()) else { continue };
                        if stream.set_nonblocking(true).is_err() {
                            continue;
                        }
                        turn += 1;
                        let fewest = (0..lanes.len())
                            .map(|at| (at + turn) % lanes.len())
                            .min_by_key(|at| lanes[*at].0.alarms.len())
                            .unwrap_or(0);
                        let (lane, sender) = &lanes[fewest];
                        let alarm = lane.alarms.add();
                        // A thread that is gone takes nothing; then the client sees its connection closed.
                        let _ = sender.send(Arrived { stream, from, entered, alarm, service: socket.service });
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(_) => {
                        std::thread::sleep(NO_ROOM);
                        break;
                    }
                }
            }
        }
    }
}
