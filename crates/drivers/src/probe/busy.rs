//! Whether an instance is in use. Cannot-tell counts as busy, and is said as what it is.

use super::{
    ProbeTarget,
    command::CommandRun,
    expand::Scope,
    expect::Expect,
    http::{Client, HttpRequest},
};
use crate::config_terms::Length;
use lastgood_domain::facts::Busyness;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Exit status by which a command says "busy": EX_TEMPFAIL, as update hooks use it.
const EXIT_BUSY: i32 = 75;
/// Time for the check where none is configured.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How to ask whether an instance is in use: exactly one of `http`, `command` and `log`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusyConfig {
    /// A request: the instance is busy when the answer is as `expect` says, idle when it is another good one.
    /// No answer, or a status other than 2xx, is cannot-tell, which counts as busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// What a busy instance answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// A program: exit status 0 is idle, 75 is busy (its first line of output says why), any other is cannot-tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRun>,
    /// A log file, such as `{data}/access.log`: busy if it was written to within `quiet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// With `log`: how long nothing must have been written. Default `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Length>,
    /// Time for the check. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
}

impl BusyConfig {
    /// Tells what is wrong with the configuration, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let kinds = [self.http.is_some(), self.command.is_some(), self.log.is_some()];
        if kinds.iter().filter(|there| **there).count() != 1 {
            return Err("name exactly one of http, command and log".into());
        }
        if self.http.is_some() != self.expect.is_some() {
            return Err("`http` and `expect` go together: `expect` is what a busy instance answers".into());
        }
        if self.quiet.is_some() && self.log.is_none() {
            return Err("`quiet` goes with `log`: one answer can't tell for how long it was so".into());
        }
        self.expect.as_ref().map_or(Ok(()), Expect::check)
    }

    /// Asks once.
    pub fn ask(&self, target: &ProbeTarget) -> Busyness {
        let scope = Scope::of(target);
        let until = Instant::now() + self.timeout.map_or(TIMEOUT, |timeout| timeout.duration());
        let answer = match (&self.http, &self.command, &self.log) {
            (Some(http), ..) => self.ask_http(http, target, &scope, until),
            (_, Some(command), _) => ask_command(command, &scope, until),
            (_, _, Some(log)) => self.ask_log(log, &scope),
            _ => Err("no check is configured".into()),
        };
        answer.unwrap_or_else(|why| Busyness::CannotTell(scope.scrub(&why)))
    }

    fn ask_http(&self, http: &HttpRequest, target: &ProbeTarget, scope: &Scope, until: Instant) -> Result<Busyness, String> {
        let got = Client::new(&target.base).send(http, scope, until)?;
        got.good_by_itself()?;
        let expect = self.expect.clone().unwrap_or_default();
        Ok(match expect.met(&got, scope) {
            Ok(()) => Busyness::Busy("its busy check says so".into()),
            // An answer that can't be read as JSON says nothing either way.
            Err(why) if why.contains("is no JSON") => return Err(why),
            Err(_) => Busyness::Idle,
        })
    }

    fn ask_log(&self, log: &str, scope: &Scope) -> Result<Busyness, String> {
        let path = scope.fill(log)?;
        let quiet = self.quiet.map_or(Duration::from_secs(600), |quiet| quiet.duration());
        let written = fs::metadata(&path).and_then(|meta| meta.modified());
        let written = written.map_err(|error| format!("{path} can't be looked at: {error}"))?;
        // A time in the future says that a clock jumped: nobody knows when it was written.
        let age = written.elapsed().map_err(|_| format!("{path} was written in the future"))?;
        Ok(match age < quiet {
            true => Busyness::Busy(format!("its log was written to {} s ago", age.as_secs())),
            false => Busyness::Idle,
        })
    }
}

fn ask_command(command: &CommandRun, scope: &Scope, until: Instant) -> Result<Busyness, String> {
    let got = command.run(scope, until)?;
    let says: String = String::from_utf8_lossy(&got.body).lines().next().unwrap_or_default().chars().take(200).collect();
    match got.status {
        Some(0) => Ok(Busyness::Idle),
        Some(EXIT_BUSY) => Ok(Busyness::Busy(if says.is_empty() { "its busy check says so".into() } else { says })),
        other => Err(format!("the busy check ended with exit status {}", other.unwrap_or(-1))),
    }
}
