//! What a way back leaves behind: a release that is never tried again, a hold, another last-good.

use super::Deciding;
use crate::{
    event::{Aim, Cause, End, Event},
    operations::hold::InFlight,
    terms::{Digest, HoldId, Reason},
    words::one_line,
};
use alloc::{format, string::String};

/// Rejects what was left, freezes the service, and moves last-good back where it was left.
pub(super) fn conclude(
    deciding: &mut Deciding,
    cause: &Cause,
    left: Option<Digest>,
    target: Option<Digest>,
    everyone: bool,
) {
    let partial = matches!(
        deciding.service.run.as_ref().map(|run| &run.aim),
        Some(Aim::Back { instances, .. }) if !instances.is_empty()
    );
    // Last-good that fails on an instance left behind goes on working for the others.
    let is_late = matches!(deciding.service.run.as_ref().map(|run| &run.aim), Some(Aim::Track | Aim::Drain))
        && left.is_some()
        && deciding.service.last_good == left
        && !everyone;
    let by_person = matches!(cause, Cause::Asked { .. });
    let because = End::RolledBack { cause: cause.clone() }.because();
    if let Some(release) = left
        && cause.blames_release()
        && (!partial || everyone)
        && !is_late
        && target != Some(release)
        && let Some(tag) = deciding.service.tag(&release).cloned()
    {
        deciding.say(Event::Rejected { release, tag, reason: because.clone() });
        if deciding.service.last_good == Some(release) {
            deciding.say(Event::Demoted { release: target });
        }
    }
    if matches!(cause, Cause::Pinned { .. }) {
        deciding.say(Event::Demoted { release: target });
    }
    // A person who rolled everything back has decided; a machine that did so stops itself.
    if !by_person || partial {
        freeze(deciding, cause, &because);
    }
}

pub(super) fn freeze(deciding: &mut Deciding, cause: &Cause, because: &str) {
    if matches!(cause, Cause::Pinned { .. }) {
        return;
    }
    let hold = HoldId(deciding.service.next.hold);
    let text = one_line(&format!("rolled back: {because}"));
    let mut text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    // A reason has at most 500 bytes; one that is refused would leave the service open.
    while text.len() > 500 {
        text.pop();
    }
    let Ok(reason) = Reason::new(&text) else { return };
    deciding.say(Event::HoldSet { hold, reason, until: None, origin: None, in_flight: InFlight::Pause });
}
