//! The body of a notice: one CloudEvent, made once and kept; each delivery signs these bytes.

use lastgood_domain::{
    event::Record,
    notice::{Notice, NoticeKind},
    service::Service,
    terms::{ServiceName, Timestamp},
};
use serde_json::{Value, json};

/// Gives a notice kind as it is written in the configuration and on the wire: `rolled-back`.
pub fn kind_name(kind: NoticeKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(name)) => name,
        _ => unreachable!("a kind without data is written as a text"),
    }
}

/// Writes a time as RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |time| format!("{time:.3}"))
}

/// Names the CDEvents type that fits, where the standard has one.
fn cdevent(kind: NoticeKind) -> Option<&'static str> {
    match kind {
        NoticeKind::Promoted => Some("dev.cdevents.service.upgraded.0.3.0"),
        NoticeKind::RolledBack => Some("dev.cdevents.service.rolledback.0.3.0"),
        NoticeKind::Broken | NoticeKind::RollbackFailed => Some("dev.cdevents.incident.detected.0.3.0"),
        _ => None,
    }
}

/// Makes the body. The position in the chain makes its id unique without chance.
pub fn body(name: &ServiceName, service: &Service, record: &Record, notice: &Notice) -> Vec<u8> {
    let seq = service.records - 1;
    let kind = kind_name(notice.kind);
    let mut event = json!({
        "specversion": "1.0",
        "id": format!("service/{name}#{seq}"),
        "source": format!("lastgood/service/{name}"),
        "type": format!("dev.lastgood.{kind}.v1"),
        "subject": name,
        "time": rfc3339(record.at),
        "datacontenttype": "application/json",
        "data": {
            "service": name,
            "kind": kind,
            "severity": notice.severity,
            "summary": notice.summary,
            "hint": notice.hint,
            "last_good": service.last_good.as_ref().map(|digest| service.name_of(Some(digest))),
            "event": seq,
            "by": record.by,
        }
    });
    if let Some(cdevent) = cdevent(notice.kind) {
        event["cdeventtype"] = cdevent.into();
    }
    event.to_string().into_bytes()
}
