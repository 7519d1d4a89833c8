//! After a bump: what users see, and whether waiting has become an alarm.

use super::{Deciding, forward, returning, traffic};
use crate::{
    event::{Cause, Event, Health, Settings},
    facts::Outcomes,
};

/// Judges users' outcomes; too few are cannot-tell, which is never good.
pub(super) fn judge(outcomes: Outcomes, settings: &Settings) -> Health {
    // Wide enough for any count that a log or a query can come up with.
    let all = u128::from(outcomes.good) + u128::from(outcomes.degraded) + u128::from(outcomes.broken);
    let exceeds = |part: u64, percent: u32| u128::from(part) * 100 > all * u128::from(percent);
    if all < u128::from(settings.outcomes_min.max(1)) {
        Health::CannotTell
    } else if exceeds(outcomes.broken, settings.broken_percent) {
        Health::Broken
    } else if exceeds(outcomes.degraded, settings.degraded_percent) {
        Health::Degraded
    } else {
        Health::Good
    }
}

pub(super) fn counted(deciding: &mut Deciding, outcomes: Outcomes, settings: Settings) {
    let health = judge(outcomes, &settings);
    let known = deciding.service.health.map(|(health, _)| health);
    // A count that changes nothing is not worth a record.
    if known != Some(health) {
        deciding.say(Event::OutcomesCounted { outcomes, health });
    }
    let goes_back = health == Health::Broken && settings.back_when_broken && forward::watches(deciding, &settings);
    if settings.traffic.is_some() {
        if goes_back && traffic::is_watched(deciding) {
            traffic::returning::by_itself(deciding, Cause::Broken { outcomes }, settings);
        }
    } else if goes_back && deciding.service.run.is_none() {
        returning::by_itself(deciding, Cause::Broken { outcomes }, settings);
    }
}

/// Raises the alarm when nothing was accepted for too long: a gate that always refuses is one itself. Ends the one about a
/// release that is looked at no more.
pub(super) fn review(deciding: &mut Deciding, settings: &Settings) {
    traffic::review(deciding, settings);
    if deciding.service.stale {
        return;
    }
    let Some((since, because)) = deciding.service.behind.clone() else { return };
    if deciding.now.since(since) >= settings.stale_after {
        deciding.say(Event::WentStale { since, because });
    }
}
