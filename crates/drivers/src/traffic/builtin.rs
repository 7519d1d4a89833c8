//! The built-in proxy, through its control socket: one JSON request and one JSON answer, a line each.
//!
//! Of the answers only what is needed is read, so that a newer proxy may say more.

use super::{
    Load, Routed, Router, RouterError,
    exchange::{End, Place, ask},
};
use lastgood_domain::{
    terms::{ServiceName, Span},
    traffic::{Slice, Table},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The socket's name in the state folder.
const SOCKET: &str = "control.sock";
/// Longest wait for an answer: a living proxy needs some milliseconds, and a rollback waits for it.
const WAIT: Duration = Duration::from_secs(2);
/// Longest answer: the proxy's own limit for a line.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Tells the built-in proxy.
#[derive(Debug, Clone)]
pub struct Builtin {
    place: Place,
}

/// What the proxy carries of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carries {
    /// The epoch of the table in use; `None` if there is none yet.
    pub epoch: Option<u64>,
    /// What each release has.
    pub loads: Vec<Load>,
}

impl Builtin {
    /// Makes one for the proxy that belongs to the state folder. Connects to nothing yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { place: Place::Unix(state_dir.join(SOCKET)) }
    }

    /// Tells the proxy to end: nobody new is let in, what runs finishes, tunnels are closed with 1012 after `grace`.
    ///
    /// Does not wait for the end; the proxy answers questions until then.
    pub fn stop(&self, grace: Span) -> Result<(), RouterError> {
        let seconds = u32::try_from(grace.0 / 1_000).unwrap_or(u32::MAX);
        match self.ask(&json!({ "do": "stop", "grace_seconds": seconds }))? {
            Told::Stopping => Ok(()),
            told => Err(self.other(told)),
        }
    }

    /// Tells which table is carried, and what each release has going on.
    pub fn carries(&self, service: &ServiceName) -> Result<Carries, RouterError> {
        match self.ask(&json!({ "do": "look", "service": service }))? {
            Told::Looked { epoch, releases } => Ok(Carries { epoch, loads: releases }),
            told => Err(self.other(told)),
        }
    }

    /// Asks; once more if the proxy hung up or is just being replaced. All that is asked may be asked twice.
    fn ask(&self, request: &Value) -> Result<Told, RouterError> {
        let line = format!("{request}\n");
        let once = || ask(&self.place, line.as_bytes(), End::Line, ANSWER_BYTES_MAX, WAIT);
        let answer = match once() {
            Err(RouterError::Unreachable { .. }) => once()?,
            answer => answer?,
        };
        serde_json::from_slice(&answer).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn unreadable(&self, why: &str) -> RouterError {
        RouterError::AnswerUnreadable { at: self.place.to_string(), why: why.into() }
    }

    /// Makes an answer that is none to the question an error.
    fn other(&self, told: Told) -> RouterError {
        match told {
            Told::Refused { why, .. } => RouterError::Refused { why: why.chars().take(500).collect() },
            _ => self.unreadable("it answers another question"),
        }
    }
}

/// What the proxy answers.
#[derive(Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Told {
    Routed {
        epoch: u64,
    },
    Refused {
        why: String,
        /// Of the table in use, when a table was refused.
        epoch: Option<u64>,
    },
    Slices {
        slices: Vec<Slice>,
    },
    Looked {
        #[serde(default)]
        epoch: Option<u64>,
        releases: Vec<Load>,
    },
    Stopping,
}

impl Router for Builtin {
    fn route(&self, table: &Table) -> Result<Routed, RouterError> {
        let began = Instant::now();
        table.check().map_err(|source| RouterError::TableWrong { source })?;
        let epoch = match self.ask(&json!({ "do": "route", "table": table }))? {
            Told::Routed { epoch } => epoch,
            Told::Refused { epoch: Some(has), .. } if has >= table.epoch => {
                return Err(RouterError::TableOlder { asked: table.epoch, has });
            }
            told => return Err(self.other(told)),
        };
        if epoch != table.epoch {
            let differences = vec![format!("it carries table {epoch}")];
            return Err(RouterError::Unconfirmed { epoch: table.epoch, differences });
        }
        Ok(Routed { epoch, share: table.share, took: began.elapsed() })
    }

    fn slices(&self, service: &ServiceName, after: u64) -> Result<Vec<Slice>, RouterError> {
        match self.ask(&json!({ "do": "slices", "service": service, "after": after }))? {
            Told::Slices { slices } => Ok(slices),
            told => Err(self.other(told)),
        }
    }

    fn look(&self, service: &ServiceName) -> Result<Vec<Load>, RouterError> {
        self.carries(service).map(|carries| carries.loads)
    }
}
