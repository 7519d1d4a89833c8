//! What must hold of holds, approvals, pages and incidents, seen from their records alone.
//!
//! Written from the requirements, with memory of its own: nothing here asks the code that decides.

mod approvals;
mod chained;
pub(crate) mod holds;
mod lead;
mod life;
mod marks;
mod pages;
mod plan;
mod unfreeze;

pub(crate) use chained::{Chained, Look};

use approvals::Asked;
use holds::Held;
use lastgood_domain::{
    operations::{Event, Record, cap::Risky, escalation::PageEvent, incident::State},
    terms::{Actor, Digest, IncidentId, ServiceName, Timestamp},
};
use lastgood_engine::config::Config;
use life::Life;
use pages::Pages;
use std::collections::{BTreeMap, BTreeSet};

/// One day in milliseconds.
const DAY: i64 = 86_400_000;

/// How many overrides a day the configuration allows.
const OVERRIDES: u32 = 2;

/// What the records say so far, and what was wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) asked: Asked,
    pub(crate) holds: Held,
    pub(crate) pages: Pages,
    pub(crate) lives: BTreeMap<IncidentId, Life>,
    /// Overrides by person and day.
    overrides: BTreeMap<(Actor, i64), u32>,
    /// Steps that were begun and have no end, by plan.
    pub(crate) begun: BTreeSet<(IncidentId, Digest, String)>,
    /// Steps that may have been tried, because what they need was seen, by plan.
    pub(crate) met: BTreeSet<(IncidentId, Digest, String)>,
    /// When the last record was written.
    at: Timestamp,
    pub(crate) violations: Vec<String>,
    /// What was reached, so that worlds which reach nothing are seen.
    pub(crate) reached: BTreeSet<&'static str>,
}

/// What one transaction is looked at with.
pub(crate) struct Around<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) looks: &'a BTreeMap<ServiceName, Look>,
    pub(crate) config: &'a Config,
}

impl Around<'_> {
    /// Tells whether the transaction says something of this kind.
    pub(crate) fn says(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.records.iter().any(|record| wanted(&record.event))
    }

    /// Gives the services of an incident.
    pub(crate) fn about<'b>(&'b self, services: &'b BTreeSet<ServiceName>) -> impl Iterator<Item = &'b ServiceName> {
        let configured = self.config.service.keys();
        configured.filter(move |name| services.is_empty() || services.contains(*name))
    }
}

impl Checks {
    /// Checks one transaction; gives what is wrong with it.
    pub(crate) fn observe(
        &mut self,
        records: &[Record],
        looks: &BTreeMap<ServiceName, Look>,
        config: &Config,
    ) -> Vec<String> {
        let around = Around { records, looks, config };
        let mut wrong = Vec::new();
        for record in records {
            if record.at < self.at {
                wrong.push("a record is older than the one before it".into());
            }
            self.at = record.at;
            self.record(record, &around, &mut wrong);
        }
        self.after(&around, &mut wrong);
        wrong
    }

    fn record(&mut self, record: &Record, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Record { at, by, event, .. } = record;
        self.reached.extend(marks::mark(event));
        match event {
            Event::Hold(event) => self.hold(*at, by, event, around, wrong),
            Event::Approval(event) => self.asked.record(*at, by, event, around, wrong),
            Event::Incident { incident, event } => self.incident(*at, by, (*incident, event), around, wrong),
            Event::Page { page, event } => {
                if let PageEvent::Raised { about, first, .. } = event
                    && let Some((id, life)) =
                        self.lives.iter().find(|(id, _)| about.starts_with(&format!("incident/{id}/update/")))
                    && first.iter().ne([&life.commander])
                {
                    wrong.push(format!("{about} does not page {} first, who leads {id}", life.commander));
                }
                self.pages.record(*at, *page, event, wrong);
            }
            Event::Overruled(one) => {
                let count = self.overrides.entry((by.clone(), at.0.div_euclid(DAY))).or_default();
                *count += 1;
                if *count > OVERRIDES {
                    wrong.push(format!("{by} overrode a gate {count} times in a day"));
                }
                if by.as_str() != "person:alice" || one.gate != "preflight" {
                    wrong.push(format!("{by} overrode {}, which is not theirs", one.gate));
                }
            }
            Event::Risk { act: Risky::Rollback } => self.pages.risky(by, *at),
            Event::Emergency(_)
            | Event::Recommended { .. }
            | Event::Seen { .. }
            | Event::Risk { .. }
            | Event::Credential { .. }
            | Event::RewindAcknowledged { .. } => {}
        }
    }

    /// Checks what must hold once a transaction is written.
    fn after(&mut self, around: &Around<'_>, wrong: &mut Vec<String>) {
        self.mirrors(around, wrong);
        self.plans_and_approvals(around, wrong);
        for (id, life) in &self.lives {
            let stands = |kind: &&str| self.holds.holds_kind(*id, kind, self.at);
            let lifted = &life.lifted;
            let frozen = !life.drill && !life.is_over() && life.state != State::ClosedPendingRca;
            for kind in ["claim", "merge", "promote", "deploy"] {
                let wanted = frozen && !lifted.contains(kind);
                if wanted != stands(&kind) {
                    wrong.push(format!("{id} is {}, and its hold of {kind} is {}", life.state.as_str(), !wanted));
                }
            }
        }
        // The pages of what has expired go with the record of its end.
        for expired in self.asked.expired_now.drain(..) {
            let paged = around.says(|event| pages::raises(event, &format!("approval/{expired}")));
            if !paged {
                wrong.push(format!("{expired} expired and nobody was paged"));
            }
        }
    }

    /// Checks what a look of the daemon leaves behind: nothing that was due is left undone.
    pub(crate) fn after_a_look(&mut self, now: Timestamp) -> Vec<String> {
        let mut wrong = Vec::new();
        self.asked.nothing_due(now, &self.pages, &mut wrong);
        self.pages.nothing_due(now, &mut wrong);
        self.holds.nothing_due(now, &self.pages, &mut wrong);
        for (id, life) in &self.lives {
            life.nothing_due(*id, now, self, &mut wrong);
        }
        wrong
    }
}

impl Checks {
    /// Says what is held and nobody's: without an owner, without anybody who will be asked, or by an incident that is over.
    pub(crate) fn nobodys(&self, now: Timestamp) -> Vec<String> {
        let mut wrong = Vec::new();
        for (hold, one) in self.holds.all.iter().filter(|(_, one)| one.stands(now)) {
            if !one.owner.as_str().starts_with("person:") {
                wrong.push(format!("{hold} is held and is {}'s", one.owner));
            }
            let Some(incident) = one.incident else {
                if !one.is_asked_after() {
                    wrong.push(format!("{hold} is held and nobody is asked after it"));
                }
                continue;
            };
            let Some(life) = self.lives.get(&incident) else {
                wrong.push(format!("{hold} is held by {incident}, which is none"));
                continue;
            };
            if life.is_over() || !life.commander.as_str().starts_with("person:") {
                wrong.push(format!("{hold} is held by {incident}, which nobody leads"));
            }
            if life.told.next_by.is_none() {
                wrong.push(format!("{hold} is held by {incident}, of which no word is due"));
            }
        }
        wrong
    }
}
