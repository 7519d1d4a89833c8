//! What a person or a gate agrees to before something moves, and its digest.

use super::Deciding;
use crate::{
    event::{Settings, WayBack},
    terms::{Digest, InstanceName},
};
use serde::Serialize;

/// How a release reaches its users.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Moves {
    /// One instance after the other.
    Instances,
    /// By a share of the traffic.
    Traffic,
}

/// The plan, as it is digested: JSON with its keys in order (RFC 8785), so that a digest in an old log can be made again.
#[derive(Debug, Serialize)]
struct Plan<'a> {
    format: &'static str,
    moves: Moves,
    release: &'a Digest,
    last_good: Option<Digest>,
    way_back: Option<WayBack>,
    instances: &'a [InstanceName],
    settings: Option<&'a Settings>,
}

/// Digests what was agreed to: forward effects belong to this plan and no other.
pub(super) fn digest(
    deciding: &Deciding,
    moves: Moves,
    release: &Digest,
    way_back: Option<WayBack>,
    instances: &[InstanceName],
) -> Digest {
    let last_good = deciding.service.last_good;
    let settings = deciding.settings();
    let plan = Plan { format: "lastgood-plan/2", moves, release, last_good, way_back, instances, settings };
    // A value's maps are ordered by their keys. Nothing of it can fail to be written: no map has other keys than texts.
    let value = serde_json::to_value(&plan).unwrap_or_default();
    Digest::of(alloc::string::ToString::to_string(&value).as_bytes())
}
