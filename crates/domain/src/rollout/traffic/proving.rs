//! Required gates, asked again before each share: what was proven before the first says nothing of today.
//!
//! A fail is the candidate's, because last-good passes the same gate: back, and rejected. What nobody can tell lets the
//! share stand and is asked again, up to the stage's deadline; then all goes back and nobody is blamed.

use super::{returning, settings, shifting};
use crate::{
    effect::{Answer, Effect},
    event::{Cause, Verdict},
    rollout::{Deciding, required},
    service::{Phase, Unproven},
    terms::{Digest, GateName, Timestamp},
    traffic::TrafficSettings,
};
use alloc::format;

/// Asks the required gates about the next share, or waits for the time to; tells whether one stands before it.
pub(super) fn ask(deciding: &mut Deciding) -> bool {
    let Some(Phase::Shifting { release, unproven, .. }) = deciding.phase() else { return true };
    let (release, unproven) = (*release, *unproven);
    let gates = required::of(deciding);
    // Whoever follows to last-good takes nothing that is not everybody's.
    if gates.is_empty() || deciding.service.last_good == Some(release) {
        return false;
    }
    if let Some(unproven) = unproven
        && wait(deciding, unproven)
    {
        return true;
    }
    required::order(deciding, gates, release);
    true
}

/// Lets a doubt stand until it is time to ask again, or goes back at its deadline; tells whether nothing is to be asked.
fn wait(deciding: &mut Deciding, unproven: Unproven) -> bool {
    let most = settings(deciding).map(|settings| settings.cannot_tell_max).unwrap_or_default();
    if unproven.is_over(deciding.now) {
        return false;
    }
    if deciding.now >= unproven.since.after(most) {
        let said = required::saying(deciding, Verdict::CannotTell);
        let share = deciding.service.traffic.share();
        let because = format!("cannot tell at {share} of the traffic whether it passes, for {most} too long: {said}");
        returning::begin(deciding, Cause::Halted { because });
        return true;
    }
    deciding.now < unproven.asked.after(Unproven::EVERY)
}

/// Gives the times at which a doubt changes something.
pub(super) fn times(unproven: &Unproven, settings: &TrafficSettings) -> [Timestamp; 2] {
    [unproven.asked.after(Unproven::EVERY), unproven.since.after(settings.cannot_tell_max)]
}

/// Writes what a gate says; once all have answered, the share grows, stands, or is taken back.
pub(super) fn answered(deciding: &mut Deciding, release: Digest, name: &GateName, answer: &Answer) {
    required::write(deciding, name, answer);
    let orders = deciding.service.run.iter().flat_map(|run| run.orders.values());
    if orders.into_iter().any(|effect| matches!(effect, Effect::AskGate { .. })) {
        return;
    }
    let failed = required::saying(deciding, Verdict::Fail);
    if !failed.is_empty() {
        let share = deciding.service.traffic.share();
        return returning::begin(deciding, Cause::Gate { share, because: failed });
    }
    if matches!(deciding.phase(), Some(Phase::Shifting { unproven: None, .. })) {
        shifting::proven(deciding, release);
    }
}
