//! The body of a notice about a switch: one CloudEvent, made once and kept.

use crate::letter::{kind_name, rfc3339};
use lastgood_domain::{
    notice::Notice,
    switches::{Event, Record},
    terms::EnvironmentName,
};
use serde_json::json;

/// Makes the body of record `seq`'s notice. The position in the chain makes its id unique without chance.
pub(super) fn body(environment: &EnvironmentName, seq: u64, record: &Record, notice: &Notice) -> Vec<u8> {
    let kind = kind_name(notice.kind);
    let switch = match &record.event {
        Event::Tripped { switch, .. } | Event::ResetRequested { switch, .. } | Event::Reset { switch, .. } => {
            Some(switch)
        }
        _ => None,
    };
    let event = json!({
        "specversion": "1.0",
        "id": format!("switches/{environment}#{seq}"),
        "source": format!("lastgood/switches/{environment}"),
        "type": format!("dev.lastgood.{kind}.v1"),
        "subject": switch,
        "time": rfc3339(record.at),
        "datacontenttype": "application/json",
        "data": {
            "environment": environment,
            "switch": switch,
            "kind": kind,
            "severity": notice.severity,
            "summary": notice.summary,
            "hint": notice.hint,
            "event": seq,
            "by": record.by,
        }
    });
    event.to_string().into_bytes()
}
