//! Shared traffic outside: tables for the router, the proxy's process, and the watch over what is on trial.

mod meter;
mod newest;
mod proxy;
mod table;
mod watchman;

pub use meter::{Meter, Metered, Total};
// A router as those see it who tell one.
pub use lastgood_drivers::traffic::{Load, Routed, Router, RouterError};
pub use proxy::{ProxyHost, StartLock};
pub use table::{switches_of, table, tell};
pub(crate) use watchman::{Prober, Watchman};
