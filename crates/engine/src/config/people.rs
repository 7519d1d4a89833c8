//! `[person.NAME]` and `[role.NAME]`: who people are, where they are reached, and what needs a role.

use super::Config;
use lastgood_domain::{
    operations::{
        escalation::{Chains, Step},
        people::{Act, INCIDENT_ROLES, People, Person},
    },
    terms::{Actor, RoleName, Span},
};
use lastgood_drivers::config_terms::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

impl Config {
    /// Gives everybody who is configured.
    pub fn people(&self) -> People {
        let named = self.gate.iter().filter_map(|(gate, config)| Some((gate.to_string(), config.owner.clone()?)));
        let named = named.chain(self.overrides.clone());
        let owners = named.filter_map(|(gate, name)| Some((gate, actor_of(&name).ok()?)));
        let people = people(&self.person, &self.role);
        let asking = self.approvals.as_ref().map(|approvals| approvals.policy(&people.all)).unwrap_or_default();
        People { owners: owners.collect(), caps: self.caps.clone(), asking, ..people }
    }

    /// Gives by which chains people are paged.
    pub fn chains(&self) -> Chains {
        self.escalation.iter().map(|(name, chain)| (name.clone(), chain.chain())).collect()
    }
}

/// One person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonConfig {
    /// What the person takes on, such as `["incident-commander", "security"]`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub roles: BTreeSet<RoleName>,
    /// Places of `[notice]` that reach this person and nobody else; links to approve by are sent there only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notice: Vec<String>,
}

/// What a role is needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// What only people with such a role may do: `approve`, `lift`, `waive`, `exempt`, `override`, `lead`, `accept`,
    /// `reset` (a tripped switch), `credential` (by hand; without a role that names it, the role `security`).
    /// What no role names is open to every person that is configured.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub may: BTreeSet<Act>,
}

/// Who is paged one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscalationConfig {
    /// The steps in order; one that reaches nobody is passed at once.
    pub steps: Vec<StepConfig>,
}

/// One step: who, and how long they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// People by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub to: BTreeSet<String>,
    /// People by role.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub roles: BTreeSet<RoleName>,
    /// How long before the next step is paged. Default `5m`.
    #[serde(default = "within")]
    pub within: Length,
}

fn within() -> Length {
    Length(Span::minutes(5))
}

impl EscalationConfig {
    /// Gives the steps as decisions take them.
    pub(super) fn chain(&self) -> Vec<Step> {
        let step = |one: &StepConfig| Step {
            to: one.to.iter().filter_map(|name| actor_of(name).ok()).collect(),
            roles: one.roles.clone(),
            within: one.within.0,
        };
        self.steps.iter().map(step).collect()
    }
}

/// Makes the actor of a configured name.
///
/// Errors: why the name can't be one.
pub fn actor_of(name: &str) -> Result<Actor, String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match plain && !name.is_empty() {
        true => Actor::new(&format!("person:{name}")).map_err(|error| error.to_string()),
        false => Err(format!("{name:?} is no name: use the name of the person's account on this machine")),
    }
}

/// Gives everybody who is configured. Names that [`wrong`] finds wrong are left out.
pub(super) fn people(person: &BTreeMap<String, PersonConfig>, role: &BTreeMap<RoleName, RoleConfig>) -> People {
    let known = person.iter().filter_map(|(name, config)| Some((actor_of(name).ok()?, config)));
    let all = known
        .map(|(actor, config)| (actor, Person { roles: config.roles.clone(), notice: config.notice.clone() }))
        .collect();
    let mut may: BTreeMap<Act, BTreeSet<RoleName>> = BTreeMap::new();
    for (name, config) in role {
        for act in &config.may {
            may.entry(*act).or_default().insert(name.clone());
        }
    }
    People { all, may, ..People::default() }
}

/// Finds what is wrong: the key, what, and a line that would work.
pub(super) fn wrong(
    person: &BTreeMap<String, PersonConfig>,
    role: &BTreeMap<RoleName, RoleConfig>,
    takes_messages: &dyn Fn(&str) -> bool,
) -> Option<(String, String, &'static str)> {
    let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, config) in person {
        let place = format!("person.{name}");
        if let Err(what) = actor_of(name) {
            return Some((place, what, "[person.alice]"));
        }
        for endpoint in &config.notice {
            if !takes_messages(endpoint) {
                let what = format!("there is no [notice.{endpoint}] that takes messages");
                return Some((place, what, "notice = [\"pager-alice\"]"));
            }
            if let Some(other) = reached.insert(endpoint, name).filter(|other| *other != name) {
                let what = format!("[notice.{endpoint}] reaches {other} too; who answers a link could be either");
                return Some((place, what, "notice = [\"pager-alice\"]"));
            }
        }
        let known = |role_name: &RoleName| INCIDENT_ROLES.contains(&role_name.as_str()) || role.contains_key(role_name);
        if let Some(unknown) = config.roles.iter().find(|name| !known(name)) {
            let what =
                format!("there is no role {unknown}; the roles of an incident are {}", INCIDENT_ROLES.join(", "));
            return Some((place, what, "[role.NAME] with may = [\"override\"]"));
        }
    }
    None
}

/// Finds what is wrong with chains, links and owners: names that nobody has, an address that is none.
pub(super) fn wrong_around(config: &super::Config) -> Option<(String, String, &'static str)> {
    let known = |name: &String| config.person.contains_key(name);
    for (chain, one) in &config.escalation {
        let mut named = one.steps.iter().flat_map(|step| &step.to);
        if let Some(unknown) = named.find(|name| !known(name)) {
            let what = format!("there is no [person.{unknown}]");
            return Some((format!("escalation.{chain}"), what, "steps = [{ to = [\"alice\"], within = \"5m\" }]"));
        }
    }
    if let Some((gate, unknown)) = config.overrides.iter().find(|(_, owner)| !known(owner)) {
        let what = format!("there is no [person.{unknown}]");
        return Some((format!("overrides.{gate}"), what, "preflight = \"alice\""));
    }
    super::approvals::wrong(config)
}
