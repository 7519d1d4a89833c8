//! Answers: metrics and health, flags and switches over HTTP, on loopback only.
//!
//! It looks: a scrape reads what was written to the evidence since the last one and folds it. Nothing here can change a
//! service; what can be done is to trip a switch, for which a token may be asked, and to answer a request for approval by a
//! link of one's own.

pub mod answers;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod lookout;
mod metrics;
mod serve;
mod snapshot;
pub mod switches;
mod text;

pub use lookout::Lookout;
pub use metrics::metrics;
pub use serve::{METRICS_TYPE, Pages, ServeError, Server, bind, serve, serve_with};
pub use snapshot::{ChainSize, DriverState, LookError, PeopleView, Readiness, ServiceView, Snapshot, SwitchesView};
