//! The routing table of one service: what a router is told, whole, each time.

use super::{RoutePattern, Share};
use crate::terms::{Digest, InstanceName, ServiceName, Span, Timestamp};
use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// Where one service's traffic goes. A router replaces its whole table by a newer one and refuses an older.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Version of the form; now [`Table::VERSION`].
    pub v: u16,
    /// Whose traffic.
    pub service: ServiceName,
    /// Grows with each table of the service; a table that is not newer changes nothing.
    pub epoch: u64,
    /// What seats are hashed with: the same for a whole rollout, so that nobody moves back as the share grows.
    pub salt: String,
    /// Who gets all that the candidate does not. `None` closes the service: every request is answered 503.
    #[serde(default)]
    pub last_good: Option<Side>,
    /// Who gets the seats below `share`.
    #[serde(default)]
    pub candidate: Option<Side>,
    /// The candidate's share.
    #[serde(default)]
    pub share: Share,
    /// Releases that get nothing new and finish what they have.
    #[serde(default)]
    pub leaving: Vec<Leaving>,
    /// What requests of lastgood's own carry in [`wire::SYNTHETIC`](super::wire::SYNTHETIC): they go to the candidate, and
    /// are nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    /// Routes that are closed, by a switch or by a stop of new entries; the first that covers a request answers it.
    #[serde(default)]
    pub closed: Vec<Closed>,
    /// What else is closed once nobody has told a table for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Which answers count as those of a fallback path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// Which answers are those of a fallback path: what went well, but not by the way it should.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fallback {
    /// Requests that people make only where the usual way failed.
    #[serde(default)]
    pub routes: Vec<RoutePattern>,
    /// Status by which the service says that it answered by its fallback.
    #[serde(default)]
    pub status: Vec<u16>,
}

/// How long a router goes on with the switches it was told, and what it closes after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How long after it was told a table, this one again too, it still counts as in contact.
    pub length: Span,
    /// Routes of the switches that count as tripped when in doubt. What is not named stays as it was told.
    pub closed: Vec<Closed>,
}

impl Lease {
    /// Tells whether it is over, `unheard` after the router was told a table last; `None` if it was told none since it began:
    /// then nobody knows how old the one is that it has.
    pub fn is_over(&self, unheard: Option<Span>) -> bool {
        unheard.is_none_or(|unheard| unheard.0 >= self.length.0)
    }
}

/// One release and the instances that answer for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The release.
    pub release: Digest,
    /// Its tag, for screens and metrics.
    pub tag: String,
    /// Where it answers; never empty in a table that was checked.
    pub upstreams: Vec<Upstream>,
}

/// One instance that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub instance: InstanceName,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A release that is drained: no new request and no new tunnel, but those it has go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Who leaves.
    pub side: Side,
    /// When its last tunnels are closed, with 1012 at a frame's end. `None` waits as long as they last.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
}

/// Routes that nobody is let into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// What closed them: `switch auth`, `stop-new`.
    pub by: String,
    /// Which requests.
    pub routes: Vec<RoutePattern>,
    /// What they get.
    pub answer: Answering,
}

/// An answer that the router gives by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answering {
    /// Status, 400 to 599.
    pub status: u16,
    /// Seconds for the Retry-After header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Body, as plain text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// Tells why a table can't be used; the one before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Written by a newer version.
    #[error("its version is {0}, known is {known}", known = Table::VERSION)]
    Version(u16),
    /// A release without instances.
    #[error("{0} has no instances")]
    Empty(String),
    /// A share for a candidate that is not there.
    #[error("a share of {0} without a candidate")]
    NoCandidate(Share),
    /// The same release twice.
    #[error("{0} is named twice")]
    Twice(String),
    /// A status that is no refusal.
    #[error("{0} is no status for a closed route: it must be 400 to 599")]
    Status(u16),
}

impl Table {
    /// The version written today.
    pub const VERSION: u16 = 1;

    /// Checks that it can be used.
    ///
    /// Errors: [`TableError`], the first thing found wrong.
    pub fn check(&self) -> Result<(), TableError> {
        if self.v > Self::VERSION {
            return Err(TableError::Version(self.v));
        }
        if self.candidate.is_none() && self.share != Share::NONE {
            return Err(TableError::NoCandidate(self.share));
        }
        let mut seen = Vec::new();
        for side in self.sides() {
            if side.upstreams.is_empty() {
                return Err(TableError::Empty(side.tag.clone()));
            }
            if seen.contains(&side.release) {
                return Err(TableError::Twice(side.tag.clone()));
            }
            seen.push(side.release);
        }
        let status = |closed: &Closed| closed.answer.status;
        let alone = self.lease.iter().flat_map(|lease| &lease.closed);
        match self.closed.iter().chain(alone).map(status).find(|status| !(400..=599).contains(status)) {
            Some(status) => Err(TableError::Status(status)),
            None => Ok(()),
        }
    }

