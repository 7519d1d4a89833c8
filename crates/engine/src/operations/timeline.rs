//! The timeline of an incident: every record that is about it, in order.

use super::{Event, Operations, Record, Scope, chain};
use crate::desk::Subject as _;
use lastgood_domain::{
    operations::{hold::HoldEvent, incident, sentence},
    terms::{Actor, IncidentId, Timestamp},
};
use lastgood_store::{READ_RECORDS_MAX, Reader, StoreError};

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
    let mut state = Operations::default();
    let mut entries = Vec::new();
    let mut from = 0;
    loop {
        let stored = store.read(&chain(), from, READ_RECORDS_MAX)?;
        let Some(last) = stored.last() else { return Ok(entries) };
        from = last.seq + 1;
        for one in &stored {
            let Ok(Record { at, by, event, v }) = Scope::parse(&one.bytes) else { continue };
            let is_ours = is_about(&state, incident, &event);
            let record = Record { v, at, by, event };
            state.take(&record);
            if is_ours {
                let text = sentence(&state, &record);
                entries.push(Entry { seq: one.seq, at, by: record.by, text, event: record.event });
            }
        }
    }
}

fn is_about(before: &Operations, incident: IncidentId, event: &Event) -> bool {
    match event {
        Event::Incident { incident: id, .. } => *id == incident,
        Event::Hold(HoldEvent::Set { incident: of, .. }) => *of == Some(incident),
        Event::Hold(HoldEvent::Lifted { hold, .. }) => {
            before.holds.all.get(hold).is_some_and(|hold| hold.incident == Some(incident))
        }
        Event::Approval(event) => {
            let begin = incident::subject(incident, "");
            let subject = match event {
                lastgood_domain::operations::approval::ApprovalEvent::Requested { request, .. } => &request.subject,
                event => match before.approvals.all.get(&event.approval()) {
                    Some(one) => &one.request.subject,
                    None => return false,
                },
            };
            subject.starts_with(&begin)
        }
        _ => false,
    }
}
