//! A forge's commit statuses: the head of each open request to a held branch says which hold stands in its way and whose it
//! is, and the commit that a second person agreed to is let through by the same check.
//!
//! GitHub and Gitea have the same calls for it, under other roots. A status is posted only where it is another than the last:
//! a forge keeps a thousand of a name for each commit and no more.

use super::{EnforcerError, Held, http::Api};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

/// Open requests that are looked at, and how many come at a time. More than that nobody merges in a freeze.
const PAGES_MAX: usize = 10;
const PAGE: usize = 50;
/// Both forges cut longer ones.
const DESCRIPTION_CHARS_MAX: usize = 140;

/// The check that holds are published as.
#[derive(Debug)]
pub(super) struct Checks {
    /// Where the repository is in the forge's API, such as `/repos/acme/web`.
    root: String,
    /// Begins the name of each hold's check.
    name: String,
    branches: Vec<String>,
    /// The commits that each hold was told to let through: they need not be the head of a request.
    told: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// What the checks say.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The commits that pass, by hold.
    pub(super) passes: BTreeMap<String, BTreeSet<String>>,
    /// The holds of which a head does not say yet that they stand.
    pub(super) unsaid: BTreeSet<String>,
}

impl Checks {
    pub(super) fn new(root: String, name: &str, branches: &[String]) -> Self {
        Self { root, name: name.into(), branches: branches.to_vec(), told: Mutex::default() }
    }

    /// Names the check of a hold.
    pub(super) fn context(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }

    /// Gives the hold whose check is called so.
    pub(super) fn hold_of(&self, context: &str) -> Option<String> {
        let id = context.strip_prefix(&self.name)?.strip_prefix('/')?;
        super::is_id(id).then(|| id.to_owned())
    }

    /// Lists the heads of the open requests to the branches.
    fn heads(&self, api: &Api) -> Result<BTreeSet<String>, EnforcerError> {
        let mut heads = BTreeSet::new();
        for page in 1..=PAGES_MAX {
            let path = format!("{}/pulls?state=open&per_page={PAGE}&limit={PAGE}&page={page}", self.root);
            let listed = api.must("GET", &path, None)?;
            let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
            let to_held = |one: &&Value| {
                let base = one["base"]["ref"].as_str().unwrap_or_default();
                self.branches.iter().any(|pattern| matches(pattern, base))
            };
            let shas = listed.iter().filter(to_held).filter_map(|one| one["head"]["sha"].as_str());
            heads.extend(shas.filter(|sha| is_commit(sha)).map(str::to_owned));
            if listed.len() < PAGE {
                return Ok(heads);
            }
        }
        Err(EnforcerError::forge(format!("{} has {} open requests or more", self.root, PAGES_MAX * PAGE)))
    }

    /// Gives what the checks of a commit say, the last of each name.
    fn said(&self, api: &Api, commit: &str) -> Result<BTreeMap<String, String>, EnforcerError> {
        let (_, value) = api.ask("GET", &format!("{}/commits/{commit}/status?per_page=100", self.root), None)?;
        let each = value["statuses"].as_array().cloned().unwrap_or_default();
        let said = each.iter().filter_map(|one| {
            // GitHub calls it state, Gitea status.
            let state = one["state"].as_str().or_else(|| one["status"].as_str())?;
            Some((one["context"].as_str()?.to_owned(), state.to_owned()))
        });
        Ok(said.collect())
    }

    /// Says something of a commit, unless that was said last.
    fn say(&self, api: &Api, commit: &str, context: &str, state: &str, why: &str) -> Result<(), EnforcerError> {
        if self.said(api, commit)?.get(context).is_some_and(|said| said == state) {
            return Ok(());
        }
        let description: String = why.chars().take(DESCRIPTION_CHARS_MAX).collect();
        let status = json!({ "state": state, "context": context, "description": description });
        api.must("POST", &format!("{}/statuses/{commit}", self.root), Some(&status)).map(drop)
    }

    /// Reads back what is published of `holds`.
    pub(super) fn read(&self, api: &Api, holds: &BTreeSet<String>) -> Result<Published, EnforcerError> {
        let mut published = Published::default();
        if holds.is_empty() {
            return Ok(published);
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heads = self.heads(api)?;
        for commit in heads.iter().chain(told.values().flatten().filter(|commit| !heads.contains(*commit))) {
            let said = self.said(api, commit)?;
            for hold in holds {
                match said.get(&self.context(hold)).map(String::as_str) {
                    Some("success") => drop(published.passes.entry(hold.clone()).or_default().insert(commit.clone())),
                    Some("failure") => {}
                    // Without it a required check blocks as well, but tells nobody why.
                    _ if heads.contains(commit) => drop(published.unsaid.insert(hold.clone())),
                    _ => {}
                }
            }
        }
        Ok(published)
    }

    /// Says on each head that the hold stands, and lets through what was agreed to; `also` is given to those too.
    pub(super) fn publish(&self, api: &Api, hold: &Held, also: Option<&str>) -> Result<(), EnforcerError> {
        let context = self.context(&hold.id);
        let before = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.insert(hold.id.clone(), hold.passes.keys().cloned().collect()).unwrap_or_default()
        };
        let held = format!("{} by {}: {}", hold.id, hold.owner, hold.reason);
        let heads = self.heads(api)?;
        // What no longer passes is stopped again, head or not.
        for commit in heads.union(&before).filter(|commit| !hold.passes.contains_key(*commit)) {
            self.say(api, commit, &context, "failure", &held)?;
        }
        for commit in hold.passes.keys() {
            let why = format!("passes {}, by two people's word", hold.id);
            for context in [Some(context.as_str()), also].into_iter().flatten() {
                self.say(api, commit, context, "success", &why)?;
            }
        }
        Ok(())
    }

    /// Says on each head that the hold is lifted.
    pub(super) fn withdraw(&self, api: &Api, id: &str) -> Result<(), EnforcerError> {
        let context = self.context(id);
        for commit in self.heads(api)? {
            if self.said(api, &commit)?.contains_key(&context) {
                self.say(api, &commit, &context, "success", &format!("{id} is lifted"))?;
            }
        }
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}

/// Tells whether a text is the id of a commit: it becomes a part of an address.
fn is_commit(text: &str) -> bool {
    text.len() >= 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Tells whether a branch is meant by a pattern, in which `*` stands for any part of a name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((begin, rest)) => name.strip_prefix(begin).is_some_and(|name| {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| matches(rest, &name[at..]))
        }),
    }
}
