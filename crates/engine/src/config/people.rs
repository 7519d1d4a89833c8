//! `[person.NAME]` and `[role.NAME]`: who people are, where they are reached, and what needs a role.

use super::Config;
use lastgood_domain::{
    operations::{
        escalation::{Chains, Step},
        people::{Act, INCIDENT_ROLES, People, Person},
    },
    terms::{Actor, RoleName, Span},
};
use lastgood_drivers::{config_terms::Length, notice::EndpointConfig};
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
        People { owners: owners.collect(), caps: self.caps.clone(), ..people }
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
    /// `reset` (a tripped switch).
    /// What no role names is open to every person that is configured.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub may: BTreeSet<Act>,
}

/// How people are asked to approve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsConfig {
    /// The address under which people reach the daemon's `listen` through a front door of yours, such as
    /// `https://ops.example`. With it everybody who may answer a request gets a link of their own. Default: no links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The chain that is paged at four fifths of a request's time. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
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
    let approvals = config.approvals.as_ref()?;
    if let Some(chain) = approvals.escalation.as_ref().filter(|chain| !config.escalation.contains_key(*chain)) {
        let what = format!("there is no [escalation.{chain}]");
        return Some(("approvals.escalation".into(), what, "escalation = \"default\""));
    }
    if approvals.url.is_some()
        && let Some(wrong) = in_the_clear(config)
    {
        return Some(wrong);
    }
    let wrong = approvals.url.as_ref().filter(|url| !is_address(url))?;
    let what = format!("{wrong:?} is no https:// address (http:// only of this machine), without query and user");
    Some(("approvals.url".into(), what, "url = \"https://ops.example\""))
}

/// Finds a place of a person that links would be sent to through a network in the clear.
fn in_the_clear(config: &super::Config) -> Option<(String, String, &'static str)> {
    let places = config.person.values().flat_map(|person| &person.notice);
    places.into_iter().find_map(|name| match &config.notice.get(name)?.endpoint {
        EndpointConfig::Webhook { url, .. } if url.starts_with("http://") && !is_address(url) => {
            let what = format!("links to approve by would be sent to {url} in the clear; http:// only on this machine");
            Some((format!("notice.{name}"), what, "webhook = \"https://pager.example/alice\""))
        }
        _ => None,
    })
}

/// Tells whether links may lead there: what a link allows must not go through a network in the clear.
fn is_address(url: &str) -> bool {
    let plain = url.chars().all(|c| c.is_ascii_graphic() && !"?#@\"'<>\\".contains(c));
    let rest = url.strip_prefix("https://").or_else(|| {
        let rest = url.strip_prefix("http://")?;
        let host = rest.split('/').next()?;
        ["127.0.0.1", "localhost", "[::1]"]
            .iter()
            .any(|here| host.strip_prefix(here).is_some_and(|port| port.is_empty() || port.starts_with(':')))
            .then_some(rest)
    });
    plain && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::failure::Coded as _;
    use std::path::Path;

    #[test]
    fn links_are_sent_to_no_webhook_of_a_person_in_the_clear_but_on_this_machine() {
        let of = |webhook: &str, approvals: &str| {
            let text = format!(
                "{approvals}\n[secret.hook]\nfile = \"hook\"\n[person.alice]\nnotice = [\"pager\"]\n\
                 [notice.pager]\nwebhook = \"{webhook}\"\nsecret = \"hook\"\nallow_private = true\n"
            );
            let parsed = Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/"));
            parsed.err().map(|error| (error.code(), error.to_string()))
        };
        let links = "[approvals]\nurl = \"https://ops.example\"";
        for fine in ["https://pager.example/a", "http://127.0.0.1:8080/a", "http://localhost/a", "http://[::1]:9/a"] {
            assert_eq!(of(fine, links), None, "{fine}");
        }
        for wrong in ["http://pager.example/a", "http://10.0.0.1/a", "http://127.0.0.1.pager.example/a"] {
            let (code, says) = of(wrong, links).expect(wrong);
            assert_eq!(code, "config-unfit", "{says}");
            assert!(says.contains("notice.pager") && says.contains("in the clear"), "{says}");
            assert_eq!(of(wrong, ""), None, "without links it is a notice like others");
        }
    }
}
