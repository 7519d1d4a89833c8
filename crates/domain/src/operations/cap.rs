//! How often one person may do something risky in a day (UTC), counted from the log.
//!
//! A way back and a trip are never refused: above their cap they are done, and people are paged.

use super::{
    Event, Operations, escalation,
    hold::HoldEvent,
    incident::{
        IncidentEvent, State, checklist::ChecklistEvent, level::LevelEvent, plan::PlanEvent, unfreeze::UnfreezeEvent,
    },
};
use crate::{
    failure::Coded,
    terms::{Actor, Span, Timestamp},
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// One day.
const DAY: Span = Span::minutes(24 * 60);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risky {
    /// A way back that a person asked for.
    Rollback,
    /// A kill switch that a person tripped.
    Trip,
    /// A gate that was overridden.
    Override,
    /// A change that somebody asked to let through a hold.
    Exempt,
    /// A rejection or an analysis that was waived, or an open item or a proof that somebody asked to leave.
    Waive,
    /// An unmet row of an unfreeze that somebody asked to pass.
    AcceptRisk,
    /// A lower level that somebody asked for.
    Lower,
    /// An incident that was ended as none.
    StandDown,
}

impl Risky {
    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Trip => "trip",
            Self::Override => "override",
            Self::Exempt => "exempt",
            Self::Waive => "waive",
            Self::AcceptRisk => "accept-risk",
            Self::Lower => "lower",
            Self::StandDown => "stand-down",
        }
    }

    /// Tells whether it makes things safer, and so is never refused.
    pub const fn is_open_always(self) -> bool {
        matches!(self, Self::Rollback | Self::Trip)
    }
}

/// How often a day, by what; what is not in it is not limited.
pub type Caps = BTreeMap<Risky, u32>;

/// What people did on the last day that they did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    by: BTreeMap<(Actor, Risky), (i64, u32)>,
}

fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY.0.cast_signed())
}

impl Counts {
    pub(super) fn count(&mut self, at: Timestamp, by: &Actor, act: Risky) {
        let (counted_on, count) = self.by.entry((by.clone(), act)).or_insert((day(at), 0));
        if *counted_on < day(at) {
            (*counted_on, *count) = (day(at), 0);
        }
        *count += 1;
    }

    /// Gives how often somebody did it on the day of `now`.
    pub fn today(&self, by: &Actor, act: Risky, now: Timestamp) -> u32 {
        let found = self.by.get(&(by.clone(), act)).filter(|(counted_on, _)| *counted_on >= day(now));
        found.map_or(0, |(_, count)| *count)
    }
}

/// Gives what an event of the operations chain is counted as, `before` it. The end of a drill puts nobody at risk.
pub(super) fn risky(before: &Operations, event: &Event) -> Option<Risky> {
    match event {
        Event::Risk { act } => Some(*act),
        Event::Overruled(_) => Some(Risky::Override),
        Event::Hold(HoldEvent::ExemptionAsked { .. } | HoldEvent::MergeExemptionAsked { .. }) => Some(Risky::Exempt),
        Event::Incident { incident, event } => match event {
            IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { .. })
            | IncidentEvent::Plan(PlanEvent::WaiverAsked { .. }) => Some(Risky::Waive),
            IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { .. }) => Some(Risky::AcceptRisk),
            IncidentEvent::Level(LevelEvent::LowerAsked { .. }) => Some(Risky::Lower),
            IncidentEvent::Moved { to: State::StoodDown, .. } => {
                let is_drill = before.incidents.all.get(incident).is_some_and(|found| found.drill);
                (!is_drill).then_some(Risky::StandDown)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Somebody did it too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by} did {count} of at most {cap} {} today; it is free again in {free_in}", act.as_str())]
pub struct Reached {
    /// Who.
    pub by: Actor,
    /// What.
    pub act: Risky,
    /// How often today.
    pub count: u32,
    /// How often is allowed.
    pub cap: u32,
    /// When the day is over.
    pub free_in: Span,
}

impl Coded for Reached {
    fn code(&self) -> &'static str {
        "cap-reached"
    }

    fn hint(&self) -> Option<String> {
        Some(format!("have another person do it, or raise {} in [caps]", self.act.as_str()))
    }
}

/// Tells whether somebody may do it once more today. What makes things safer always may; see [`count`].
///
/// Errors: [`Reached`], with the numbers and when it is free again.
pub fn check(counts: &Counts, caps: &Caps, by: &Actor, act: Risky, now: Timestamp) -> Result<(), Reached> {
    let (count, Some(cap)) = (counts.today(by, act, now), caps.get(&act).copied()) else { return Ok(()) };
    if count < cap || act.is_open_always() {
        return Ok(());
    }
    let next = Timestamp((day(now) + 1).saturating_mul(DAY.0.cast_signed()));
    Err(Reached { by: by.clone(), act, count, cap, free_in: next.since(now) })
}

/// Counts something that was done outside this chain, and pages if it was more than the cap.
pub fn count(operations: &Operations, caps: &Caps, by: &Actor, act: Risky, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::from([Event::Risk { act }]);
    let count = operations.caps.today(by, act, now) + 1;
    if let Some(cap) = caps.get(&act).copied().filter(|cap| count > *cap) {
        let about = format!("cap/{}/{by}/{}", act.as_str(), day(now));
        let text = format!("{by} did {count} {} today, the cap is {cap}; it was done", act.as_str());
        let raised = escalation::raise(&operations.pages, &about, text.to_string(), escalation::DEFAULT);
        events.extend(raised.map(|(page, event)| Event::Page { page, event }));
    }
    events
}
