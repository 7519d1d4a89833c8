//! Mistakes that only the whole probe shows, found before anything runs.

use super::{
    BusyConfig, ResumeConfig, body,
    config::{Act, Capture, Step, Way},
    pattern::{JsonExpectation, Pattern},
    variables::{self, Place},
};
use lastgood_domain::failure::Coded;
use std::collections::{BTreeMap, BTreeSet};

/// Variables every probe has.
const BUILT_IN: [&str; 5] = ["host", "port", "data", "instance", "service"];

/// What `{…}` may name, besides `host`, `port`, `data`, `instance`, `service` and captures of earlier steps.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// Names of `[secret.NAME]`.
    pub secrets: BTreeSet<&'a str>,
    /// Names in `vars` that every instance of the service has.
    pub vars: BTreeSet<&'a str>,
}

/// Tells what is wrong with a probe as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Nothing would be checked.
    #[error("the probe has no steps")]
    NoSteps,
    /// Two steps that evidence could not tell apart.
    #[error("two steps have the name {0:?}")]
    SameName(String),
    /// A variable that nothing gives at that step.
    #[error("{place}: `{{{name}}}` is unknown{}", suggestion(.nearest))]
    UnknownVariable {
        /// The step and, if there is a choice, the alternative.
        place: String,
        /// The name.
        name: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// A secret that is not configured.
    #[error("{place}: there is no [secret.{name}]{}", suggestion(.nearest))]
    UnknownSecret {
        /// The step and, if there is a choice, the alternative.
        place: String,
        /// The name.
        name: String,
        /// The configured secret most like it.
        nearest: Option<String>,
    },
    /// A secret where every user of the machine would see it.
    #[error("{place}: `{{secret:{name}}}` stands in an argument, and every user of the machine sees arguments")]
    SecretInArgument {
        /// The step and, if there is a choice, the alternative.
        place: String,
        /// The name.
        name: String,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!("; did you mean `{{{nearest}}}`?")).unwrap_or_default()
}

impl Coded for ConfigProblem {
    fn code(&self) -> &'static str {
        "probe-config"
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSteps => "[[service.NAME.probe]] with name, http and expect".into(),
            Self::SameName(name) => format!("give one of them another name than {name:?}"),
            Self::UnknownVariable { name, .. } => format!(
                "correct the name, capture it in an earlier step (in every alternative), or give every instance \
                 vars = {{ {name} = \"...\" }}; to write the text itself, double the braces: {{{{{name}}}}}"
            ),
            Self::UnknownSecret { name, .. } => {
                format!("[secret.{name}] with file = \"/etc/lastgood/{name}\"")
            }
            Self::SecretInArgument { name, .. } => {
                format!("env = {{ PASSWORD = \"{{secret:{name}}}\" }} beside command, read by the program")
            }
        })
    }
}

/// What is known at one step.
struct Scope<'a> {
    known: &'a Known<'a>,
    captured: BTreeSet<&'a str>,
}

impl Step {
    /// Checks a step that stands alone, such as `ready`.
    pub fn check(&self, known: &Known<'_>) -> Result<(), ConfigProblem> {
        let scope = Scope { known, captured: BTreeSet::new() };
        self.ways.iter().try_for_each(|way| scope.way(&self.name, way))
    }
}

impl BusyConfig {
    /// Checks the variables of a busy check.
    pub fn check(&self, known: &Known<'_>) -> Result<(), ConfigProblem> {
        let scope = Scope { known, captured: BTreeSet::new() };
        match self.parts() {
            (Some(way), _) => scope.way("busy", way),
            (None, Some(log)) => scope.text("busy", log, Place::Plain),
            (None, None) => Ok(()),
        }
    }
}

impl ResumeConfig {
    /// Checks the variables of a resume gate; the steps before it as those of a probe.
    pub fn check(&self, known: &Known<'_>) -> Result<(), ConfigProblem> {
        let keys = self.keys();
        let mut scope = in_order(&keys.before, known)?;
        scope.captured.insert("run");
        scope.text("path", &keys.path, Place::Path)?;
        scope.headers("headers", &keys.headers)?;
        keys.protocol.iter().try_for_each(|text| scope.text("protocol", text, Place::Plain))?;
        keys.when.values().try_for_each(|value| scope.value("when", value))?;
        let more = ["last"].into_iter().chain(keys.session.as_ref().map(|_| "session"));
        let of_resume = Scope { known, captured: scope.captured.iter().copied().chain(more).collect() };
        keys.resume_path.iter().try_for_each(|path| of_resume.text("resume_path", path, Place::Path))?;
        let mut found = Ok(());
        keys.see_resume_sent(&mut |text| {
            if found.is_ok() {
                found = of_resume.text("what is sent to resume", text, Place::Plain);
            }
        });
        found?;
        scope.captured.extend(["id", "n"]);
        let mut found = Ok(());
        keys.see_sent(&mut |text| {
            if found.is_ok() {
                found = scope.text("what is sent", text, Place::Plain);
            }
        });
        found
    }
}

/// Checks the steps of a probe.
pub(crate) fn probe<'a>(steps: &'a [Step], known: &'a Known<'a>) -> Result<(), ConfigProblem> {
    if steps.is_empty() {
        return Err(ConfigProblem::NoSteps);
    }
    in_order(steps, known).map(drop)
}

