//! Holds as commit statuses, at a server that keeps requests, statuses, rulesets and protections as GitHub's and Gitea's
//! documents say.

use crate::{enforcer, forge::serve, found, held};
use lastgood_drivers::enforcer::{Enforcer, Held};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// What a repository has: open requests by head with their base, statuses by commit, rulesets by number, protections by branch.
#[derive(Default)]
struct Repository {
    requests: Vec<(String, String)>,
    statuses: BTreeMap<String, Vec<Value>>,
    rulesets: BTreeMap<u64, Value>,
    protections: BTreeMap<String, Value>,
    posted: usize,
}

/// Which of the two forges answers.
#[derive(Clone, Copy)]
enum Forge {
    GitHub,
    Gitea,
}

impl Repository {
    fn answer(&mut self, forge: Forge, method: &str, path: &str, mut body: Value) -> (u16, Value) {
        let root = match forge {
            Forge::GitHub => "/repos/acme/web/",
            Forge::Gitea => "/api/v1/repos/acme/web/",
        };
        let path = path.strip_prefix(root).expect("the right repository");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["pulls"]) => {
                assert!(query.contains("state=open"), "{query}");
                let page: usize = query.rsplit_once("page=").unwrap().1.parse().unwrap();
                let listed = self.requests.iter().skip((page - 1) * 50).take(50);
                (200, listed.map(|(head, base)| json!({ "head": { "sha": head }, "base": { "ref": base } })).collect())
            }
            ("GET", ["commits", commit, "status"]) => {
                // The last of each name, newest first.
                let mut seen: Vec<Value> = Vec::new();
                for one in self.statuses.get(*commit).into_iter().flatten().rev() {
                    if !seen.iter().any(|known| known["context"] == one["context"]) {
                        seen.push(one.clone());
                    }
                }
                (200, json!({ "statuses": seen }))
            }
            ("POST", ["statuses", commit]) => {
                self.posted += 1;
                let state = body["state"].clone();
                assert!(["success", "failure"].contains(&state.as_str().unwrap()), "{body}");
                if let Forge::Gitea = forge {
                    // Gitea gives it back under another name.
                    body = json!({ "context": body["context"], "status": state, "description": body["description"] });
                }
                self.statuses.entry((*commit).to_owned()).or_default().push(body.clone());
                (201, body)
            }
            ("GET", ["rulesets"]) => {
                let short = |(id, one): (&u64, &Value)| json!({ "id": id, "name": one["name"] });
                (200, self.rulesets.iter().map(short).collect())
            }
            ("POST", ["rulesets"]) => {
                let id = self.rulesets.keys().next_back().copied().unwrap_or(0) + 1;
                self.rulesets.insert(id, body.clone());
                (201, body)
            }
            ("GET", ["rulesets", id]) => (200, self.rulesets[&id.parse().unwrap()].clone()),
            ("PUT", ["rulesets", id]) => {
                self.rulesets.insert(id.parse().unwrap(), body.clone());
                (200, body)
            }
            ("DELETE", ["rulesets", id]) => {
                self.rulesets.remove(&id.parse().unwrap());
                (204, Value::Null)
            }
            ("GET", ["branch_protections", name]) => {
                self.protections.get(*name).map_or((404, json!({})), |one| (200, one.clone()))
            }
            ("POST", ["branch_protections"]) => {
                self.protections.insert(body["rule_name"].as_str().unwrap().into(), body.clone());
                (201, body)
            }
            ("PATCH", ["branch_protections", name]) => {
                let one = self.protections.get_mut(*name).unwrap();
                for (key, value) in body.as_object().unwrap() {
                    one[key] = value.clone();
                }
                (200, one.clone())
            }
            ("DELETE", ["branch_protections", name]) => {
                self.protections.remove(*name);
                (204, Value::Null)
            }
            other => panic!("{other:?}"),
        }
    }

    fn last(&self, commit: &str, context: &str) -> Option<&Value> {
        self.statuses.get(commit)?.iter().rev().find(|one| one["context"] == context)
    }

    /// Gives the last state of a check of a commit, by whatever name the forge has for it.
    fn says(&self, commit: &str, context: &str) -> Option<&str> {
        let one = self.last(commit, context)?;
        one["state"].as_str().or_else(|| one["status"].as_str())
    }

    /// Tells whether a commit may be merged into main: each check that is required there must be a success.
    fn merges(&self, commit: &str) -> bool {
        let rules = self.rulesets.values().flat_map(|one| one["rules"].as_array().unwrap());
        let required = rules.flat_map(|rule| {
            assert_eq!(rule["type"], "required_status_checks", "nothing else would let a commit pass");
            rule["parameters"]["required_status_checks"].as_array().unwrap().iter().map(|one| one["context"].clone())
        });
        let protected = self
            .protections
            .get("main")
            .into_iter()
            .flat_map(|one| one["status_check_contexts"].as_array().unwrap().iter().cloned());
        required.chain(protected).all(|context| self.says(commit, context.as_str().unwrap()) == Some("success"))
    }
}

