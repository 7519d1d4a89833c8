//! Alertmanager's API v2: alerts as they are now, posted again and again. What is left out ends by itself.

use super::{NoticeError, Reach, agent, post};
use lastgood_domain::terms::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use ureq::Agent;

/// One thing that is or was wrong. Its labels identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Identity and routing, such as `alertname` and `service`.
    pub labels: BTreeMap<String, String>,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts: Timestamp,
    /// When it ended or, while it fires, when to hold it for ended if nothing more is heard.
    pub ends: Timestamp,
}

/// Posts to one Alertmanager.
#[derive(Debug, Clone)]
pub struct AlertmanagerClient {
    agent: Agent,
    place: String,
}

impl AlertmanagerClient {
    /// Makes a client for the base address `url`.
    pub fn new(url: &str) -> Self {
        // An Alertmanager is the user's own and usually on this machine or beside it.
        Self { agent: agent(Reach::Private, 1), place: url.trim_end_matches('/').into() }
    }

    /// Posts alerts. Repeating it is the same as once.
    ///
    /// Errors: [`NoticeError::AlertsRefused`] for every answer but success.
    pub fn post(&self, alerts: &[Alert]) -> Result<(), NoticeError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let failed = |why| NoticeError::AlertsRefused { place: self.place.clone(), alerts: alerts.len(), why };
        let body = Value::Array(alerts.iter().map(wire).collect()).to_string();
        let url = format!("{}/api/v2/alerts", self.place);
        let answer =
            post::post(&self.agent, &url, &[], "application/json", body.as_bytes()).map_err(|(_, why)| failed(why))?;
        if (200..300).contains(&answer.code) { Ok(()) } else { Err(failed(answer.in_words())) }
    }
}

fn wire(alert: &Alert) -> Value {
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": rfc3339(alert.starts),
        "endsAt": rfc3339(alert.ends),
    })
}

fn rfc3339(at: Timestamp) -> String {
    let clamped = at.0.clamp(0, jiff::Timestamp::MAX.as_millisecond());
    jiff::Timestamp::from_millisecond(clamped).map(|time| format!("{time:.3}")).unwrap_or_default()
}
