//! The steps of a probe, as configured, and how they run.

use super::{
    ProbeFailure, ProbeTarget,
    command::CommandRun,
    expand::{Scope, unknown_names},
    expect::{Capture, Expect, Got},
    http::{Client, HttpRequest},
    tcp::TcpTalk,
    websocket::WebSocketTalk,
};
use crate::config_terms::Length;
use lastgood_domain::{failure::Coded, facts::ProbeFacts, terms::Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

/// Most steps of one probe, alternatives included: more is a test suite, which belongs elsewhere.
const STEPS_MAX: usize = 50;

/// One step: `http`, `websocket`, `tcp` or `command`, or `any` of several alternatives tried in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What the step is called in messages and evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time for one try. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
    /// How often it is tried before it has failed. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    /// Time between two tries. Default `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Length>,
    /// Alternatives, such as a new endpoint and the old one; the first that passes counts and is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<Alternative>,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// A WebSocket conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketTalk>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpTalk>,
    /// A program with arguments; it passes with exit status 0 unless `expect` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRun>,
    /// What must come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Values taken out of the answer for later steps: `{token}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capture: BTreeMap<String, Capture>,
}

/// One way to do a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// What it is called in evidence.
    pub name: String,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// A WebSocket conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketTalk>,
    /// A TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpTalk>,
    /// A program with arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRun>,
    /// What must come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Values taken out of the answer for later steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capture: BTreeMap<String, Capture>,
}

/// The whole check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeConfig {
    /// Its steps, in order; a captured value is known to all later ones.
    pub steps: Vec<Step>,
}

/// What is wrong with a probe's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step:?}: {what}")]
pub struct ConfigProblem {
    /// The step.
    pub step: String,
    /// What is wrong.
    pub what: String,
}

impl Coded for ConfigProblem {
    fn code(&self) -> &'static str {
        "config-unfit"
    }

    fn hint(&self) -> Option<String> {
        Some("http = { path = \"/login\" }, expect = { status = 200 }; see docs/guide/probes.md".into())
    }
}

impl ProbeConfig {
    /// Checks that each step does one thing and names only values that are known by then.
    ///
    /// `known` are the names of instance variables and `secret:NAME`s.
    pub fn check(&self, known: &BTreeSet<String>) -> Result<(), ConfigProblem> {
        let mut known = known.clone();
        let count: usize = self.steps.iter().map(|step| 1 + step.any.len()).sum();
        if count > STEPS_MAX {
            let what = format!("{count} steps and alternatives are more than {STEPS_MAX}");
            return Err(ConfigProblem { step: "all".into(), what });
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check(index, &known)?;
            for way in step.ways() {
                known.extend(way.capture.keys().cloned());
            }
        }
        Ok(())
    }

    /// Runs all steps against `target`, at most for `deadline`.
    ///
    /// Errors: [`ProbeFailure`] of the first step none of whose alternatives passed.
    pub fn run(&self, target: &ProbeTarget, deadline: Duration) -> Result<ProbeFacts, ProbeFailure> {
        let began = Instant::now();
        let until = began + deadline;
        let mut run = Run {
            scope: Scope::of(target),
            client: Client::new(&target.base),
            facts: ProbeFacts::default(),
        };
        for (index, step) in self.steps.iter().enumerate() {
            run.step(step, &step.title(index), until)?;
        }
        run.facts.took = Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        Ok(run.facts)
    }
}

/// One way to do a step, wherever it was configured.
pub(super) struct Way<'a> {
    name: Option<&'a str>,
    http: Option<&'a HttpRequest>,
    websocket: Option<&'a WebSocketTalk>,
    tcp: Option<&'a TcpTalk>,
    command: Option<&'a CommandRun>,
    expect: Option<&'a Expect>,
    capture: &'a BTreeMap<String, Capture>,
}

impl Step {
    fn title(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("step {}", index + 1))
    }

    fn ways(&self) -> Vec<Way<'_>> {
        if !self.any.is_empty() {
            let alternatives = self.any.iter().map(|one| Way {
                name: Some(&one.name),
                http: one.http.as_ref(),
                websocket: one.websocket.as_ref(),
                tcp: one.tcp.as_ref(),
                command: one.command.as_ref(),
                expect: one.expect.as_ref(),
                capture: &one.capture,
            });
            return alternatives.collect();
        }
        vec![Way {
            name: None,
            http: self.http.as_ref(),
            websocket: self.websocket.as_ref(),
            tcp: self.tcp.as_ref(),
            command: self.command.as_ref(),
            expect: self.expect.as_ref(),
            capture: &self.capture,
        }]
    }
}

