//! Credentials revoked and replaced by hand: who may, what must be confirmed, and what stands in the evidence.

use crate::{
    kit::{Said, program, said, until},
    signals::World,
    sink::Sink,
};
use lastgood_domain::{
    operations::{Event, Record, credential::CredentialEvent, incident::plan::Turn},
    terms::{Actor, Timestamp},
};
use lastgood_engine::operations::{Desk, Scope};
use lastgood_store::{Reader, Store};
use std::{
    fs,
    process::{Command, Stdio},
    time::SystemTime,
};

/// Gives what stands in the operations chain of credentials: who, which act, and how it ended.
fn written(world: &World) -> Vec<(String, Turn, &'static str)> {
    let reader = Reader::open(&world.path("state")).unwrap();
    let records = reader.read(&lastgood_engine::operations::chain(), 0, 1_000).unwrap();
    let records = records.iter().map(|one| serde_json::from_slice::<Record>(&one.bytes).unwrap());
    let each = records.filter_map(|record| match record.event {
        Event::Credential { credential, event } => {
            assert_eq!(credential, "token");
            let (turn, word) = match event {
                CredentialEvent::Begun { turn } => (turn, "begun"),
                CredentialEvent::Done { turn, .. } => (turn, "done"),
                CredentialEvent::Failed { turn, .. } => (turn, "failed"),
            };
            Some((record.by.to_string(), turn, word))
        }
        _ => None,
    });
    each.collect()
}

fn command(world: &World, who: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(world.path("")).stdin(Stdio::null());
    command.env_remove("LASTGOOD_CONFIG").env("SUDO_USER", who);
    command
}

fn by(world: &World, who: &str, arguments: &[&str]) -> Said {
    said(&mut command(world, who, arguments))
}

fn configure(world: &World, tail: &str) {
    let text = fs::read_to_string(world.path("lastgood.toml")).unwrap();
    fs::write(world.path("lastgood.toml"), text + tail).unwrap();
}

const REVOKE: [&str; 5] = ["credential", "revoke", "token", "--confirm", "token"];

#[test]
fn who_has_not_the_role_security_revokes_and_rotates_nothing_by_hand() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    configure(&world, "[person.alice]\nroles = [\"incident-commander\"]\n[person.sam]\nroles = [\"security\"]\n");
    by(&world, "alice", &REVOKE).ended(4).says("person:sam").says("[person-not-allowed]");
    by(&world, "alice", &["--yes", "credential", "rotate", "token"]).ended(4).says("person:sam");
    assert_eq!(fs::read_to_string(world.path("token")).unwrap(), "t0ken-that-leaked");
    by(&world, "sam", &REVOKE).ended(0);
    // A role that names it takes the place of that one.
    configure(&world, "[role.incident-commander]\nmay = [\"credential\"]\n");
    by(&world, "sam", &["--yes", "credential", "rotate", "token"]).ended(4).says("person:alice");
    by(&world, "alice", &["--yes", "credential", "rotate", "token"]).ended(0);
    let (sam, alice) = ("person:sam".to_owned(), "person:alice".to_owned());
    let expected = [
        (sam.clone(), Turn::Revoke, "begun"),
        (sam, Turn::Revoke, "done"),
        (alice.clone(), Turn::ProveRefused, "done"),
        (alice.clone(), Turn::Rotate, "begun"),
        (alice, Turn::Rotate, "done"),
    ];
    assert_eq!(written(&world), expected);
}

#[test]
fn revoking_takes_the_name_and_no_yes_and_an_old_secret_that_still_works_is_written_as_failed() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    by(&world, "sam", &["--yes", "credential", "revoke", "token"]).ended(3).says("--confirm token");
    by(&world, "sam", &["credential", "revoke", "token", "--confirm", "tokens"]).ended(3).says("nothing was revoked");
    by(&world, "sam", &["credential", "revoke", "token", "--dry-run"]).ended(0).says("token is in use");
    assert_eq!(fs::read_to_string(world.path("token")).unwrap(), "t0ken-that-leaked");
    assert!(!world.path("state").join("evidence.db").exists() || written(&world).is_empty());
    by(&world, "sam", &REVOKE).ended(0);
    world.secret("served", "t0ken-that-leaked");
    by(&world, "sam", &["--yes", "credential", "rotate", "token"]).ended(1).says("still accepted");
    let last = written(&world).pop().unwrap();
    assert_eq!(last, ("person:sam".into(), Turn::ProveRefused, "failed"));
    by(&world, "sam", &REVOKE).ended(0);
    by(&world, "sam", &["credential", "rotate", "token"]).ended(3).says("--yes credential rotate token");
    let evidence = fs::read(world.path("state").join("evidence.db")).unwrap_or_default();
    assert!(!evidence.windows(17).any(|one| one == b"t0ken-that-leaked"), "a secret is in the evidence");
}

