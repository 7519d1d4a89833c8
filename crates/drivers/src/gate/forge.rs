//! What a forge says of a commit: GitHub's check runs, and the commit statuses of Gitea and Forgejo.
//!
//! Both are asked by commit, and what comes back must name that commit again. Skipped, neutral and cancelled are no yes.

use super::{
    ask::{Asked, Subject, cannot_tell, max_age},
    config::{ForgeKeys, GateConfig},
};
use crate::notice::{Reach, agent, in_words, one_line};
use lastgood_domain::{
    event::Verdict,
    terms::{Span, Timestamp},
    words,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Read as _,
    time::{Duration, Instant},
};

/// Checks of one answer; both forges give at most so many.
const PAGE: usize = 50;
/// Answers that are asked for: a commit with more checks than this is none that we can judge.
const PAGES_MAX: usize = 20;
/// One answer: a check run has some 5 KiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// How far a clock may be ahead of ours.
const AHEAD_MAX: Span = Span::minutes(5);

/// One check of a commit.
struct Check {
    name: String,
    verdict: Verdict,
    /// What the forge calls it.
    word: String,
    /// When it ended.
    at: Option<Timestamp>,
}

/// Asks GitHub's check runs.
pub(super) fn github(keys: &ForgeKeys, config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let read = |commit: &str, from: &mut Pages<'_>| {
        let path = format!("/repos/{}/commits/{commit}/check-runs?filter=latest", keys.repository);
        from.all(&path, "per_page", "check_runs", |run| {
            let head = text(run, "head_sha");
            if !head.eq_ignore_ascii_case(commit) {
                return Err(format!("it gives a check of {head}, and {commit} was asked"));
            }
            let (status, conclusion) = (text(run, "status"), text(run, "conclusion"));
            let verdict = match (status, conclusion) {
                ("completed", "success") => Verdict::Pass,
                ("completed", "failure" | "timed_out" | "startup_failure") => Verdict::Fail,
                _ => Verdict::CannotTell,
            };
            let word = if status == "completed" { conclusion } else { status };
            Ok(Check { name: text(run, "name").into(), verdict, word: word.into(), at: time(run, "completed_at") })
        })
    };
    weigh(keys, config, subject, asked, &read)
}

/// Asks the commit statuses of a Gitea or Forgejo.
pub(super) fn gitea(keys: &ForgeKeys, config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let read = |commit: &str, from: &mut Pages<'_>| {
        // By newest first; of one name the newest counts.
        let path = format!("/api/v1/repos/{}/commits/{commit}/statuses?sort=recentupdate", keys.repository);
        from.all(&path, "limit", "", |status| {
            let word = text(status, "status");
            let verdict = match word {
                "success" => Verdict::Pass,
                "failure" | "error" => Verdict::Fail,
                _ => Verdict::CannotTell,
            };
            let at = time(status, "updated_at").or_else(|| time(status, "created_at"));
            Ok(Check { name: text(status, "context").into(), verdict, word: word.into(), at })
        })
        .map(newest)
    };
    weigh(keys, config, subject, asked, &read)
}

/// Keeps the newest of each name; of one time, the worst.
fn newest(checks: Vec<Check>) -> Vec<Check> {
    let mut by_name: BTreeMap<String, Check> = BTreeMap::new();
    for check in checks {
        let newer = by_name.get(&check.name).is_none_or(|known| match check.at.cmp(&known.at) {
            std::cmp::Ordering::Equal => check.verdict != Verdict::Pass,
            order => order.is_gt(),
        });
        if newer {
            by_name.insert(check.name.clone(), check);
        }
    }
    by_name.into_values().collect()
}

type Reading<'r> = dyn Fn(&str, &mut Pages<'_>) -> Result<Vec<Check>, String> + 'r;

