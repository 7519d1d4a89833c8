//! Carries: route, share, stick, drain, observe. A process of its own that keeps its last table when alone.
//!
//! The life of a request: `front` accepts the connection and gives it to the thread with the fewest; `carry::client`
//! reads a head; `http::request` judges it; `route` finds the person's id, seat, release and instance;
//! `carry::exchange` sends it there and brings the answer; `observe` counts it. `control` changes the table under all of
//! that; a request uses the table that was there when its head was whole.

mod carry;
mod control;
mod error;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod observe;
mod proxy;
mod route;
mod settings;
mod tls;
mod websocket;

pub use error::ProxyError;
pub use proxy::Proxy;
pub use settings::{Certificate, Limits, Network, Serving, Settings, SettingsError, Sticky};