#[test]
fn a_revocation_that_is_killed_in_its_middle_is_shown_as_not_ended_and_repeated_to_its_end() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    world.script("reload", "[ -e slow ] && { touch begun; sleep 30; }; cp token served");
    fs::write(world.path("slow"), "").unwrap();
    let mut killed = command(&world, "sam", &REVOKE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the service reads its file again", || world.path("begun").exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::remove_file(world.path("slow")).unwrap();
    let listed = by(&world, "sam", &["credential", "list"]).ended(0);
    listed.says("revoke NOT ENDED, begun by person:sam").says("lastgood credential revoke token");
    by(&world, "sam", &["--yes", "credential", "rotate", "token"]).ended(1).says("is not revoked");
    by(&world, "sam", &REVOKE).ended(0);
    let listed = by(&world, "sam", &["credential", "list"]).ended(0);
    assert!(!listed.out.contains("NOT ENDED"), "{listed:?}");
    by(&world, "sam", &["credential", "prove", "token"]).ended(0).says("the old one is refused");
    let sam = || "person:sam".to_owned();
    let expected = [
        (sam(), Turn::Revoke, "begun"),
        (sam(), Turn::Revoke, "begun"),
        (sam(), Turn::Revoke, "done"),
        (sam(), Turn::ProveRefused, "done"),
    ];
    assert_eq!(written(&world), expected);
}

#[test]
fn that_something_was_revoked_is_never_inferred_from_what_is_there_now() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    by(&world, "sam", &REVOKE).ended(0);
    by(&world, "sam", &["--yes", "credential", "rotate", "token"]).ended(0);
    // As it is left by who is killed after the first record of a second revocation, or is at it still.
    let store = Store::open(&world.path("state")).unwrap();
    let mut desk = Desk::new(store, Scope::default(), Vec::new());
    let event = |turn| Event::Credential { credential: "token".into(), event: CredentialEvent::Begun { turn } };
    let sam = Actor::new("person:sam").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let now = Timestamp(now.try_into().unwrap());
    desk.say(&sam, now, &|_| Ok(vec![event(Turn::Revoke), event(Turn::Rotate)])).unwrap();
    drop(desk);
    let left = written(&world).len();
    let listed = by(&world, "sam", &["credential", "list"]).ended(0);
    listed.says("token  rotated").says("revoke NOT ENDED, begun by person:sam").says("rotate NOT ENDED");
    by(&world, "sam", &["credential", "prove", "token"]).ended(0);
    let since = written(&world).split_off(left);
    assert!(since.iter().all(|(_, turn, _)| *turn != Turn::Revoke), "{since:?}");
    let listed = by(&world, "sam", &["credential", "list"]).ended(0).says("revoke NOT ENDED").out.clone();
    assert!(!listed.contains("rotate NOT ENDED"), "consumers work with the new one: {listed}");
    by(&world, "sam", &REVOKE).ended(0);
    assert!(!by(&world, "sam", &["credential", "list"]).ended(0).out.contains("NOT ENDED"));
}

#[test]
fn what_leaked_is_revoked_also_where_nothing_can_be_written_of_it() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    by(&world, "sam", &["credential", "list"]).ended(0);
    fs::create_dir_all(world.path("state")).unwrap();
    fs::write(world.path("state").join("evidence.db"), "no database, and no room for one").unwrap();
    by(&world, "sam", &REVOKE).ended(1).says("its file holds a secret that nobody knows");
    assert_ne!(fs::read_to_string(world.path("token")).unwrap(), "t0ken-that-leaked");
}
