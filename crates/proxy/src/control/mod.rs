//! What the proxy is told, and what it remembers of it.

pub(crate) mod lines;
pub(crate) mod server;
pub(crate) mod tables;
pub(crate) mod takeover;
