//! `[service.NAME.traffic.degraded]`: which answers are those of a fallback path.

use lastgood_domain::traffic::{DegradedSettings, Fallback, RoutePattern};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went well only by a fallback path, as the built-in proxy counts it, and how much of it is too much.
///
/// ```toml
/// [service.chat.traffic.degraded]
/// routes = ["GET /poll/*"]
/// status = [203]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DegradedConfig {
    /// Requests that people make only where the usual way failed, such as `["GET /poll/*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub routes: Vec<RoutePattern>,
    /// Status by which the service says that it answered by its fallback, 200 to 499, such as `[203]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// More degraded outcomes than this are a warning, in percent of all. Default 20.
    #[serde(default = "degraded_percent")]
    pub degraded_percent: u32,
    /// How much more than last-good's is still not more, in percent. Default 150: half as much again.
    #[serde(default = "against_last_good")]
    pub against_last_good: u32,
    /// Fewer outcomes than this tell nothing. Default 20.
    #[serde(default = "outcomes_min")]
    pub outcomes_min: u64,
    /// Whether all traffic goes back for it, as if the guard had found the release broken. Default `false`: people are told.
    #[serde(default)]
    pub goes_back: bool,
}

impl DegradedConfig {
    /// Gives what the proxy is told to count.
    pub fn fallback(&self) -> Fallback {
        Fallback { routes: self.routes.clone(), status: self.status.clone() }
    }

    /// Gives what is judged by.
    pub(super) fn settings(&self) -> DegradedSettings {
        DegradedSettings {
            percent: self.degraded_percent,
            against_last_good_percent: self.against_last_good,
            outcomes_min: self.outcomes_min,
            goes_back: self.goes_back,
        }
    }

    /// Says what can't be used; `is_seen` tells whether the built-in proxy carries the service.
    pub(super) fn problem(&self, is_seen: bool) -> Option<String> {
        if !is_seen {
            return Some("only the built-in proxy sees which route was asked for".into());
        }
        if self.routes.is_empty() && self.status.is_empty() {
            return Some("it names neither a route nor a status".into());
        }
        if let Some(status) = self.status.iter().find(|status| !(200..=499).contains(*status)) {
            return Some(format!("{status} is no status of an answer that went well: it must be 200 to 499"));
        }
        if self.degraded_percent > 100 {
            return Some(format!("degraded_percent is {}; it must be 0 to 100", self.degraded_percent));
        }
        if !(100..=10_000).contains(&self.against_last_good) {
            return Some(format!("against_last_good is {}, it must be 100 to 10000", self.against_last_good));
        }
        None
    }
}

const fn degraded_percent() -> u32 {
    20
}
const fn against_last_good() -> u32 {
    150
}
const fn outcomes_min() -> u64 {
    20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(keys: serde_json::Value) -> Option<String> {
        serde_json::from_value::<DegradedConfig>(keys).unwrap().problem(true)
    }

    #[test]
    fn what_is_no_answer_that_went_well_is_refused() {
        let fine = serde_json::json!({ "routes": ["GET /poll/*"], "status": [203] });
        assert_eq!(problem(fine.clone()), None);
        let read: DegradedConfig = serde_json::from_value(fine).unwrap();
        assert!(read.problem(false).unwrap().contains("built-in proxy"));
        let settings = read.settings();
        assert_eq!((settings.percent, settings.outcomes_min, settings.goes_back), (20, 20, false));
        for (keys, why) in [
            (serde_json::json!({}), "neither a route nor a status"),
            (serde_json::json!({ "status": [503] }), "503 is no status"),
            (serde_json::json!({ "status": [203], "degraded_percent": 101 }), "degraded_percent is 101"),
            (serde_json::json!({ "status": [203], "against_last_good": 99 }), "against_last_good is 99"),
        ] {
            assert!(problem(keys.clone()).is_some_and(|said| said.contains(why)), "{keys}");
        }
    }
}
