//! `[incident]`: what is to be cleaned up, what proves that all is well, what people are told, and the times.

use lastgood_domain::{
    operations::incident::{
        Level, Role,
        checklist::{EvidenceKind, Template},
        message::{FieldType, MessageKind},
        unfreeze::Terms,
    },
    terms::{GateName, ItemName},
};
use lastgood_drivers::{config_terms::Length, probe::Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// The item that lastgood proves by asking with each credential's old and new secret.
pub const CREDENTIALS_ROTATED: &str = "credentials-rotated";
/// The item that lastgood proves by verifying every chain.
pub const EVIDENCE_VERIFIED: &str = "evidence-verified";

/// How incidents are led.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentConfig {
    /// What `lastgood serve` does when its rules speak for an incident. Default `recommend`.
    #[serde(default)]
    pub declare: Declares,
    /// How soon after a message the next one must come, unless that one says otherwise. Default `30m`.
    #[serde(default = "update_every")]
    pub update_every: Length,
    /// For how long what runs must not have changed before the freeze is lifted. Default `10m`.
    #[serde(default = "ten_minutes")]
    pub stable_for: Length,
    /// For how long each stage of the unfreeze is watched before the next. Default `10m`.
    #[serde(default = "ten_minutes")]
    pub watch: Length,
    /// Items of the cleanup checklist by name; one that is called as a default one takes its place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, ItemConfig>")]
    pub checklist: BTreeMap<ItemName, ItemConfig>,
    /// What must be proved before the freeze is lifted.
    #[serde(default)]
    pub verify: VerifyConfig,
    /// Messages by kind: `declared`, `update`, `complete`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, MessageConfig>")]
    pub message: BTreeMap<MessageKind, MessageConfig>,
}

/// What is done when the rules speak for an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Declares {
    /// People are told why, and decide.
    #[default]
    Recommend,
    /// It is declared, led by nobody else than lastgood until somebody takes it over.
    Automatic,
}

/// One thing to clean up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemConfig {
    /// What is to be done, in one sentence.
    pub what: String,
    /// The level from which on: `L1`, `L2` or `L3`. Default `L1`.
    #[serde(default = "first_level")]
    #[schemars(with = "String")]
    pub level: Level,
    /// Whose it is: `commander`, `api`, `infrastructure`, `data`, `security` or `communications`.
    #[schemars(with = "String")]
    pub role: Role,
    /// What closes it: `command`, `file`, `url`, `event` or `statement`; `proof` for the built-in items that lastgood can
    /// prove itself, `credentials-rotated` and `evidence-verified`.
    #[schemars(with = "String")]
    pub evidence: EvidenceKind,
    /// How long after the declaration it is due. Default `4h`.
    #[serde(default = "due")]
    pub due: Length,
}

/// What must be proved before the freeze is lifted. Always asked: what runs is last-good, each instance is healthy, its
/// whole probe passes, the gates that its service requires say yes of what it runs, an event and its notice make their
/// round, and the freeze is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyConfig {
    /// How old a verification may be. Default `30m`.
    #[serde(default = "fresh")]
    pub fresh: Length,
    /// Where HTTP steps of `check` go. Default `http://127.0.0.1`.
    #[serde(default = "base")]
    pub base: String,
    /// Further steps, each a proof of its own, such as CI on the exact commit. A command that ends with 12 or that is not
    /// there is a missing proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Step>,
    /// Gates of this file, besides those that services require, that must say yes about the release that runs, not older
    /// than their limit: each is the proof `gate/NAME`. A gate that services require is asked about those of the incident's that do, any other about each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub gates: Vec<GateName>,
    /// Names that must be among the proofs, such as `check/ci`: one that is gone is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self { fresh: fresh(), base: base(), check: Vec::new(), gates: Vec::new(), required: Vec::new() }
    }
}

/// One kind of message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageConfig {
    /// A file with the template (Jinja). Default: one of ours. A relative path starts at the folder of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// Further fields that must be filled in, by name: `text` or `number`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub fields: BTreeMap<String, FieldType>,
}

impl Default for IncidentConfig {
    fn default() -> Self {
        Self {
            declare: Declares::default(),
            update_every: update_every(),
            stable_for: ten_minutes(),
            watch: ten_minutes(),
            checklist: BTreeMap::new(),
            verify: VerifyConfig::default(),
            message: BTreeMap::new(),
        }
    }
}

impl IncidentConfig {
    /// Tells whether nothing is configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Says what no single value shows: place, what is wrong, an example.
    ///
    /// A template that is not there is for `doctor` to say: it must close no door, the way back least of all.
    pub(super) fn wrong(&self) -> Option<(String, String, &'static str)> {
        let ours = [CREDENTIALS_ROTATED, EVIDENCE_VERIFIED];
        let is_unknown = |(name, item): &(&ItemName, &ItemConfig)| {
            item.evidence == EvidenceKind::Proof && !ours.contains(&name.as_str())
        };
        if let Some((name, _)) = self.checklist.iter().find(is_unknown) {
            let what = format!("lastgood can't prove {name} by itself");
            return Some((format!("incident.checklist.{name}.evidence"), what, "evidence = \"statement\""));
        }
        let named = |name: &String| self.verify.check.iter().filter(|step| step.name() == name).count();
        let twice = self.verify.check.iter().map(|step| step.name().to_owned()).find(|name| named(name) > 1);
        twice.map(|name| {
            let what = format!("two steps are called {name:?}");
            ("incident.verify.check".into(), what, "name = \"ci\"")
        })
    }

    /// Gives how long things must last.
    pub fn terms(&self) -> Terms {
        Terms { stable_for: self.stable_for.0, watch: self.watch.0, fresh: self.verify.fresh.0 }
    }

    /// Gives the whole checklist: ours, and what is configured.
    pub fn items(&self) -> Vec<(ItemName, Template)> {
        let mut all: BTreeMap<ItemName, Template> = defaults().into();
        all.extend(self.checklist.iter().map(|(name, item)| {
            let ItemConfig { what, level, role, evidence, due } = item.clone();
            (name.clone(), Template { what, level, role, evidence, due_in: due.0 })
        }));
        all.into_iter().collect()
    }
}

/// What every incident leaves behind, by level.
fn defaults() -> [(ItemName, Template); 6] {
    let item = |name, level, role, evidence, what: &str| {
        let name = ItemName::new(name).expect("a fixed valid name");
        (name, Template { what: what.into(), level, role, evidence, due_in: due().0 })
    };
    use EvidenceKind::{Proof, Statement};
    [
        item("errors-normal", Level::L1, Role::Api, Statement, "error rates are what they were before"),
        item("leftovers-removed", Level::L1, Role::Infrastructure, Statement, "what was changed by hand is undone"),
        item("data-reconciled", Level::L2, Role::Data, Statement, "wrong rows are found and kept, repaired or dropped"),
        item("queues-drained", Level::L2, Role::Data, Statement, "no work of the bad release waits in a queue"),
        item(CREDENTIALS_ROTATED, Level::L3, Role::Security, Proof, "every exposed credential is refused"),
        item(EVIDENCE_VERIFIED, Level::L3, Role::Data, Proof, "the evidence is what was signed"),
    ]
}

const fn first_level() -> Level {
    Level::L1
}
const fn due() -> Length {
    Length::seconds(4 * 3_600)
}
const fn update_every() -> Length {
    Length::seconds(1_800)
}
const fn fresh() -> Length {
    Length::seconds(1_800)
}
const fn ten_minutes() -> Length {
    Length::seconds(600)
}
fn base() -> String {
    "http://127.0.0.1".into()
}