impl Step {
    fn check(&self, index: usize, known: &BTreeSet<String>) -> Result<(), ConfigProblem> {
        let problem = |what: String| ConfigProblem { step: self.title(index), what };
        let own = self.http.is_some() || self.websocket.is_some() || self.tcp.is_some() || self.command.is_some();
        if own && !self.any.is_empty() {
            return Err(problem("it has both `any` and a request of its own".into()));
        }
        for way in self.ways() {
            let kinds = [way.http.is_some(), way.websocket.is_some(), way.tcp.is_some(), way.command.is_some()];
            if kinds.iter().filter(|there| **there).count() != 1 {
                return Err(problem("it needs exactly one of http, websocket, tcp and command, or any".into()));
            }
            for text in way.texts() {
                unknown_names(&text, known).map_err(problem)?;
            }
            if let Some(expect) = way.expect {
                expect.check().map_err(problem)?;
            }
            for capture in way.capture.values() {
                capture.check().map_err(problem)?;
            }
        }
        Ok(())
    }
}

impl Way<'_> {
    /// Gives every text that may hold placeholders.
    fn texts(&self) -> Vec<String> {
        let parts = [
            self.http.map(serde_json::to_value),
            self.websocket.map(serde_json::to_value),
            self.tcp.map(serde_json::to_value),
            self.command.map(serde_json::to_value),
        ];
        let mut texts = Vec::new();
        for value in parts.into_iter().flatten().flatten() {
            gather(&value, &mut texts);
        }
        texts
    }
}

fn gather(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|one| gather(one, texts)),
        serde_json::Value::Object(map) => map.values().for_each(|one| gather(one, texts)),
        _ => {}
    }
}

/// One run over the steps: what is captured, the open connection, what is recorded.
struct Run {
    scope: Scope,
    client: Client,
    facts: ProbeFacts,
}

impl Run {
    fn step(&mut self, step: &Step, title: &str, until: Instant) -> Result<(), ProbeFailure> {
        let tries = step.tries.unwrap_or(1).max(1);
        let pause = step.pause.map_or(Duration::from_millis(200), |pause| pause.duration());
        let limit = step.timeout.map_or(Duration::from_secs(5), |limit| limit.duration());
        let mut what = String::new();
        for attempt in 0..tries {
            if attempt > 0 {
                thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            }
            match self.once(step, title, limit, until) {
                Ok(()) => return Ok(()),
                Err(why) => what = why,
            }
            if Instant::now() >= until {
                what = format!("the whole probe's time is over; {what}");
                break;
            }
        }
        Err(ProbeFailure { step: title.into(), what: self.scope.scrub(&what) })
    }

    fn once(&mut self, step: &Step, title: &str, limit: Duration, until: Instant) -> Result<(), String> {
        let mut reasons = Vec::new();
        for way in step.ways() {
            let limit = limit.min(until.saturating_duration_since(Instant::now()));
            match self.way(&way, Instant::now() + limit) {
                Ok(captured) => {
                    self.scope.capture(captured);
                    if let Some(name) = way.name {
                        self.facts.used.insert(title.into(), name.into());
                    }
                    return Ok(());
                }
                Err(why) => reasons.push(match way.name {
                    Some(name) => format!("{name}: {why}"),
                    None => why,
                }),
            }
        }
        Err(reasons.join("; "))
    }

    fn way(&mut self, way: &Way<'_>, until: Instant) -> Result<BTreeMap<String, String>, String> {
        self.facts.requests += 1;
        let got: Got = if let Some(http) = way.http {
            self.client.send(http, &self.scope, until)?
        } else if let Some(talk) = way.websocket {
            talk.hold(self.client.base(), &self.scope, until)?
        } else if let Some(talk) = way.tcp {
            talk.hold(self.client.base(), &self.scope, until)?
        } else if let Some(command) = way.command {
            command.run(&self.scope, until)?
        } else {
            return Err("the step does nothing".into());
        };
        match way.expect {
            Some(expect) => expect.met(&got, &self.scope)?,
            None => got.good_by_itself()?,
        }
        way.capture.iter().map(|(name, capture)| Ok((name.clone(), capture.take(&got)?))).collect()
    }
}
