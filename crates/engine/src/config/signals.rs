//! `[signal.NAME]`: what is read, how often, and when it is wrong.

use super::Config;
use lastgood_domain::{
    notice::Severity,
    signal::Rule,
    terms::{SignalName, Span},
};
use lastgood_drivers::{config_terms::Length, signal::Watched};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shortest time between two readings.
const EVERY_MIN: Span = Span::seconds(1);
/// Samples that a window may hold: what is kept is read by people and programs.
const SAMPLES_MAX: u64 = 2_000;

/// A number that is read again and again, and when it means that something is wrong. It belongs to no service.
///
/// ```toml
/// [signal.outbox-drains]
/// database = "app"
/// query = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
/// drain = { within = "15m" }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalConfig {
    /// The `[database.NAME]` that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Base address of a Prometheus, instead of `database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<String>,
    /// The query that gives one number, in SQL or PromQL. With `failures`: a job's runs, the newest first, one column that
    /// says whether each succeeded (null while it still runs). None with `gaps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Fires while the number is above or below a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ThresholdConfig>,
    /// Fires when a backlog does not get smaller within a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainRule>,
    /// Fires when a job's last runs failed one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailuresConfig>,
    /// Fires when the number is many times the median of earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike: Option<SpikeConfig>,
    /// Fires when a table has changes that its change log doesn't know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<GapsConfig>,
    /// How often `lastgood serve` reads it. Default `1m`.
    #[serde(default = "every")]
    pub every: Length,
    /// Time for one reading. Default `5s`.
    #[serde(default = "timeout")]
    pub timeout: Length,
    /// How long nobody may know before that is told. Default `10m`.
    #[serde(default = "cannot_tell_after")]
    pub cannot_tell_after: Length,
    /// How urgent it is: `info`, `warning` or `critical`. Default `warning`.
    #[serde(default = "severity")]
    #[schemars(with = "String")]
    pub severity: Severity,
    /// What is at stake while it fires: `reliability` speaks for an incident at L2, `security` (tenants that see each other's
    /// rows, access that nobody gave) for one at L3. One of severity `info` speaks for none. Default `reliability`.
    #[serde(default)]
    pub concerns: Concern,
}

/// What is at stake while a signal fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// That it works.
    #[default]
    Reliability,
    /// That nobody gets what is not theirs.
    Security,
}

/// Limits of a number. At least one is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdConfig {
    /// Fires above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Fires below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// A backlog that must drain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRule {
    /// The window.
    pub within: Length,
    /// What counts as empty. Default 0.
    #[serde(default)]
    pub empty: f64,
}

/// A job that must not fail again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailuresConfig {
    /// Fires from so many failures in a row on.
    pub in_row: u32,
}

/// A number that must not jump.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpikeConfig {
    /// So many times the median.
    pub times: f64,
    /// How far back earlier numbers count.
    pub over: Length,
    /// Never fires below this number.
    pub at_least: f64,
}

/// A table whose every change has its row in the change log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GapsConfig {
    /// The table, such as `accounts` or `public.accounts`.
    pub table: String,
    /// The columns of its primary key.
    pub key: Vec<String>,
}

impl SignalConfig {
    /// Gives its rule. `None` if it has none or several, which [`wrong`] refuses.
    pub fn rule(&self) -> Option<Rule> {
        let rules = [
            self.threshold.map(|one| Rule::Threshold { above: one.above, below: one.below }),
            self.drain.map(|one| Rule::Drain { within: one.within.0, empty: one.empty }),
            self.failures.map(|one| Rule::Failures { in_row: one.in_row }),
            self.spike.map(|one| Rule::Spike { times: one.times, over: one.over.0, at_least: one.at_least }),
            self.gaps.as_ref().map(|_| Rule::Gaps),
        ];
        let mut rules = rules.into_iter().flatten();
        rules.next().filter(|_| rules.next().is_none())
    }

    /// Gives the watched table of `gaps`.
    pub fn watched(&self) -> Option<Result<Watched, String>> {
        self.gaps.as_ref().map(|gaps| Watched::new(&gaps.table, &gaps.key))
    }
}

/// Finds what is wrong with a signal: what, and a line that would work.
pub(super) fn wrong(
    config: &Config,
    name: &SignalName,
    signal: &SignalConfig,
) -> Option<(String, String, &'static str)> {
    let wrong = |what: &str, example| Some((format!("signal.{name}"), what.to_owned(), example));
    let Some(rule) = signal.rule() else {
        return wrong("it needs one rule, and only one", "threshold = { above = 100 }");
    };
    match (&signal.database, &signal.prometheus) {
        (Some(database), None) if !config.database.contains_key(database) => {
            return wrong(&format!("there is no [database.{database}]"), "[database.app] with sqlite = \"app.db\"");
        }
        (Some(_), None) => {}
        (None, Some(_)) if matches!(rule, Rule::Failures { .. } | Rule::Gaps) => {
            return wrong("failures and gaps are read from a database", "database = \"app\"");
        }
        (None, Some(url)) if !url.starts_with("http://") && !url.starts_with("https://") || url.contains('@') => {
            let what = "prometheus must be an http:// or https:// address without user and password";
            return wrong(what, "prometheus = \"http://127.0.0.1:9090\"");
        }
        (None, Some(_)) => {}
        _ => return wrong("it is read from a database or from a Prometheus", "database = \"app\""),
    }
    if signal.query.is_none() != matches!(rule, Rule::Gaps) {
        return wrong("every rule but gaps needs a query, and gaps none", "query = \"SELECT count(*) FROM outbox\"");
    }
    if let Some(Err(what)) = signal.watched() {
        return wrong(&what, "gaps = { table = \"accounts\", key = [\"id\"] }");
    }
    match rule {
        Rule::Threshold { above: None, below: None } => {
            return wrong("a threshold needs above or below", "threshold = { above = 100 }");
        }
        Rule::Failures { in_row: 0 } => return wrong("in_row is at least 1", "failures = { in_row = 3 }"),
        Rule::Spike { times, .. } if !times.is_finite() || times < 1.0 => {
            return wrong("times is at least 1", "spike = { times = 3, over = \"1d\", at_least = 5 }");
        }
        _ => {}
    }
    if signal.every.0 < EVERY_MIN {
        return wrong("every is at least 1s", "every = \"30s\"");
    }
    if rule.window().0 / signal.every.0.0 > SAMPLES_MAX {
        return wrong(&format!("its window has more than {SAMPLES_MAX} readings"), "every = \"5m\"");
    }
    None
}

const fn every() -> Length {
    Length::seconds(60)
}
const fn timeout() -> Length {
    Length::seconds(5)
}
const fn cannot_tell_after() -> Length {
    Length::seconds(600)
}
const fn severity() -> Severity {
    Severity::Warning
}
