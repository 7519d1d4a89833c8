//! One service's chain, as far as holds and incidents are concerned.

use lastgood_domain::{
    effect::Effect,
    event::{Aim, Cause, End, Event, Gate, Record, Verdict},
    operations::rca::AnalysisEvent,
    terms::{Digest, HoldId, Timestamp, WideHoldId},
};
use std::collections::{BTreeMap, BTreeSet};

/// A program that was started on the way forward.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub(crate) release: Digest,
    pub(crate) at: Timestamp,
    pub(crate) run_began: Timestamp,
    /// Whether an analysis was owed and not waived for it when its run began.
    pub(crate) owed: bool,
}

/// What a chain shows at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// The parts of holds over several services, with the releases that may pass each.
    pub(crate) parts: BTreeMap<WideHoldId, BTreeSet<Digest>>,
    /// Of which holds a part went since the last look: until the transaction that is looked at, they were there.
    pub(crate) let_go: BTreeSet<WideHoldId>,
    /// Whether an analysis is owed, waived or not.
    pub(crate) owes: bool,
    /// When a program was started or stopped last.
    pub(crate) touched: Option<Timestamp>,
    pub(crate) running: bool,
    /// Whether every instance runs last-good, on the machine.
    pub(crate) settled: bool,
    pub(crate) last_good: Option<Digest>,
    /// What was started since the last look.
    pub(crate) forward: Vec<Forward>,
    /// What came up since the last look.
    pub(crate) marks: BTreeSet<&'static str>,
}

/// An analysis that is owed.
#[derive(Debug, Clone)]
struct Owed {
    /// Until when it is waived, and for which release only.
    waived: Option<(Timestamp, Option<String>)>,
}

/// The memory of one chain.
#[derive(Debug)]
pub(crate) struct Chained {
    parts: BTreeMap<HoldId, (WideHoldId, BTreeSet<Digest>)>,
    let_go: BTreeSet<WideHoldId>,
    owed: Option<Owed>,
    touched: Option<Timestamp>,
    /// When the run under way began, and whether it goes forward.
    run: Option<(Timestamp, bool)>,
    pub(crate) last_good: Option<Digest>,
    tags: BTreeMap<Digest, String>,
    forward: Vec<Forward>,
    marks: BTreeSet<&'static str>,
}

impl Chained {
    pub(crate) const fn new() -> Self {
        Self {
            parts: BTreeMap::new(),
            let_go: BTreeSet::new(),
            owed: None,
            touched: None,
            run: None,
            last_good: None,
            tags: BTreeMap::new(),
            forward: Vec::new(),
            marks: BTreeSet::new(),
        }
    }

    pub(crate) fn observe(&mut self, record: &Record) {
        self.marks.extend(mark(&record.event));
        match &record.event {
            Event::HoldSet { hold, origin: Some(origin), .. } => {
                self.parts.insert(*hold, (*origin, BTreeSet::new()));
            }
            Event::HoldExempted { hold, exemption, .. } => {
                if let Some((_, exempt)) = self.parts.get_mut(hold) {
                    exempt.insert(exemption.release);
                }
            }
            Event::HoldLifted { hold, .. } => {
                self.let_go.extend(self.parts.remove(hold).map(|(origin, _)| origin));
            }
            Event::Analysis(AnalysisEvent::Owed { .. }) => self.owed = Some(Owed { waived: None }),
            Event::Analysis(AnalysisEvent::Accepted { .. }) => self.owed = None,
            Event::Analysis(AnalysisEvent::Waived { until, release, .. }) => {
                if let Some(owed) = &mut self.owed {
                    owed.waived = Some((*until, release.as_ref().map(ToString::to_string)));
                }
            }
            Event::RunStarted { aim, .. } => {
                self.run = Some((record.at, matches!(aim, Aim::Track | Aim::Drain)));
            }
            Event::ReturnBegun { .. } => {
                if let Some((_, forward)) = &mut self.run {
                    *forward = false;
                }
            }
            Event::RunEnded { .. } => self.run = None,
            Event::Promoted { release, .. } => self.last_good = Some(*release),
            Event::Demoted { release } => self.last_good = *release,
            Event::Answered { answer: lastgood_domain::effect::Answer::Installed { installation, .. }, .. } => {
                self.tags.insert(installation.release.digest, installation.release.tag.to_string());
            }
            Event::Ordered { effect: Effect::Start { release, .. }, .. } => {
                self.touched = Some(record.at);
                if let Some((run_began, true)) = self.run {
                    // The gate is asked when a run begins: a waiver that ends in its middle takes nothing back.
                    let owed = self.owes(release, run_began);
                    self.forward.push(Forward { release: *release, at: record.at, run_began, owed });
                }
            }
            Event::Ordered { effect: Effect::Stop { .. }, .. } => self.touched = Some(record.at),
            _ => {}
        }
    }

    fn owes(&self, release: &Digest, now: Timestamp) -> bool {
        self.owed.as_ref().is_some_and(|owed| {
            let passes = |(until, only): &(Timestamp, Option<String>)| {
                now < *until && only.as_ref().is_none_or(|only| self.tags.get(release) == Some(only))
            };
            !owed.waived.as_ref().is_some_and(passes)
        })
    }

    /// Gives what it shows now; what was started is given once.
    pub(crate) fn look(&mut self) -> Look {
        let mut parts: BTreeMap<WideHoldId, BTreeSet<Digest>> = BTreeMap::new();
        for (origin, exempt) in self.parts.values() {
            parts.entry(*origin).or_default().extend(exempt);
        }
        Look {
            parts,
            let_go: std::mem::take(&mut self.let_go),
            owes: self.owed.is_some(),
            touched: self.touched,
            running: self.run.is_some(),
            settled: false,
            last_good: self.last_good,
            forward: std::mem::take(&mut self.forward),
            marks: std::mem::take(&mut self.marks),
        }
    }
}

/// Names what came up, so that a rule that no world ever meets is seen.
const fn mark(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Analysis(AnalysisEvent::Owed { .. }) => "an analysis was owed",
        Event::Analysis(AnalysisEvent::Accepted { .. }) => "an analysis was accepted",
        Event::Analysis(AnalysisEvent::Waived { .. }) => "an analysis was waived",
        Event::Gated { gate: Gate::Rca, verdict: Verdict::Hold, .. } => "an owed analysis stopped a release",
        Event::HoldExempted { .. } => "a lane was opened",
        Event::RunEnded { end: End::Held { .. }, .. } => "a run was held",
        Event::RunEnded { end: End::Superseded, .. } => "a way back took a run over",
        Event::RunEnded { end: End::RolledBack { .. }, .. } => "a service went back",
        Event::ReturnBegun { cause: Cause::Halted { .. }, .. } => "a hold took a run back",
        Event::Demoted { .. } => "last-good became an earlier release",
        Event::Promoted { .. } => "promoted",
        _ => return None,
    })
}
