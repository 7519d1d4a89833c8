//! Why traffic could not be routed or counted: never a verdict about a release.

use lastgood_domain::{failure::Coded, traffic::TableError};
use std::{io, path::PathBuf, time::Duration};

/// Tells why a router did not do what it was told, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// Nobody listens there.
    #[error("no router answers at {at}")]
    Unreachable {
        /// Socket or address.
        at: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The system or the router does not let us.
    #[error("the router at {at} denies access: {why}")]
    Denied {
        /// Socket or address.
        at: String,
        /// Who refused what.
        why: String,
    },
    /// It was connected to, or tried to, and gave no whole answer in time.
    #[error("the router at {at} gave no answer within {} ms", waited.as_millis())]
    Silent {
        /// Socket or address.
        at: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is none that can be understood.
    #[error("the router at {at} gave an answer that can't be read: {why}")]
    AnswerUnreadable {
        /// Socket or address.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// The built-in proxy said no.
    #[error("the proxy refused: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// The table can't be used at all.
    #[error("the table can't be used")]
    TableWrong {
        /// What is wrong with it.
        source: TableError,
    },
    /// The table asks for something this router can't do.
    #[error("this router can't do what the table says: {why}")]
    TableUnfit {
        /// What it can't do.
        why: String,
    },
    /// The router has a newer table.
    #[error("table {asked} is not newer than table {has}, which the router has")]
    TableOlder {
        /// Epoch that was asked for.
        asked: u64,
        /// Epoch that the router has.
        has: u64,
    },
    /// HAProxy has no such backend.
    #[error("HAProxy at {at} has no backend {backend}")]
    BackendUnknown {
        /// Socket or address.
        at: String,
        /// The backend.
        backend: String,
    },
    /// The backend has no such server.
    #[error("HAProxy's backend {backend} has no server {server}, which instance {instance} needs")]
    ServerUnknown {
        /// The backend.
        backend: String,
        /// The server.
        server: String,
        /// The instance.
        instance: String,
    },
    /// The server's address must change, but somebody is on it.
    #[error("HAProxy's server {server} still has {sessions} sessions at {from}; it can't become {to}")]
    ServerBusy {
        /// Backend and server.
        server: String,
        /// Open sessions.
        sessions: u64,
        /// Its address now.
        from: String,
        /// The address it should have.
        to: String,
    },
    /// HAProxy takes no traffic to them.
    #[error("HAProxy holds {} for down", servers.join(", "))]
    ServerDown {
        /// Backends and servers.
        servers: Vec<String>,
    },
    /// What was read back is not what was told.
    #[error("the router does not confirm table {epoch}: {}", differences.join("; "))]
    Unconfirmed {
        /// The table's epoch.
        epoch: u64,
        /// What is otherwise; the router's own words at the end if it said any.
        differences: Vec<String>,
    },
    /// It was confirmed once and is not so any more.
    #[error("the router no longer does what table {epoch} says: {}", differences.join("; "))]
    Drifted {
        /// The table's epoch.
        epoch: u64,
        /// What is otherwise.
        differences: Vec<String>,
    },
    /// A reloaded HAProxy's older process can't be asked what it has.
    #[error("an older HAProxy process ({pid}) still finishes what it has, which can't be seen")]
    OlderProcess {
        /// Its process id.
        pid: u32,
    },
    /// Routes must be closed and there is no map for it.
    #[error("routes can't be closed: closed_map is not configured for backend {backend}")]
    NoClosing {
        /// The backend.
        backend: String,
    },
    /// HAProxy does not use the map.
    #[error("HAProxy at {at} has no map {}", map.display())]
    MapUnknown {
        /// Socket or address.
        at: String,
        /// The map.
        map: PathBuf,
    },
    /// A file that must survive us can't be read or written.
    #[error("can't {act} {}", path.display())]
    File {
        /// `read` or `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Coded for RouterError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "router-unreachable",
            Self::Denied { .. } => "router-denied",
            Self::Silent { .. } => "router-silent",
            Self::AnswerUnreadable { .. } => "router-answer-unreadable",
            Self::Refused { .. } => "router-refused",
            Self::TableWrong { .. } | Self::TableUnfit { .. } => "router-table-unfit",
            Self::TableOlder { .. } => "router-table-older",
            Self::BackendUnknown { .. } | Self::ServerUnknown { .. } => "router-server-unknown",
            Self::ServerBusy { .. } => "router-server-busy",
            Self::ServerDown { .. } => "router-server-down",
            Self::Unconfirmed { .. } => "router-unconfirmed",
            Self::Drifted { .. } => "router-drifted",
            Self::OlderProcess { .. } => "router-older-process",
            Self::NoClosing { .. } | Self::MapUnknown { .. } => "router-no-closing",
            Self::File { .. } => "router-file",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { at, .. } => format!("is the router running, and is its socket {at}?"),
            Self::Denied { .. } => {
                "check who may use the socket; HAProxy's needs `level admin` in its `stats socket` line".into()
            }
            Self::Silent { .. } => "look at the router's process; the call is repeated".into(),
            Self::AnswerUnreadable { at, .. } => format!("is it the router's own socket that listens at {at}?"),
            Self::Refused { .. } => "look into the proxy's log".into(),
            Self::TableWrong { .. } | Self::TableUnfit { .. } => {
                "the old table stands; see the names under traffic in lastgood.toml".into()
            }
            Self::TableOlder { .. } => "another driver has moved on; look: lastgood status".into(),
            Self::BackendUnknown { backend, .. } => {
                format!("see what there is: echo 'show servers state {backend}' | socat stdio SOCKET")
            }
            Self::ServerUnknown { backend, server, .. } => {
                format!(
                    "add `server {server} 127.0.0.1:PORT` to backend {backend} in haproxy.cfg, or name another under servers"
                )
            }
            Self::ServerBusy { server, .. } => {
                format!(
                    "wait until they end, or end them: echo 'shutdown sessions server {server}' | socat stdio SOCKET"
                )
            }
            Self::ServerDown { .. } => "see HAProxy's health checks: echo 'show stat' | socat stdio SOCKET".into(),
            Self::Unconfirmed { .. } | Self::Drifted { .. } => {
                "the table is told again; if it stays so, look who else changes HAProxy".into()
            }
            Self::OlderProcess { pid } => {
                format!("wait until it has ended (ps {pid}), or bound it by hard-stop-after in haproxy.cfg")
            }
            Self::NoClosing { .. } | Self::MapUnknown { .. } => {
                "configure closed_map and the rules that use it: lastgood explain router-no-closing".into()
            }
            Self::File { path, .. } => format!("check who may use it: ls -l {}", path.display()),
        })
    }
}
