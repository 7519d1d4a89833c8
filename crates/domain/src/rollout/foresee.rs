//! What a run would come to, by the very decisions that it would take: `plan` shows what `run` does.

use super::{Checked, Input, step};
use crate::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Gate, Settings, Verdict},
    facts::Offer,
    service::Service,
    terms::{Actor, ReleaseTag, Timestamp},
};
use alloc::{string::String, vec::Vec};

/// What a run would come to before it touches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The rejected releases that it would pass over, newest first, and why each was rejected.
    pub passed: Vec<(ReleaseTag, String)>,
    /// The last gate that said something, and what: the one that refuses, where one does.
    pub last_gate: Option<(Gate, Verdict)>,
    /// Where it leads.
    pub next: Next,
}

/// Where a run would lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It would end.
    Ends(End),
    /// It would install this and go on with it.
    Installs(Offer),
    /// It would go back, as a pin orders.
    GoesBack,
}

/// What a run begins with, besides the state of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// What for: [`Aim::Track`], or [`Aim::DryRun`] to see what lies behind a hold.
    pub aim: Aim,
    /// From the configuration.
    pub settings: Settings,
    /// Why a freeze file holds everything, if one exists.
    pub frozen: Option<String>,
    /// What was seen of what must stand before a forward move.
    pub preflight: Option<Checked>,
}

/// Plays a run of `service` from its beginning, without writing anything. `ask` answers as the channel does: for a tag, or for
/// the newest but those to pass over. A run that is under way is left out: what is asked is what would come after it.
pub fn foresee(
    service: &Service,
    begin: Begin,
    by: &Actor,
    now: Timestamp,
    mut ask: impl FnMut(Option<&ReleaseTag>, &[ReleaseTag]) -> Answer,
) -> Foreseen {
    let mut service = Service { run: None, ..service.clone() };
    let Begin { aim, settings, frozen, preflight } = begin;
    let mut input = Input::Begin { aim, settings, frozen, preflight };
    let mut foreseen = Foreseen { passed: Vec::new(), last_gate: None, next: Next::GoesBack };
    loop {
        // Neither can be refused: there is no run, and each order is answered as it is given.
        let records = step(&service, input, by, now).unwrap_or_default();
        records.iter().for_each(|record| service.apply(record));
        let (mut asked, mut rejected) = (None, String::new());
        for record in records {
            match record.event {
                Event::Gated { gate, verdict, because } => {
                    foreseen.last_gate = Some((gate, verdict));
                    rejected = because;
                }
                Event::RunEnded { end, .. } => {
                    foreseen.next = Next::Ends(end);
                    return foreseen;
                }
                Event::Ordered { effect: Effect::Install { offer }, .. } => {
                    foreseen.next = Next::Installs(offer);
                    return foreseen;
                }
                Event::Ordered { order, effect: Effect::Check { tag, except } } => {
                    // Each question after the first leaves out one release more: the one that was just refused.
                    foreseen.passed.extend(except.last().map(|tag| (tag.clone(), core::mem::take(&mut rejected))));
                    asked = Some(Input::Answer { order, answer: ask(tag.as_ref(), &except) });
                }
                _ => {}
            }
        }
        let Some(answer) = asked else { return foreseen };
        input = answer;
    }
}
