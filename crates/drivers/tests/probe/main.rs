//! Promises of the probe driver, kept against real servers, programs and files.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod answers;
mod busy;
mod commands;
mod config;
mod logs;
mod reason;
mod resume;
mod secrets;
mod sockets;
mod waiting;
mod world;
