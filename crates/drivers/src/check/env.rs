//! Variables where they are used: in the environment an instance's program gets, or in lastgood's own.

use super::{Environment, Sight, Wrong};
use crate::probe::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Variables of an environment. Their values are compared, never shown.
///
/// ```toml
/// [preflight.database]
/// env = { variables = ["DATABASE_URL"], service = "notebook", matches = "^postgres://" }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvCheck {
    /// The variables.
    pub variables: Vec<String>,
    /// The service whose instances use them: what its `env` gives them is looked at, secrets put in. Default: the
    /// environment lastgood itself runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `present` (and not empty) or `absent`. Default `present`.
    #[serde(default)]
    pub rule: EnvRule,
    /// A pattern that is found in each value. The value is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Pattern>,
    /// Asks only if something is on: `{ variable = "PAYMENTS" }`, `{ variable = "PAYMENTS", equals = "on" }` or
    /// `{ flag = "payments" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<OnlyIf>,
}

/// What is asked of a variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnvRule {
    /// It is set, and not to nothing.
    #[default]
    Present,
    /// It is not set at all.
    Absent,
}

/// What must be on for a check to be asked. Exactly one of `variable` and `flag` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlyIf {
    /// A variable of the same environment that is set, and not to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// For `variable`: the value it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// A feature flag of lastgood that is on for anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
}

impl EnvCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        if self.variables.is_empty() {
            return Some("it names no variable".into());
        }
        if self.rule == EnvRule::Absent && self.matches.is_some() {
            return Some("what must be absent has no value to match".into());
        }
        match self.only_if.as_ref().map(|only| (&only.variable, &only.flag, &only.equals)) {
            None | Some((Some(_), None, _) | (None, Some(_), None)) => None,
            Some(_) => Some("only_if has either variable (and equals) or flag".into()),
        }
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let own;
        let environments: &[Environment] = match &self.service {
            Some(service) => sight.environments.get(service).map(Vec::as_slice).unwrap_or_default(),
            None => {
                let variables = std::env::vars_os()
                    .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
                own = [Environment { instance: String::new(), variables: Ok(variables.collect()) }];
                &own
            }
        };
        let mut looked_at = 0;
        for environment in environments {
            let place = self.place(environment);
            let variables = environment.variables.as_ref().map_err(|why| {
                let what = format!("the environment of {place} can't be told: {why}");
                Wrong::unknown("preflight-env-unknown", what, "lastgood doctor --only secrets")
            })?;
            if self.is_asked(variables, sight) {
                looked_at += 1;
                self.judge(variables, &place)?;
            }
        }
        if environments.is_empty() {
            let what = "there is no instance whose environment could be looked at";
            return Err(Wrong::unknown("preflight-env-unknown", what, "lastgood config check"));
        }
        let names = self.variables.join(", ");
        Ok(match (looked_at, self.rule) {
            (0, _) => format!("{names} not needed: what they are for is off"),
            (_, EnvRule::Present) => format!("{names} set"),
            (_, EnvRule::Absent) => format!("{names} not set"),
        })
    }

    fn place(&self, environment: &Environment) -> String {
        match &self.service {
            Some(service) => format!("{service}/{}", environment.instance),
            None => "lastgood's own environment".into(),
        }
    }

    fn is_asked(&self, variables: &BTreeMap<String, String>, sight: &Sight) -> bool {
        let Some(only) = &self.only_if else { return true };
        if let Some(flag) = &only.flag {
            return sight.flags.get(flag).copied().unwrap_or(false);
        }
        let value = only.variable.as_ref().and_then(|name| variables.get(name));
        match &only.equals {
            Some(wanted) => value == Some(wanted),
            None => value.is_some_and(|value| !value.is_empty()),
        }
    }

    fn judge(&self, variables: &BTreeMap<String, String>, place: &str) -> Result<(), Wrong> {
        for name in &self.variables {
            let value = variables.get(name);
            let fix = |example: &str| match &self.service {
                Some(service) => format!("[service.{service}.env] {example}"),
                None => format!("Environment={name}=… in the unit that runs lastgood"),
            };
            let set = fix(&format!("{name} = \"…\""));
            match (self.rule, value) {
                (EnvRule::Absent, None) => {}
                (EnvRule::Absent, Some(_)) => {
                    let fix = match &self.service {
                        Some(service) => format!("take {name} out of [service.{service}.env]"),
                        None => format!("UnsetEnvironment={name} in the unit that runs lastgood"),
                    };
                    return Err(Wrong::fails("preflight-env-forbidden", format!("{place} has {name}"), fix));
                }
                (EnvRule::Present, None) => {
                    return Err(Wrong::fails("preflight-env-missing", format!("{place} has no {name}"), set));
                }
                (EnvRule::Present, Some(value)) if value.is_empty() => {
                    return Err(Wrong::fails("preflight-env-empty", format!("{name} of {place} is empty"), set));
                }
                (EnvRule::Present, Some(value)) => self.compare(name, value, place, set)?,
            }
        }
        Ok(())
    }

    fn compare(&self, name: &str, value: &str, place: &str, fix: String) -> Result<(), Wrong> {
        let Some(pattern) = &self.matches else { return Ok(()) };
        let regex = pattern.regex(&|_| None).map_err(|why| {
            Wrong::unknown("preflight-env-unknown", format!("{name} can't be compared: {why}"), "lastgood config check")
        })?;
        if regex.is_match(value) {
            return Ok(());
        }
        let what = format!("{name} of {place} does not match {:?}", pattern.as_str());
        Err(Wrong::fails("preflight-env-mismatch", what, fix))
    }
}