/// Checks the steps in their order; gives what is known after them.
fn in_order<'a>(steps: &'a [Step], known: &'a Known<'a>) -> Result<Scope<'a>, ConfigProblem> {
    let mut scope = Scope { known, captured: BTreeSet::new() };
    let mut names = BTreeSet::new();
    for step in steps {
        if !names.insert(&step.name) {
            return Err(ConfigProblem::SameName(step.name.clone()));
        }
        step.ways.iter().try_for_each(|way| scope.way(&step.name, way))?;
        // Only what every alternative captures is there afterwards, whichever answers.
        let Some((first, others)) = step.ways.split_first() else {
            continue;
        };
        let by_all = |name: &&String| others.iter().all(|way| way.capture.contains_key(*name));
        scope.captured.extend(first.capture.keys().filter(by_all).map(String::as_str));
    }
    Ok(scope)
}

impl Scope<'_> {
    fn way(&self, step: &str, way: &Way) -> Result<(), ConfigProblem> {
        let place =
            if way.name.is_empty() { format!("step {step:?}") } else { format!("step {step:?}, {:?}", way.name) };
        match &way.act {
            Act::Http(http) => {
                self.text(&place, &http.path, Place::Path)?;
                self.headers(&place, &http.headers)?;
                http.json.iter().try_for_each(|json| self.json(&place, json))?;
                http.body.iter().try_for_each(|body| self.text(&place, body, Place::Plain))?;
            }
            Act::WebSocket(socket) => {
                self.text(&place, &socket.path, Place::Path)?;
                self.headers(&place, &socket.headers)?;
                socket.protocol.iter().try_for_each(|text| self.text(&place, text, Place::Plain))?;
                for turn in &socket.script {
                    turn.send.iter().try_for_each(|text| self.text(&place, text, Place::Plain))?;
                    turn.send_json.iter().try_for_each(|json| self.json(&place, json))?;
                    turn.expect.iter().try_for_each(|pattern| self.pattern(&place, pattern))?;
                    turn.expect_json.iter().flatten().try_for_each(|(_, value)| self.value(&place, value))?;
                }
            }
            Act::Tcp(tcp) => {
                tcp.send.iter().try_for_each(|text| self.text(&place, text, Place::Plain))?;
                tcp.expect.iter().try_for_each(|pattern| self.pattern(&place, pattern))?;
            }
            Act::Command { argv, env } => {
                argv.iter().try_for_each(|word| self.argument(&place, word))?;
                env.values().try_for_each(|text| self.text(&place, text, Place::Plain))?;
            }
        }
        let expect = &way.expect;
        expect.headers.values().try_for_each(|pattern| self.pattern(&place, pattern))?;
        expect.json.values().try_for_each(|value| self.value(&place, value))?;
        expect.body.iter().chain(&expect.stdout).try_for_each(|pattern| self.pattern(&place, pattern))?;
        way.capture.values().try_for_each(|capture| match capture {
            Capture::Json(_) | Capture::Header { pattern: None, .. } => Ok(()),
            Capture::Header { pattern: Some(pattern), .. } | Capture::Body(pattern) => self.pattern(&place, pattern),
        })
    }

    fn headers(&self, place: &str, headers: &BTreeMap<String, String>) -> Result<(), ConfigProblem> {
        headers.values().try_for_each(|text| self.text(place, text, Place::Plain))
    }

    fn argument(&self, place: &str, word: &str) -> Result<(), ConfigProblem> {
        match variables::names(word, Place::Plain).find_map(|name| name.strip_prefix("secret:")) {
            Some(name) => Err(ConfigProblem::SecretInArgument { place: place.into(), name: name.into() }),
            None => self.text(place, word, Place::Plain),
        }
    }

    fn pattern(&self, place: &str, pattern: &Pattern) -> Result<(), ConfigProblem> {
        self.text(place, pattern.as_str(), Place::Pattern)
    }

    fn value(&self, place: &str, value: &JsonExpectation) -> Result<(), ConfigProblem> {
        match value {
            JsonExpectation::Equals(json) => self.json(place, json),
            JsonExpectation::Matches(pattern) => self.pattern(place, pattern),
            JsonExpectation::Exists(_) => Ok(()),
        }
    }

    fn json(&self, place: &str, json: &serde_json::Value) -> Result<(), ConfigProblem> {
        let mut found = Ok(());
        body::texts(json, &mut |text| {
            if found.is_ok() {
                found = self.text(place, text, Place::Plain);
            }
        });
        found
    }

    fn text(&self, place: &str, text: &str, how: Place) -> Result<(), ConfigProblem> {
        variables::names(text, how).try_for_each(|name| self.name(place, name))
    }

    fn name(&self, place: &str, name: &str) -> Result<(), ConfigProblem> {
        if let Some(secret) = name.strip_prefix("secret:") {
            if self.known.secrets.contains(secret) {
                return Ok(());
            }
            let nearest = variables::nearest(secret, self.known.secrets.iter().copied());
            return Err(ConfigProblem::UnknownSecret {
                place: place.into(),
                name: secret.into(),
                nearest: nearest.map(|nearest| format!("secret:{nearest}")),
            });
        }
        if BUILT_IN.contains(&name) || self.known.vars.contains(name) || self.captured.contains(name) {
            return Ok(());
        }
        let all = BUILT_IN.into_iter().chain(self.known.vars.iter().copied()).chain(self.captured.iter().copied());
        let nearest = variables::nearest(name, all).map(Into::into);
        Err(ConfigProblem::UnknownVariable { place: place.into(), name: name.into(), nearest })
    }
}
