//! The body of a notice about operations: one CloudEvent, made once and kept.

use super::chain;
use crate::letter::{kind_name, rfc3339};
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
        | Event::Risk { .. }
        | Event::Overruled(_)
        | Event::RewindAcknowledged { .. } => chain().to_string(),
    }
}

/// Makes the body of record `seq`'s notice. The position in the chain makes its id unique without chance.
pub(super) fn body(seq: u64, record: &Record, notice: &Notice) -> Vec<u8> {
    let kind = kind_name(notice.kind);
    let mut letter = json!({
        "specversion": "1.0",
        "id": format!("{}#{seq}", chain()),
        "source": format!("lastgood/{}", chain()),
        "type": format!("dev.lastgood.{kind}.v1"),
        "subject": subject(&record.event),
        "time": rfc3339(record.at),
        "datacontenttype": "application/json",
        "data": {
            "kind": kind,
            "severity": notice.severity,
            "summary": notice.summary,
            "hint": notice.hint,
            "event": seq,
            "by": record.by,
        }
    });
    // What people outside are told has lines; the summary is one.
    if let Event::Incident { event: IncidentEvent::Message(MessageEvent::Sent { message, text, .. }), .. } =
        &record.event
    {
        letter["data"]["message"] = json!(message);
        letter["data"]["text"] = json!(text);
    }
    letter.to_string().into_bytes()
}
