//! Gates of the configuration that a service requires: each must say yes before anything is copied or moved.
//!
//! All of them are asked at once and each answer is written, so that one look shows all that is missing. Nothing is
//! rejected: a gate may say yes later. No way back asks any.

use super::{Deciding, gates, gates::unexpected, rehearsal};
use crate::{
    effect::{Answer, Effect},
    event::{End, Gate, GateFacts, Verdict},
    service::Phase,
    terms::GateName,
};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

/// Asks every required gate about the release that is installed; goes on at once if there are none.
pub(super) fn ask(deciding: &mut Deciding) {
    let Some(Phase::Installing { offer }) = deciding.phase() else { return };
    let Some(release) = deciding.service.tags.get(&offer.tag).copied() else { return };
    let required: BTreeSet<GateName> = deciding.settings().map(|one| one.gates.clone()).into_iter().flatten().collect();
    if required.is_empty() {
        return rehearsal::begin(deciding);
    }
    let control = deciding.service.last_good.filter(|last_good| *last_good != release);
    for gate in required {
        deciding.order(Effect::AskGate { gate, release, control });
    }
}

/// Writes what a gate says; once all have answered, goes on or ends the run.
pub(super) fn answered(deciding: &mut Deciding, name: &GateName, answer: &Answer) {
    let (verdict, because) = match answer {
        Answer::GateAsked { facts } => facts.weigh(),
        Answer::Failed { failure } | Answer::Hindered { failure } => GateFacts::hindered(failure).weigh(),
        _ => return deciding.stop(unexpected("gate")),
    };
    gates::gate(deciding, Gate::Required, verdict, format!("{name}: {because}"));
    let run = deciding.service.run.as_ref();
    let is_asked = |effect: &Effect| matches!(effect, Effect::AskGate { .. });
    if run.is_some_and(|run| run.orders.values().any(is_asked)) {
        return;
    }
    let said = run.into_iter().flat_map(|run| &run.gates).map(|(name, facts)| (name, facts.weigh()));
    let of = |wanted: Verdict| {
        let these = said.clone().filter(|(_, (verdict, _))| *verdict == wanted);
        these.map(|(name, (_, because))| format!("{name}: {because}")).collect::<Vec<String>>().join("; ")
    };
    // What fails is said before what nobody can tell; a gate never says hold.
    let (failed, unknown) = (of(Verdict::Fail), of(Verdict::CannotTell));
    match (failed.is_empty(), unknown.is_empty()) {
        (false, _) => deciding.end(End::Refused { gate: Gate::Required, because: failed }),
        (true, false) => deciding.end(End::Unproven { gate: Gate::Required, because: unknown }),
        (true, true) => rehearsal::begin(deciding),
    }
}
