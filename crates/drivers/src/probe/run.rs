//! Runs steps: expands, asks, judges, keeps; and knows what may be said of a failure.

use super::{
    ProbeTarget,
    answer::{Answer, Lookup, Mismatch, Outcome},
    config::{Act, HttpKeys, Step, Way},
    failure::{Attempt, FailureKind, ProbeFailure},
    http::{self, Connection, Request},
    https,
    jar::Jar,
    program,
    secrets::Scrubber,
    tcp, text,
    variables::{self, Place, Unknown},
    websocket,
    wire::{Base, Trouble, Wire},
};
use lastgood_domain::{facts::ProbeFacts, terms::Span};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};
use tungstenite::WebSocket;

/// How a probe names itself to the instance.
pub(crate) const USER_AGENT: &str = concat!("lastgood/", env!("CARGO_PKG_VERSION"));

/// Longest wait that is meant by "no limit": an `Instant` must not overflow.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Everything one run remembers between its steps.
pub(crate) struct Session<'t> {
    target: &'t ProbeTarget,
    base: Base,
    captured: BTreeMap<String, String>,
    scrubber: Scrubber,
    jar: Jar,
    connection: Option<Connection>,
    agent: Option<ureq::Agent>,
    until: Instant,
    requests: u32,
}

/// Runs every step in order.
pub(crate) fn all(steps: &[Step], target: &ProbeTarget, deadline: Duration) -> Result<ProbeFacts, ProbeFailure> {
    let started = Instant::now();
    let until = started + deadline.min(DEADLINE_MAX);
    let Some(first) = steps.first() else {
        return Ok(ProbeFacts::default());
    };
    let mut session = Session::open(target, until).map_err(|trouble| refused(first, trouble))?;
    let mut used = BTreeMap::new();
    for step in steps {
        let way = session.step(step)?;
        if step.is_choice {
            used.insert(step.name.clone(), way.name.clone());
        }
    }
    Ok(ProbeFacts { used, requests: session.requests, took: span(started.elapsed()) })
}