    /// Lists all releases in it: last-good, candidate, leaving.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        self.last_good.iter().chain(&self.candidate).chain(self.leaving.iter().map(|leaving| &leaving.side))
    }

    /// Gives who answers for a seat.
    pub fn side_of(&self, seat: u16) -> Option<&Side> {
        match &self.candidate {
            Some(candidate) if self.share.has(seat) => Some(candidate),
            _ => self.last_good.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{SEATS, seat};
    use alloc::{format, vec};
    use proptest::prelude::*;

    fn side(tag: &str) -> Side {
        let upstream =
            Upstream { instance: InstanceName::new("a").unwrap(), address: SocketAddr::from(([127, 0, 0, 1], 80)) };
        Side { release: Digest::of(tag.as_bytes()), tag: tag.into(), upstreams: vec![upstream] }
    }

    fn table(share: Share) -> Table {
        Table {
            v: Table::VERSION,
            service: ServiceName::new("chat").unwrap(),
            epoch: 1,
            salt: "1.1.0".into(),
            last_good: Some(side("1.0.0")),
            candidate: Some(side("1.1.0")),
            share,
            leaving: Vec::new(),
            synthetic: None,
            closed: Vec::new(),
            lease: None,
            fallback: None,
        }
    }

    #[test]
    fn a_lease_ends_without_contact_and_one_that_never_began_is_over() {
        let lease = Lease { length: Span(10_000), closed: Vec::new() };
        assert!(!lease.is_over(Some(Span(9_999))));
        assert!(lease.is_over(Some(Span(10_000))));
        assert!(lease.is_over(None));
    }

    #[test]
    fn what_can_t_be_used_is_refused() {
        let broken = |change: &dyn Fn(&mut Table)| {
            let mut table = table(Share::percent(5));
            change(&mut table);
            table.check()
        };
        assert_eq!(broken(&|_| {}), Ok(()));
        assert_eq!(broken(&|t| t.v = 2), Err(TableError::Version(2)));
        assert_eq!(broken(&|t| t.candidate = None), Err(TableError::NoCandidate(Share::percent(5))));
        assert_eq!(broken(&|t| t.candidate = Some(side("1.0.0"))), Err(TableError::Twice("1.0.0".into())));
        assert_eq!(
            broken(&|t| t.last_good = Some(Side { upstreams: Vec::new(), ..side("1.0.0") })),
            Err(TableError::Empty("1.0.0".into()))
        );
        let closed = |status| Closed {
            by: "switch auth".into(),
            routes: vec!["/login".parse().unwrap()],
            answer: Answering { status, retry_after: None, body: String::new() },
        };
        assert_eq!(broken(&|t| t.closed = vec![closed(503), closed(200)]), Err(TableError::Status(200)));
        let lease = |status| Some(Lease { length: Span(1), closed: vec![closed(status)] });
        assert_eq!(broken(&|t| t.lease = lease(200)), Err(TableError::Status(200)));
    }

    proptest! {
        /// Under any sequence of shares: who is on the candidate stays while the share grows, everybody returns at none,
        /// and the share that is seen is the one that was asked for, within five standard deviations.
        #[test]
        fn people_stick_under_any_sequence_of_shares(shares in prop::collection::vec(0_u16..=SEATS, 1..8), salt in ".{0,8}") {
            const PEOPLE: u32 = 4_000;
            let seats: Vec<u16> =
                (0..PEOPLE).map(|person| seat(format!("person {person}").as_bytes(), salt.as_bytes())).collect();
            let mut before = (Share::NONE, vec![false; PEOPLE as usize]);
            for share in shares.into_iter().map(Share::of_seats).chain([Share::NONE]) {
                let table = table(share);
                let on: Vec<bool> = seats.iter().map(|seat| table.side_of(*seat) == table.candidate.as_ref()).collect();
                for (was, is) in before.1.iter().zip(&on) {
                    prop_assert!(if share >= before.0 { *is || !*was } else { *was || !*is }, "somebody moved the other way");
                }
                let part = f64::from(share.seats()) / f64::from(SEATS);
                let expected = part * f64::from(PEOPLE);
                let spread = (f64::from(PEOPLE) * part * (1.0 - part)).sqrt();
                let seen = on.iter().filter(|on| **on).count() as f64;
                prop_assert!((seen - expected).abs() <= 5.0 * spread, "{seen} of {PEOPLE} at {share}");
                before = (share, on);
            }
            prop_assert!(before.1.iter().all(|on| !on));
        }
    }
}
