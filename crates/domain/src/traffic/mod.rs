//! Shared traffic: who is sent where, and what is counted of it.
//!
//! These types pass between the one who decides and the router that carries. A router keeps the last [`Table`] it was
//! given, so the table's form is a format: fields are only added, with defaults.

mod again;
mod event;
mod latency;
mod pattern;
mod seat;
mod slice;
mod state;
mod table;
pub mod wire;

pub use again::{Again, Unwell};
pub use event::{
    BroughtFlag, DegradedSettings, Route, RouteLeaving, RouteSide, ShareStep, TrafficEvent, TrafficSettings,
};
pub use latency::Latency;
pub use pattern::{PatternError, RoutePattern};
pub use seat::{SEATS, Share, seat};
pub use slice::{Closes, Counts, Slice, Timed};
pub use state::{Brought, Degraded, Judged, Standby, Stopped, Traffic};
pub use table::{Answering, Closed, Fallback, Lease, Leaving, Side, Table, TableError, Upstream};
