//! What is counted: by each thread for itself, merged once a second.

pub(crate) mod ledger;
pub(crate) mod people;
pub(crate) mod ring;

pub(crate) use ledger::{Ended, Flight, Ledger};
pub(crate) use people::People;
pub(crate) use ring::{EARLIER, Ring, Turn, turn};
