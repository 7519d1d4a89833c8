//! Gitea and Forgejo: each hold is a required status check of the branch's protection that nobody ever gives.
//!
//! A branch has one protection, which may be the repository's own: a hold adds its check to the list and takes it out
//! again, and changes nothing else. Where the protection lets people push or administrators override, that is said and
//! the hold does not count as enforced: only the repository's own people should change it.

use super::{EnforcerError, Found, Held, check::Checks, http::Api};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Begins the name of each check of ours, if nothing else is configured.
const CHECK: &str = "lastgood";
/// A check that marks a protection which did not exist before a hold: it goes with the last hold.
const MADE: &str = "lastgood/made";

/// A repository there.
#[derive(Debug)]
pub(super) struct Gitea {
    api: Api,
    repository: String,
    branches: Vec<String>,
    checks: Checks,
    /// Whether the checks are published on heads.
    publishes: bool,
}

impl Gitea {
    pub(super) fn new(api: Api, repository: String, branches: Vec<String>, check: Option<&str>) -> Self {
        let checks = Checks::new(format!("/api/v1/repos/{repository}"), check.unwrap_or(CHECK), &branches, true);
        Self { api, repository, branches, checks, publishes: check.is_some() }
    }

    fn path(&self, branch: &str) -> String {
        let root = format!("/api/v1/repos/{}/branch_protections", self.repository);
        // A name with a slash or a star is one part of the address.
        let branch = branch.replace('/', "%2F").replace('*', "%2A");
        if branch.is_empty() { root } else { format!("{root}/{branch}") }
    }

    fn protection(&self, branch: &str) -> Result<Option<Value>, EnforcerError> {
        let (status, value) = self.api.ask("GET", &self.path(branch), None)?;
        Ok((status != 404).then_some(value))
    }

    pub(super) fn read(&self, wanted: &[Held]) -> Result<Found, EnforcerError> {
        let mut found = Found::default();
        let mut all: Option<BTreeSet<String>> = None;
        for branch in &self.branches {
            let protection = self.protection(branch)?;
            let mut holds: BTreeSet<String> =
                protection.iter().flat_map(checks).filter_map(|one| self.checks.hold_of(&one)).collect();
            if let Some(weak) = protection.as_ref().filter(|_| !holds.is_empty()).and_then(weakness) {
                found.remark = Some(format!("the protection of {branch} {weak}"));
                holds.clear();
            }
            all = Some(match all {
                None => holds,
                Some(before) => before.intersection(&holds).cloned().collect(),
            });
        }
        found.holds = all.unwrap_or_default();
        if self.publishes {
            let published = self.checks.read(&self.api, &found.holds, wanted)?;
            (found.passes, found.again) = (Some(published.passes), published.unsaid);
            found.absent = published.absent;
        }
        Ok(found)
    }

    pub(super) fn set(&self, hold: &Held) -> Result<(), EnforcerError> {
        let wanted = self.checks.context(&hold.id);
        for branch in &self.branches {
            match self.protection(branch)? {
                None => {
                    let made = json!({
                        "rule_name": branch,
                        "enable_push": false,
                        "enable_status_check": true,
                        "status_check_contexts": [MADE, wanted],
                        "block_admin_merge_override": true,
                    });
                    self.api.must("POST", &self.path(""), Some(&made))?;
                }
                Some(protection) => {
                    let mut checks = checks(&protection);
                    if !checks.contains(&wanted) {
                        checks.push(wanted.clone());
                    }
                    let change = json!({ "enable_status_check": true, "status_check_contexts": checks });
                    self.api.must("PATCH", &self.path(branch), Some(&change))?;
                }
            }
        }
        if !self.publishes {
            return Ok(());
        }
        // Said after the protection stands, and whatever comes of it. One of our own stands behind a check that nobody else gives.
        self.checks.publish(&self.api, hold, Some(MADE))
    }

    pub(super) fn lift(&self, id: &str) -> Result<(), EnforcerError> {
        // While the check is required the hold is asked after: what could not be said is said again.
        if self.publishes {
            self.checks.withdraw(&self.api, id)?;
        }
        let lifted = self.checks.context(id);
        for branch in &self.branches {
            let Some(protection) = self.protection(branch)? else { continue };
            let left: Vec<String> = checks(&protection).into_iter().filter(|one| *one != lifted).collect();
            if left == [MADE] {
                self.api.ask("DELETE", &self.path(branch), None)?;
                continue;
            }
            let change = json!({ "enable_status_check": !left.is_empty(), "status_check_contexts": left });
            self.api.must("PATCH", &self.path(branch), Some(&change))?;
        }
        Ok(())
    }
}

fn checks(protection: &Value) -> Vec<String> {
    let list = protection["status_check_contexts"].as_array();
    list.into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// Says why the protection does not stop everybody.
fn weakness(protection: &Value) -> Option<&'static str> {
    if protection["enable_status_check"] != true {
        return Some("does not require status checks");
    }
    if protection["enable_push"] == true {
        return Some("lets people push without a pull request");
    }
    (protection["block_admin_merge_override"] == false).then_some("lets administrators merge all the same")
}
