//! Holds over several services: who is stopped and told by whom, what passes, and what enforces them outside.

use crate::kit::{Farm, Plan, said, until, until_within};
use lastgood_domain::{
    operations::{
        Event, Operations,
        hold::{self, Exemption, HoldKind, Selector},
        incident,
    },
    terms::{Actor, Digest, Reason, ReleaseTag, Timestamp, WideHoldId},
};
use lastgood_engine::operations::{Desk, Scope};
use lastgood_store::Store;
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

#[test]
fn of_two_holds_one_is_lifted_and_a_persons_run_is_still_refused_by_the_other_and_its_owner() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    let set = |arguments: &[&str]| {
        let all: Vec<&str> = ["hold", "set"].iter().chain(arguments).copied().collect();
        farm.json(&all)
    };
    assert_eq!(set(&["--all", "--kind", "merge,deploy", "--reason", "an audit"])["hold"], "hold-0");
    assert_eq!(set(&["--services", "notebook", "--reason", "a move", "--for", "2h"])["hold"], "hold-1");
    let listed = farm.json(&["hold", "list"]);
    let owner = listed[0]["owner"].as_str().unwrap().to_owned();
    assert!(owner.starts_with("person:"), "{listed}");
    assert!(listed[0]["review"].is_i64() && listed[0]["until"].is_null() && listed[1]["until"].is_i64(), "{listed}");
    farm.lastgood(&["run", "notebook", "--now"]).ended(9).says("hold-0").says(&owner);
    farm.lastgood(&["hold", "lift", "hold-0", "--reason", "over"]).ended(0).says("1 more");
    farm.lastgood(&["run", "notebook", "--now"]).ended(9).says("hold-1").says(&owner).says("a move");
    farm.lastgood(&["hold", "check", "notebook"]).ended(9).says("hold-1").says(&owner).says("hold lift hold-1");
    let in_three_hours = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(3);
    farm.lastgood(&["hold", "check", "--at", &in_three_hours.to_string()]).ended(0).says("allowed");
    farm.lastgood(&["hold", "check", "--kind", "merge"]).ended(0);
    // A part of it is not lifted alone.
    farm.lastgood(&["hold", "lift", "notebook", "h1", "--reason", "mine"]).ended(9).says("hold-1");
    farm.lastgood(&["hold", "lift", "hold-1", "--reason", "over"]).ended(0);
    farm.lastgood(&["run", "notebook", "--now"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    farm.lastgood(&["hold", "set", "--kind", "deploy", "--reason", "which ones"]).ended(2).says("--all");
    farm.lastgood(&["hold", "lift", "hold-1", "--reason", "again"]).ended(1).says("hold-unknown");
}

#[test]
fn a_fix_passes_a_hold_when_a_second_person_agrees_and_nothing_else_does() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["hold", "set", "--all", "--reason", "orders are doubled"]).ended(0);
    let exempt = ["hold", "exempt", "hold-0", "--service", "notebook", "--release", "1.1.0", "--reason", "the fix"];
    // A tag is a name that somebody chooses: without its bytes nothing is asked.
    farm.lastgood(&exempt).ended(2).says("hold-release-unseen");
    let tried = farm.lastgood(&["run", "notebook", "--dry-run"]).ended(0);
    let text = format!("{}{}", tried.out, tried.err);
    let at = text.find("sha256:").unwrap_or_else(|| panic!("no digest in {text}"));
    let digest: String = text[at..].chars().take(71).collect();
    let asked: Vec<&str> = ["--json"].iter().chain(&exempt).chain(&["--digest", digest.as_str()]).copied().collect();
    let said = farm.lastgood(&asked).ended(8);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let first = document["data"]["approval"].as_str().unwrap();
    farm.lastgood(&["run", "notebook", "--now"]).ended(9).says("hold-0");
    // A no stands for the time of the request, whatever the words: another hold is another question.
    crate::kit::said(
        farm.command(&["approval", "reject", first, "--reason", "which orders?"]).env("SUDO_USER", "second"),
    )
    .ended(0);
    farm.lastgood(&asked).ended(3).says("approval-rejected");
    let other: Vec<&str> =
        asked.iter().map(|word| if *word == "the fix" { "the fix of doubled orders" } else { word }).collect();
    farm.lastgood(&other).ended(3).says("approval-rejected");
    farm.lastgood(&["hold", "lift", "hold-0", "--reason", "another one stands"]).ended(0);
    farm.lastgood(&["hold", "set", "--all", "--reason", "orders are doubled"]).ended(0).says("hold-1");
    let asked: Vec<&str> = asked.iter().map(|word| if *word == "hold-0" { "hold-1" } else { word }).collect();
    let said = farm.lastgood(&asked).ended(8);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let approval = document["data"]["approval"].as_str().unwrap();
    let yes = crate::kit::said(farm.command(&["approval", "approve", approval]).env("SUDO_USER", "second"));
    yes.ended(0).says("notebook 1.1.0 may pass hold-1 until");
    // Typed again it is no other request, which would void what was agreed to.
    let again: Vec<&str> = asked.iter().copied().filter(|word| *word != "--json").collect();
    farm.lastgood(&again).ended(0).says("may pass hold-1").says("already");
    farm.publish("2.0.0");
    let passed = farm.lastgood(&["run", "notebook", "--now"]).ended(0);
    passed.says("approved by person:second").says("the fix");
    assert_eq!(farm.version("alice"), "1.1.0", "the release that was named, not the newest");
    farm.lastgood(&["run", "notebook", "--now"]).ended(9).says("hold-1");
    farm.lastgood(&["hold", "list"]).ended(0).says("may pass hold-1").says("approved by person:second");
    assert!(farm.log().contains("\"hold-exempted\""));
}

