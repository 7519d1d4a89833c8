//! How a rehearsal is kept from live data and the network.
use super::RuntimeError;
use std::{convert::Infallible, ffi::OsString};
pub(crate) fn guard(_: impl Iterator<Item = OsString>) -> Result<Infallible, RuntimeError> {
    Err(RuntimeError::NotDetached { why: String::new() })
}
