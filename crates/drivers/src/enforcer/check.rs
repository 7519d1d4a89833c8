//! A forge's commit statuses: the head of each open request to a held branch says which hold stands in its way and whose it
//! is, and the commit that a second person agreed to is let through by the same check.
//!
//! GitHub and Gitea have the same calls for it, under other roots. A status is posted only where it is another than the last:
//! a forge keeps a thousand of a name for each commit and no more.

use super::{EnforcerError, Held, http::Api};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Open requests that are looked at, and how many come at a time. More than that nobody merges in a freeze.
const PAGES_MAX: usize = 10;
const PAGE: usize = 50;
/// What both forges answer of a commit that they do not have.
const NOT_HERE: [u16; 2] = [404, 422];
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
    /// Whether a page may have fewer than was asked for and not be the last, as Gitea's may by its configuration.
    short_pages: bool,
}

/// What the checks say.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The commits that pass, by hold.
    pub(super) passes: BTreeMap<String, BTreeSet<String>>,
    /// The commits that might pass and are not in this repository.
    pub(super) absent: BTreeSet<String>,
    /// The holds of which a head does not say yet that they stand.
    pub(super) unsaid: BTreeSet<String>,
}

impl Checks {
    pub(super) fn new(root: String, name: &str, branches: &[String], short_pages: bool) -> Self {
        Self { root, name: name.into(), branches: branches.to_vec(), short_pages }
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

    /// Tells whether a page is the last one.
    fn is_last(&self, page: &[Value]) -> bool {
        page.is_empty() || (page.len() < PAGE && !self.short_pages)
    }

    /// Lists the heads of the open requests to the branches, and tells whether these are all of them.
    fn heads(&self, api: &Api) -> Result<(BTreeSet<String>, bool), EnforcerError> {
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
            if self.is_last(listed) {
                return Ok((heads, true));
            }
        }
        Ok((heads, false))
    }

    fn too_many(&self) -> EnforcerError {
        EnforcerError::forge(format!("{} has {} open requests or more", self.root, PAGES_MAX * PAGE))
    }

    /// Gives what the checks of a commit say, the last of each name; `None` if the commit is not here.
    fn said(&self, api: &Api, commit: &str) -> Result<Option<BTreeMap<String, String>>, EnforcerError> {
        let mut said = BTreeMap::new();
        for page in 1..=PAGES_MAX {
            let path = format!("{}/commits/{commit}/status?per_page={PAGE}&limit={PAGE}&page={page}", self.root);
            let (status, value) = api.ask_unless("GET", &path, None, &NOT_HERE)?;
            if NOT_HERE.contains(&status) {
                return Ok(None);
            }
            let listed = value["statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
            for one in listed {
                // GitHub calls it state, Gitea status.
                let state = one["state"].as_str().or_else(|| one["status"].as_str());
                if let (Some(context), Some(state)) = (one["context"].as_str(), state) {
                    said.entry(context.to_owned()).or_insert_with(|| state.to_owned());
                }
            }
            if self.is_last(listed) {
                return Ok(Some(said));
            }
        }
        Err(EnforcerError::forge(format!("{} has {} checks or more of {commit}", self.root, PAGES_MAX * PAGE)))
    }

    /// Says something of a commit, unless that was said last or the commit is not here.
    fn say(&self, api: &Api, commit: &str, context: &str, state: &str, why: &str) -> Result<(), EnforcerError> {
        let Some(said) = self.said(api, commit)? else { return Ok(()) };
        if said.get(context).is_some_and(|said| said == state) {
            return Ok(());
        }
        let description: String = why.chars().take(DESCRIPTION_CHARS_MAX).collect();
        let status = json!({ "state": state, "context": context, "description": description });
        api.must("POST", &format!("{}/statuses/{commit}", self.root), Some(&status)).map(drop)
    }

    /// Reads back what is published of `holds`. Of those that are `wanted` the commits that pass or passed are looked at
    /// as well: they need not be the head of a request.
    pub(super) fn read(
        &self,
        api: &Api,
        holds: &BTreeSet<String>,
        wanted: &[Held],
    ) -> Result<Published, EnforcerError> {
        let mut published = Published::default();
        if holds.is_empty() {
            return Ok(published);
        }
        let (heads, whole) = self.heads(api)?;
        if !whole {
            return Err(self.too_many());
        }
        let ours = wanted.iter().filter(|hold| holds.contains(&hold.id));
        let lanes: BTreeSet<&String> = ours.flat_map(|hold| hold.passes.keys().chain(&hold.ended)).collect();
        for commit in heads.iter().chain(lanes.into_iter().filter(|commit| !heads.contains(*commit))) {
            let Some(said) = self.said(api, commit)? else {
                published.absent.insert(commit.clone());
                continue;
            };
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
    ///
    /// Errors: the first; all else was said all the same.
    pub(super) fn publish(&self, api: &Api, hold: &Held, also: Option<&str>) -> Result<(), EnforcerError> {
        let context = self.context(&hold.id);
        let held = format!("{} by {}: {}", hold.id, hold.owner, hold.reason);
        let mut first = Ok(());
        let mut say = |commit: &str, context: &str, state: &str, why: &str| {
            let said = self.say(api, commit, context, state, why);
            if first.is_ok() {
                first = said;
            }
        };
        let (heads, listed) = match self.heads(api) {
            Ok((heads, true)) => (heads, Ok(())),
            Ok((heads, false)) => (heads, Err(self.too_many())),
            Err(error) => (BTreeSet::new(), Err(error)),
        };
        // What no longer passes is stopped again, head or not. Which those are the log knows.
        for commit in heads.union(&hold.ended).filter(|commit| !hold.passes.contains_key(*commit)) {
            say(commit, &context, "failure", &held);
        }
        for commit in hold.passes.keys() {
            let why = format!("passes {}, by two people's word", hold.id);
            for context in [Some(context.as_str()), also].into_iter().flatten() {
                say(commit, context, "success", &why);
            }
        }
        first.and(listed)
    }

    /// Says on each head that the hold is lifted. On those beyond the most that are looked at its last word stays, which
    /// nothing requires any more.
    pub(super) fn withdraw(&self, api: &Api, id: &str) -> Result<(), EnforcerError> {
        let context = self.context(id);
        for commit in self.heads(api)?.0 {
            if self.said(api, &commit)?.is_some_and(|said| said.contains_key(&context)) {
                self.say(api, &commit, &context, "success", &format!("{id} is lifted"))?;
            }
        }
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
