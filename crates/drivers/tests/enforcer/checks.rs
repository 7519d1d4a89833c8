//! Holds as commit statuses, at a server that keeps requests, statuses, rulesets and protections as GitHub's and Gitea's
//! documents say.

use crate::{enforcer, forge::serve, found, held};
use lastgood_drivers::enforcer::{Enforcer, Held};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Commits that it does not have.
    absent: BTreeSet<String>,
    /// Whether it refuses statuses.
    refuses: bool,
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
        // Gitea may give fewer than are asked for, by its configuration.
        let (most, not_here) = match forge {
            Forge::GitHub => (50, 422),
            Forge::Gitea => (30, 404),
        };
        let page: usize = query.rsplit_once("page=").map_or(1, |(_, page)| page.parse().unwrap_or(1));
        match (method, parts.as_slice()) {
            (_, ["commits", commit, "status"] | ["statuses", commit]) if self.absent.contains(*commit) => {
                (not_here, json!({ "message": "No commit found for SHA" }))
            }
            ("GET", ["pulls"]) => {
                assert!(query.contains("state=open") && query.contains("limit=50"), "{query}");
                let listed = self.requests.iter().skip((page - 1) * most).take(most);
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
                assert!(query.contains("limit=50"), "{query}");
                let seen: Vec<Value> = seen.into_iter().skip((page - 1) * most).take(most).collect();
                (200, json!({ "statuses": seen }))
            }
            ("POST", ["statuses", _]) if self.refuses => (500, json!({ "message": "try again later" })),
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
    keys: String,
    folder: tempfile::TempDir,
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
        Self { repository, keys, folder: tempfile::tempdir().unwrap() }
    }

    /// Gives one that remembers nothing, as each look has it.
    fn enforcer(&self) -> Enforcer {
        enforcer(self.folder.path(), &self.keys)
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
        world.enforcer().set(&held("hold-3")).unwrap();
        assert_eq!(found(&world.enforcer()), ["hold-3"]);
        for head in ['a', 'b'] {
            assert_eq!(world.forge().says(&commit(head), HOLD), Some("failure"));
            assert!(!world.forge().merges(&commit(head)));
        }
        let why = world.forge().last(&commit('a'), HOLD).unwrap()["description"].clone();
        assert_eq!(why, "hold-3 by person:alice: orders are doubled");
        assert_eq!(world.forge().says(&commit('c'), HOLD), None, "another branch is not held");
        // Said once: a forge keeps so many of a name and no more.
        let posted = world.forge().posted;
        world.enforcer().set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().posted, posted);
        world.enforcer().lift("hold-3").unwrap();
        assert_eq!(found(&world.enforcer()), [""; 0]);
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
        world.enforcer().set(&Held { passes, ..held("hold-3") }).unwrap();
        let read = world.enforcer().read(&[]).unwrap();
        assert_eq!(read.passes.unwrap()["hold-3"], [commit('b')].into());
        assert!(read.again.is_empty() && read.holds.contains("hold-3"));
        assert!(world.forge().merges(&commit('b')) && !world.forge().merges(&commit('a')));
        world.enforcer().set(&held("hold-4")).unwrap();
        assert!(!world.forge().merges(&commit('b')), "the other hold was not opened");
        world.enforcer().lift("hold-4").unwrap();
        assert!(world.forge().merges(&commit('b')));
        // Its time is over.
        let over = Held { ended: [commit('b')].into(), ..held("hold-3") };
        world.enforcer().set(&over).unwrap();
        assert!(!world.forge().merges(&commit('b')));
        assert!(world.enforcer().read(&[]).unwrap().passes.unwrap().is_empty());
    }
}

#[test]
fn a_success_that_nobody_agreed_to_is_read_back_and_a_new_head_is_told_without_being_one() {
    for forge in BOTH {
        let world = World::new(forge);
        world.enforcer().set(&held("hold-3")).unwrap();
        let forged = json!({ "context": HOLD, "state": "success", "status": "success" });
        world.forge().statuses.get_mut(&commit('a')).unwrap().push(forged);
        assert_eq!(world.enforcer().read(&[]).unwrap().passes.unwrap()["hold-3"], [commit('a')].into());
        world.enforcer().set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().says(&commit('a'), HOLD), Some("failure"));
        world.forge().requests.push((commit('d'), "main".into()));
        let read = world.enforcer().read(&[]).unwrap();
        assert!(read.holds.contains("hold-3"), "it blocks without a word, too");
        assert_eq!(read.again, ["hold-3".to_owned()].into());
        world.enforcer().set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().says(&commit('d'), HOLD), Some("failure"));
        assert!(world.enforcer().read(&[]).unwrap().again.is_empty());
    }
}

