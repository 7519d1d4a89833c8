//! `[runbook]`: what an incident does besides taking services back: commands, checks, files, credentials.

use lastgood_domain::{
    operations::incident::{
        Level,
        plan::{Area, Risk, RiskLevel, Undo},
    },
    terms::ServiceName,
};
use lastgood_drivers::{
    config_terms::Length,
    probe::{Known, ProbeConfig, Step},
    sql::DatabaseConfig,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// The runbook of this machine as a program: what is done at which level, besides what lastgood does by itself.
///
/// ```toml
/// [runbook]
/// approvals = { L2 = 1, L3 = 2 }
///
/// [runbook.step.rebuild-totals]
/// area = "data"
/// do = [{ command = ["/usr/local/bin/rebuild-totals"] }]
/// verify = [{ command = ["/usr/local/bin/totals-fit"] }]
/// undo = "rebuild them again; they hold nothing of their own"
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunbookConfig {
    /// How many people besides who asks must approve a plan, by level. A plan with a step that can't be undone needs one
    /// at least. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub approvals: BTreeMap<Level, u32>,
    /// Commands, by name; done in the order of their areas, then of their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub step: BTreeMap<String, StepConfig>,
    /// Questions that must be answered with yes after the steps of their area, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub check: BTreeMap<String, CheckConfig>,
    /// What `lastgood emergency` does besides, by name: commands that stop runners or agents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub emergency: BTreeMap<String, EmergencyConfig>,
    /// Files of this machine that a release brings, by name: put back where they differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub file: BTreeMap<String, FileConfig>,
}

/// What a step or a check is about. The same words as in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AreaConfig {
    /// Code and configuration.
    Application,
    /// What the machine has besides.
    Infrastructure,
    /// Data and what is derived of it.
    Data,
    /// The log itself.
    Evidence,
    /// Secrets that may be in other hands.
    Credentials,
}

impl From<AreaConfig> for Area {
    fn from(area: AreaConfig) -> Self {
        match area {
            AreaConfig::Application => Self::Application,
            AreaConfig::Infrastructure => Self::Infrastructure,
            AreaConfig::Data => Self::Data,
            AreaConfig::Evidence => Self::Evidence,
            AreaConfig::Credentials => Self::Credentials,
        }
    }
}

/// A command of the runbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// What it is about.
    pub area: AreaConfig,
    /// The lowest level at which it is done: `L1`, `L2` or `L3`. Default: that of its area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub level: Option<Level>,
    /// Only for incidents about one of these services. Default: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "BTreeSet<String>")]
    pub services: BTreeSet<ServiceName>,
    /// What is done: steps as a probe has them, most often one `command`.
    #[serde(rename = "do")]
    pub act: Vec<Step>,
    /// What must be so right before it is first tried; unmet, the plan stops there and nothing was done. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precondition: Option<NeedConfig>,
    /// What may go wrong with it. Default: `severe` where it can't be undone, else `moderate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskConfig>,
    /// How it is seen that it was done; asked before it is done, after it, and after a crash. Steps as a probe has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Step>,
    /// Whether doing it twice is the same as once. Without this and without `verify` a step that was cut off waits for a
    /// person. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// How it is undone, in words or as a command to type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// Why it can't be undone; a plan with such a step needs an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<String>,
    /// How long it may take. Default `5m`.
    #[serde(default = "timeout")]
    pub timeout: Length,
    /// How often it is tried. Default 1.
    #[serde(default = "once")]
    pub attempts: u32,
    /// Whether the plan goes on when it has failed. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_fail: bool,
}

/// What must be so before a step: answers of probes, or rows that a database must not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeedConfig {
    /// Steps as a probe has them; all must pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask: Vec<Step>,
    /// Instead of `ask`: rows of a database that must not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlCheck>,
}

/// What may go wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RiskConfig {
    /// How bad that is. A severe step is named in what people approve.
    pub level: RiskLevelConfig,
    /// What it is, in one sentence.
    pub what: String,
}

/// How bad it is. The same words as in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RiskLevelConfig {
    /// Nobody notices.
    Low,
    /// Some notice, for a short time.
    Moderate,
    /// Users lose something, or it stays.
    Severe,
}

impl From<RiskLevelConfig> for RiskLevel {
    fn from(level: RiskLevelConfig) -> Self {
        match level {
            RiskLevelConfig::Low => Self::Low,
            RiskLevelConfig::Moderate => Self::Moderate,
            RiskLevelConfig::Severe => Self::Severe,
        }
    }
}

/// A question of the runbook: isolation of tenants, idempotency, totals that fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// What it is about. Default `data`.
    #[serde(default = "data")]
    pub area: AreaConfig,
    /// The lowest level at which it is asked: `L1`, `L2` or `L3`. Default: that of its area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub level: Option<Level>,
    /// Only for incidents about one of these services. Default: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "BTreeSet<String>")]
    pub services: BTreeSet<ServiceName>,
    /// Steps as a probe has them; all must pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask: Vec<Step>,
    /// Instead of `ask`: rows of a database that must not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlCheck>,
    /// How long it may take. Default `5m`.
    #[serde(default = "timeout")]
    pub timeout: Length,
    /// How often it is asked before the answer is no. Default 1.
    #[serde(default = "once")]
    pub attempts: u32,
}

/// A question to a database, in a transaction that only reads: rows of one tenant that another one sees, orders that are
/// there twice, rights that a role should not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// The `[database.NAME]` that is asked.
    pub database: String,
    /// One statement that gives the rows that must not be there: it passes if there is none. Their contents are never shown.
    pub query: String,
    /// One statement that gives one number, how much there is to look at: it must be above 0, for in an empty table there is
    /// nothing wrong either. Default: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// A command of an emergency disablement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmergencyConfig {
    /// What is done: steps as a probe has them, most often one `command`.
    #[serde(rename = "do")]
    pub act: Vec<Step>,
    /// How it is seen that it is so. Steps as a probe has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Step>,
    /// How long it may take. Default `10s`: the acts after it wait.
    #[serde(default = "soon")]
    pub timeout: Length,
}

