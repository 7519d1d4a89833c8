//! Asks whether an instance is in use. Whoever can't tell says so, and cannot-tell counts as busy.

use super::{
    ProbeTarget,
    config::{Act, ExpectKeys, HttpKeys, Way, command},
    logs,
    pattern::Pattern,
    run::Session,
    variables::{self, Place},
};
use crate::config_terms::Length;
use lastgood_domain::{facts::Busyness, terms::Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Time for one answer: a busy service may be slow, and slow counts as busy.
const TIMEOUT: Length = Length::seconds(5);
/// How a command says "busy": `EX_TEMPFAIL`, which asks to try again later.
const EXIT_BUSY: i32 = 75;

/// Whether an instance is in use, as configured and checked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BusyKeys", into = "BusyKeys")]
pub struct BusyConfig {
    kind: Kind,
    timeout: Length,
    keys: BusyKeys,
}

#[derive(Debug, Clone)]
enum Kind {
    /// An answer as expected means busy.
    HttpBusy(Way),
    /// An answer as expected means idle.
    HttpIdle(Way),
    Command(Way),
    Log {
        file: String,
        matching: Option<Pattern>,
        quiet: Length,
    },
}

/// Whether an instance is in use. Exactly one of `http`, `command` and `log` is given. No usable answer counts as busy.
///
/// ```toml
/// busy = { http = { path = "/busy" }, expect = { json = { "$.busy" = true } } }
/// busy = { http = { path = "/sessions" }, idle = { body = "^0$" } }
/// busy = { command = ["./is-busy", "{instance}"], quiet = "10m" }
/// busy = { log = "{data}/access.log", matching = "POST", quiet = "10m" }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusyKeys {
    /// A question to the instance. It is busy when the answer is as `expect` says and idle when it is another answer
    /// with a status 2xx; or it is idle when the answer is as `idle` says, and busy when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpKeys>,
    /// For `http`: the JSON answer that means busy. Either this or `idle` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectKeys>,
    /// For `http`: the only answer that means idle, by at least one of `json`, `body` and `headers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<ExpectKeys>,
    /// A program with arguments: exit status 0 means idle, 75 busy (the first line it writes says why), anything else
    /// that it can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// For `command`: further environment, such as `{ PASSWORD = "{secret:login}" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A file that grows with every use, such as `{data}/access.log`. Needs `quiet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// For `log`: only lines that this pattern is found in count as use. A line's own time counts if it has one with a
    /// zone (`2026-01-31T12:00:00Z`, `31/Jan/2026:12:00:00 +0100`); a fitting line without one counts as new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<Pattern>,
    /// For `log`: how long nothing may have been written, such as `10m`. For `http` and `command`: how long the daemon must
    /// have seen it idle before it moves an instance that was left for later; it looks four times in it, every 1 to 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Length>,
    /// For `http` and `command`: time for the answer. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
}

impl PartialEq for BusyConfig {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl From<BusyConfig> for BusyKeys {
    fn from(config: BusyConfig) -> Self {
        config.keys
    }
}

impl TryFrom<BusyKeys> for BusyConfig {
    type Error = String;

    fn try_from(keys: BusyKeys) -> Result<Self, String> {
        if keys.quiet.is_some_and(|quiet| quiet.0.0 == 0) {
            return Err("quiet must be longer than 0s".into());
        }
        let kind = keys.kind()?;
        keys.refuse_strangers(&kind)?;
        let timeout = keys.timeout.unwrap_or(TIMEOUT);
        if timeout.0.0 == 0 {
            return Err("timeout must be longer than 0s".into());
        }
        Ok(Self { kind, timeout, keys })
    }
}

impl BusyKeys {
    fn kind(&self) -> Result<Kind, String> {
        let way = |act, expect| Way { name: String::new(), act, expect, capture: BTreeMap::new() };
        match (&self.http, &self.command, &self.log) {
            (Some(http), None, None) => {
                let (expect, is_idle) = self.awaited()?;
                if expect.exit.is_some() || expect.stdout.is_some() {
                    return Err("exit and stdout mean nothing for http".into());
                }
                let way = way(Act::Http(http.checked()?), expect.clone());
                Ok(if is_idle { Kind::HttpIdle(way) } else { Kind::HttpBusy(way) })
            }
            (None, Some(argv), None) => {
                let act = Act::Command { argv: command(argv)?, env: self.env.clone() };
                Ok(Kind::Command(way(act, ExpectKeys::default())))
            }
            (None, None, Some(file)) => {
                let quiet =
                    self.quiet.ok_or("log needs quiet, the time nothing may have been written: quiet = \"10m\"")?;
                Ok(Kind::Log { file: file.clone(), matching: self.matching.clone(), quiet })
            }
            _ => Err("busy is one of http, command and log, such as \
                      busy = { log = \"{data}/access.log\", quiet = \"10m\" }"
                .into()),
        }
    }

    /// Gives the answer that is asked for, and whether it means idle.
    fn awaited(&self) -> Result<(&ExpectKeys, bool), &'static str> {
        let (expect, is_idle) = match (&self.expect, &self.idle) {
            (Some(expect), None) => (expect, false),
            (None, Some(idle)) => (idle, true),
            (Some(_), Some(_)) => return Err("busy takes either expect, the answer that means busy, or idle"),
            (None, None) => {
                return Err("busy needs to know which answer means busy: expect = { json = { \"$.busy\" = true } }");
            }
        };
        let has_text = expect.body.is_some() || !expect.headers.is_empty();
        match (expect.json.is_empty(), has_text, is_idle) {
            // With a status alone every healthy answer would mean the same.
            (true, false, _) => Err("busy needs to know which answer means busy: \
                                     expect = { json = { \"$.busy\" = true } }"),
            // JSON without the place asked for is no answer; a page without the word looks like a clear no.
            (_, true, false) => Err("any error page would mean idle; say instead which answer does: \
                                     idle = { body = \"^idle$\" }"),
            _ => Ok((expect, is_idle)),
        }
    }

