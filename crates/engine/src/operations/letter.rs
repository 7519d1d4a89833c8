//! The body of a notice about operations: one CloudEvent, made once and kept.

use super::chain;
use crate::{
    letter::{Place, cloud_event},
    links::Link,
};
use lastgood_domain::{
    notice::Notice,
    operations::{
        Event, Record,
        incident::{IncidentEvent, message::MessageEvent},
    },
};
use serde_json::json;

/// Gives what a notice is about: messages of one incident are delivered in order, and wait for no other.
pub(super) fn subject(event: &Event) -> String {
    match event {
        Event::Incident { incident, .. } => format!("incident/{incident}"),
        Event::Page { page, .. } => format!("page/{page}"),
        Event::Hold(_)
        | Event::Approval(_)
        | Event::Emergency(_)
        | Event::Recommended { .. }
        | Event::Seen { .. }
        | Event::Risk { .. }
        | Event::Credential { .. }
        | Event::Overruled(_)
        | Event::RewindAcknowledged { .. } => chain().to_string(),
    }
}

/// Makes the body of record `seq`'s notice. What its only reader can answer becomes a link when it is sent
/// ([`crate::links::Links::finished`]): the stored message has none.
pub(super) fn body(seq: u64, record: &Record, notice: &Notice, answer: Option<&Link>) -> Vec<u8> {
    let chain = chain();
    let place = Place { chain: chain.as_str(), seq, at: record.at, by: &record.by };
    // What people outside are told has lines; the summary is one.
    let besides = match &record.event {
        Event::Incident { event: IncidentEvent::Message(MessageEvent::Sent { message, text, .. }), .. } => {
            json!({ "message": message, "text": text })
        }
        _ => answer.map_or_else(|| json!({}), |answer| json!({ "answer": answer })),
    };
    cloud_event(&place, notice, json!(subject(&record.event)), besides).to_string().into_bytes()
}