/// A file of this machine that a release brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Whose release brings it.
    #[schemars(with = "String")]
    pub service: ServiceName,
    /// Where it lies on this machine. A relative path starts at the folder of lastgood.toml.
    pub path: PathBuf,
    /// Where it lies in the installation, such as `etc/web.conf`.
    pub from: PathBuf,
}

const fn timeout() -> Length {
    Length::seconds(300)
}
const fn soon() -> Length {
    Length::seconds(10)
}
const fn once() -> u32 {
    1
}
const fn data() -> AreaConfig {
    AreaConfig::Data
}

impl StepConfig {
    /// Gives how it is undone.
    pub fn undone(&self) -> Undo {
        match (&self.irreversible, &self.undo) {
            (Some(why), _) => Undo::None { why: why.clone() },
            (None, Some(how)) => Undo::By { how: how.clone() },
            (None, None) => Undo::None { why: "nobody has said how".into() },
        }
    }

    /// Gives what may go wrong with it.
    pub fn risk(&self) -> Risk {
        match (&self.risk, self.undone()) {
            (Some(risk), _) => Risk { level: risk.level.into(), what: risk.what.clone() },
            (None, Undo::None { why }) => Risk { level: RiskLevel::Severe, what: format!("it can't be undone: {why}") },
            (None, _) => Risk { level: RiskLevel::Moderate, what: "nobody has said what may go wrong".into() },
        }
    }

    /// Gives the level from which on it is done.
    pub fn level(&self) -> Level {
        self.level.unwrap_or_else(|| Area::from(self.area).level())
    }
}

impl CheckConfig {
    /// Gives the level from which on it is asked.
    pub fn level(&self) -> Level {
        self.level.unwrap_or_else(|| Area::from(self.area).level())
    }
}

/// What can't be as it is: place, what, example.
type Wrong = (String, String, &'static str);

impl RunbookConfig {
    /// Tells whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Gives the first thing that can't be as it is: place, what, example.
    pub(super) fn wrong(
        &self,
        known: &BTreeSet<&ServiceName>,
        databases: &BTreeMap<String, DatabaseConfig>,
        secrets: &Known<'_>,
    ) -> Option<Wrong> {
        let steps = self.step.iter().map(|(name, step)| (format!("runbook.step.{name}"), &step.act, &step.services));
        let needs = self.step.iter().filter_map(|(name, step)| {
            Some((format!("runbook.step.{name}.precondition"), step.precondition.as_ref()?, &step.services))
        });
        let needs: Vec<_> = needs.map(|(place, need, services)| (place, &need.ask, &need.sql, services)).collect();
        let checks = self.check.iter();
        let checks = checks.map(|(name, one)| (format!("runbook.check.{name}"), &one.ask, &one.sql, &one.services));
        let questions: Vec<_> = needs.into_iter().chain(checks).collect();
        for (place, ask, sql, _) in &questions {
            let example = "sql = { database = \"app\", query = \"SELECT …\" }";
            let what = match sql {
                Some(_) if !ask.is_empty() => "it has ask and sql; it is one question".to_owned(),
                Some(sql) if !databases.contains_key(&sql.database) => {
                    format!("there is no [database.{}]", sql.database)
                }
                Some(sql) if sql.query.trim().is_empty() => "its query is empty".to_owned(),
                _ => continue,
            };
            return Some((place.clone(), what, example));
        }
        let asking = questions.into_iter().filter(|(_, _, sql, _)| sql.is_none());
        let checks = asking.map(|(place, ask, _, services)| (place, ask, services));
        let none = BTreeSet::new();
        let emergency = self.emergency.iter().map(|(name, one)| (format!("runbook.emergency.{name}"), &one.act, &none));
        for (place, steps, services) in steps.chain(checks).chain(emergency) {
            if steps.is_empty() {
                return Some((place, "nothing is done".into(), "do = [{ command = [\"/usr/local/bin/rebuild\"] }]"));
            }
            if let Err(problem) = ProbeConfig::of_acts(steps).check(secrets) {
                return Some((place, problem.to_string(), "do = [{ command = [\"/usr/local/bin/rebuild\"] }]"));
            }
            if let Some(service) = services.iter().find(|one| !known.contains(one)) {
                return Some((place, format!("there is no service {service}"), "services = [\"web\"]"));
            }
        }
        for (name, step) in &self.step {
            let place = format!("runbook.step.{name}");
            if step.undo.is_some() && step.irreversible.is_some() {
                return Some((place, "it has an undo and is irreversible".into(), "undo = \"…\""));
            }
            if step.risk.as_ref().is_some_and(|risk| risk.what.trim().is_empty()) {
                let example = "risk = { level = \"severe\", what = \"readers see no totals for a minute\" }";
                return Some((format!("{place}.risk"), "it does not say what may go wrong".into(), example));
            }
            if step.attempts == 0 {
                return Some((place, "it would never be tried".into(), "attempts = 1"));
            }
        }
        for (name, file) in &self.file {
            let place = format!("runbook.file.{name}");
            if !known.contains(&file.service) {
                return Some((place, format!("there is no service {}", file.service), "service = \"web\""));
            }
            let inside = |part| matches!(part, std::path::Component::Normal(_));
            if !file.from.components().all(inside) {
                let what = format!("from lies in the installation, and {} does not", file.from.display());
                return Some((place, what, "path = \"/etc/web.conf\", from = \"etc/web.conf\""));
            }
        }
        None
    }
}
