//! What happens to shared traffic, as it is written to the log.

use super::{RoutePattern, Share};
use crate::{
    event::{Cause, Verdict},
    guard::GuardSettings,
    terms::{Digest, FlagKey, InstanceName, Reason, Span, SwitchName, Timestamp},
};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Something that happened to a service's shared traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum TrafficEvent {
    /// The plan is sealed: the candidate is started beside last-good and gets shares of its traffic.
    ShiftBegun {
        /// Digest over candidate, last-good, instances, way back and settings.
        plan: Digest,
        /// The candidate.
        release: Digest,
        /// The instances it is started on.
        instances: Vec<InstanceName>,
    },
    /// The router has confirmed a share; it is watched until then before it grows.
    ShareBegun {
        /// The candidate's share.
        share: Share,
        /// When its bake time is over.
        until: Timestamp,
    },
    /// The guards' answer changed.
    Judged {
        /// The candidate's share at that time; all after a promotion.
        share: Share,
        /// What they say: pass is healthy, fail is broken, cannot-tell asks for more.
        verdict: Verdict,
        /// The numbers behind it.
        because: String,
    },
    /// A release on trial answers by a fallback more than it may. Nobody is moved for it, unless so configured.
    Degraded {
        /// Which.
        release: Digest,
        /// Its share at that time; all after a promotion.
        share: Share,
        /// The numbers behind it.
        because: String,
    },
    /// It does so no more, or nobody looks any longer: its watch is over, or nothing counts as a fallback.
    DegradedNoMore {
        /// Which.
        release: Digest,
    },
    /// All traffic goes back to a release that stands ready or is started first.
    ReturnBegun {
        /// Why.
        cause: Cause,
        /// What is left.
        left: Digest,
        /// Where to; `None` when there was none before: the service is closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Digest>,
        /// The instances of `to`, brought up to capacity before anything is sent there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        raise: Vec<InstanceName>,
    },
    /// The router has confirmed that nothing new goes to what was left.
    Returned {
        /// Who gets all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Digest>,
    },
    /// A release that is left has no request and no tunnel any more.
    Emptied {
        /// Which.
        release: Digest,
    },
    /// New entries are refused; what runs finishes.
    EntriesStopped {
        /// Which requests; empty is all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        routes: Vec<RoutePattern>,
        /// Sent as Retry-After.
        retry_after: Span,
        /// Why.
        reason: Reason,
    },
    /// New entries are let in again.
    EntriesResumed {
        /// Why.
        reason: Reason,
    },
}

/// Who gets whose share: what a router is told, before names are turned into addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Who gets all that the candidate does not; `None` closes the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<RouteSide>,
    /// Who gets the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<RouteSide>,
    /// The candidate's share.
    #[serde(default)]
    pub share: Share,
    /// Who gets nothing new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<RouteLeaving>,
    /// What people's seats are hashed with; the same for a whole rollout.
    pub salt: String,
}

/// One release and its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSide {
    /// Which release.
    pub release: Digest,
    /// On which instances.
    pub instances: Vec<InstanceName>,
}

/// One release that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLeaving {
    /// Who is left.
    pub side: RouteSide,
    /// When its last tunnels are closed.
    pub deadline: Timestamp,
}

/// How traffic moves, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSettings {
    /// The two sets of instances that take turns: one carries last-good, the other the candidate.
    pub sides: [Vec<InstanceName>; 2],
    /// One instance for each data folder; both sides work on the same data.
    pub holders: Vec<InstanceName>,
    /// The shares and how long each is watched, growing; the last is all.
    pub steps: Vec<ShareStep>,
    /// How long tunnels of a release that is left may go on before they are closed.
    pub drain: Span,
    /// How long the release before stays up after a promotion.
    pub warm: Span,
    /// How long cannot-tell may last beyond a share's bake time before the traffic goes back.
    pub cannot_tell_max: Span,
    /// What a candidate is held to.
    #[serde(default, skip_serializing_if = "GuardSettings::is_default")]
    pub guard: GuardSettings,
    /// When a release counts as degraded; none, and nothing counts as a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<DegradedSettings>,
    /// Flags that a release brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<BroughtFlag>,
    /// Kill switches that are tripped when the guards say that a release is broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trips: Vec<SwitchName>,
    /// Whether replay and resume are proven before the share exceeds [`TrafficSettings::RESUME_ABOVE`].
    pub resume: bool,
}

impl TrafficSettings {
    /// The share up to which people may be without a proof that sessions can be resumed: 25 %, of requirement L-5.
    pub const RESUME_ABOVE: Share = Share::percent(25);
}

/// When a release counts as degraded: a fallback answers more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegradedSettings {
    /// More answers by a fallback than this are too many, in percent of all.
    pub percent: u32,
    /// How much more than last-good's is still not more, in percent: 150 is half as much again.
    pub against_last_good_percent: u32,
    /// Fewer requests than this tell nothing.
    pub outcomes_min: u64,
    /// Whether the traffic goes back for it.
    pub goes_back: bool,
}

/// A flag that a release brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtFlag {
    /// Which.
    pub flag: FlagKey,
    /// The share from which it is on.
    pub share: Share,
}

/// One share of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStep {
    /// How much.
    pub share: Share,
    /// How long it is watched at least.
    pub bake: Span,
}
