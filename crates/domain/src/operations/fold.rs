//! What the operations chain folds to, and what of it stands in the chains of services.

use super::{
    Event, Record,
    approval::{ApprovalEvent, Approvals, Standing},
    cap::{self, Counts},
    credential::Credentials,
    escalation::Pages,
    hold::{Exemption, HoldEvent, HoldKind, Holds, InFlight, Subject},
    incident::{Incidents, Level, recommend::Recommendation},
    overrule::{Given, Overrules},
};
use crate::terms::{Actor, IncidentId, Reason, ServiceName, Timestamp, WideHoldId};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// Everything that people decided beyond one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    /// How many records are folded.
    pub records: u64,
    /// Records that could not be read and were passed over.
    pub unreadable: u64,
    /// Holds over several services.
    pub holds: Holds,
    /// Requests for approval.
    pub approvals: Approvals,
    /// Incidents.
    pub incidents: Incidents,
    /// Why somebody should declare one, as it was told last.
    pub recommended: Option<Recommendation>,
    /// What the logs showed that may call for one, when it changed last.
    pub seen: BTreeSet<String>,
    /// Pages.
    pub pages: Pages,
    /// What people did how often today.
    pub caps: Counts,
    /// What began of credentials by hand and has not ended.
    pub credentials: Credentials,
    /// Gates overridden.
    pub overrules: Overrules,
}

impl Operations {
    /// Folds record number `seq`; `None` is one that can't be read: it changes nothing, and is counted.
    ///
    /// Gives whether it was taken: a record that was folded before, or one behind a gap, never is.
    pub fn apply(&mut self, seq: u64, record: Option<&Record>) -> bool {
        if seq != self.records {
            return false;
        }
        self.records += 1;
        match record {
            Some(record) => self.take(record),
            None => self.unreadable += 1,
        }
        true
    }

    /// Folds one more event, so that the next is decided on what this one leads to.
    pub fn take(&mut self, record: &Record) {
        let Record { at, by, event, .. } = record;
        if let Some(act) = cap::risky(self, event) {
            self.caps.count(*at, by, act);
        }
        match event {
            Event::Hold(event) => self.holds.apply(*at, by, event),
            Event::Approval(event) => self.approvals.apply(*at, by, event),
            Event::Incident { incident, event } => self.incidents.apply(*at, by, *incident, event),
            Event::Recommended { recommendation } => self.recommended.clone_from(recommendation),
            Event::Seen { signs } => self.seen.clone_from(signs),
            Event::Page { page, event } => self.pages.apply(*at, by, *page, event),
            Event::Credential { credential, event } => {
                super::credential::apply(&mut self.credentials, *at, by, credential, event);
            }
            Event::Overruled(overrule) => {
                self.overrules.all.push(Given { overrule: overrule.clone(), by: by.clone(), at: *at });
            }
            Event::Risk { .. } | Event::Emergency(_) | Event::RewindAcknowledged { .. } => {}
        }
    }
}

/// What must stand in a service's chain from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// The service's part of a hold over several.
    Hold {
        /// The hold.
        origin: WideHoldId,
        /// Why.
        reason: Reason,
        /// When it ends by itself.
        until: Option<Timestamp>,
        /// What becomes of a run under way.
        in_flight: InFlight,
    },
    /// That part is lifted.
    Lift {
        /// The hold.
        origin: WideHoldId,
        /// Why.
        reason: Reason,
    },
    /// One release may pass that part.
    Exempt {
        /// The hold.
        origin: WideHoldId,
        /// Which release.
        exemption: Exemption,
        /// Who asked; who wrote the record approved.
        asked_by: Actor,
    },
    /// The service owes the analysis of an incident whose freeze has ended.
    Owe {
        /// The incident.
        incident: IncidentId,
        /// What set it off.
        because: Reason,
        /// How deep it went.
        level: Level,
        /// Who led it, and owes the analysis.
        owner: Actor,
    },
}

/// Gives what `record`, decided on `before`, means for each service.
pub fn mirrored(
    before: &Operations,
    record: &Record,
    services: &BTreeMap<ServiceName, Subject>,
) -> Vec<(ServiceName, Mirror)> {
    match &record.event {
        Event::Hold(HoldEvent::Set { hold, reason, until, in_flight, .. }) => {
            let after = after(before, record);
            let stopped = services.iter().filter(|(name, subject)| after.holds.all[hold].stops(name, subject));
            let part = |name: &ServiceName| {
                let (origin, reason) = (*hold, reason.clone());
                (name.clone(), Mirror::Hold { origin, reason, until: *until, in_flight: *in_flight })
            };
            stopped.map(|(name, _)| part(name)).collect()
        }
        // Also where the selector no longer matches: labels may have changed since.
        Event::Hold(HoldEvent::Lifted { hold, reason }) => {
            let lift = Mirror::Lift { origin: *hold, reason: reason.clone() };
            let mut parts: Vec<_> = services.keys().map(|name| (name.clone(), lift.clone())).collect();
            parts.extend(owed(before, *hold, services));
            parts
        }
        Event::Hold(
            HoldEvent::ReviewDue { .. }
            | HoldEvent::ExemptionAsked { .. }
            | HoldEvent::MergeExemptionAsked { .. }
            | HoldEvent::Enforced { .. }
            | HoldEvent::StillUnconfirmed { .. },
        ) => Vec::new(),
        // The second person's yes is what opens the lane.
        Event::Approval(ApprovalEvent::Approved { approval, .. }) => {
            let approved = |operations: &Operations| {
                operations.approvals.all.get(approval).is_some_and(|one| one.standing == Standing::Approved)
            };
            match before.holds.asked.get(approval) {
                Some(asked) if !approved(before) && approved(&after(before, record)) => {
                    let (origin, exemption, asked_by) = (asked.hold, asked.exemption.clone(), asked.by.clone());
                    Vec::from([(asked.service.clone(), Mirror::Exempt { origin, exemption, asked_by })])
                }
                _ => Vec::new(),
            }
        }
        Event::Approval(_)
        | Event::Incident { .. }
        | Event::Page { .. }
        | Event::Risk { .. }
        | Event::Credential { .. }
        | Event::Overruled(_)
        | Event::Emergency(_)
        | Event::Recommended { .. }
        | Event::Seen { .. }
        | Event::RewindAcknowledged { .. } => Vec::new(),
    }
}

/// Gives which services owe an analysis once this hold is lifted: where an incident in which something was executed lets
/// them move again, what keeps the next release back is the analysis. A drill and one that was none owe nothing.
fn owed(
    before: &Operations,
    hold: WideHoldId,
    services: &BTreeMap<ServiceName, Subject>,
) -> Vec<(ServiceName, Mirror)> {
    let lifted = before.holds.all.get(&hold).filter(|lifted| lifted.kinds.contains(&HoldKind::Deploy));
    let found = lifted.and_then(|lifted| Some((lifted.incident?, before.incidents.all.get(&lifted.incident?)?)));
    let Some((incident, found)) = found.filter(|(_, found)| found.executed) else { return Vec::new() };
    let about = |name: &&ServiceName| found.services.is_empty() || found.services.contains(*name);
    let (because, level, owner) = (found.trigger.clone(), found.level, found.commander.clone());
    let owe = Mirror::Owe { incident, because, level, owner };
    services.keys().filter(about).map(|name| (name.clone(), owe.clone())).collect()
}

fn after(before: &Operations, record: &Record) -> Operations {
    let mut after = before.clone();
    after.take(record);
    after
}