/// Measures in whole milliseconds, as evidence does.
pub(crate) fn span(time: Duration) -> Span {
    Span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Makes the failure of a step that could not even begin.
pub(crate) fn refused(step: &Step, trouble: Trouble) -> ProbeFailure {
    let attempt =
        Attempt { alternative: String::new(), kind: trouble.kind, expected: "an address".into(), got: trouble.got };
    ProbeFailure { step: step.name.clone(), kind: attempt.kind, attempts: vec![attempt], tries: 1 }
}

/// How one way of a step failed.
pub(crate) struct Miss {
    pub kind: FailureKind,
    pub expected: String,
    pub got: String,
    /// There was an answer of the right form, and it says no.
    pub is_no: bool,
}

impl<'t> Session<'t> {
    /// Begins a run that ends at `until`.
    pub(crate) fn open(target: &'t ProbeTarget, until: Instant) -> Result<Self, Trouble> {
        Ok(Self {
            target,
            base: Base::parse(&target.base)?,
            captured: BTreeMap::new(),
            scrubber: target.secrets.scrubber(),
            jar: Jar::default(),
            connection: None,
            agent: None,
            until,
            requests: 0,
        })
    }

    /// Runs one step with its tries and alternatives; gives the way that worked.
    pub(crate) fn step<'s>(&mut self, step: &'s Step) -> Result<&'s Way, ProbeFailure> {
        let mut tries = 1;
        loop {
            let failure = match self.one_try(step, tries) {
                Ok(way) => return Ok(way),
                Err(failure) => failure,
            };
            let pause_ends = Instant::now() + step.pause.duration().min(DEADLINE_MAX);
            // Nothing changes a mistake in the configuration, and the time of the whole probe is the caller's.
            if tries >= step.tries || failure.kind == FailureKind::Config || pause_ends >= self.until {
                return Err(failure);
            }
            thread::sleep(pause_ends.saturating_duration_since(Instant::now()));
            tries += 1;
        }
    }

    /// Tries every alternative once.
    pub(crate) fn one_try<'s>(&mut self, step: &'s Step, tries: u32) -> Result<&'s Way, ProbeFailure> {
        let mut attempts = Vec::new();
        for way in &step.ways {
            match self.way(way, step.timeout.duration()) {
                Ok(()) => return Ok(way),
                Err(miss) => attempts.push(Attempt {
                    alternative: way.name.clone(),
                    kind: miss.kind,
                    expected: self.presentable(&miss.expected),
                    got: self.presentable(&miss.got),
                }),
            }
        }
        let kind = attempts.iter().map(|attempt| attempt.kind).max().unwrap_or(FailureKind::Config);
        Err(ProbeFailure { step: step.name.clone(), kind, attempts, tries })
    }

    /// Scrubs first and cuts then: a cut secret would no longer be found.
    pub(crate) fn presentable(&self, text: &str) -> String {
        text::shown(&self.scrubber.scrub(text))
    }

    /// The same, without these ids of sessions. In one pass with the secrets: taken out first, a short one could break a secret
    /// into parts that are no longer found.
    pub(crate) fn presentable_without<'s>(&self, text: &str, sessions: impl Iterator<Item = &'s str>) -> String {
        let mut scrubber = self.scrubber.clone();
        sessions.for_each(|id| scrubber.add_session(id));
        text::shown(&scrubber.scrub(text))
    }

    /// Does one act, compares its answer and keeps what is asked for.
    pub(crate) fn way(&mut self, way: &Way, timeout: Duration) -> Result<(), Miss> {
        let until = self.until.min(Instant::now() + timeout.min(DEADLINE_MAX));
        let answer = self.act(&way.act, until).map_err(|trouble| Miss {
            kind: trouble.kind,
            expected: expected_of(&way.act).into(),
            got: trouble.got,
            is_no: false,
        })?;
        // Kept before anything is compared, so that a failure can't show a token that just came.
        let lookup = |name: &str| lookup(self.target, &self.base, &self.captured, name);
        let kept: Vec<(&String, Result<String, Mismatch>)> =
            way.capture.iter().map(|(name, capture)| (name, answer.capture(name, capture, &lookup))).collect();
        let judged = answer.judge(&way.expect, &lookup);
        let mut found = BTreeMap::new();
        let mut missing = None;
        for (name, value) in kept {
            match value {
                Ok(value) => {
                    self.scrubber.add_captured(name, &value);
                    found.insert(name.clone(), value);
                }
                Err(mismatch) => missing = missing.or(Some(mismatch)),
            }
        }
        judged.map_err(|mismatch| miss(mismatch, &answer))?;
        if let Some(mismatch) = missing {
            return Err(miss(mismatch, &answer));
        }
        self.captured.append(&mut found);
        Ok(())
    }

    /// Looks up a variable.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        lookup(self.target, &self.base, &self.captured, name)
    }

    /// Does one act once.
    pub(crate) fn act(&mut self, act: &Act, until: Instant) -> Result<Answer, Trouble> {
        if until <= Instant::now() {
            return Err(Trouble::timeout("no time left"));
        }
        self.requests += 1;
        match act {
            Act::Http(keys) => self.http(keys, until),
            Act::WebSocket(keys) => {
                let path = self.path(&keys.path)?;
                let headers = self.headers(&keys.headers, &path)?;
                let lookup = |name: &str| lookup(self.target, &self.base, &self.captured, name);
                websocket::converse(&self.base, keys, &path, headers, &lookup, until)
            }
            Act::Tcp(keys) => {
                let lookup = |name: &str| lookup(self.target, &self.base, &self.captured, name);
                tcp::converse(&self.base, keys, &lookup, until)
            }
            Act::Command { argv, env } => {
                let lookup = |name: &str| lookup(self.target, &self.base, &self.captured, name);
                let mut shared = self.target.vars.clone();
                shared.insert("host".into(), self.base.host.clone());
                shared.entry("port".into()).or_insert_with(|| self.base.port.to_string());
                shared.extend(self.captured.clone());
                let call = program::Call { argv, env, shared: &shared, folder: &self.target.folder };
                program::run(&call, &lookup, until)
            }
        }
    }

    fn http(&mut self, keys: &HttpKeys, until: Instant) -> Result<Answer, Trouble> {
        let path = self.path(&keys.path)?;
        let mut headers = self.headers(&keys.headers, &path)?;
        let lookup = |name: &str| lookup(self.target, &self.base, &self.captured, name);
        let body = match keys.payload() {
            None => None,
            Some((template, kind)) => {
                if let Some(kind) = kind
                    && http::values(&headers, "content-type").next().is_none()
                {
                    headers.push(("Content-Type".into(), kind.into()));
                }
                Some(template.fill(&lookup).map_err(no_value)?)
            }
        };
        let method = keys.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
        let request = Request { method, path, headers, body };
        let response = if self.base.is_tls {
            let agent = self.agent.get_or_insert_with(https::agent);
            https::exchange(agent, &self.base, &request, until)?
        } else {
            http::exchange(&self.base, &mut self.connection, &request, until)?
        };
        for header in http::values(&response.headers, "set-cookie") {
            let full_path = format!("{}{}", self.base.prefix, request.path);
            if let Some((name, value)) = self.jar.keep(header, &full_path) {
                self.scrubber.add_captured(&format!("cookie {name}"), value);
            }
        }
        let outcome = Outcome::Status(response.status);
        Ok(Answer { outcome, headers: response.headers, body: response.body })
    }

    /// Begins a run elsewhere with what was captured here and the cookies, as a user does who is moved.
    pub(crate) fn moved_to(&self, target: &'t ProbeTarget) -> Result<Self, Trouble> {
        let (captured, scrubber, jar) = (self.captured.clone(), self.scrubber.clone(), self.jar.clone());
        Ok(Self { captured, scrubber, jar, ..Self::open(target, self.until)? })
    }

    /// Opens a WebSocket of this run; `value` looks up every variable.
    pub(crate) fn socket(
        &self,
        path: &str,
        headers: &BTreeMap<String, String>,
        protocol: Option<&str>,
        value: Lookup<'_>,
        until: Instant,
    ) -> Result<WebSocket<Wire>, Trouble> {
        let path = self.path_with(path, value)?;
        let headers = self.headers_with(headers, &path, value)?;
        let protocol = protocol.map(|text| variables::expand(text, Place::Plain, value)).transpose();
        websocket::open(&self.base, &path, headers, protocol.map_err(no_value)?, until)
    }

    fn path(&self, path: &str) -> Result<String, Trouble> {
        self.path_with(path, &|name| self.lookup(name))
    }

    /// Puts the variables into a path; what isn't ASCII is percent-encoded.
    fn path_with(&self, path: &str, value: Lookup<'_>) -> Result<String, Trouble> {
        let whole = variables::expand(path, Place::Path, value).map_err(no_value)?;
        // A Location may name the same server in full.
        let own = format!("{}://{}", if self.base.is_tls { "https" } else { "http" }, self.base.authority());
        let local = whole.strip_prefix(&own).unwrap_or(&whole);
        let local = local.strip_prefix(&self.base.prefix).filter(|_| local.len() < whole.len()).unwrap_or(local);
        if !local.starts_with('/') || local.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return Err(Trouble::config(format!("the path {local:?}, which can't be sent")));
        }
        let mut encoded = String::with_capacity(local.len());
        for c in local.chars() {
            if c.is_ascii() {
                encoded.push(c);
            } else {
                variables::percent_encode(c.encode_utf8(&mut [0; 4]), &mut encoded);
            }
        }
        Ok(encoded)
    }

    fn headers(&self, headers: &BTreeMap<String, String>, path: &str) -> Result<Vec<(String, String)>, Trouble> {
        self.headers_with(headers, path, &|name| self.lookup(name))
    }

    /// Puts the variables into headers and adds the cookies, unless the step sends its own.
    fn headers_with(
        &self,
        headers: &BTreeMap<String, String>,
        path: &str,
        value: Lookup<'_>,
    ) -> Result<Vec<(String, String)>, Trouble> {
        let mut out = self.target.headers.clone();
        for (name, text) in headers {
            let text = variables::expand(text, Place::Plain, value).map_err(no_value)?;
            // A captured line break would let an instance write headers of its own.
            if text.contains(|c: char| c.is_control() && c != '\t') {
                return Err(Trouble::config(format!("a header {name} with a control character")));
            }
            out.push((name.clone(), text));
        }
        if http::values(&out, "cookie").next().is_none()
            && let Some(cookies) = self.jar.header(&format!("{}{path}", self.base.prefix))
        {
            out.push(("Cookie".into(), cookies));
        }
        Ok(out)
    }
}

