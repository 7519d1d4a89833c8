//! A rejected newest release must not hide a good one behind it: the next newest is asked for in its place.

use super::{Deciding, gates};
use crate::{
    effect::Effect,
    event::{End, Gate, Verdict},
    facts::{Offer, Standing},
    service::Service,
    terms::{Digest, InstanceName, ReleaseTag},
};
use alloc::{format, string::String, vec::Vec};

/// Rejected releases passed over in one run: each costs a question to the channel, and who has rejected so many in
/// a row has other worries.
const PASSED_OVER_MAX: usize = 20;

/// What becomes of an offer, as far as rejections decide.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Weighed {
    /// It was not rejected, and is newer than last-good or what those left behind still need: the other gates decide.
    Taken,
    /// It was rejected, and something older may still be newer than last-good.
    PassedOver {
        /// By whom and why.
        because: String,
    },
    /// It is refused: rejected with nothing to look for behind it, or no newer than last-good in a rejected one's place.
    Refused {
        /// Why.
        because: String,
    },
}

/// Weighs what the channel offers besides `passed`, the rejected releases passed over so far.
///
/// Without a last-good nothing says how old is too old, and no control shows a broken gate: only the newest counts.
fn weigh(
    service: &Service,
    instances: &[InstanceName],
    passed: &[ReleaseTag],
    offer: &Offer,
    standing: Option<Standing>,
) -> Weighed {
    if let Some(because) = rejection(service, &offer.tag) {
        let goes_on = standing == Some(Standing::Newer)
            && service.pin.is_none()
            && passed.len() < PASSED_OVER_MAX
            && !passed.contains(&offer.tag);
        return if goes_on { Weighed::PassedOver { because } } else { Weighed::Refused { because } };
    }
    let needed = match standing {
        _ if passed.is_empty() => true,
        None | Some(Standing::Newer) => true,
        // Last-good itself: those left behind still follow.
        Some(Standing::Same) => service.last_good.is_some_and(|good| is_behind(service, instances, good)),
        Some(Standing::Older | Standing::Unordered) => false,
    };
    if needed {
        return Weighed::Taken;
    }
    let last_good = service.name_of(service.last_good.as_ref());
    Weighed::Refused { because: format!("the next, {}, is not newer than last-good {last_good}", offer.tag) }
}

/// Passes over a rejected offer or refuses it; tells whether it did.
pub(super) fn pass_over(
    deciding: &mut Deciding,
    mut passed: Vec<ReleaseTag>,
    offer: &Offer,
    standing: Option<Standing>,
) -> bool {
    let instances = deciding.settings().map(|settings| settings.instances.clone()).unwrap_or_default();
    match weigh(&deciding.service, &instances, &passed, offer, standing) {
        Weighed::Taken => return false,
        Weighed::PassedOver { because } => {
            gates::gate(deciding, Gate::Rejected, Verdict::Fail, because);
            passed.push(offer.tag.clone());
            deciding.order(Effect::Check { tag: None, except: passed });
        }
        Weighed::Refused { because } if passed.is_empty() => {
            gates::refuse(deciding, Gate::Rejected, Verdict::Fail, because);
        }
        Weighed::Refused { because } => nothing_newer(deciding, &passed, &because),
    }
    true
}

/// Ends a run whose newest releases were rejected and that found nothing in their place.
pub(super) fn nothing_newer(deciding: &mut Deciding, passed: &[ReleaseTag], next: &str) {
    let Some(newest) = passed.first() else { return };
    // It may have been waived since; the next run takes it then.
    let rejected = rejection(&deciding.service, newest).unwrap_or_else(|| format!("{newest} was rejected"));
    deciding.end(End::Refused { gate: Gate::Rejected, because: format!("{rejected}; {next}") });
}

/// Says by whom and why a tag was rejected. A tag that has moved is no way around it: its digest is checked later.
pub(super) fn rejection(service: &Service, tag: &ReleaseTag) -> Option<String> {
    let by_tag = service.rejected.values().find(|rejection| rejection.tag == *tag);
    // The same bytes under another tag were rejected as well.
    let by_digest = || service.tags.get(tag).and_then(|digest| service.rejected.get(digest));
    let rejection = by_tag.or_else(by_digest)?;
    let same = if rejection.tag == *tag { String::new() } else { format!(" as {}", rejection.tag) };
    Some(format!("{tag} was rejected{same} by {}: {}", rejection.by, rejection.reason))
}

/// Tells whether one of `instances` runs something else.
pub(super) fn is_behind(service: &Service, instances: &[InstanceName], release: Digest) -> bool {
    let runs = |name| service.instances.get(name).and_then(|one| one.release);
    instances.iter().any(|name| runs(name) != Some(release))
}
