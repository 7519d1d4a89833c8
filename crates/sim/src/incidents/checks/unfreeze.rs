//! What must be true before anything of an incident is opened, row by row, as the requirements say.

use super::{Around, Checks, life::Life};
use lastgood_domain::{
    operations::incident::verify::Proof,
    terms::{Actor, IncidentId, Span, Timestamp},
};

/// The times that the configuration says.
const STABLE_FOR: Span = Span::minutes(10);
const WATCH: Span = Span::minutes(10);
const FRESH: Span = Span::minutes(60);

/// The order in which kinds are lifted: least risky first.
const STAGES: [&str; 4] = ["claim", "merge", "promote", "deploy"];

/// What people were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When the complete message was sent.
    pub(crate) complete: Option<Timestamp>,
    /// By when the next one must be sent.
    pub(crate) next_by: Option<Timestamp>,
    pub(crate) overdue_told: bool,
}

impl Checks {
    /// Checks one stage of the unfreeze.
    pub(super) fn stage(
        &mut self,
        at: Timestamp,
        by: &Actor,
        (id, kind): (IncidentId, &'static str),
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        self.reached.insert("a stage was lifted");
        let Some(life) = self.lives.get(&id) else { return };
        if *by != life.commander {
            wrong.push(format!("{by} lifts {kind} of {id}, which {} leads", life.commander));
        }
        if STAGES.iter().find(|stage| !life.lifted.contains(**stage)) != Some(&kind) {
            wrong.push(format!("{id} lifts {kind} after {:?}", life.lifted));
        }
        let executed = life.executed;
        let deploys = kind == "deploy" && executed && !life.drill;
        for name in around.about(&life.services).filter(|_| deploys) {
            if around.looks.get(name).is_some_and(|look| !look.owes) {
                wrong.push(format!("{id} lets {name} deploy again, which owes no analysis"));
            }
        }
        self.opens(at, (id, kind), around, wrong);
    }

    /// Checks that every row is met, or signed by a second person for now.
    pub(super) fn opens(
        &self,
        at: Timestamp,
        (id, what): (IncidentId, &str),
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        let Some(life) = self.lives.get(&id) else { return };
        let mut object = |row: Option<&str>, why: String| {
            let signed = row.is_some_and(|row| self.signed(life, row, at));
            if !signed {
                wrong.push(format!("{id} opens {what} although {why}"));
            }
        };
        if !life.executed {
            object(None, "nothing was executed".into());
        }
        if let Some(step) = life.plan.as_ref().and_then(|plan| plan.left()) {
            object(None, format!("{step} of its plan is not done"));
        }
        self.is_stable(life, at, around, &mut object);
        Self::is_verified(life, at, around, &mut object);
        for (item, (known, done)) in &life.items {
            let waived = life
                .waivers
                .get(item)
                .is_some_and(|risk| at < risk.until && self.asked.said_yes(risk.approval, &risk.plan));
            if known.level <= life.level && !*done && !waived {
                object(Some("checklist"), format!("{item} is open"));
            }
        }
        if let Some(red) = self.holds.unconfirmed(id).filter(|_| !life.drill) {
            object(Some("holds"), red);
        }
        if !life.next_owner {
            object(Some("ownership"), "nobody owns the next cycle".into());
        }
        if life.told.complete.is_none() {
            object(Some("messages"), "people were not told that it is over".into());
        }
        if life.told.next_by.is_some_and(|by| at >= by) {
            object(Some("messages"), "an update is overdue".into());
        }
        let risks = super::approvals::subject(id, "risk/");
        let begin = super::approvals::subject(id, "");
        if let Some((open, _)) = self.asked.open(&begin).find(|(_, one)| !one.subject.starts_with(&risks)) {
            object(Some("approvals"), format!("{open} is open"));
        }
        if life.lifted_at.is_some_and(|lifted| at.since(lifted) < WATCH) {
            object(None, "the last stage was not watched".into());
        }
    }

    fn is_stable(&self, life: &Life, at: Timestamp, around: &Around<'_>, object: &mut dyn FnMut(Option<&str>, String)) {
        for name in around.about(&life.services) {
            let Some(look) = around.looks.get(name) else { continue };
            if look.running || !look.settled {
                object(Some("stable"), format!("{name} is not settled"));
            }
            if look.touched.is_none_or(|touched| at.since(touched) < STABLE_FOR) {
                object(Some("stable"), format!("{name} was moved just now"));
            }
        }
    }

    fn is_verified(life: &Life, at: Timestamp, around: &Around<'_>, object: &mut dyn FnMut(Option<&str>, String)) {
        let Some((when, verification, epoch)) = &life.verified else {
            return object(None, "it was never verified".into());
        };
        if *epoch != life.epoch {
            object(None, "it was verified before the last step".into());
        }
        if at.since(*when) > FRESH {
            object(None, "it was verified long ago".into());
        }
        let missing = |check: &&lastgood_domain::operations::incident::verify::Check| check.proof == Proof::Missing;
        if verification.checks.is_empty() || verification.checks.iter().any(|check| missing(&check)) {
            object(None, "a proof is missing".into());
        }
        if !verification.checks.iter().any(|check| check.name == "check/ci") {
            object(None, "the required check is not among the proofs".into());
        }
        if let Some(check) =
            verification.checks.iter().find(|check| !matches!(check.proof, Proof::Pass | Proof::Waived))
        {
            object(Some("verified"), format!("{} is {}", check.name, check.proof.as_str()));
        }
        for name in around.about(&life.services) {
            let good = around.looks.get(name).and_then(|look| look.last_good).map(|release| release.short());
            let target = verification.target.get(name);
            if good.is_some_and(|good| target.is_none_or(|target| !target.ends_with(&good))) {
                object(None, format!("{name} runs something else than what was verified"));
            }
        }
    }

    /// Tells whether a second person took the risk of a row, for now.
    fn signed(&self, life: &Life, row: &str, at: Timestamp) -> bool {
        life.risks.get(row).is_some_and(|risk| {
            let asked = self.asked.all.get(&risk.approval);
            let named = asked.is_some_and(|one| one.by == risk.by);
            named && at < risk.until && self.asked.said_yes(risk.approval, &risk.plan)
        })
    }
}