#[test]
fn a_request_that_expires_over_a_weekend_has_paged_is_expired_and_everything_stays_held() {
    let people = "\n[person.alice]\n[person.bob]\nnotice = [\"pager-bob\"]\n\
                  [notice.pager-bob]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> bob\"]\nkinds = [\"page\"]\n\
                  [escalation.default]\nsteps = [{ to = [\"bob\"] }]\n";
    let farm = Farm::running(Plan { tail: people.into(), ..Plan::default() });
    farm.publish("1.1.0");
    held_and_asked_on_friday(&farm);
    let daemon = farm.serve();
    let pages = || fs::read_to_string(farm.path("bob")).unwrap_or_default();
    until("bob's page", || pages().contains("a0"));
    daemon.stop();
    assert_eq!(farm.json(&["approval", "show", "a0"])["standing"], "expired");
    said(farm.command(&["approval", "approve", "a0"]).env("SUDO_USER", "bob")).ended(1).says("expired");
    said(farm.command(&["run", "notebook", "--now"]).env("SUDO_USER", "alice")).ended(9).says("hold-0");
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn one_services_damaged_record_stops_nobodys_pages_and_no_plan() {
    let people = "\n[person.bob]\nnotice = [\"pager-bob\"]\n\
                  [notice.pager-bob]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> bob\"]\nkinds = [\"page\"]\n\
                  [escalation.default]\nsteps = [{ to = [\"bob\"] }]\n";
    let farm = Farm::running(Plan { tail: people.into(), ..Plan::default() });
    let daemon = farm.serve();
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    let newest = "SELECT max(seq) FROM record WHERE chain = (SELECT id FROM chain WHERE name = 'service/notebook')";
    let damage = format!(
        "UPDATE record SET bytes = CAST('{{}}' AS BLOB) WHERE seq = ({newest}) \
         AND chain = (SELECT id FROM chain WHERE name = 'service/notebook')"
    );
    assert_eq!(database.execute(&damage, []).unwrap(), 1);
    drop(database);
    farm.lastgood(&["status", "notebook"]).ended(1);
    held_and_asked_on_friday(&farm);
    until("bob's page", || fs::read_to_string(farm.path("bob")).unwrap_or_default().contains("a0"));
    // An incident about just that has its plan, and says what nobody could look at.
    let declare = ["incident", "declare", "--level", "L2", "--trigger", "the evidence is uncertain"];
    said(farm.command(&declare).env("SUDO_USER", "bob")).ended(0);
    let plan = said(farm.command(&["incident", "plan", "i0"]).env("SUDO_USER", "bob"));
    plan.ended(0).says("by hand: say what becomes of notebook");
    daemon.stop();
}

/// Everything was held and asked for on Friday evening, and nobody was there to say yes.
fn held_and_asked_on_friday(farm: &Farm) {
    let friday = Timestamp(jiff::Timestamp::now().as_millisecond() - 3 * 86_400_000);
    let after = |days: i64| Timestamp(friday.0 + days * 86_400_000);
    let config = lastgood_engine::config::Config::read(&farm.path("lastgood.toml")).unwrap();
    let services = config.service.iter().map(|(name, one)| (name.clone(), one.subject()));
    let services: std::collections::BTreeMap<_, _> = services.collect();
    let (name, subject) = services.iter().next().map(|(name, subject)| (name.clone(), subject.clone())).unwrap();
    let alice = Actor::new("person:alice").unwrap();
    let reason = |text: &str| Reason::new(text).unwrap();
    let mut desk =
        Desk::new(Store::open(&farm.path("state")).unwrap(), Scope { services, ..Scope::default() }, Vec::new());
    let wanted = hold::Wanted {
        kinds: HoldKind::ALL.into(),
        selector: Selector::default(),
        reason: reason("an audit"),
        until: None,
        review: Some(after(10)),
        in_flight: hold::InFlight::Finish,
    };
    let set = |state: &Operations| Ok(Event::Hold(hold::set(&state.holds, wanted.clone())?));
    desk.say_one(&alice, friday, &set).unwrap();
    let exemption = Exemption {
        release: Digest::of(b"1.1.0"),
        tag: ReleaseTag::new("1.1.0").unwrap(),
        reason: reason("the fix"),
        until: after(10),
    };
    let ask =
        |state: &Operations| hold::ask(state, &alice, (WideHoldId(0), &name, &subject), exemption.clone(), friday);
    desk.say(&alice, friday, &ask).unwrap();
}

fn git(farm: &Farm, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.current_dir(farm.path("")).args(["-c", "user.name=test", "-c", "user.email=test@example.invalid"]);
    command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap()
}

/// A farm with a bare repository whose main branch is held by a hook, and something else that never answers.
fn with_repository() -> (Farm, PathBuf) {
    let farm = Farm::running(Plan::default());
    assert!(git(&farm, &["init", "--quiet", "--bare", "--initial-branch=main", "web.git"]).status.success());
    assert!(git(&farm, &["clone", "--quiet", "web.git", "work"]).status.success());
    let keys = "\n[enforcer.repository]\ngit = \"web.git\"\n\n[enforcer.claims]\nkinds = [\"claim\"]\ntimeout = \"2s\"\n\
                command = { set = [\"/bin/sleep\", \"99\"], lift = [\"/bin/sleep\", \"99\"], read = [\"/bin/sleep\", \"99\"] }\n";
    farm.configure(&(farm.config() + keys));
    let bare = farm.path("web.git");
    (farm, bare)
}

fn push(farm: &Farm) -> Output {
    let commit = ["-C", "work", "commit", "--quiet", "--allow-empty", "--message", "more"];
    assert!(git(farm, &commit).status.success());
    git(farm, &["-C", "work", "push", "--quiet", "origin", "HEAD:refs/heads/main"])
}

fn state(farm: &Farm, enforcer: &str) -> String {
    let listed = farm.json(&["hold", "list"]);
    let all = listed[0]["enforcers"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["enforcer"] == enforcer);
    one.map_or_else(String::new, |one| one["state"].as_str().unwrap().to_owned())
}

#[test]
fn a_hold_on_merges_stops_pushes_with_nobody_alive_and_what_is_down_fails_no_hold() {
    let (farm, bare) = with_repository();
    let set = ["hold", "set", "--all", "--kind", "merge,claim", "--reason", "orders are doubled"];
    farm.lastgood(&set).ended(0).says("repository confirmed").says("claims NOT CONFIRMED, requested");
    let refused = push(&farm);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("hold-0") && words.contains("orders are doubled"), "{words}");
    fs::write(bare.join("hooks/pre-receive"), "#!/bin/sh\nexit 0\n").unwrap();
    farm.lastgood(&["hold", "sync"]).ended(1).says("repository confirmed").says("claims NOT CONFIRMED, failed");
    assert!(!push(&farm).status.success());
    farm.lastgood(&["hold", "lift", "hold-0", "--reason", "over"]).ended(0).says("claims NOT LET GO");
    assert!(push(&farm).status.success());
    let declared = farm.lastgood(&["incident", "declare", "--level", "L1", "--trigger", "it is worse"]).ended(0);
    declared.says("incident i0");
    assert!(!push(&farm).status.success());
    farm.lastgood(&["incident", "show", "i0"]).ended(0).says("claims NOT CONFIRMED").says("repository confirmed");
}

