//! What carries a service's traffic: the built-in proxy, or a HAProxy that is there already.
//!
//! A router is told whole tables and reads back what became of them. It counts and does not judge: who gets which share
//! is the engine's to decide, and a router that can't be asked says nothing about a release.

mod builtin;
mod error;
mod exchange;
pub(crate) mod haproxy;

pub use builtin::{Builtin, Carries};
pub use error::RouterError;
pub use haproxy::{Haproxy, HaproxyConfig, RuntimeSocket, Stick, Weights};

use lastgood_domain::{
    terms::{Digest, ServiceName},
    traffic::{Share, Slice, Table},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A table that the router carries, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// The table's epoch.
    pub epoch: u64,
    /// The share that the candidate really gets: HAProxy's weights can't give each.
    pub share: Share,
    /// From the order to its confirmation.
    pub took: Duration,
}

/// What a release still has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The release.
    pub release: Digest,
    /// Requests that have begun and not ended; with tunnels where `tunnels` is not known.
    pub in_flight: u64,
    /// Open tunnels. `None` where the router can't tell them from requests: they are in `in_flight` then.
    #[serde(default)]
    pub tunnels: Option<u64>,
    /// People (sticky ids) seen within the last minute. `None` where the router knows no people.
    #[serde(default)]
    pub people: Option<u64>,
}

/// Carries traffic; every call is a "make it so" or a question, and may be repeated after a kill at any instant.
pub trait Router: Send + Sync {
    /// Makes the table so, and reads back that it is.
    ///
    /// The same table again is made so again. Errors: [`RouterError::TableOlder`] if the router has a newer one, or another
    /// of the same epoch; nothing has changed then. After any other error the router may be on its way: call again.
    fn route(&self, table: &Table) -> Result<Routed, RouterError>;

    /// Gives what was counted in the seconds after `after`, oldest first; seconds that have not ended are left out.
    ///
    /// What was given once is given again until a later `after` says that it is kept. A service that was never routed
    /// has none.
    fn slices(&self, service: &ServiceName, after: u64) -> Result<Vec<Slice>, RouterError>;

    /// Tells what each release of the table still has, also those that leave.
    fn look(&self, service: &ServiceName) -> Result<Vec<Load>, RouterError>;
}
