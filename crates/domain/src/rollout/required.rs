//! Gates of the configuration that a service requires: each must say yes before anything is copied or moved.
//!
//! All of them are asked at once and each answer is written, so that one look shows all that is missing. Nothing is
//! rejected: a gate may say yes later. No way back asks any. Where traffic is shared they are asked again before each
//! share, by [`super::traffic`].

use super::{Deciding, gates, gates::unexpected, rehearsal};
use crate::{
    effect::{Answer, Effect},
    event::{End, Gate, GateFacts, Verdict},
    service::Phase,
    terms::{Digest, GateName},
};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

/// Asks every required gate about the release that is installed; goes on at once if there are none.
pub(super) fn ask(deciding: &mut Deciding) {
    let Some(Phase::Installing { offer }) = deciding.phase() else { return };
    let Some(release) = deciding.service.tags.get(&offer.tag).copied() else { return };
    let required = of(deciding);
    if required.is_empty() {
        return rehearsal::begin(deciding);
    }
    order(deciding, required, release);
}

/// Gives the gates that the service requires.
pub(super) fn of(deciding: &Deciding) -> BTreeSet<GateName> {
    deciding.settings().map(|one| one.gates.clone()).into_iter().flatten().collect()
}

/// Orders that each gate is asked about a release, with last-good as the control.
pub(super) fn order(deciding: &mut Deciding, gates: BTreeSet<GateName>, release: Digest) {
    let control = deciding.service.last_good.filter(|last_good| *last_good != release);
    for gate in gates {
        deciding.order(Effect::AskGate { gate, release, control });
    }
}

/// Writes what a gate says.
pub(super) fn write(deciding: &mut Deciding, name: &GateName, answer: &Answer) {
    let (verdict, because) = GateFacts::of(answer).weigh();
    gates::gate(deciding, Gate::Required, verdict, format!("{name}: {because}"));
}

/// Names the gates that say so, with their numbers.
pub(super) fn saying(deciding: &Deciding, wanted: Verdict) -> String {
    let said = deciding.service.run.iter().flat_map(|run| &run.gates);
    let these = said.map(|(name, facts)| (name, facts.weigh())).filter(|(_, (verdict, _))| *verdict == wanted);
    these.map(|(name, (_, because))| format!("{name}: {because}")).collect::<Vec<String>>().join("; ")
}

/// Writes what a gate says; once all have answered, goes on or ends the run.
pub(super) fn answered(deciding: &mut Deciding, name: &GateName, answer: &Answer) {
    if !matches!(answer, Answer::GateAsked { .. } | Answer::Failed { .. } | Answer::Hindered { .. }) {
        return deciding.stop(unexpected("gate"));
    }
    write(deciding, name, answer);
    let is_asked = |effect: &Effect| matches!(effect, Effect::AskGate { .. });
    if deciding.service.run.as_ref().is_some_and(|run| run.orders.values().any(is_asked)) {
        return;
    }
    // What fails is said before what nobody can tell; a gate never says hold.
    let (failed, unknown) = (saying(deciding, Verdict::Fail), saying(deciding, Verdict::CannotTell));
    match (failed.is_empty(), unknown.is_empty()) {
        (false, _) => deciding.end(End::Refused { gate: Gate::Required, because: failed }),
        (true, false) => deciding.end(End::Unproven { gate: Gate::Required, because: unknown }),
        (true, true) => rehearsal::begin(deciding),
    }
}
