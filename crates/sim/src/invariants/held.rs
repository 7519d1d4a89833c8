//! Holds as the records show them: which stand, and what passes them.

use super::{AWAKE, Checker};
use lastgood_domain::{
    operations::hold::{Exemption, InFlight},
    terms::{Actor, Digest, HoldId, Timestamp},
};

/// One hold that was set and not lifted.
#[derive(Debug)]
pub(super) struct Held {
    until: Option<Timestamp>,
    /// The run that was under way may end.
    finishes: bool,
    /// Which bytes pass it, until when.
    exempt: Vec<(Digest, Timestamp)>,
}

impl Held {
    pub(super) fn new(until: Option<Timestamp>, in_flight: InFlight) -> Self {
        Self { until, finishes: in_flight == InFlight::Finish, exempt: Vec::new() }
    }

    fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Checker {
    pub(super) fn exempted(
        &mut self,
        hold: HoldId,
        exemption: &Exemption,
        (asked, approved): (&Actor, &Actor),
        wrong: &mut Vec<String>,
    ) {
        if asked == approved {
            wrong.push(format!("{hold} was opened for {} by {asked} alone", exemption.tag));
        }
        match self.holds.get_mut(&hold) {
            Some(held) => held.exempt.push((exemption.release, exemption.until)),
            None => wrong.push(format!("{hold} was opened for {} and does not stand", exemption.tag)),
        }
    }

    /// Tells whether some hold stands.
    pub(super) fn held(&self) -> bool {
        self.holds.values().any(|held| held.stands(self.at))
    }

    pub(super) fn expired_just_now(&self) -> bool {
        let ends = self.holds.values().filter_map(|held| held.until);
        ends.into_iter().any(|until| until <= self.at && self.at.since(until) < AWAKE)
    }

    /// Tells whether some hold stands that lets no bytes pass.
    pub(super) fn closed(&self) -> bool {
        let open = |held: &Held| held.exempt.iter().any(|(_, until)| self.at < *until);
        self.holds.values().any(|held| held.stands(self.at) && !open(held))
    }

    /// Tells whether some hold keeps the run under way from moving on with a release.
    pub(super) fn stops(&self, release: Option<Digest>) -> bool {
        let since = self.run.as_ref().map(|run| run.holds_since);
        self.holds.iter().any(|(id, held)| {
            let finishes = held.finishes && since.is_some_and(|since| *id >= since);
            let passes = held.exempt.iter().any(|(bytes, until)| Some(*bytes) == release && self.at < *until);
            held.stands(self.at) && !finishes && !passes
        })
    }

    /// Gives the id that the next hold takes.
    pub(super) fn next_hold(&self) -> HoldId {
        HoldId(self.holds_ever.last().map_or(0, |last| last.0 + 1))
    }
}
