//! Links to answer requests by: sent by the real daemon to real receivers, followed as browsers and mail scanners do.

use crate::{
    approvals::{ASK, World},
    daemon::{SIGNING, is_signed},
    kit::{Daemon, PATIENCE, program, secret_file, until},
    sink::{Request as Received, Sink},
};
use lastgood_domain::{
    operations::{Event, approval},
    terms::{Actor, ApprovalId, Digest, Timestamp},
};
use lastgood_engine::{
    links::{Link, Links},
    operations::{Desk, Folded, Scope},
};
use lastgood_store::{Reader, Store};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// Asks as a browser does; gives the status and the whole answer.
pub(crate) fn browse(method: &str, address: &str, form: &str) -> (u16, String) {
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = form.len();
    let kind = "application/x-www-form-urlencoded";
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{form}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn serve(world: &World) -> Daemon {
    let log = fs::File::create(world.path("serve.log")).unwrap();
    let mut serve = Command::new(program());
    serve.arg("serve").current_dir(world.folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let daemon = Daemon(serve.env_remove("LASTGOOD_CONFIG").spawn().unwrap());
    let says = || fs::read_to_string(world.path("serve.log")).unwrap_or_default();
    until("the daemon", || says().contains("lastgood serves"));
    daemon
}

/// People of whom bob has a webhook and a receiver that repeats what it gets, carol a program, and dave nothing.
fn world(to_bob: u16, echo: u16) -> World {
    let world = World::new(&format!(
        "[switches]\nsubsystems = [\"auth\"]\nlisten = \"127.0.0.1:0\"\n\
         [approvals]\nurl = \"http://127.0.0.1:PORT\"\n[secret.hook]\nfile = \"hook\"\n\
         [person.alice]\nnotice = [\"to-alice\"]\n[person.bob]\nnotice = [\"to-bob\", \"echo\"]\n\
         [person.carol]\nnotice = [\"to-carol\"]\n[person.dave]\n\
         [notice.to-bob]\nwebhook = \"http://127.0.0.1:{to_bob}/\"\nsecret = \"hook\"\nallow_private = true\nkinds = [\"page\"]\n\
         [notice.echo]\nwebhook = \"http://127.0.0.1:{echo}/\"\nsecret = \"hook\"\nallow_private = true\nkinds = [\"page\"]\n\
         [notice.to-alice]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> alice\"]\nkinds = [\"page\"]\n\
         [notice.to-carol]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> carol\"]\nkinds = [\"page\"]\n\
         [notice.all]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> all; echo >> all\"]\n"
    ));
    let text = fs::read_to_string(world.path("lastgood.toml")).unwrap();
    let port = text.split("listen = \"127.0.0.1:").nth(1).unwrap().split('"').next().unwrap().to_owned();
    fs::write(world.path("lastgood.toml"), text.replace("PORT", &port)).unwrap();
    secret_file(&world.path("hook"), SIGNING);
    world
}

fn data(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["data"].clone()
}

/// Gives every link that stands in what somebody was sent.
fn links_in(text: &str) -> Vec<String> {
    let after = text.split("\"link\":\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn link_to(taken: &[Received], summary: &str) -> Option<String> {
    let mut all = taken.iter().rev().map(|one| data(&one.body));
    let found = all.find(|data| data["summary"].as_str().unwrap().contains(summary))?;
    Some(found["link"].as_str().unwrap_or_else(|| panic!("{found}")).to_owned())
}

/// Tells whether a text stands in any file of a folder.
fn is_kept(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => is_kept(&entry.path(), text),
        kind if kind.is_file() => {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
        _ => false,
    })
}

#[test]
fn two_of_three_approve_by_links_of_their_own_once_each_and_a_look_changes_nothing() {
    let to_bob = Sink::new(|_| ("204 No Content", String::new()));
    let echo = Sink::new(|one| ("400 Bad Request", String::from_utf8_lossy(&one.body).into_owned()));
    let world = world(to_bob.port, echo.port);
    let daemon = serve(&world);
    world.by("alice", &format!("{ASK} --needed 2")).ended(8);
    until("bob's webhook", || !to_bob.taken().is_empty() && !echo.taken().is_empty());
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap_or_default();
    until("carol's program and everybody's", || read("carol").ends_with('}') && read("all").ends_with('\n'));
    let asked = to_bob.taken();
    assert!(asked.iter().all(is_signed), "{asked:?}");
    assert_eq!(data(&asked[0].body)["kind"], "approval");
    let bob = link_to(&asked, "person:alice asks 2 to approve a0: tidy-up").unwrap();
    let carol = links_in(&read("carol")).pop().unwrap();
    let plan = world.json("bob", "approval show a0")["plan"].as_str().unwrap().to_owned();
    // Programs that look at mail follow every link, some of them twice.
    for method in ["GET", "HEAD", "GET"] {
        let (status, page) = browse(method, &bob, "");
        assert_eq!(status, 200, "{page}");
        let head = page.to_lowercase();
        for header in [
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "frame-ancestors 'none'",
        ] {
            assert!(head.contains(header), "{header}: {page}");
        }
    }
    let (_, page) = browse("GET", &bob, "");
    for shown in ["tidy-up", "person:alice", "person:bob", &plan, "0 of 2", "Can't be undone", " left)", "<button>"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert_eq!(world.json("bob", "approval show a0")["yes"], serde_json::json!([]));
    let (_, token) = bob.rsplit_once('.').unwrap();
    let (_, carols) = carol.rsplit_once('.').unwrap();
    let other = if token.ends_with('0') { "1" } else { "0" };
    for forged in [
        bob.replace("a0.bob", "a0.alice"),
        bob.replace("a0.bob", "a0.carol"),
        bob.replace("a0.bob", "a1.bob"),
        bob.replace("a0.bob", "bob"),
        bob.replace(token, carols),
        bob.replace(token, &"0".repeat(64)),
        bob.replace(token, &token[..62]),
        bob.replace(token, &token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        format!("{}{other}", &bob[..bob.len() - 1]),
    ] {
        let (status, page) = browse("POST", &forged, "answer=approve");
        assert_eq!(status, 404, "{forged}: {page}");
        assert!(!page.contains("tidy-up"), "{page}");
    }
    assert_eq!(browse("POST", &bob, "").0, 400);
    assert_eq!(browse("POST", &bob, "answer=perhaps").0, 400);
    let (status, page) = browse("PUT", &bob, "answer=approve");
    assert!(status == 405 && page.to_lowercase().contains("referrer-policy: no-referrer"), "{page}");
    assert_eq!(browse("POST", &bob, &format!("answer=reject&reason={}", "x".repeat(9_000))).0, 413);
    assert_eq!(world.json("bob", "approval show a0")["yes"], serde_json::json!([]));
    let (status, page) = browse("POST", &bob, "answer=approve");
    assert!(status == 200 && page.contains("You approved a0 at ") && page.contains("1 of 2"), "{page}");
    let (status, page) = browse("POST", &bob, "answer=reject&reason=no");
    assert!(status == 410 && page.contains("You approved a0 at "), "{page}");
    world.by("alice", &format!("{ASK} --needed 2")).ended(8).says("1 of 2");
    assert_eq!(browse("POST", &carol, "answer=approve").0, 200);
    world.by("alice", &format!("{ASK} --needed 2")).ended(0);
    // Who answers by a link is told apart from who types.
    let shown = world.by("dave", "approval show a0").ended(0).out;
    assert_eq!(shown.matches(" by a link").count(), 2, "{shown}");
    let listed = world.by("dave", "approval list --all").ended(0).out;
    assert!(listed.contains("yes: person:bob by a link, person:carol by a link"), "{listed}");
    let answers = world.json("dave", "approval show a0")["answers"].clone();
    assert_eq!((&answers[0]["by"], &answers[0]["door"]), (&"person:bob".into(), &"link".into()), "{answers}");
    daemon.stop();
    // Nobody who asks gets a link, and what goes to everybody has none.
    assert_eq!(read("alice"), "");
    assert!(read("all").contains("asks 2 to approve") && !read("all").contains("/approval/"), "{}", read("all"));
    // A receiver that repeats what it was sent does not bring the token into what is kept and told of it.
    assert!(read("serve.log").contains(" is dead after 1 try"), "{}", read("serve.log"));
    let told = links_in(&String::from_utf8_lossy(&echo.taken()[0].body)).pop().unwrap();
    assert_eq!(told, bob);
    for secret in [token, carols] {
        // A beginning would be as good: the rest can be guessed.
        assert!(!is_kept(&world.path("state"), &secret[..16]), "a token is kept");
        assert!(!read("serve.log").contains(&secret[..16]));
    }
    assert_eq!(fs::metadata(world.path("state/approval-links.key")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_link_ends_with_its_request_a_changed_plan_voids_it_and_the_same_roles_are_asked_as_everywhere() {
    let to_bob = Sink::new(|_| ("204 No Content", String::new()));
    let world = world(to_bob.port, 9);
    let _daemon = serve(&world);
    world.by("alice", ASK).ended(8);
    until("bob's webhook", || !to_bob.taken().is_empty());
    let first = link_to(&to_bob.taken(), "to approve a0").unwrap();
    fs::write(world.path("plan"), "drop all tables\n").unwrap();
    world.by("alice", ASK).ended(8).says("asked as a1");
    until("the second request", || link_to(&to_bob.taken(), "to approve a1").is_some());
    let second = link_to(&to_bob.taken(), "to approve a1").unwrap();
    let (status, page) = browse("POST", &first, "answer=approve");
    assert!(status == 410 && page.contains("a0 is void") && page.contains("it was asked anew"), "{page}");
    // The token of the one plan is none for the other.
    let (_, token) = first.rsplit_once('.').unwrap();
    assert_eq!(browse("POST", &format!("{}.{token}", second.rsplit_once('.').unwrap().0), "answer=approve").0, 404);
    // No without a reason is no answer.
    assert_eq!(browse("POST", &second, "answer=reject&reason=+").0, 400);
    assert_eq!(world.json("bob", "approval show a1")["standing"], "pending");
    // A printed link is for somebody else than who asks, and that it was printed is written down.
    world.by("alice", "approval link a1 --person dave").ended(4).says("[approval-own]");
    world.by("bob", "approval link a1 --person alice").ended(4).says("[approval-own]");
    world.by("mallory", "approval link a1 --person dave").ended(4).says("[approval-not-asked]");
    world.by("bob", "approval link a1 --person mallory").ended(2).says("[person.mallory]");
    let printed = world.by("bob", "approval link a1 --person dave").ended(0).out.trim().to_owned();
    assert_eq!(browse("GET", &printed, "").0, 200);
    // Who had it printed could use it: that is their one word.
    world.by("bob", "approval link a1 --person carol").ended(1).says("[approval-said-already]");
    world.by("bob", "approval approve a1").ended(1).says("another person's link");
    let (status, page) = browse("POST", &printed, "answer=reject&reason=not+%3Cnow%3E");
    assert!(status == 200 && page.contains("You rejected a1") && page.contains("not &lt;now&gt;"), "{page}");
    let (status, page) = browse("POST", &second, "answer=approve");
    assert!(status == 410 && page.contains("person:dave rejected a1 at "), "{page}");
    world.by("alice", ASK).ended(3).says("person:dave said no").says("not <now>");
    // What only the key's owner could make: an own link, a stranger's, one of a request whose time is over.
    let url = first.split("/approval/").next().unwrap();
    let links = Links::open(&world.path("state"), url).unwrap();
    let alice = Actor::new("person:alice").unwrap();
    let ask = |plan: &str, expires: Timestamp| {
        let mut desk = Desk::new(Store::open(&world.path("state")).unwrap(), Scope::default(), Vec::new());
        let said = desk.say(&alice, Timestamp(1), &|state| {
            let request = approval::Request {
                subject: format!("asked/{plan}"),
                what: "drop".into(),
                plan: Digest::of(plan.as_bytes()),
                needed: 1,
                of: [].into(),
                expires,
            };
            let events = approval::request(&state.approvals, &alice, request)?;
            Ok(events.into_iter().map(Event::Approval).collect())
        });
        said.unwrap();
    };
    ask("late", Timestamp(2));
    ask("open", Timestamp(i64::MAX / 2));
    let state = Folded::read(&Reader::open(&world.path("state")).unwrap(), &Scope::default()).unwrap().state;
    let link = |id: u64, name: &str| {
        let person = Actor::new(&format!("person:{name}")).unwrap();
        links.address(&Link::of(ApprovalId(id), &state.approvals.all[&ApprovalId(id)], &person))
    };
    let (status, page) = browse("POST", &link(2, "bob"), "answer=approve");
    assert!(status == 410 && page.contains("a2 is expired") && page.contains("Nothing was allowed"), "{page}");
    let (status, page) = browse("POST", &link(3, "alice"), "answer=approve");
    assert!(status == 409 && page.contains("can&#39;t approve it"), "{page}");
    let (status, page) = browse("POST", &link(3, "mallory"), "answer=approve");
    assert!(status == 409 && page.contains("may not approve"), "{page}");
    assert_eq!(browse("POST", &link(3, "bob"), "answer=approve").0, 200);
    let log = world.by("bob", "approval show a3").ended(0).out;
    assert!(log.contains("person:bob at ") && log.contains(" by a link"), "{log}");
    // Who tries very often waits, and nobody else.
    let statuses: Vec<u16> = (0..130).map(|_| browse("GET", &format!("{url}/approval/x"), "").0).collect();
    assert!(statuses.starts_with(&[404, 404]) && statuses.ends_with(&[429, 429]), "{statuses:?}");
    assert_eq!(browse("GET", &link(3, "bob"), "").0, 410);
    // Whoever removes the key after a leak ends every link with it, also while the daemon runs: it is one like any other.
    fs::remove_file(world.path("state/approval-links.key")).unwrap();
    assert_eq!(browse("GET", &link(3, "bob"), "").0, 429);
}

#[test]
fn whoever_is_taken_out_of_the_configuration_has_no_link_from_then_on() {
    let to_bob = Sink::new(|_| ("204 No Content", String::new()));
    let world = world(to_bob.port, to_bob.port);
    let daemon = serve(&world);
    world.by("alice", &format!("{ASK} --needed 2")).ended(8);
    let carol = world.by("bob", "approval link a0 --person carol").ended(0).out.trim().to_owned();
    let written = fs::read_to_string(world.path("lastgood.toml")).unwrap();
    assert_eq!(browse("GET", &carol, "").0, 200);
    fs::write(world.path("lastgood.toml"), written.replace("[person.carol]\nnotice = [\"to-carol\"]\n", "")).unwrap();
    let (status, page) = browse("GET", &carol, "");
    assert!(status == 409 && page.contains("may not approve") && !page.contains("tidy-up"), "{status} {page}");
    assert_eq!(browse("POST", &carol, "answer=approve").0, 409);
    assert_eq!(world.json("bob", "approval show a0")["yes"], serde_json::json!([]));
    // One that can't be read opens nothing.
    fs::write(world.path("lastgood.toml"), "[person").unwrap();
    assert_eq!(browse("POST", &carol, "answer=approve").0, 503);
    fs::write(world.path("lastgood.toml"), &written).unwrap();
    // A no by a link is told apart too.
    assert_eq!(browse("POST", &carol, "answer=reject&reason=not today").0, 200);
    let says = "rejected by person:carol by a link: not today";
    world.by("bob", "approval show a0").ended(0).says(says);
    world.by("bob", "approval list --all").ended(0).says(says);
    daemon.stop();
}