#[test]
fn a_ruleset_that_does_not_require_the_check_is_not_enforced() {
    let world = World::new(Forge::GitHub);
    world.enforcer().set(&held("hold-3")).unwrap();
    world.forge().rulesets.get_mut(&1).unwrap()["rules"] = json!([{ "type": "update" }]);
    let read = world.enforcer().read(&[]).unwrap();
    assert!(read.holds.is_empty() && read.remark.unwrap().contains("require the hold's check"));
}

fn requests(count: u32) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("{number:040x}"), "main".to_owned())).collect()
}

#[test]
fn heads_of_more_than_one_page_are_all_told_and_all_checks_of_a_head_are_read() {
    for forge in BOTH {
        let world = World::new(forge);
        world.forge().requests = requests(120);
        let last = format!("{:040x}", 119);
        world.enforcer().set(&held("hold-3")).unwrap();
        assert_eq!(world.forge().says(&last, HOLD), Some("failure"));
        // Newer ones of others push ours to another page.
        let of_others = (0..70).map(|number| json!({ "context": format!("ci/{number}"), "state": "success" }));
        world.forge().statuses.get_mut(&last).unwrap().extend(of_others);
        assert!(world.enforcer().read(&[]).unwrap().again.is_empty());
    }
}

#[test]
fn a_lane_that_is_no_head_is_closed_by_a_look_that_remembers_nothing() {
    for forge in BOTH {
        let world = World::new(forge);
        let open = Held { passes: [(commit('e'), i64::MAX)].into(), ..held("hold-3") };
        world.enforcer().set(&open).unwrap();
        let passing = |wanted: Held| world.enforcer().read(&[wanted]).unwrap().passes.unwrap().remove("hold-3");
        assert_eq!(passing(open), Some([commit('e')].into()));
        assert!(world.forge().merges(&commit('e')));
        let over = Held { ended: [commit('e')].into(), ..held("hold-3") };
        assert_eq!(passing(over.clone()), Some([commit('e')].into()), "it is seen to be open still");
        world.enforcer().set(&over).unwrap();
        assert!(!world.forge().merges(&commit('e')));
        assert_eq!(passing(over), None);
    }
}

#[test]
fn a_commit_of_another_repository_keeps_nothing_from_being_held_and_read() {
    for forge in BOTH {
        let world = World::new(forge);
        world.forge().absent = [commit('e'), commit('f')].into();
        let passes = [(commit('b'), i64::MAX), (commit('e'), i64::MAX)].into();
        let hold = Held { passes, ended: [commit('f')].into(), ..held("hold-3") };
        world.enforcer().set(&hold).unwrap();
        assert!(world.forge().merges(&commit('b')) && !world.forge().merges(&commit('a')));
        let read = world.enforcer().read(&[hold]).unwrap();
        assert_eq!(read.passes.unwrap()["hold-3"], [commit('b')].into());
        assert_eq!(read.absent, [commit('e'), commit('f')].into());
    }
}

#[test]
fn what_can_not_be_said_keeps_no_hold_from_being_set_and_is_an_error_all_the_same() {
    for forge in BOTH {
        let world = World::new(forge);
        world.forge().refuses = true;
        assert!(world.enforcer().set(&held("hold-3")).unwrap_err().to_string().contains("500"));
        assert_eq!(found(&world.enforcer()), ["hold-3"]);
        world.forge().refuses = false;
        world.forge().requests = requests(500);
        assert!(world.enforcer().set(&held("hold-4")).unwrap_err().to_string().contains("500 open requests"));
        assert!(!world.forge().merges(&commit('9')));
        assert_eq!(world.forge().says(&format!("{:040x}", 7), "lastgood/hold-4"), Some("failure"));
        let required = {
            let repository = world.forge();
            let all = repository.rulesets.values().chain(repository.protections.values());
            all.filter(|one| one.to_string().contains("lastgood/hold-4")).count()
        };
        assert_eq!(required, 1);
        assert!(world.enforcer().read(&[]).is_err(), "nobody knows what the heads beyond say");
        world.enforcer().lift("hold-4").unwrap();
    }
}

#[test]
fn a_hold_is_required_until_its_heads_were_told_that_it_is_lifted() {
    for forge in BOTH {
        let world = World::new(forge);
        world.enforcer().set(&held("hold-3")).unwrap();
        world.forge().refuses = true;
        assert!(world.enforcer().lift("hold-3").is_err());
        assert_eq!(found(&world.enforcer()), ["hold-3"], "asked after still");
        world.forge().refuses = false;
        world.enforcer().lift("hold-3").unwrap();
        assert_eq!((found(&world.enforcer()), world.forge().says(&commit('a'), HOLD)), (Vec::new(), Some("success")));
    }
}
