//! What must be true before anything of an incident is opened, row by row, as the requirements say.

use super::{Around, Checks, life::Life};
use lastgood_domain::{
    operations::incident::verify::Proof,
    terms::{Actor, IncidentId, Span, Timestamp},
};
use std::collections::BTreeSet;

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
        for (row, why) in self.objections(at, (id, life), around) {
            match row.map(|row| self.signed(life, row, &why, at)) {
                Some(Signed::Given) => {}
                Some(Signed::ForSomethingElse) => {
                    wrong.push(format!("{id} opens {what} although {why}, which nobody has signed"));
                }
                Some(Signed::Not) | None => wrong.push(format!("{id} opens {what} although {why}")),
            }
        }
    }

    /// Gives what a risk of a row would be taken for; nothing where nobody may take it.
    pub(super) fn unmet(
        &self,
        at: Timestamp,
        (id, row): (IncidentId, &'static str),
        around: &Around<'_>,
    ) -> BTreeSet<String> {
        let Some(life) = self.lives.get(&id) else { return BTreeSet::new() };
        let of_row = |(of, why): (Option<&'static str>, String)| (of == Some(row)).then_some(why);
        self.objections(at, (id, life), around).into_iter().filter_map(of_row).collect()
    }

    /// Gives what stands against opening anything, and the row of what a second person may sign.
    fn objections(
        &self,
        at: Timestamp,
        (id, life): (IncidentId, &Life),
        around: &Around<'_>,
    ) -> Vec<(Option<&'static str>, String)> {
        let mut all = Vec::new();
        let mut object = |row: Option<&'static str>, why: String| all.push((row, why));
        if !life.executed {
            object(None, "nothing was executed".into());
        }
        if let Some(step) = life.plan.as_ref().and_then(|plan| plan.left()) {
            object(None, format!("{step} of its plan is not done"));
        }
        Self::is_stable(life, at, around, &mut object);
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
        for (step, signed) in life.plan.iter().flat_map(|plan| plan.unproven()) {
            if !signed.is_some_and(|(asked, of, until)| at < *until && self.asked.said_yes(*asked, of)) {
                object(Some("checklist"), format!("{step} proved nothing"));
            }
        }
        let red = self.holds.unconfirmed(id, at, around).into_iter().chain(self.holds.unknown(id, around));
        red.filter(|_| !life.drill).for_each(|red| object(Some("holds"), red));
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
        for (open, _) in self.asked.open(&begin).filter(|(_, one)| !one.subject.starts_with(&risks)) {
            object(Some("approvals"), format!("{open} is open"));
        }
        if life.lifted_at.is_some_and(|lifted| at.since(lifted) < WATCH) {
            object(None, "the last stage was not watched".into());
        }
        all
    }

    fn is_stable(
        life: &Life,
        at: Timestamp,
        around: &Around<'_>,
        object: &mut dyn FnMut(Option<&'static str>, String),
    ) {
        let looks = || around.about(&life.services).filter_map(|name| Some((name, around.looks.get(name)?)));
        let mut settled = true;
        if looks().next().is_none() {
            object(Some("stable"), "nothing of it is there any more".into());
        }
        for (name, _) in looks().filter(|(_, look)| look.running || !look.settled) {
            object(Some("stable"), format!("{name} is not settled"));
            settled = false;
        }
        // Who signs that something is under way has signed that it moves.
        let moved = |look: &super::Look| look.touched.is_none_or(|touched| at.since(touched) < STABLE_FOR);
        if settled && looks().any(|(_, look)| moved(look)) {
            object(Some("stable"), "something was moved just now".into());
        }
    }

    fn is_verified(
        life: &Life,
        at: Timestamp,
        around: &Around<'_>,
        object: &mut dyn FnMut(Option<&'static str>, String),
    ) {
        let Some((when, verification, epoch)) = &life.verified else {
            return object(None, "it was never verified".into());
        };
        let mut whole = true;
        let mut lacks = |why: String| {
            object(None, why);
            whole = false;
        };
        if *epoch != life.epoch {
            lacks("it was verified before the last step".into());
        }
        if at.since(*when) > FRESH {
            lacks("it was verified long ago".into());
        }
        if verification.checks.is_empty() || verification.checks.iter().any(|check| check.proof == Proof::Missing) {
            lacks("a proof is missing".into());
        }
        if !verification.checks.iter().any(|check| check.name == "check/ci") {
            lacks("the required check is not among the proofs".into());
        }
        for name in around.about(&life.services) {
            let good = around.looks.get(name).and_then(|look| look.last_good).map(|release| release.short());
            let target = verification.target.get(name);
            if good.is_some_and(|good| target.is_none_or(|target| !target.ends_with(&good))) {
                lacks(format!("{name} runs something else than what was verified"));
            }
        }
        // Without proof there is nothing to take the risk of.
        for check in verification.checks.iter().filter(|check| !matches!(check.proof, Proof::Pass | Proof::Waived)) {
            object(whole.then_some("verified"), format!("{} is {}", check.name, check.proof.as_str()));
        }
    }

    /// Tells whether a second person took the risk of exactly this, for now.
    fn signed(&self, life: &Life, row: &str, why: &str, at: Timestamp) -> Signed {
        let Some(risk) = life.risks.get(row) else { return Signed::Not };
        let named = self.asked.all.get(&risk.approval).is_some_and(|one| one.by == risk.by);
        if !(named && at < risk.until && self.asked.said_yes(risk.approval, &risk.plan)) {
            return Signed::Not;
        }
        if risk.covers.contains(why) { Signed::Given } else { Signed::ForSomethingElse }
    }
}

/// How a second person stands to something that is unmet.
enum Signed {
    Not,
    Given,
    /// What was signed was something else.
    ForSomethingElse,
}
