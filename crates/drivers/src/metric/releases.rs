//! Counters of two releases at a Prometheus, made into what each second brought: what a guard judges by where no router
//! of ours counts.

use super::{MetricError, prometheus};
use crate::{
    config_terms::Length,
    notice::{Reach, agent},
};
use lastgood_domain::{
    terms::{Digest, Span},
    traffic::{Counts, Slice, Timed},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use ureq::Agent;

/// What stands in a query for the release's tag.
const RELEASE: &str = "{release}";

/// Seconds that the clock must have gone back before counting goes on from the time it shows.
const CLOCK_BACK: u64 = 10;

/// Where a guard's counts come from, instead of the router: a Prometheus that scrapes the service.
///
/// Each query gives one number that only grows, of one release: `{release}` in it is the release's tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountersConfig {
    /// Base address, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// All requests, such as `sum(requests_total{version="{release}"})`.
    pub requests: String,
    /// Those that failed. One that is not there before the first failure needs `or vector(0)`.
    pub errors: String,
    /// Those that took longer than `p95_max`, such as `sum(seconds_count{version="{release}"}) -
    /// sum(seconds_bucket{version="{release}",le="1.5"})`.
    pub slow: String,
    /// A sample older than this is none. At least two scrapes; default `30s`.
    #[serde(default = "fresh")]
    pub fresh: Length,
}

const fn fresh() -> Length {
    Length::seconds(30)
}

impl CountersConfig {
    /// Says what can't be used: the key, and what is wrong.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let fits = |uri: ureq::http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        };
        if !self.url.parse().is_ok_and(fits) {
            return Some(("url", "it must be an http:// or https:// address without user and password".into()));
        }
        let queries = [("requests", &self.requests), ("errors", &self.errors), ("slow", &self.slow)];
        if let Some((key, _)) = queries.into_iter().find(|(_, query)| !query.contains(RELEASE)) {
            return Some((key, format!("it must name the release: {RELEASE}")));
        }
        let range = Span::seconds(2)..=Span::minutes(10);
        (!range.contains(&self.fresh.0)).then(|| ("fresh", format!("{} is not between 2s and 10m", self.fresh.0)))
    }
}

/// Follows the counters of some releases.
#[derive(Debug)]
pub struct ReleaseCounters {
    config: CountersConfig,
    agent: Agent,
    /// Requests, errors and slow ones of each release as of the last look.
    before: BTreeMap<Digest, [u64; 3]>,
    /// The second of the last look.
    second: u64,
}

impl ReleaseCounters {
    /// Begins; what was counted before the first look belongs to nobody.
    pub fn new(config: CountersConfig) -> Self {
        Self { config, agent: agent(Reach::Private, 1), before: BTreeMap::new(), second: 0 }
    }

    /// Gives what came since the last look at `second`; none where this second was looked at before.
    ///
    /// Errors: [`MetricError`], also for a counter that is not there or has no fresh sample: then nothing is known of this
    /// second, and nothing is lost, for counters go on.
    pub fn slice(&mut self, releases: &[(Digest, String)], second: u64) -> Result<Option<Slice>, MetricError> {
        // A clock that was set back must not silence it for as long.
        if second <= self.second && second + CLOCK_BACK >= self.second {
            return Ok(None);
        }
        // Also one that fails is asked once a second.
        self.second = second;
        let mut now = BTreeMap::new();
        for (release, tag) in releases {
            now.insert(*release, self.ask(tag)?);
        }
        let counts = now.iter().map(|(release, now)| (*release, since(now, self.before.get(release)))).collect();
        self.before = now;
        Ok(Some(Slice { second, counts }))
    }

    fn ask(&self, tag: &str) -> Result<[u64; 3], MetricError> {
        let CountersConfig { url, requests, errors, slow, fresh } = &self.config;
        let url = url.trim_end_matches('/');
        let ask = |key, query: &str| {
            let query = query.replace(RELEASE, &quoted(tag));
            let count = prometheus::fresh(&self.agent, url, key, &query, fresh.0)?;
            count.ok_or_else(|| MetricError::NoSample { key, release: tag.into(), url: url.into() })
        };
        Ok([ask("requests", requests)?, ask("errors", errors)?, ask("slow", slow)?])
    }
}

/// Gives what counters brought; one that fell was set back, and what it brought since is not known.
fn since(now: &[u64; 3], before: Option<&[u64; 3]>) -> Counts {
    let Some(before) = before.filter(|before| now.iter().zip(*before).all(|(now, before)| now >= before)) else {
        return Counts::default();
    };
    let [requests, errors, slow] = [0, 1, 2].map(|at| now[at] - before[at]);
    let errors = errors.min(requests);
    let answered = requests - errors;
    Counts {
        status: [0, answered, 0, 0, errors],
        timed: Timed { answered, slow: slow.min(answered) },
        ..Counts::default()
    }
}

/// Makes a tag fit between the quotes of a query.
fn quoted(tag: &str) -> String {
    tag.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_s_growth_is_what_the_second_brought_and_a_fall_brings_nothing() {
        let counts = since(&[110, 13, 9], Some(&[100, 10, 5]));
        assert_eq!((counts.requests(), counts.failed()), (10, 3));
        assert_eq!(counts.timed, Timed { answered: 7, slow: 4 });
        assert_eq!(since(&[110, 13, 9], None), Counts::default());
        assert_eq!(since(&[3, 3, 3], Some(&[100, 10, 5])), Counts::default());
        // What can't be so is bounded: more failures than requests.
        assert_eq!(since(&[101, 30, 30], Some(&[100, 10, 5])).failed(), 1);
    }

    #[test]
    fn a_tag_can_t_break_out_of_its_quotes() {
        assert_eq!(quoted(r#"1.0"} or vector(0) #"#), r#"1.0\"} or vector(0) #"#);
        assert_eq!(quoted(r"1\"), r"1\\");
    }
}
