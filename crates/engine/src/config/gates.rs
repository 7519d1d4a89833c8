//! `[gate.NAME]` and the gates that a service requires: each named once, and nothing required that is not there.

use super::Config;
use lastgood_domain::terms::GateName;
use lastgood_drivers::gate::GateConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Gates by name.
pub type Gates = BTreeMap<GateName, GateConfig>;

/// What is wrong: the key, what, and a line that would work.
pub(super) type Wrong = (String, String, &'static str);

/// Finds what is wrong with gates, or with what services require of them.
pub(super) fn wrong(config: &Config) -> Option<Wrong> {
    let of_gates = config.gate.iter().find_map(|(name, gate)| {
        if let Some((key, what, example)) = gate.problem() {
            let dot = if key.is_empty() { "" } else { "." };
            return Some((format!("gate.{name}{dot}{key}"), what, example));
        }
        let unknown = gate.secret().filter(|secret| !config.secret.contains_key(*secret))?;
        let example = "[secret.forge] with file = \"/etc/lastgood/forge\"";
        Some((format!("gate.{name}"), format!("there is no secret {unknown}"), example))
    });
    let of_incidents = || {
        let unknown = config.incident.verify.gates.iter().find(|gate| !config.gate.contains_key(*gate))?;
        let example = "[gate.unit] with report, command or another thing to ask";
        Some(("incident.verify.gates".into(), format!("there is no gate {unknown}"), example))
    };
    let of_commits = || {
        let is_inside = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        let wrong = |(_, one): &(&_, &super::ServiceConfig)| {
            one.commit.as_ref().is_some_and(|file| !file.components().all(is_inside))
        };
        let (service, _) = config.service.iter().find(wrong)?;
        let what = "it is a path within the installation".to_owned();
        Some((format!("service.{service}.commit"), what, "commit = \"COMMIT\""))
    };
    of_gates.or_else(of_incidents).or_else(of_commits).or_else(|| {
        config.service.iter().find_map(|(service, one)| {
            let place = format!("service.{service}.gates");
            let mut seen = BTreeSet::new();
            let bad = one.gates.iter().find(|gate| !seen.insert(*gate) || !config.gate.contains_key(*gate))?;
            let what = match config.gate.contains_key(bad) {
                true => format!("{bad} is there twice"),
                false => format!("there is no gate {bad}"),
            };
            Some((place, what, "[gate.unit] with report, command or another thing to ask"))
        })
    })
}

impl Config {
    /// Gives the services that require a gate.
    pub fn requiring<'c>(
        &'c self,
        gate: &'c GateName,
    ) -> impl Iterator<Item = &'c lastgood_domain::terms::ServiceName> + 'c {
        self.service.iter().filter(move |(_, one)| one.gates.contains(gate)).map(|(name, _)| name)
    }
}