#[test]
fn a_commit_passes_a_hold_on_merges_when_a_second_person_agrees() {
    let (farm, _) = with_repository();
    farm.lastgood(&["incident", "declare", "--level", "L1", "--trigger", "orders are doubled"]).ended(0);
    let listed = farm.json(&["hold", "list"]);
    let has =
        |row: &&Value, kind: &str| row["kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind));
    let of =
        |kind: &str| listed.as_array().unwrap().iter().find(|row| has(row, kind)).unwrap()["hold"].as_str().unwrap();
    assert!(!push(&farm).status.success());
    let head = String::from_utf8(git(&farm, &["-C", "work", "rev-parse", "HEAD"]).stdout).unwrap();
    let fix = head.trim();
    let exempt = |hold: &str, commit: &str| {
        farm.lastgood(&["hold", "exempt", hold, "--commit", commit, "--reason", "the fix itself"])
    };
    exempt(of("merge"), &fix[..12]).ended(2).says("40 or 64");
    if of("deploy") != of("merge") {
        exempt(of("deploy"), fix).ended(1).says("hold-not-in-the-way");
    }
    exempt(of("merge"), fix).ended(8).says("approval approve a0");
    farm.lastgood(&["approval", "approve", "a0"]).ended(4);
    let again = || git(&farm, &["-C", "work", "push", "--quiet", "origin", &format!("{fix}:refs/heads/main")]);
    assert!(!again().status.success(), "nobody else has agreed");
    said(farm.command(&["approval", "approve", "a0"]).env("SUDO_USER", "second")).ended(0).says(fix).says("may pass");
    exempt(of("merge"), fix).ended(0).says("already");
    farm.lastgood(&["hold", "list"]).ended(0).says(fix).says("approved by person:second");
    assert!(!push(&farm).status.success(), "another commit on top of it");
    let passed = again();
    assert!(passed.status.success(), "{}", String::from_utf8_lossy(&passed.stderr));
}

#[test]
fn the_daemon_puts_back_what_somebody_took_away_and_asks_again_what_is_down() {
    let (farm, bare) = with_repository();
    let daemon = farm.serve();
    farm.lastgood(&["hold", "set", "--all", "--kind", "merge,claim", "--reason", "an audit"]).ended(0);
    until("the first word of the one that is down", || state(&farm, "claims") == "failed");
    assert_eq!(state(&farm, "repository"), "confirmed");
    fs::remove_file(bare.join("hooks/pre-receive")).unwrap();
    // A new hold makes the daemon look at once.
    farm.lastgood(&["hold", "set", "--all", "--kind", "merge", "--reason", "another"]).ended(0);
    until("the hook again", || bare.join("hooks/pre-receive").exists());
    daemon.stop();
    assert!(!push(&farm).status.success());
}

#[test]
fn a_hold_that_is_set_while_a_slow_place_is_asked_is_asked_for_right_after() {
    let farm = Farm::running(Plan::default());
    let (reads, go, held) = (farm.path("reads"), farm.path("go"), farm.path("held"));
    let read = format!(
        "echo read >> '{}'; while [ ! -e '{}' ]; do sleep 0.1; done; cat '{}' 2> /dev/null || true",
        reads.display(),
        go.display(),
        held.display()
    );
    let set = format!("echo $LASTGOOD_HOLD >> '{}'", held.display());
    let keys = format!(
        "\n[enforcer.claims]\nkinds = [\"claim\"]\ntimeout = \"30s\"\ncommand = {{ set = [\"/bin/sh\", \"-c\", \"{set}\"], \
         lift = [\"/bin/true\"], read = [\"/bin/sh\", \"-c\", \"{read}\"] }}\n"
    );
    farm.configure(&(farm.config() + &keys));
    let daemon = farm.serve();
    farm.lastgood(&["hold", "set", "--all", "--kind", "claim", "--reason", "an audit"]).ended(0);
    // Once by the command, which waits for it a moment only, and once by the daemon.
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default().lines().count();
    until("the daemon's question", || lines(&reads) >= 2);
    farm.lastgood(&["hold", "set", "--all", "--kind", "claim", "--reason", "another"]).ended(0);
    fs::write(&go, "").unwrap();
    // Less than it takes until all places are read back again.
    until_within(Duration::from_secs(30), "the second hold", || lines(&held) == 2);
    daemon.stop();
}

#[test]
fn an_enforcer_that_lies_pages_by_the_chain_and_the_page_ends_when_it_does_what_it_says() {
    let tail = "\n[enforcer.claims]\ncommand = { set = [\"/bin/true\"], lift = [\"/bin/true\"], read = [\"/bin/sh\", \"-c\", \"cat {dir}/claims\"] }\nkinds = [\"claim\"]\n\n\
                [person.bob]\nnotice = [\"pager\"]\n\n[escalation.default]\nsteps = [{ to = [\"bob\"], within = \"5m\" }]\n\n\
                [notice.pager]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {dir}/pager\"]\nkinds = [\"page\"]\n";
    let farm = Farm::new(crate::incident::plan(tail));
    let text = fs::read_to_string(farm.path("lastgood.toml")).unwrap();
    fs::write(farm.path("lastgood.toml"), text.replace("{dir}", farm.path("").to_str().unwrap())).unwrap();
    fs::write(farm.path("claims"), "").unwrap();
    let daemon = farm.serve();
    farm.lastgood(&["hold", "set", "--all", "--kind", "claim", "--reason", "an audit"]).ended(0);
    let paged = || fs::read_to_string(farm.path("pager")).is_ok_and(|text| text.contains("hold-0"));
    until("bob's pager", paged);
    farm.lastgood(&["page", "list"]).ended(0).says("hold-0 is still not confirmed by claims, it is drifted");
    fs::write(farm.path("claims"), "hold-0\n").unwrap();
    farm.lastgood(&["hold", "sync"]).ended(0);
    until("the end of the page", || farm.lastgood(&["page", "list"]).ended(0).out.contains("nobody is needed"));
    daemon.stop();
}

#[test]
fn an_emergency_stops_pushes_with_nobody_alive_and_says_what_may_be_open_still() {
    let (farm, _) = with_repository();
    let said = farm.lastgood(&["emergency", "--reason", "a key leaked", "--confirm", "everything"]).ended(1);
    said.says("FAILED  hold every change").says("not confirmed by claims").says("hold sync");
    let refused = push(&farm);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("a key leaked"), "{words}");
}

