//! The keys of `watch = { ... }` in lastgood.toml, checked once.

use regex::bytes::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory of one compiled pattern: enough for long alternations, too little to hurt.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Where users' outcomes are seen after a bump, in a log or by Prometheus, and how many are too many.
///
/// ```toml
/// watch = { log = "{data}/access.log", good = '" 2\d\d ', degraded = ' fallback$', broken = '" 5\d\d ' }
///
/// [service.app.watch]
/// prometheus = "http://127.0.0.1:9090"
/// good = 'sum(increase(requests_total{code=~"2.."}[5m]))'
/// broken = 'sum(increase(requests_total{code=~"5.."}[5m]))'
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchKeys {
    /// A log with one line for each outcome; takes `{data}` and the other names of `command`. Rotation is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Base address of a Prometheus, instead of `log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prometheus: Option<String>,
    /// What went well. With `log` a regular expression for its lines; with `prometheus` a query that gives one
    /// number, such as `sum(increase(requests_total{code="200"}[5m]))`.
    good: String,
    /// What went well only by a fallback path. Optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    /// What failed. A line that matches several counts once: as broken, else as degraded, else as good.
    broken: String,
    /// More broken outcomes than this are an alarm, in percent of all. Default 5.
    #[serde(default = "broken_percent")]
    broken_percent: u32,
    /// More degraded outcomes than this are a warning, in percent of all. Default 20.
    #[serde(default = "degraded_percent")]
    degraded_percent: u32,
    /// Fewer outcomes than this tell nothing. Default 20.
    #[serde(default = "outcomes_min")]
    outcomes_min: u64,
}

/// Where users' outcomes are seen, and how many are too many.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WatchKeys", into = "WatchKeys")]
#[schemars(with = "WatchKeys")]
pub struct WatchConfig {
    /// More broken outcomes than this are an alarm, in percent of all.
    pub broken_percent: u32,
    /// More degraded outcomes than this are a warning, in percent of all.
    pub degraded_percent: u32,
    /// Fewer outcomes than this tell nothing.
    pub outcomes_min: u64,
    pub(super) source: Source,
    keys: WatchKeys,
}

impl PartialEq for WatchConfig {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for WatchConfig {}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Log { path: String, patterns: Patterns },
    Prometheus { url: String, good: String, degraded: Option<String>, broken: String },
}

/// What a line is.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    pub(super) good: Regex,
    pub(super) degraded: Option<Regex>,
    pub(super) broken: Regex,
}

impl WatchConfig {
    /// Gives the log's path as configured, with its `{…}`; none with Prometheus.
    pub fn log(&self) -> Option<&str> {
        match &self.source {
            Source::Log { path, .. } => Some(path),
            Source::Prometheus { .. } => None,
        }
    }
}

impl TryFrom<WatchKeys> for WatchConfig {
    type Error = String;

    fn try_from(keys: WatchKeys) -> Result<Self, String> {
        let source = match (&keys.log, &keys.prometheus) {
            (Some(path), None) => Source::Log {
                path: path.clone(),
                patterns: Patterns {
                    good: pattern("good", &keys.good)?,
                    degraded: keys.degraded.as_deref().map(|text| pattern("degraded", text)).transpose()?,
                    broken: pattern("broken", &keys.broken)?,
                },
            },
            (None, Some(url)) => {
                let fits = |uri: ureq::http::Uri| {
                    matches!(uri.scheme_str(), Some("http" | "https"))
                        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                };
                if !url.parse().is_ok_and(fits) {
                    return Err("prometheus must be an http:// or https:// address without user and password".into());
                }
                let url = url.trim_end_matches('/').to_owned();
                let (good, degraded, broken) = (keys.good.clone(), keys.degraded.clone(), keys.broken.clone());
                Source::Prometheus { url, good, degraded, broken }
            }
            _ => return Err("give either log = \"{data}/access.log\" or prometheus = \"http://127.0.0.1:9090\"".into()),
        };
        for (key, percent) in [("broken_percent", keys.broken_percent), ("degraded_percent", keys.degraded_percent)] {
            if percent > 100 {
                return Err(format!("{key} is {percent}; it must be 0 to 100"));
            }
        }
        let WatchKeys { broken_percent, degraded_percent, outcomes_min, .. } = keys;
        Ok(Self { broken_percent, degraded_percent, outcomes_min, source, keys })
    }
}

impl From<WatchConfig> for WatchKeys {
    fn from(config: WatchConfig) -> Self {
        config.keys
    }
}

fn pattern(key: &str, text: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    regex.map_err(|error| format!("{key} is not a regular expression: {error}"))
}

const fn broken_percent() -> u32 {
    5
}
const fn degraded_percent() -> u32 {
    20
}
const fn outcomes_min() -> u64 {
    20
}
