//! Who has no role for something is refused at every door: typed, by a link, over HTTP, in an emergency.

use crate::{
    kit::{Farm, Plan, Said, request, said, until},
    links::browse,
};
use lastgood_domain::terms::{Actor, ApprovalId};
use lastgood_engine::{
    links::{Link, Links},
    operations::{Folded, Scope},
};
use lastgood_store::Reader;
use serde_json::Value;
use std::fs;

/// Alice and carol may all of it, dave may only approve, bob has no role, and mallory is nobody.
const PEOPLE: &str = "\n[approvals]\nurl = \"http://127.0.0.1:1\"\n[switches]\nsubsystems = [\"auth\"]\n\
    listen = \"127.0.0.1:0\"\n[overrides]\npreflight = \"alice\"\n\
    [person.alice]\nroles = [\"keeper\"]\n[person.carol]\nroles = [\"keeper\"]\n[person.dave]\nroles = [\"approver\"]\n\
    [person.bob]\n[role.approver]\nmay = [\"approve\"]\n\
    [role.keeper]\nmay = [\"approve\", \"lift\", \"waive\", \"exempt\", \"override\", \"lead\", \"accept\", \"reset\"]\n";

fn by(farm: &Farm, who: &str, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    said(farm.command(&words).env("SUDO_USER", who))
}

#[test]
fn who_has_no_role_is_refused_whatever_door_they_use_and_may_still_stop_everything() {
    let farm = Farm::running(Plan { tail: PEOPLE.into(), ..Plan::default() });
    fs::write(farm.path("plan"), "drop the old tables\n").unwrap();
    let plan = farm.path("plan").display().to_string();
    // Everybody may stop things and ask.
    for (line, code) in [
        ("hold set notebook --reason stop", 0),
        ("hold set --all --reason stop", 0),
        ("switch trip auth --reason stop", 0),
        ("reject notebook 1.0.0 --reason bad", 0),
        ("incident declare --level L1 --trigger fire --drill", 0),
        (&format!("approval ask tidy --what tidy-up --plan {plan}"), 8),
        ("hold exempt hold-0 --service notebook --release 1.0.0 --reason fix", 8),
    ] {
        by(&farm, "mallory", line).ended(code);
    }
    let acts = [
        ("lift", "hold lift notebook h0 --reason go"),
        ("lift", "hold lift hold-0 --reason go"),
        ("reset", "switch reset auth --reason go"),
        ("waive", "waive notebook 1.0.0 --reason good"),
        ("override", "override give preflight --service notebook --release 1.0.0 --reason go"),
        ("approve", "approval link a1 --person carol"),
        ("exempt", "approval approve a1"),
        ("approve", "approval approve a0"),
    ];
    let refused = |who: &str, act: &str, line: &str| {
        let ended = by(&farm, who, line).ended(4);
        // Who asked, and who is not among those asked, is refused for that already.
        let own = ["[approval-own]", "[approval-not-asked]"].iter().any(|code| ended.err.contains(code));
        assert!(own || ended.err.contains("[person-not-allowed]"), "{who}: {line}: {ended:?}");
        assert!(own || act == "exempt" || ended.err.contains(&format!("may not {act}")), "{who}: {line}: {ended:?}");
    };
    for (act, line) in acts {
        refused("mallory", act, line);
        refused("bob", act, line);
    }
    // What goes on after the evidence was put back is for who may lift, and is refused before anything is looked at.
    by(&farm, "bob", "evidence acknowledge notebook --reason go").ended(4).says("may not lift");
    // To approve is not yet to let something pass a hold.
    by(&farm, "dave", "approval approve a1").ended(4).says("may not exempt");
    let _daemon = farm.serve();
    let state = Folded::read(&Reader::open(&farm.path("state")).unwrap(), &Scope::default()).unwrap().state;
    let links = Links::open(&farm.path("state"), &format!("http://127.0.0.1:{}", farm.port("listen"))).unwrap();
    let link = |id: u64, who: &str| {
        let person = Actor::new(&format!("person:{who}")).unwrap();
        links.address(&Link::of(ApprovalId(id), &state.approvals.all[&ApprovalId(id)], &person))
    };
    for (id, who, why) in [
        (0, "bob", "may not approve"),
        (0, "mallory", "may not approve"),
        (1, "bob", "may not approve"),
        (1, "dave", "may not exempt"),
    ] {
        let (status, page) = browse("POST", &link(id, who), "answer=approve");
        assert!(status == 409 && page.contains(why), "{id} {who}: {page}");
    }
    // Over HTTP a switch can be tripped and nothing else.
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap_or_default();
    until("the board", || said().contains("flags and switches of"));
    let board = said().split("flags and switches of").nth(1).unwrap().split("127.0.0.1:").nth(1).unwrap().to_owned();
    let board: u16 = board.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    for path in ["/v1/switches/auth/reset", "/v1/switches/auth/confirm", "/v1/switches/auth"] {
        for method in ["POST", "PUT", "DELETE"] {
            let (status, _) = request(board, method, path, "", "{\"reason\":\"go\"}").unwrap();
            assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        }
    }
    // An emergency stops everybody, and opens nothing for who called it.
    by(&farm, "mallory", "emergency --reason fire --confirm everything");
    by(&farm, "mallory", "switch reset all --reason go").ended(4);
    by(&farm, "bob", "hold lift hold-1 --reason go").ended(4);
    for id in ["a0", "a1"] {
        let shown = by(&farm, "bob", &format!("--json approval show {id}")).ended(0).out;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["data"]["standing"], &shown["data"]["yes"]), (&"pending".into(), &serde_json::json!([])));
    }
    by(&farm, "bob", "switch list").ended(0).says("auth  TRIPPED");
    // And who has the role goes through all of them.
    let (status, page) = browse("POST", &link(0, "dave"), "answer=approve");
    assert_eq!(status, 200, "{page}");
    // A printed link would be carol's one word.
    for (_, line) in acts[..7].iter().filter(|(_, line)| !line.contains("approval link")) {
        by(&farm, if line.contains("approval") { "carol" } else { "alice" }, line).ended(0);
    }
    // A tag whose bytes nobody has seen is said to be only a name.
    let unseen = "override give preflight --service notebook --release 9.9.9 --reason go";
    by(&farm, "alice", unseen).ended(0).says("whatever the channel offers as 9.9.9 passes");
}

