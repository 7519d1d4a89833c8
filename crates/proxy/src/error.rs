//! Why a proxy can't start.

use crate::settings::SettingsError;
use lastgood_domain::failure::Coded;
use std::{io, net::SocketAddr, path::PathBuf};

/// Why a proxy can't start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The settings can't be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An address can't be listened at.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The state folder can't be used.
    #[error("the proxy's folder {path} can't be used", path = path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The proxy that runs did not hand its sockets over.
    #[error("the proxy that runs did not hand its sockets over: {0}")]
    HandOver(String),
    /// The system gives no thread.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
}

impl Coded for ProxyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Listen { .. } => "proxy-listen-failed",
            Self::State { .. } => "proxy-state-unusable",
            Self::HandOver(_) => "proxy-hand-over-failed",
            Self::Thread(_) | Self::Tls(_) => "proxy-not-started",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Settings(error) => return error.hint(),
            Self::Listen { address, .. } => format!("see who has it: ss -ltnp 'sport = :{}'", address.port()),
            Self::State { path, .. } => format!("make it a folder of this user: ls -ld {}", path.display()),
            Self::HandOver(_) => "end the proxy that runs, or start again in a moment".into(),
            Self::Thread(_) | Self::Tls(_) => "see the limits of this user: ulimit -a".into(),
        })
    }
}
