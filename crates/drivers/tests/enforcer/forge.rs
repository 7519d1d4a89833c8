//! A server that speaks as GitHub's and Gitea's documents say. No real forge is asked: it shows what we send and how we
//! take the answers, not that they mean what we think.

use crate::{enforcer, found, held};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Answers a request: method, path, body.
pub(crate) type Answer = dyn FnMut(&str, &str, Value) -> (u16, Value) + Send;

/// A server for one test; gives its address.
pub(crate) fn serve(answer: Box<Answer>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve_one(stream.unwrap(), &answer));
        }
    });
    url
}

fn serve_one(stream: TcpStream, answer: &Mutex<Box<Answer>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut authorized) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            let known = ["authorization: bearer not-a-real-token", "authorization: token not-a-real-token"];
            authorized |= known.contains(&line.as_str());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let (status, value) = match authorized {
            true => answer.lock().unwrap()(method, path, body),
            false => (401, json!({ "message": "Bad credentials" })),
        };
        let body = if value.is_null() { String::new() } else { value.to_string() };
        let head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
    }
}

/// What becomes of a ruleset that is written.
type Twist = fn(&mut Value);

/// Rulesets by number, as GitHub keeps them.
#[derive(Default)]
struct GitHub {
    rulesets: BTreeMap<u64, Value>,
    next: u64,
    twist: Option<Twist>,
}

impl GitHub {
    fn answer(&mut self, method: &str, path: &str, mut body: Value) -> (u16, Value) {
        let path = path.strip_prefix("/repos/acme/web/rulesets").expect("the right repository");
        let number: Option<u64> = path.strip_prefix('/').map(|number| number.parse().unwrap());
        if let (Some(twist), "POST" | "PUT") = (self.twist, method) {
            twist(&mut body);
        }
        match (method, number) {
            ("GET", None) => {
                // The list has neither rules nor who may bypass.
                let short = |(id, one): (&u64, &Value)| json!({ "id": id, "name": one["name"] });
                (200, self.rulesets.iter().map(short).collect())
            }
            ("GET", Some(id)) => self.rulesets.get(&id).map_or((404, json!({})), |one| (200, one.clone())),
            ("POST", None) => {
                self.next += 1;
                body["id"] = self.next.into();
                self.rulesets.insert(self.next, body.clone());
                (201, body)
            }
            ("PUT", Some(id)) => {
                self.rulesets.insert(id, body.clone());
                (200, body)
            }
            ("DELETE", Some(id)) => (if self.rulesets.remove(&id).is_some() { 204 } else { 404 }, Value::Null),
            other => panic!("{other:?}"),
        }
    }
}

fn github(twist: Option<Twist>) -> (Arc<Mutex<GitHub>>, String) {
    let forge = Arc::new(Mutex::new(GitHub { twist, ..GitHub::default() }));
    let own = json!({ "id": 1000, "name": "our own rule", "enforcement": "active" });
    forge.lock().unwrap().rulesets.insert(1000, own);
    let inner = Arc::clone(&forge);
    let url = serve(Box::new(move |method, path, body| {
        let path = path.split('?').next().unwrap();
        inner.lock().unwrap().answer(method, path, body)
    }));
    (forge, format!("github = \"acme/web\"\nurl = \"{url}\"\ntoken = \"forge\"\nbranches = [\"main\", \"release/*\"]"))
}

#[test]
fn each_hold_is_a_ruleset_of_its_own_at_github_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (forge, keys) = github(None);
    let enforcer = enforcer(folder.path(), &keys);
    assert_eq!(found(&enforcer), [""; 0]);
    enforcer.set(&held("hold-3")).unwrap();
    enforcer.set(&held("hold-12")).unwrap();
    enforcer.set(&held("hold-3")).unwrap();
    assert_eq!(found(&enforcer), ["hold-12", "hold-3"]);
    let made = forge.lock().unwrap().rulesets[&1].clone();
    assert_eq!(made["name"], "lastgood hold-3: orders are doubled (person:alice)");
    assert_eq!(made["conditions"]["ref_name"]["include"], json!(["refs/heads/main", "refs/heads/release/*"]));
    enforcer.lift("hold-3").unwrap();
    enforcer.lift("hold-3").unwrap();
    assert_eq!(found(&enforcer), ["hold-12"]);
    enforcer.lift("hold-12").unwrap();
    assert_eq!(forge.lock().unwrap().rulesets.keys().copied().collect::<Vec<_>>(), [1000]);
}

