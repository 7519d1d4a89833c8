//! What is known of a service's shared traffic: a fold of its events.

use super::{Route, RoutePattern, RouteSide, Share, TrafficEvent};
use crate::{
    effect::Effect,
    event::Verdict,
    terms::{Actor, Digest, FlagKey, InstanceName, Reason, RunId, Span, Timestamp},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Where a service's traffic goes and what is said of it. Empty for a service that moves instance by instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// What the router was told last.
    pub route: Option<Route>,
    /// Whether it confirmed that.
    pub confirmed: bool,
    /// A release that gets nothing but still stands.
    pub standby: Option<Standby>,
    /// The guards' newest answer on what is on trial.
    pub judged: Option<Judged>,
    /// The release that answers by a fallback more than it may, as of the last look.
    #[serde(default)]
    pub degraded: Option<Degraded>,
    /// New entries that are refused.
    pub stopped: Option<Stopped>,
    /// Flags that are on because a release brought them, by the release: a way back from it turns them off.
    #[serde(default)]
    pub brought: BTreeMap<Digest, Brought>,
    /// Switches that were ordered to be tripped and are not known to be.
    #[serde(default)]
    pub tripping: Vec<Effect>,
    /// The newest candidate that was started on the data: it may have migrated it. A way back does not change that.
    #[serde(default)]
    pub data: Option<Digest>,
    /// The instances that it was started on.
    #[serde(default)]
    pub touched: BTreeSet<InstanceName>,
}

/// Flags that the run of a release turned on, or was about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// The run.
    pub run: RunId,
    /// The flags.
    pub flags: Vec<FlagKey>,
}

/// A release that gets no traffic and has not been stopped yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Which.
    pub side: RouteSide,
    /// When it is stopped.
    pub until: Timestamp,
    /// Whether it waits to be gone back to; one that was left for a fault is stopped as soon as it is empty.
    pub warm: bool,
    /// Whether it has no request and no tunnel any more.
    pub empty: bool,
}

/// An answer of the guards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// At which share.
    pub share: Share,
    /// What they say.
    pub verdict: Verdict,
    /// The numbers.
    pub because: String,
    /// Since when they say so; the numbers may be newer.
    pub since: Timestamp,
    /// When the numbers were written.
    pub at: Timestamp,
}

/// A release that answers by a fallback more than it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// Which.
    pub release: Digest,
    /// At which share it was found.
    pub share: Share,
    /// The numbers then.
    pub because: String,
    /// Since when.
    pub since: Timestamp,
}

/// A stop of new entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Who stopped them.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Which; empty is all.
    pub routes: Vec<RoutePattern>,
    /// What clients are told to wait.
    pub retry_after: Span,
}

impl Stopped {
    /// Names what is refused: the routes, or all new entries.
    pub fn what(&self) -> String {
        match self.routes.as_slice() {
            [] => "new sessions".into(),
            routes => routes.iter().map(|route| format!("{route}")).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Traffic {
    /// Folds one event in.
    pub(crate) fn apply(&mut self, event: &TrafficEvent, by: &Actor, at: Timestamp) {
        match event {
            TrafficEvent::ShiftBegun { .. } | TrafficEvent::ReturnBegun { .. } | TrafficEvent::ShareBegun { .. } => {
                self.judged = None;
            }
            TrafficEvent::Judged { share, verdict, because } => {
                let same = self.judged.as_ref().filter(|known| known.verdict == *verdict && known.share == *share);
                let since = same.map_or(at, |known| known.since);
                self.judged = Some(Judged { share: *share, verdict: *verdict, because: because.clone(), since, at });
            }
            TrafficEvent::Degraded { release, share, because } => {
                let (release, share, because) = (*release, *share, because.clone());
                self.degraded = Some(Degraded { release, share, because, since: at });
            }
            TrafficEvent::DegradedNoMore { release } => self.forget_degraded(*release),
            TrafficEvent::Emptied { release } => {
                if let Some(standby) = &mut self.standby
                    && standby.side.release == *release
                {
                    standby.empty = true;
                    if !standby.warm {
                        standby.until = at;
                    }
                }
            }
            TrafficEvent::EntriesStopped { routes, retry_after, reason } => {
                self.stopped = Some(Stopped {
                    by: by.clone(),
                    reason: reason.clone(),
                    since: at,
                    routes: routes.clone(),
                    retry_after: *retry_after,
                });
            }
            TrafficEvent::EntriesResumed { .. } => self.stopped = None,
            // Whoever serves now is not whom it was said of, unless nobody was there to go back to.
            TrafficEvent::Returned { to } => {
                self.degraded = self.degraded.take().filter(|one| Some(one.release) == *to);
            }
        }
    }

    fn forget_degraded(&mut self, release: Digest) {
        self.degraded = self.degraded.take().filter(|one| one.release != release);
    }

    /// Records what the router is told; it may act on it from now on.
    pub(crate) fn ordered(&mut self, route: &Route) {
        self.route = Some(route.clone());
        self.confirmed = false;
    }

    /// Gives the release that gets the greater part of all new requests by right: last-good.
    pub fn last_good(&self) -> Option<&RouteSide> {
        self.route.as_ref()?.last_good.as_ref()
    }

    /// Gives the candidate's share.
    pub fn share(&self) -> Share {
        self.route.as_ref().map_or(Share::NONE, |route| route.share)
    }

    /// Tells whether an instance is of a release that gets traffic.
    pub fn carries(&self, instance: &InstanceName) -> bool {
        let sides = self.route.iter().flat_map(|route| route.last_good.iter().chain(&route.candidate));
        sides.into_iter().any(|side| side.instances.contains(instance))
    }

    /// Gives when a release that stands by is to be stopped: never while the router may still send people there, or was
    /// told to send them there again.
    pub fn cools_at(&self) -> Option<Timestamp> {
        let standby = self.standby.as_ref().filter(|_| self.confirmed)?;
        let carries = standby.side.instances.iter().any(|name| self.carries(name));
        (!carries).then_some(standby.until)
    }

    /// Gives the release that stands by, if it is this one.
    pub fn standby_of(&self, release: &Digest) -> Option<&Standby> {
        self.standby.as_ref().filter(|standby| standby.side.release == *release)
    }
}