fn weigh(
    keys: &ForgeKeys,
    config: &GateConfig,
    subject: &Subject,
    asked: &Asked<'_>,
    read: &Reading<'_>,
) -> (Verdict, String) {
    let Some(commit) = &subject.commit else {
        return cannot_tell("nobody knows the commit that the release was made of, and a forge knows nothing else");
    };
    if commit.len() < 7 || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
        return cannot_tell(format!("{commit:?} is no commit"));
    }
    let token = match &keys.token {
        None => None,
        Some(name) => match asked.secrets.get(name) {
            Some(token) => Some(token),
            None => return cannot_tell(format!("there is no secret {name}")),
        },
    };
    let until = Instant::now() + config.timeout.duration();
    let mut pages = Pages { base: keys.base(), token, until };
    let checks = match read(commit, &mut pages) {
        Ok(checks) => checks,
        Err(why) => return cannot_tell(format!("{} can't be asked: {why}", keys.base())),
    };
    let (mut failed, mut unknown) = (Vec::new(), Vec::new());
    for name in &keys.checks {
        let mut found = checks.iter().filter(|check| check.name == *name).peekable();
        if found.peek().is_none() {
            unknown.push(format!("{name} did not run"));
        }
        for check in found {
            match (check.verdict, fresh(check, max_age(config, asked), asked.now)) {
                (Verdict::Fail, _) => failed.push(format!("{name} is {}", check.word)),
                (Verdict::Pass, None) => {}
                (Verdict::Pass, Some(why)) => unknown.push(format!("{name} {why}")),
                (_, _) => unknown.push(format!("{name} is {}, and that is no pass", check.word)),
            }
        }
    }
    let short: String = commit.chars().take(12).collect();
    match (failed.is_empty(), unknown.is_empty()) {
        (false, _) => (Verdict::Fail, format!("{} at {short}", failed.join(", "))),
        (true, false) => cannot_tell(format!("{} at {short}", unknown.join(", "))),
        (true, true) => {
            let count = words::count(keys.checks.len() as u64, "check");
            (Verdict::Pass, format!("{count} succeeded at {short}: {}", keys.checks.join(", ")))
        }
    }
}

/// Says why a check that succeeded proves nothing, if so.
fn fresh(check: &Check, max_age: Span, now: Timestamp) -> Option<String> {
    let Some(at) = check.at else { return Some("says of no time when it ended".into()) };
    if at.since(now) > AHEAD_MAX {
        return Some("ended in the future: one clock is wrong".into());
    }
    let age = now.since(at);
    (age > max_age).then(|| format!("ended {age} ago, the limit is {max_age}"))
}

/// A list in several answers.
struct Pages<'p> {
    base: &'p str,
    token: Option<&'p str>,
    until: Instant,
}

impl Pages<'_> {
    /// Reads every page of a list; `key` is where the list stands in an answer, empty where it is the answer.
    fn all(
        &mut self,
        path: &str,
        size: &str,
        key: &str,
        each: impl Fn(&Value) -> Result<Check, String>,
    ) -> Result<Vec<Check>, String> {
        let mut checks = Vec::new();
        for page in 1..=PAGES_MAX {
            let answer = self.get(&format!("{path}&{size}={PAGE}&page={page}"))?;
            let list = if key.is_empty() { &answer } else { &answer[key] };
            let list = list.as_array().ok_or("the answer has no list of checks")?;
            for one in list {
                checks.push(each(one)?);
            }
            let all = answer["total_count"].as_u64().is_some_and(|total| checks.len() as u64 >= total);
            if list.is_empty() || all || (key.is_empty() && list.len() < PAGE) {
                return Ok(checks);
            }
        }
        Err(format!("the commit has more than {} checks", PAGES_MAX * PAGE))
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err("no answer in time".into());
        }
        let mut request = agent(Reach::Private, 1)
            .get(format!("{}{path}", self.base))
            .header("accept", "application/json")
            .header("x-github-api-version", "2022-11-28");
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.config().timeout_global(Some(left)).build().call().map_err(|error| in_words(&error).1)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
        read.map_err(|error| format!("the answer broke off: {}", error.kind()))?;
        if status != 200 {
            return Err(format!("it answered {status}: {}", one_line(&body)));
        }
        serde_json::from_slice(&body).map_err(|_| format!("it answered no JSON: {}", one_line(&body)))
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn time(value: &Value, key: &str) -> Option<Timestamp> {
    let at = text(value, key).parse::<jiff::Timestamp>().ok()?;
    Some(Timestamp(at.as_millisecond()))
}
