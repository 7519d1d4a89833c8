//! What was heard, what holds of it now, and what is never taken. Pure: time comes in as an argument.

use crate::message::{Message, Safe, Told};
use std::time::{Duration, Instant};

/// The switch above all others.
const ALL: &str = "all";
/// Longest lease that is believed.
const LEASE_MAX: Duration = Duration::from_secs(3_600);

/// What a follower knows.
#[derive(Debug, Clone, Default)]
pub struct View {
    heard: Option<(Message, Instant)>,
}

impl View {
    /// Takes a message; tells whether it was taken, which also renews the lease.
    ///
    /// Refused is what is older than what was heard, what of the same epoch would open a switch, and what another
    /// environment says.
    pub fn take(&mut self, message: Message, now: Instant) -> bool {
        if let Some((held, _)) = &self.heard {
            let opens =
                |told: &Told| told.tripped && !message.switches.iter().any(|one| one.name == told.name && one.tripped);
            let doubtful = message.epoch == held.epoch && held.switches.iter().any(opens);
            if message.environment != held.environment || message.epoch < held.epoch || doubtful {
                return false;
            }
        }
        self.heard = Some((message, now));
        true
    }

    /// Gives the epoch that was heard last.
    pub fn epoch(&self) -> Option<u64> {
        self.heard.as_ref().map(|(message, _)| message.epoch)
    }

    /// Gives when the lease ends; none before anything was heard.
    pub fn lease_ends(&self) -> Option<Instant> {
        self.heard.as_ref().map(|(message, at)| *at + message.lease.min(LEASE_MAX))
    }

    /// Tells whether somebody was heard within the lease.
    pub fn is_in_contact(&self, now: Instant) -> bool {
        self.lease_ends().is_some_and(|end| now < end)
    }

    /// Tells whether what `name` names is blocked.
    pub fn is_tripped(&self, name: &str, now: Instant) -> bool {
        let Some((message, _)) = &self.heard else { return true };
        let find = |name: &str| message.switches.iter().find(|one| one.name == name);
        // What nobody knows is in doubt.
        let Some(told) = find(name) else { return true };
        let above = find(ALL);
        let tripped = told.tripped || above.is_none_or(|all| all.tripped);
        let alone = !self.is_in_contact(now);
        tripped || (alone && told.safe == Safe::Tripped)
    }
}