#[test]
fn an_incident_that_nobody_asked_enforcers_for_is_frozen_only_when_they_confirm_it() {
    let (farm, _) = with_repository();
    // As it is where who declares is killed before anything outside is asked, and no daemon is alive.
    let config = lastgood_engine::config::Config::read(&farm.path("lastgood.toml")).unwrap();
    let services = config.service.iter().map(|(name, one)| (name.clone(), one.subject())).collect();
    let mut desk =
        Desk::new(Store::open(&farm.path("state")).unwrap(), Scope { services, ..Scope::default() }, Vec::new());
    let alice = Actor::new("person:alice").unwrap();
    let declaration = incident::Declaration {
        level: incident::Level::L1,
        trigger: Reason::new("notes are lost").unwrap(),
        services: [].into(),
        commander: alice.clone(),
        drill: false,
    };
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    desk.say(&alice, now, &|state| Ok(incident::declare(state, declaration.clone()))).unwrap();
    assert!(push(&farm).status.success());
    let by_alice = |arguments: &[&str]| said(farm.command(arguments).env("SUDO_USER", "alice"));
    by_alice(&["incident", "show", "i0"]).ended(0).says("NOT CONFIRMED: repository has not confirmed hold-1");
    by_alice(&["incident", "freeze", "i0"]).ended(8).says("claims has not confirmed hold-0");
    assert!(!push(&farm).status.success());
    by_alice(&["incident", "stand-down", "i0", "--reason", "it was none"]).ended(0);
    assert!(push(&farm).status.success());
}

