//! Real proxies as processes of their own, real services and clients on loopback.

mod client;
mod control;
mod requests;
mod service;
mod stage;
mod websockets;
