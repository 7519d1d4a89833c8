//! GitHub: each hold is a ruleset of its own that restricts updates of the branches and that nobody may bypass.
//!
//! A ruleset stacks with whatever protects a branch already, has a name that people see at the merge button, and is
//! removed without touching anything else; a lock or a required check of a classic protection rule would be shared by
//! all holds and with what the repository's own people set there.

use super::{EnforcerError, Found, Held, check::Checks, http::Api, is_id};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// GitHub shows the name at the merge button; longer ones are cut there.
const NAME_CHARS_MAX: usize = 100;
/// Rulesets of one page, the most there can be.
const PAGE: usize = 100;

/// A repository there.
#[derive(Debug)]
pub(super) struct GitHub {
    api: Api,
    repository: String,
    branches: Vec<String>,
    checks: Option<Checks>,
}

impl GitHub {
    pub(super) fn new(api: Api, repository: String, branches: Vec<String>, check: Option<&str>) -> Self {
        let checks = check.map(|name| Checks::new(format!("/repos/{repository}"), name, &branches, false));
        Self { api, repository, branches, checks }
    }

    fn path(&self, rest: &str) -> String {
        format!("/repos/{}/rulesets{rest}", self.repository)
    }

    /// Lists our rulesets: the hold and the number of each.
    fn ours(&self) -> Result<Vec<(String, u64)>, EnforcerError> {
        let listed = self.api.must("GET", &self.path(&format!("?per_page={PAGE}&includes_parents=false")), None)?;
        let listed = listed.as_array().cloned().unwrap_or_default();
        if listed.len() >= PAGE {
            return Err(EnforcerError::forge(format!("{} has {PAGE} rulesets or more", self.repository)));
        }
        Ok(listed.iter().filter_map(|one| Some((hold_of(one["name"].as_str()?)?, one["id"].as_u64()?))).collect())
    }

    pub(super) fn read(&self, wanted: &[Held]) -> Result<Found, EnforcerError> {
        let mut found = Found::default();
        for (hold, number) in self.ours()? {
            let (status, one) = self.api.ask("GET", &self.path(&format!("/{number}")), None)?;
            match (status, self.weakness(&hold, &one)) {
                (404, _) => {}
                (_, None) => drop(found.holds.insert(hold)),
                (_, Some(weak)) => found.remark = Some(format!("ruleset {number} of {hold} {weak}")),
            }
        }
        if let Some(checks) = &self.checks {
            let published = checks.read(&self.api, &found.holds, wanted)?;
            (found.passes, found.again) = (Some(published.passes), published.unsaid);
            found.absent = published.absent;
        }
        Ok(found)
    }

    /// Says why a ruleset does not stop everybody.
    fn weakness(&self, hold: &str, one: &Value) -> Option<&'static str> {
        let has = |list: &Value, wanted: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == wanted));
        let includes = &one["conditions"]["ref_name"]["include"];
        let rules = one["rules"].as_array().cloned().unwrap_or_default();
        if one["enforcement"] != "active" {
            return Some("is not active");
        }
        if one["bypass_actors"].as_array().is_none_or(|actors| !actors.is_empty()) {
            return Some("may be bypassed, or the token may not see by whom");
        }
        if !rules.iter().any(|rule| self.stops(hold, rule)) {
            return Some(match self.checks {
                None => "does not restrict updates",
                Some(_) => "does not require the hold's check",
            });
        }
        if self.branches.iter().any(|branch| !has(includes, &format!("refs/heads/{branch}"))) {
            return Some("is not for all of the branches");
        }
        let excludes = one["conditions"]["ref_name"]["exclude"].as_array();
        excludes.is_some_and(|excludes| !excludes.is_empty()).then_some("leaves branches out")
    }

    /// Gives the rule by which a hold stops everybody, or everything but what its check lets through.
    fn rule(&self, hold: &str) -> Value {
        match &self.checks {
            None => json!({ "type": "update" }),
            Some(checks) => json!({
                "type": "required_status_checks",
                "parameters": {
                    "required_status_checks": [{ "context": checks.context(hold) }],
                    "strict_required_status_checks_policy": false,
                },
            }),
        }
    }

    /// Tells whether a rule is that one, whatever else the forge adds to it.
    fn stops(&self, hold: &str, rule: &Value) -> bool {
        let wanted = self.rule(hold);
        let required = rule["parameters"]["required_status_checks"].as_array().cloned().unwrap_or_default();
        let context = |one: &Value| one["context"].clone();
        rule["type"] == wanted["type"]
            && self.checks.as_ref().is_none_or(|checks| required.iter().any(|one| context(one) == checks.context(hold)))
    }

    pub(super) fn set(&self, hold: &Held) -> Result<(), EnforcerError> {
        let includes: Vec<String> = self.branches.iter().map(|branch| format!("refs/heads/{branch}")).collect();
        let name = format!("lastgood {}: {} ({})", hold.id, hold.reason, hold.owner);
        let ruleset = json!({
            "name": name.chars().take(NAME_CHARS_MAX).collect::<String>(),
            "target": "branch",
            "enforcement": "active",
            "bypass_actors": [],
            "conditions": { "ref_name": { "include": includes, "exclude": [] } },
            "rules": [self.rule(&hold.id)],
        });
        // It stands before anything is said of it, and whatever comes of that.
        match self.ours()?.into_iter().find(|(id, _)| *id == hold.id) {
            Some((_, number)) => self.api.must("PUT", &self.path(&format!("/{number}")), Some(&ruleset))?,
            None => self.api.must("POST", &self.path(""), Some(&ruleset))?,
        };
        self.checks.as_ref().map_or(Ok(()), |checks| checks.publish(&self.api, hold, None))
    }

    pub(super) fn lift(&self, id: &str) -> Result<(), EnforcerError> {
        // While its ruleset is there the hold is asked after: what could not be said is said again.
        if let Some(checks) = &self.checks {
            checks.withdraw(&self.api, id)?;
        }
        let numbers: BTreeSet<u64> =
            self.ours()?.into_iter().filter(|(hold, _)| hold == id).map(|(_, number)| number).collect();
        for number in numbers {
            self.api.ask("DELETE", &self.path(&format!("/{number}")), None)?;
        }
        Ok(())
    }
}

fn hold_of(name: &str) -> Option<String> {
    let (id, _) = name.strip_prefix("lastgood ")?.split_once(':')?;
    is_id(id).then(|| id.to_owned())
}