#[test]
fn where_a_repository_has_its_hook_is_not_asked_of_who_sets_a_hold() {
    let (farm, bare) = with_repository();
    fs::create_dir(farm.path("home")).unwrap();
    let hooks = farm.path("home/hooks");
    fs::write(farm.path("home/.gitconfig"), format!("[core]\n\thooksPath = {}\n", hooks.display())).unwrap();
    let set = ["hold", "set", "--all", "--kind", "merge", "--reason", "an audit"];
    said(farm.command(&set).env("HOME", farm.path("home"))).ended(0).says("repository confirmed");
    assert!(bare.join("hooks/pre-receive").exists() && !hooks.exists());
    assert!(!push(&farm).status.success());
}

#[test]
fn a_services_own_hold_whose_review_is_over_tells_its_owner_is_red_in_status_and_stands() {
    let farm = Farm::running(Plan::default());
    farm.lastgood(&["hold", "set", "notebook", "--reason", "exams", "--review", "2020-01-01T00:00:00Z"])
        .ended(2)
        .says("over");
    farm.lastgood(&["hold", "set", "notebook", "--reason", "exams", "--review", "1h", "--for", "2h"]).ended(2);
    farm.lastgood(&["hold", "set", "notebook", "--reason", "exams", "--review", "7d"]).ended(0);
    let listed = farm.lastgood(&["hold", "list", "notebook"]).ended(0);
    assert!(listed.out.contains("its owner is asked after it") && !listed.out.contains("OVERDUE"), "{listed:?}");
    farm.lastgood(&["hold", "set", "notebook", "--reason", "an audit", "--review", "1s"]).ended(0);
    let daemon = farm.serve();
    until("the owner is asked", || farm.log().contains("hold h1 still stands (an audit)"));
    let status = farm.lastgood(&["status"]).ended(0);
    assert!(status.out.contains("an audit; REVIEW OVERDUE since"), "{status:?}");
    let holds = farm.status()["holds"].clone();
    assert!(holds[0]["overdue"].is_null() && holds[1]["overdue"].is_i64(), "{holds}");
    farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "exams are over"]).ended(0);
    farm.lastgood(&["hold", "check", "notebook"]).ended(9).says("h1 by").says("an audit");
    daemon.stop();
}
