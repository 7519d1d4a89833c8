//! The body of a notice: one CloudEvent, made once and kept; each delivery signs these bytes.

use lastgood_domain::{
    event::Record,
    notice::{Notice, NoticeKind},
    service::Service,
    terms::{Actor, ServiceName, Timestamp},
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

/// The record that a letter tells of. Its position in the chain makes the letter's id unique without chance.
pub(crate) struct Place<'a> {
    /// The chain.
    pub(crate) chain: &'a str,
    /// Its number there.
    pub(crate) seq: u64,
    /// When it was written.
    pub(crate) at: Timestamp,
    /// Who caused it.
    pub(crate) by: &'a Actor,
}

/// Makes the CloudEvent of a notice: what all have, with `besides` in its data.
pub(crate) fn cloud_event(place: &Place<'_>, notice: &Notice, subject: Value, besides: Value) -> Value {
    let kind = kind_name(notice.kind);
    let mut data = json!({
        "kind": kind,
        "severity": notice.severity,
        "summary": notice.summary,
        "hint": notice.hint,
        "event": place.seq,
        "by": place.by,
    });
    if let (Value::Object(data), Value::Object(besides)) = (&mut data, besides) {
        data.extend(besides);
    }
    json!({
        "specversion": "1.0",
        "id": format!("{}#{}", place.chain, place.seq),
        "source": format!("lastgood/{}", place.chain),
        "type": format!("dev.lastgood.{kind}.v1"),
        "subject": subject,
        "time": rfc3339(place.at),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// Makes the body of a notice about a service.
pub fn body(name: &ServiceName, service: &Service, record: &Record, notice: &Notice) -> Vec<u8> {
    let chain = format!("service/{name}");
    let place = Place { chain: &chain, seq: service.records - 1, at: record.at, by: &record.by };
    let last_good = service.last_good.as_ref().map(|digest| service.name_of(Some(digest)));
    let mut event = cloud_event(&place, notice, json!(name), json!({ "service": name, "last_good": last_good }));
    if let Some(cdevent) = cdevent(notice.kind) {
        event["cdeventtype"] = cdevent.into();
    }
    event.to_string().into_bytes()
}
