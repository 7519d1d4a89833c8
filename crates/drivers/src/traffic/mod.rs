//! Routers: what carries a service's traffic and is told where.

pub mod builtin;
