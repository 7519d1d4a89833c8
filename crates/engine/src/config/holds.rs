//! `[holds]` and `[enforcer.NAME]`: when owners are asked after their holds, and what enforces them outside.

use super::Config;
use lastgood_domain::terms::EnforcerName;
use lastgood_drivers::{config_terms::Length, enforcer::EnforcerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asking sooner makes people stop reading.
const REVIEW_MIN: Length = Length::seconds(60);

/// Holds over several services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldsConfig {
    /// When the owner of a hold without an end is asked whether it is still needed, and how often again. Default `7d`.
    #[serde(default = "review_after")]
    pub review_after: Length,
}

impl Default for HoldsConfig {
    fn default() -> Self {
        Self { review_after: review_after() }
    }
}

const fn review_after() -> Length {
    Length::seconds(7 * 86_400)
}

impl Config {
    /// Gives the enforcers by their names; those with a wrong name are found when the file is read.
    pub fn enforcers(&self) -> impl Iterator<Item = (EnforcerName, &EnforcerConfig)> {
        self.enforcer.iter().filter_map(|(name, config)| Some((EnforcerName::new(name).ok()?, config)))
    }

    /// Finds what is wrong with holds and enforcers: the key, what, and a line that would work.
    pub(super) fn wrong_holds(&self) -> Option<(String, String, &'static str)> {
        if self.holds.review_after < REVIEW_MIN {
            let what = "people are asked at most once a minute".to_owned();
            return Some(("holds.review_after".into(), what, "review_after = \"7d\""));
        }
        for (name, enforcer) in &self.enforcer {
            let place = format!("enforcer.{name}");
            if let Err(error) = EnforcerName::new(name) {
                return Some((place, error.to_string(), "[enforcer.repository]"));
            }
            if let Some(missing) = enforcer.secret().filter(|secret| !self.secret.contains_key(*secret)) {
                let what = format!("there is no [secret.{missing}]");
                return Some((place, what, "[secret.NAME] with file = \"/etc/lastgood/NAME\""));
            }
            if let Some(unknown) = enforcer.services.iter().find(|service| !self.service.contains_key(*service)) {
                return Some((place, format!("there is no service {unknown}"), "services = [\"web\"]"));
            }
        }
        None
    }
}
