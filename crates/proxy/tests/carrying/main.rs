//! Real proxies as processes of their own, real services and clients on loopback.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod client;
mod control;
mod crowd;
mod hostile;
mod http2;
mod http2_cases;
mod http2_list;
mod kept;
mod predecessor;
mod requests;
mod service;
mod smuggling;
mod stage;
mod tls;
mod upgrade;
mod websocket_cases;
mod websockets;
