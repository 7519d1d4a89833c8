//! The timeline of an incident: every record that is about it, in order.

use super::{Event, Operations, Record, Scope, chain};
use crate::desk::Subject as _;
use lastgood_domain::{
    operations::{approval::ApprovalEvent, escalation::PageEvent, hold::HoldEvent, incident, sentence},
    terms::{Actor, ApprovalId, IncidentId, PageId, Timestamp, WideHoldId},
};
use lastgood_store::{READ_RECORDS_MAX, Reader, StoreError};
use std::collections::BTreeSet;

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Number of the record in the chain.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What, in one sentence.
    pub text: String,
    /// The record itself.
    pub event: Event,
}

/// Reads the timeline.
///
/// Errors: the store can't be read. A record that can't be understood is left out; `evidence verify` tells of it.
pub fn timeline(store: &Reader, incident: IncidentId) -> Result<Vec<Entry>, StoreError> {
    let mut about = About { incident, holds: BTreeSet::new(), approvals: BTreeSet::new(), pages: BTreeSet::new() };
    let mut state = Operations::default();
    let mut entries = Vec::new();
    let mut from = 0;
    loop {
        let stored = store.read(&chain(), from, READ_RECORDS_MAX)?;
        let Some(last) = stored.last() else { return Ok(entries) };
        from = last.seq + 1;
        for one in &stored {
            let Ok(Record { at, by, event, v }) = Scope::parse(&one.bytes) else { continue };
            let is_ours = about.takes(&event);
            let record = Record { v, at, by, event };
            state.take(&record);
            if is_ours {
                let text = sentence(&state, &record);
                entries.push(Entry { seq: one.seq, at, by: record.by, text, event: record.event });
            }
        }
    }
}

/// What belongs to an incident besides its own events, as far as the records were read.
struct About {
    incident: IncidentId,
    /// Its holds, also those that are lifted.
    holds: BTreeSet<WideHoldId>,
    /// Requests for approval of its matters, and to pass its holds.
    approvals: BTreeSet<ApprovalId>,
    /// Pages about it, about its holds, and about those requests.
    pages: BTreeSet<PageId>,
}

impl About {
    /// Tells whether the next record belongs to it.
    fn takes(&mut self, event: &Event) -> bool {
        match event {
            Event::Incident { incident, .. } => *incident == self.incident,
            Event::Hold(event) => self.hold(event),
            Event::Approval(ApprovalEvent::Requested { approval, request }) => {
                let ours = request.subject.starts_with(&incident::subject(self.incident, ""));
                ours && self.approvals.insert(*approval) || self.approvals.contains(approval)
            }
            Event::Approval(event) => self.approvals.contains(&event.approval()),
            Event::Page { page, event: PageEvent::Raised { about, .. } } => {
                let ours = self.is_ours(about);
                ours && self.pages.insert(*page)
            }
            Event::Page { page, .. } => self.pages.contains(page),
            _ => false,
        }
    }

    fn hold(&mut self, event: &HoldEvent) -> bool {
        match event {
            HoldEvent::Set { hold, incident, .. } => *incident == Some(self.incident) && self.holds.insert(*hold),
            HoldEvent::ExemptionAsked { hold, approval, .. }
            | HoldEvent::MergeExemptionAsked { hold, approval, .. } => {
                self.holds.contains(hold) && self.approvals.insert(*approval)
            }
            HoldEvent::Lifted { hold, .. }
            | HoldEvent::ReviewDue { hold, .. }
            | HoldEvent::Enforced { hold, .. }
            | HoldEvent::StillUnconfirmed { hold, .. } => self.holds.contains(hold),
        }
    }

    /// Tells whether what a page is about is the incident's: `incident/ID/…`, `hold/HOLD/…` or `approval/APPROVAL`.
    fn is_ours(&self, about: &str) -> bool {
        let mut parts = about.split('/');
        match (parts.next(), parts.next()) {
            (Some("incident"), Some(id)) => id.parse().is_ok_and(|id: IncidentId| id == self.incident),
            (Some("hold"), Some(id)) => id.parse().is_ok_and(|id| self.holds.contains(&id)),
            (Some("approval"), Some(id)) => id.parse().is_ok_and(|id| self.approvals.contains(&id)),
            _ => false,
        }
    }
}
