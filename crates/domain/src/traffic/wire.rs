//! What is said to the built-in router over its control socket: one JSON document a line, an answer for each.
//!
//! The types stand here because both ends must agree and neither may see the other.

use super::{Slice, Table};
use crate::terms::{Digest, ServiceName, Span};
use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// The longest line of either side, in bytes; a table of some hundred instances has about 30 KiB.
pub const LINE_MAX: usize = 4 << 20;
/// The header by which the router knows requests that lastgood makes by itself.
pub const SYNTHETIC: &str = "x-lastgood-synthetic";
/// The socket's name within the router's state folder.
pub const SOCKET: &str = "control.sock";

/// What the router is asked to do.
#[expect(clippy::large_enum_variant, reason = "one exists at a time, and a box would show in every use")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Ask {
    /// Use this table from now on. Answered by [`Told::Routed`] when it is on disk and every thread uses it.
    Route {
        /// The whole table of one service.
        table: Table,
    },
    /// Give finished seconds.
    Slices {
        /// Whose.
        service: ServiceName,
        /// Only seconds later than this one; 0 for all that are kept.
        after: u64,
    },
    /// Tell what is going on right now.
    Look {
        /// Whose.
        service: ServiceName,
    },
    /// Stop accepting, finish what runs, exit.
    Stop {
        /// After this many seconds what still runs is ended: tunnels with Close 1012 at a frame's end.
        grace_seconds: u32,
    },
    /// Give the listening sockets to the one who asks, as ancillary data of [`Told::Listening`].
    HandOver,
    /// The one who took the sockets over serves now: stop accepting, finish, exit.
    Ready,
    /// The one who asks serves now, and whoever had taken over is gone: it tells tables and takes the counts instead.
    Succeed,
}

/// What the router answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Told {
    /// The table is used.
    Routed {
        /// Its epoch.
        epoch: u64,
    },
    /// What was asked is not done.
    Refused {
        /// Says why.
        why: String,
        /// The epoch of the table in use, when a table was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// Finished seconds, oldest first.
    Slices {
        /// Histograms of those older than three minutes are empty.
        slices: Vec<Slice>,
        /// The last second that is over: of it and those before nothing comes any more.
        #[serde(default)]
        finished: u64,
    },
    /// What is going on.
    Looked(Look),
    /// It stops, or the one who took over may go on.
    Stopping,
    /// The listening sockets, one for each address in this order.
    Listening {
        /// Whose socket listens where.
        sockets: Vec<Listening>,
        /// How long ago whose table was told last.
        #[serde(default)]
        heard: Vec<Heard>,
    },
}

/// When a service's table was told last: who takes over goes on with the same lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Whose.
    pub service: ServiceName,
    /// How long ago.
    pub ago: Span,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Whose.
    pub service: ServiceName,
    /// Where.
    pub address: SocketAddr,
}

/// What goes on at one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Look {
    /// The epoch of the table in use; `None` if there is none yet.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// The router's process.
    #[serde(default)]
    pub pid: u32,
    /// Releases that have something going on, or stand in the table.
    #[serde(default)]
    pub releases: Vec<Live>,
    /// What could not be read and was skipped: tables, certificates.
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// What goes on at one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The release.
    pub release: Digest,
    /// Requests that have not ended, without tunnels.
    pub in_flight: u64,
    /// Open WebSocket tunnels.
    pub tunnels: u64,
    /// People (sticky ids that clients brought) seen within the last minute.
    pub people: u64,
}

impl Look {
    /// Adds what another process of the same router has going on.
    pub fn merge(&mut self, other: Self) {
        for live in other.releases {
            match self.releases.iter_mut().find(|mine| mine.release == live.release) {
                Some(mine) => {
                    mine.in_flight += live.in_flight;
                    mine.tunnels += live.tunnels;
                    // The same people come to both; the larger number is the nearer one.
                    mine.people = mine.people.max(live.people);
                }
                None => self.releases.push(live),
            }
        }
    }
}

impl Slice {
    /// Adds what another process of the same router counted within the same second.
    pub fn merge(&mut self, other: &Self) {
        for (release, counts) in &other.counts {
            match self.counts.iter_mut().find(|(mine, _)| mine == release) {
                Some((_, mine)) => mine.merge(counts),
                None => self.counts.push((*release, counts.clone())),
            }
        }
    }
}
