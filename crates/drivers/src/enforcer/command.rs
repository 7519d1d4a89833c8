//! Programs that enforce holds: what takes claims of new work, a queue, a forge that we do not know.

use super::{EnforcerError, Found, Held, is_id, program::must};
use std::time::Duration;

/// Three programs.
#[derive(Debug)]
pub(super) struct Commands {
    set: Vec<String>,
    lift: Vec<String>,
    read: Vec<String>,
    timeout: Duration,
}

impl Commands {
    pub(super) fn new(set: Vec<String>, lift: Vec<String>, read: Vec<String>, timeout: Duration) -> Self {
        Self { set, lift, read, timeout }
    }

    /// Takes each line that is an id; other lines are the program's own.
    pub(super) fn read(&self) -> Result<Found, EnforcerError> {
        let out = must(&words(&self.read), &[], self.timeout)?;
        let holds = out.lines().map(str::trim).filter(|line| is_id(line)).map(str::to_owned).collect();
        Ok(Found { holds, ..Found::default() })
    }

    pub(super) fn set(&self, hold: &Held) -> Result<(), EnforcerError> {
        let until = hold.until_seconds.map(|until| until.to_string()).unwrap_or_default();
        let variables = [
            ("LASTGOOD_HOLD", hold.id.as_str()),
            ("LASTGOOD_HOLD_KINDS", &hold.kinds),
            ("LASTGOOD_HOLD_SERVICES", &hold.services),
            ("LASTGOOD_HOLD_OWNER", &hold.owner),
            ("LASTGOOD_HOLD_REASON", &hold.reason),
            ("LASTGOOD_HOLD_UNTIL", &until),
        ];
        must(&words(&self.set), &variables, self.timeout).map(drop)
    }

    pub(super) fn lift(&self, id: &str) -> Result<(), EnforcerError> {
        must(&words(&self.lift), &[("LASTGOOD_HOLD", id)], self.timeout).map(drop)
    }
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}