#[test]
fn at_its_cap_an_exemption_and_a_waiver_are_refused_whoever_would_agree_and_another_person_still_may() {
    let caps = format!("{PEOPLE}[caps]\nexempt = 1\nwaive = 1\n");
    let farm = Farm::running(Plan { tail: caps, ..Plan::default() });
    by(&farm, "alice", "hold set --all --reason stop").ended(0);
    let exempt = "hold exempt hold-0 --service notebook --release 1.0.0 --reason fix";
    by(&farm, "alice", exempt).ended(8);
    // Typed again it is the same request, and counts once.
    by(&farm, "alice", exempt).ended(8).says("a0 asks");
    by(&farm, "alice", &format!("{exempt}ed")).ended(9).says("[cap-reached]").says("1 of at most 1 exempt");
    by(&farm, "carol", &format!("{exempt}ed")).ended(8).says("a1 asks");
    let (reject, waive) = ("reject notebook 1.0.0 --reason bad", "waive notebook 1.0.0 --reason good");
    // What is refused or not there is not counted.
    by(&farm, "alice", waive).ended(1).says("[rejection-none]");
    by(&farm, "bob", reject).ended(0);
    by(&farm, "bob", waive).ended(4);
    by(&farm, "alice", waive).ended(0);
    by(&farm, "bob", reject).ended(0);
    by(&farm, "alice", waive).ended(9).says("[cap-reached]").says("1 of at most 1 waive");
    by(&farm, "carol", waive).ended(0);
}
