//! Instant queries to Prometheus, each of which must give one count.

use super::MetricError;
use crate::notice::{in_words, one_line};
use lastgood_domain::{facts::Outcomes, terms::Span};
use serde_json::Value;
use std::io::Read as _;
use ureq::{Agent, RequestBuilder, typestate::WithoutBody};

/// One number needs some hundred bytes; more means a query without `sum`, of which the beginning is not enough.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Beyond this, a 64-bit float can no longer count by one.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// Asks the two or three queries. A query without data counts none, unless all are without.
pub(super) fn ask(
    agent: &Agent,
    url: &str,
    good: &str,
    degraded: Option<&str>,
    broken: &str,
) -> Result<Outcomes, MetricError> {
    let good = query(agent, url, "good", good)?;
    let degraded = degraded.map(|text| query(agent, url, "degraded", text)).transpose()?.flatten();
    let broken = query(agent, url, "broken", broken)?;
    if good.is_none() && degraded.is_none() && broken.is_none() {
        return Err(MetricError::NoData { url: url.into() });
    }
    Ok(Outcomes {
        good: good.unwrap_or_default(),
        degraded: degraded.unwrap_or_default(),
        broken: broken.unwrap_or_default(),
    })
}

fn query(agent: &Agent, url: &str, key: &'static str, text: &str) -> Result<Option<u64>, MetricError> {
    count_of(key, number(agent, url, key, text, None)?)
}

/// Asks one query of samples that are not older than `age_max`; none without one.
pub(super) fn fresh(
    agent: &Agent,
    url: &str,
    key: &'static str,
    text: &str,
    age_max: Span,
) -> Result<Option<u64>, MetricError> {
    count_of(key, number(agent, url, key, text, Some(age_max))?)
}

fn count_of(key: &'static str, number: Option<f64>) -> Result<Option<u64>, MetricError> {
    number.map(count).transpose().map_err(|why| MetricError::NotACount { key, why })
}

/// Asks one query, which must give one number, of samples not older than `age_max` if there is one; none if it has no
/// data.
pub(crate) fn number(
    agent: &Agent,
    url: &str,
    key: &'static str,
    text: &str,
    age_max: Option<Span>,
) -> Result<Option<f64>, MetricError> {
    let asked = agent.get(format!("{url}/api/v1/query"));
    let asked = match age_max {
        Some(age) => asked.query("lookback_delta", format!("{}ms", age.0)),
        None => asked,
    };
    value(asked, url, key, text)
}

/// Asks for one number of any size within `limit`; none if the query has no data.
pub(super) fn number_of(agent: &Agent, url: &str, text: &str, limit: Span) -> Result<Option<f64>, MetricError> {
    let key = "query";
    let asked = agent.get(format!("{url}/api/v1/query")).config().timeout_global(Some(limit.duration())).build();
    let number = value(asked, url, key, text)?;
    match number {
        Some(number) if !number.is_finite() => Err(MetricError::NotACount { key, why: format!("it gives {number}") }),
        number => Ok(number),
    }
}

fn value(
    request: RequestBuilder<WithoutBody>,
    url: &str,
    key: &'static str,
    text: &str,
) -> Result<Option<f64>, MetricError> {
    let failed = |why| MetricError::QueryFailed { key, url: url.into(), why };
    let answer = request.query("query", text).call();
    let answer = answer.map_err(|error| failed(in_words(&error).1))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
    read.map_err(|error| failed(format!("the answer broke off: {}", error.kind())))?;
    told(status, &body, url, key)
}

/// Reads an answer's body.
pub(super) fn told(status: u16, body: &[u8], url: &str, key: &'static str) -> Result<Option<f64>, MetricError> {
    let failed = |why| MetricError::QueryFailed { key, url: url.into(), why };
    let parsed: Result<Value, _> = serde_json::from_slice(body);
    let value = parsed.map_err(|_| failed(format!("answered {status}: {}", one_line(body))))?;
    if value["status"] != "success" {
        let why = value["error"].as_str().map_or_else(|| one_line(body), |error| one_line(error.as_bytes()));
        return Err(failed(format!("answered {status}: {why}")));
    }
    // A part of the data could not be read: what is left is no count.
    if let Some(warning) = value["warnings"].get(0) {
        let why = warning.as_str().map_or_else(|| one_line(body), |warning| one_line(warning.as_bytes()));
        return Err(failed(format!("answered with a warning: {why}")));
    }
    let not_one = |why| MetricError::NotACount { key, why };
    let picked = picked(&value["data"]).map_err(not_one)?;
    let parsed = |text: &str| text.parse().map_err(|_| format!("it gives {:?}", one_line(text.as_bytes())));
    picked.map(parsed).transpose().map_err(not_one)
}

/// Picks the one number of an answer.
fn picked(data: &Value) -> Result<Option<&str>, String> {
    let unreadable = || "the answer has no value".to_owned();
    match data["resultType"].as_str() {
        Some("scalar") => data["result"][1].as_str().map(Some).ok_or_else(unreadable),
        Some("vector") => match data["result"].as_array().map(Vec::as_slice) {
            Some([]) => Ok(None),
            Some([one]) => one["value"][1].as_str().map(Some).ok_or_else(unreadable),
            Some(several) => Err(format!("it gives {} series", several.len())),
            None => Err(unreadable()),
        },
        other => Err(format!("it gives a {}", other.unwrap_or("value of no type"))),
    }
}

/// Reads a count; `increase` gives fractions, which are rounded.
pub(super) fn count(number: f64) -> Result<u64, String> {
    if number.is_finite() && (0.0..=COUNT_MAX).contains(&number) {
        Ok(number.round() as u64)
    } else {
        Err(format!("it gives {number}"))
    }
}