struct World {
    repository: Arc<Mutex<Repository>>,
    enforcer: Enforcer,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(forge: Forge) -> Self {
        let repository: Arc<Mutex<Repository>> = Arc::default();
        let requests = [(commit('a'), "main"), (commit('b'), "main"), (commit('c'), "topic")];
        repository.lock().unwrap().requests = requests.map(|(head, base)| (head, base.to_owned())).into();
        let inner = Arc::clone(&repository);
        let url = serve(Box::new(move |method, path, body| inner.lock().unwrap().answer(forge, method, path, body)));
        let place = match forge {
            Forge::GitHub => "github",
            Forge::Gitea => "gitea",
        };
        let keys = format!("{place} = \"acme/web\"\nurl = \"{url}\"\ntoken = \"forge\"\ncheck = \"lastgood\"");
        let folder = tempfile::tempdir().unwrap();
        Self { repository, enforcer: enforcer(folder.path(), &keys), _folder: folder }
    }

    fn forge(&self) -> MutexGuard<'_, Repository> {
        self.repository.lock().unwrap()
    }
}

fn commit(letter: char) -> String {
    letter.to_string().repeat(40)
}

const HOLD: &str = "lastgood/hold-3";
const BOTH: [Forge; 2] = [Forge::GitHub, Forge::Gitea];

#[test]
fn each_head_says_which_hold_stands_and_whose_it_is_until_it_is_lifted() {
    for forge in BOTH {
        let world = World::new(forge);
        world.enforcer.set(&held("hold-3")).unwrap();
        assert_eq!(found(&world.enforcer), ["hold-3"]);
        for head in ['a', 'b'] {
            assert_eq!(world.forge().says(&commit(head), HOLD), Some("failure"));
            assert!(!world.forge().merges(&commit(head)));
        }
        let why = world.forge().last(&commit('a'), HOLD).unwrap()["description"].clone();
        assert_eq!(why, "hold-3 by person:alice: orders are doubled");
        assert_eq!(world.forge().says(&commit('c'), HOLD), None, "another branch is not held");
        // Said once: a forge keeps so many of a name and no more.
        let posted = world.forge().posted;
        world.enforcer.set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().posted, posted);
        world.enforcer.lift("hold-3").unwrap();
        assert_eq!(found(&world.enforcer), [""; 0]);
        for head in ['a', 'b'] {
            assert_eq!(world.forge().says(&commit(head), HOLD), Some("success"));
            assert!(world.forge().merges(&commit(head)));
        }
    }
}

#[test]
fn the_commit_that_was_agreed_to_passes_its_hold_and_no_other_commit_and_no_other_hold() {
    for forge in BOTH {
        let world = World::new(forge);
        let passes = [(commit('b'), i64::MAX)].into();
        world.enforcer.set(&Held { passes, ..held("hold-3") }).unwrap();
        let read = world.enforcer.read().unwrap();
        assert_eq!(read.passes.unwrap()["hold-3"], [commit('b')].into());
        assert!(read.again.is_empty() && read.holds.contains("hold-3"));
        assert!(world.forge().merges(&commit('b')) && !world.forge().merges(&commit('a')));
        world.enforcer.set(&held("hold-4")).unwrap();
        assert!(!world.forge().merges(&commit('b')), "the other hold was not opened");
        world.enforcer.lift("hold-4").unwrap();
        assert!(world.forge().merges(&commit('b')));
        // Its time is over.
        world.enforcer.set(&held("hold-3")).unwrap();
        assert!(!world.forge().merges(&commit('b')));
        assert!(world.enforcer.read().unwrap().passes.unwrap().is_empty());
    }
}

#[test]
fn a_success_that_nobody_agreed_to_is_read_back_and_a_new_head_is_told_without_being_one() {
    for forge in BOTH {
        let world = World::new(forge);
        world.enforcer.set(&held("hold-3")).unwrap();
        let forged = json!({ "context": HOLD, "state": "success", "status": "success" });
        world.forge().statuses.get_mut(&commit('a')).unwrap().push(forged);
        assert_eq!(world.enforcer.read().unwrap().passes.unwrap()["hold-3"], [commit('a')].into());
        world.enforcer.set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().says(&commit('a'), HOLD), Some("failure"));
        world.forge().requests.push((commit('d'), "main".into()));
        let read = world.enforcer.read().unwrap();
        assert!(read.holds.contains("hold-3"), "it blocks without a word, too");
        assert_eq!(read.again, ["hold-3".to_owned()].into());
        world.enforcer.set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().says(&commit('d'), HOLD), Some("failure"));
        assert!(world.enforcer.read().unwrap().again.is_empty());
    }
}

#[test]
fn a_ruleset_that_does_not_require_the_check_is_not_enforced() {
    let world = World::new(Forge::GitHub);
    world.enforcer.set(&held("hold-3")).unwrap();
    world.forge().rulesets.get_mut(&1).unwrap()["rules"] = json!([{ "type": "update" }]);
    let read = world.enforcer.read().unwrap();
    assert!(read.holds.is_empty() && read.remark.unwrap().contains("require the hold's check"));
}

#[test]
fn heads_of_more_than_one_page_are_all_told() {
    let world = World::new(Forge::GitHub);
    world.forge().requests = (0..120_u32).map(|number| (format!("{number:040x}"), "main".to_owned())).collect();
    world.enforcer.set(&held("hold-3")).unwrap();
    assert_eq!(world.forge().says(&format!("{:040x}", 119), HOLD), Some("failure"));
    assert!(world.enforcer.read().unwrap().again.is_empty());
}