#[test]
fn a_ruleset_that_says_done_and_does_not_stop_everybody_is_not_enforced() {
    let twists: [(Twist, &str); 5] = [
        (|one| one["enforcement"] = "evaluate".into(), "not active"),
        (|one| one["bypass_actors"] = json!([{ "actor_type": "RepositoryRole" }]), "bypassed"),
        (|one| one["bypass_actors"] = Value::Null, "bypassed"),
        (|one| one["rules"] = json!([{ "type": "deletion" }]), "restrict"),
        (|one| one["conditions"]["ref_name"]["include"] = json!(["refs/heads/main"]), "all of the branches"),
    ];
    for (twist, word) in twists {
        let folder = tempfile::tempdir().unwrap();
        let (_, keys) = github(Some(twist));
        let enforcer = enforcer(folder.path(), &keys);
        enforcer.set(&held("hold-3")).unwrap();
        let read = enforcer.read(&[]).unwrap();
        assert!(
            read.holds.is_empty() && read.remark.as_ref().is_some_and(|why| why.contains(word)),
            "{word}: {read:?}"
        );
    }
}

/// Branch protections by name, as Gitea keeps them.
fn gitea(before: Option<Value>) -> (Arc<Mutex<BTreeMap<String, Value>>>, String) {
    let forge: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
    if let Some(before) = before {
        forge.lock().unwrap().insert("main".into(), before);
    }
    let inner = Arc::clone(&forge);
    let url = serve(Box::new(move |method, path, body| {
        let path = path.strip_prefix("/api/v1/repos/acme/web/branch_protections").expect("the right repository");
        let name = path.strip_prefix('/').map(|name| name.replace("%2F", "/").replace("%2A", "*"));
        let mut all = inner.lock().unwrap();
        match (method, name) {
            ("GET", Some(name)) => all.get(&name).map_or((404, json!({})), |one| (200, one.clone())),
            ("POST", None) => {
                all.insert(body["rule_name"].as_str().unwrap().into(), body.clone());
                (201, body)
            }
            ("PATCH", Some(name)) => {
                let one = all.get_mut(&name).unwrap();
                for (key, value) in body.as_object().unwrap() {
                    one[key] = value.clone();
                }
                (200, one.clone())
            }
            ("DELETE", Some(name)) => (if all.remove(&name).is_some() { 204 } else { 404 }, Value::Null),
            other => panic!("{other:?}"),
        }
    }));
    (forge, format!("gitea = \"acme/web\"\nurl = \"{url}\"\ntoken = \"forge\""))
}

#[test]
fn each_hold_is_a_check_that_nobody_gives_at_gitea_and_a_protection_of_its_own_goes_with_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let (forge, keys) = gitea(None);
    let enforcer = enforcer(folder.path(), &keys);
    for hold in ["hold-3", "hold-4", "hold-4"] {
        enforcer.set(&held(hold)).unwrap();
    }
    assert_eq!(found(&enforcer), ["hold-3", "hold-4"]);
    enforcer.lift("hold-3").unwrap();
    assert_eq!(found(&enforcer), ["hold-4"]);
    enforcer.lift("hold-4").unwrap();
    enforcer.lift("hold-4").unwrap();
    assert!(forge.lock().unwrap().is_empty());
}

#[test]
fn a_protection_that_was_there_is_as_it_was_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let before = json!({
        "rule_name": "main", "enable_push": false, "enable_status_check": true, "status_check_contexts": ["ci"],
        "block_admin_merge_override": true, "required_approvals": 2,
    });
    let (forge, keys) = gitea(Some(before.clone()));
    let enforcer = enforcer(folder.path(), &keys);
    enforcer.set(&held("hold-3")).unwrap();
    assert_eq!(found(&enforcer), ["hold-3"]);
    enforcer.lift("hold-3").unwrap();
    assert_eq!(forge.lock().unwrap()["main"], before);
}

#[test]
fn a_protection_with_a_way_around_is_said_and_counts_for_nothing() {
    for (key, value, word) in
        [("enable_push", true, "without a pull request"), ("block_admin_merge_override", false, "administrators")]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut before = json!({
            "rule_name": "main", "enable_push": false, "enable_status_check": false, "status_check_contexts": [],
            "block_admin_merge_override": true,
        });
        before[key] = value.into();
        let (_, keys) = gitea(Some(before));
        let enforcer = enforcer(folder.path(), &keys);
        enforcer.set(&held("hold-3")).unwrap();
        let read = enforcer.read(&[]).unwrap();
        assert!(read.holds.is_empty() && read.remark.is_some_and(|why| why.contains(word)));
    }
}

#[test]
fn a_forge_that_is_down_or_refuses_is_an_error_without_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = serve(Box::new(|_, _, _| (403, json!({ "message": "Resource not accessible" }))));
    for url in [format!("http://{closed}"), refusing] {
        for keys in ["github = \"acme/web\"", "gitea = \"acme/web\""] {
            let enforcer = enforcer(folder.path(), &format!("{keys}\nurl = \"{url}\"\ntoken = \"forge\""));
            let why = enforcer.read(&[]).unwrap_err().to_string();
            assert!(!why.contains("not-a-real-token") && why.contains("acme/web"), "{why}");
            assert!(!format!("{enforcer:?}").contains("not-a-real-token"));
            assert!(enforcer.set(&held("hold-3")).is_err());
        }
    }
}
