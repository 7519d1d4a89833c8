//! Promises of the probe driver, kept against real servers, programs and files.

mod answers;
mod busy;
mod commands;
mod config;
mod logs;
mod secrets;
mod sockets;
mod waiting;
mod world;