    fn refuse_strangers(&self, kind: &Kind) -> Result<(), String> {
        let (name, allowed): (_, &[&str]) = match kind {
            Kind::HttpBusy(_) | Kind::HttpIdle(_) => ("http", &["expect", "idle", "quiet", "timeout"]),
            Kind::Command(_) => ("command", &["env", "quiet", "timeout"]),
            Kind::Log { .. } => ("log", &["matching", "quiet"]),
        };
        let given = [
            ("expect", self.expect.is_some()),
            ("idle", self.idle.is_some()),
            ("env", !self.env.is_empty()),
            ("matching", self.matching.is_some()),
            ("quiet", self.quiet.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        match given.iter().find(|(key, given)| *given && !allowed.contains(key)) {
            Some((key, _)) => Err(format!("{key} means nothing for {name}; it takes {}", allowed.join(", "))),
            None => Ok(()),
        }
    }
}

impl BusyConfig {
    /// Gives for how long it must answer idle before that counts; `None` if one answer is enough, or tells of that time.
    pub fn quiet(&self) -> Option<Span> {
        let is_log = matches!(self.kind, Kind::Log { .. });
        self.keys.quiet.filter(|_| !is_log).map(|quiet| quiet.0)
    }

    /// Asks whether the instance is in use now.
    pub fn ask(&self, target: &ProbeTarget) -> Busyness {
        let until = Instant::now() + self.timeout.duration().min(Duration::from_secs(86_400));
        let mut session = match Session::open(target, until) {
            Ok(session) => session,
            Err(trouble) => return Busyness::CannotTell(target.secrets.scrub(&trouble.got)),
        };
        match &self.kind {
            Kind::HttpIdle(way) => match session.way(way, self.timeout.duration()) {
                Ok(()) => Busyness::Idle,
                Err(miss) => {
                    let why = session.presentable(&format!("idle is {}, got {}", miss.expected, miss.got));
                    if miss.is_no { Busyness::Busy(why) } else { Busyness::CannotTell(why) }
                }
            },
            Kind::HttpBusy(way) => match session.way(way, self.timeout.duration()) {
                Ok(()) => Busyness::Busy("it says that it is in use".into()),
                Err(miss) if miss.is_no => Busyness::Idle,
                Err(miss) => {
                    Busyness::CannotTell(session.presentable(&format!("expected {}, got {}", miss.expected, miss.got)))
                }
            },
            Kind::Command(way) => command_says(&mut session, &way.act, until),
            Kind::Log { file, matching, quiet } => {
                let lookup = |name: &str| session.lookup(name);
                match variables::expand(file, Place::Plain, &lookup) {
                    Ok(file) => log_says(&target.folder.join(file), matching.as_ref(), *quiet, &lookup),
                    Err(unknown) => Busyness::CannotTell(format!("no value for `{{{}}}`", unknown.name)),
                }
            }
        }
    }

    /// Gives what has variables: an act, or the path of a log.
    pub(crate) fn parts(&self) -> (Option<&Way>, Option<&str>) {
        match &self.kind {
            Kind::HttpBusy(way) | Kind::HttpIdle(way) | Kind::Command(way) => (Some(way), None),
            Kind::Log { file, .. } => (None, Some(file)),
        }
    }
}

fn command_says(session: &mut Session<'_>, act: &Act, until: Instant) -> Busyness {
    use super::answer::Outcome;
    let answer = match session.act(act, until) {
        Ok(answer) => answer,
        Err(trouble) => {
            return Busyness::CannotTell(session.presentable(&format!("got {}", trouble.got)));
        }
    };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let first = text.lines().next().unwrap_or_default().trim();
    match answer.outcome {
        Outcome::Exit(0) => Busyness::Idle,
        Outcome::Exit(EXIT_BUSY) if first.is_empty() => Busyness::Busy("the command says so".into()),
        Outcome::Exit(EXIT_BUSY) => Busyness::Busy(session.presentable(first)),
        _ => Busyness::CannotTell(session.presentable(&format!("the busy command gave {}", answer.described()))),
    }
}

fn log_says(
    path: &Path,
    matching: Option<&Pattern>,
    quiet: Length,
    value: &dyn Fn(&str) -> Option<String>,
) -> Busyness {
    let cannot = |why: String| Busyness::CannotTell(format!("{} {why}", path.display()));
    let written = match std::fs::metadata(path).and_then(|facts| facts.modified()) {
        Ok(written) => written,
        Err(error) => return cannot(format!("can't be looked at ({error})")),
    };
    let Ok(age) = SystemTime::now().duration_since(written) else {
        return cannot("was written in the future; the clock was changed".into());
    };
    if age >= quiet.duration() {
        return Busyness::Idle;
    }
    let ago = Span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let Some(matching) = matching else {
        return Busyness::Busy(format!("{} was written {ago} ago", path.display()));
    };
    // Other lines may have been written since, so the time in a line counts; a line without one counts as new.
    match matching.regex(value) {
        Err(why) => cannot(why),
        Ok(regex) => match logs::has_fitting_line(
            path,
            &regex,
            written.checked_sub(quiet.duration() - age).unwrap_or(UNIX_EPOCH),
        ) {
            Ok(true) => Busyness::Busy(format!("{} was written {ago} ago", path.display())),
            Ok(false) => Busyness::Idle,
            Err(error) => cannot(format!("can't be read ({error})")),
        },
    }
}
