//! What somebody looked at before they said "do it": a digest of what would happen, and the refusal once that has moved.

use crate::{exit::Exit, screen::Trouble};
use lastgood_domain::{
    rollout::PLAN_MOVED,
    terms::{Digest, ServiceName},
};
use serde_json::Value;

/// Digests what would happen: JSON with its keys in order. No age and no count is part of it, so that the same plan looked
/// at a minute later is the same plan.
pub(super) fn digest(what: &Value) -> Digest {
    Digest::of(what.to_string().as_bytes())
}

/// Refuses to do anything else than what was looked at.
///
/// Errors: exit 6 with both digests; `again` is what shows the new one.
pub(super) fn check(service: &ServiceName, seen: Option<&str>, is: &Digest, again: &str) -> Result<(), Trouble> {
    match seen {
        Some(seen) if seen != is.short() && seen != is.to_string() => Err(Trouble::say(
            Exit::Moved,
            PLAN_MOVED,
            format!("{service}: plan {seen} was looked at, and it is {} now; nothing was done", is.short()),
            &format!("look again: {again}"),
        )),
        _ => Ok(()),
    }
}
