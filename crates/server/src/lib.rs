//! Answers: metrics and health over HTTP, on loopback only, for those who watch.
//!
//! It looks and never acts: a scrape reads what was written to the evidence since the last one and folds it.
//! Nothing here can change a service, so nothing here asks who you are.

mod health;
mod lookout;
mod metrics;
mod serve;
mod snapshot;
pub mod switches;
mod text;

pub use lookout::Lookout;
pub use metrics::metrics;
pub use serve::{METRICS_TYPE, Pages, ServeError, Server, bind, serve};
pub use snapshot::{ChainSize, DriverState, LookError, ServiceView, Snapshot};