/// Gives the value of a variable: captures before the target's own, and what the address itself says.
fn lookup(target: &ProbeTarget, base: &Base, captured: &BTreeMap<String, String>, name: &str) -> Option<String> {
    if let Some(secret) = name.strip_prefix("secret:") {
        return target.secrets.get(secret).map(Into::into);
    }
    let given = captured.get(name).or_else(|| target.vars.get(name)).cloned();
    given.or_else(|| match name {
        "host" => Some(base.host.clone()),
        "port" => Some(base.port.to_string()),
        _ => None,
    })
}

/// Says which variable has no value.
pub(crate) fn no_value(unknown: Unknown) -> Trouble {
    Trouble::config(format!("no value for `{{{}}}`", unknown.name))
}

fn expected_of(act: &Act) -> &'static str {
    match act {
        Act::Http(_) => "an answer",
        Act::WebSocket(_) => "a WebSocket conversation",
        Act::Tcp(_) => "a connection",
        Act::Command { .. } => "the command to end",
    }
}

fn miss(mismatch: Mismatch, answer: &Answer) -> Miss {
    let answered = !matches!(answer.outcome, Outcome::Status(status) if status / 100 != 2);
    Miss {
        kind: if mismatch.is_config { FailureKind::Config } else { FailureKind::Failed },
        expected: mismatch.expected,
        got: mismatch.found.unwrap_or_else(|| answer.described()),
        is_no: answered && !mismatch.is_unreadable && !mismatch.is_config,
    }
}
