use super::*;
use lastgood_domain::{
    notice::NoticeKind,
    switches::Declared,
    terms::{Reason, SwitchName},
};
use lastgood_store::{Reader, Store};
use std::path::Path;

/// The evidence file, to damage it.
fn damage(folder: &Path, sql: &str) {
    let file = folder.join(lastgood_store::EVIDENCE_FILE);
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn production() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

fn desk(folder: &Path) -> Desk {
    let wants = |endpoint: &str, kinds: &[NoticeKind]| Route { endpoint: endpoint.into(), kinds: kinds.to_vec() };
    let routes = vec![wants("pager", &[NoticeKind::SwitchTripped]), wants("deploys", &[NoticeKind::Promoted])];
    Desk::new(Store::open(folder).unwrap(), Scope::of(&production()), routes)
}

fn declared() -> Declared {
    let subsystems = ["auth", "crypto"].map(|name| SwitchName::new(name).unwrap()).into();
    Declared { subsystems, ..Declared::default() }
}

fn say(desk: &mut Desk, word: &str, switch: &str) -> Result<Switches, SayError> {
    let (by, switch) = (Actor::new("person:alice").unwrap(), SwitchName::new(switch).unwrap());
    let (declared, reason) = (declared(), Reason::new("so it is").unwrap());
    let decide = |state: &Switches| match word {
        "trip" => switches::trip(&declared, &switch, &reason),
        _ => switches::reset(state, &declared, &by, &switch, &reason),
    };
    desk.say_one(&by, Timestamp(1_767_225_600_000), &decide).map(|(_, folded)| folded.state.clone())
}

fn read(folder: &Path) -> Folded {
    Folded::read(&Reader::open(folder).unwrap(), &Scope::of(&production())).unwrap()
}

/// auth and crypto are tripped, auth is reset: three records.
fn three(folder: &Path) -> Desk {
    let mut desk = desk(folder);
    for (word, switch) in [("trip", "auth"), ("trip", "crypto"), ("reset", "auth")] {
        say(&mut desk, word, switch).unwrap();
    }
    desk
}

#[test]
fn a_trip_and_its_notice_are_written_together_and_two_desks_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (desk(folder.path()), desk(folder.path()));
    say(&mut one, "trip", "auth").unwrap();
    let state = say(&mut other, "trip", "crypto").unwrap();
    assert_eq!((state.epoch, state.tripped.len()), (2, 2));
    let state = say(&mut one, "reset", "crypto").unwrap();
    assert_eq!((state.epoch, state.tripped.len()), (3, 1));
    assert!(matches!(say(&mut other, "reset", "crypto"), Err(SayError::Refused(_))));
    let store = Store::open(folder.path()).unwrap();
    let notices = store.notices(lastgood_store::NoticeState::Pending, 10).unwrap();
    let told: Vec<(&str, &str, u64)> =
        notices.iter().map(|row| (row.endpoint.as_str(), row.kind.as_str(), row.seq)).collect();
    assert_eq!(told, [("pager", "switch-tripped", 0), ("pager", "switch-tripped", 1)]);
    assert!(store.verify(None, None).unwrap().is_ok());
}

#[test]
fn a_trip_that_cannot_be_read_stands_is_told_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = three(folder.path());
    damage(folder.path(), "UPDATE record SET bytes = x'00ff' WHERE seq = 1");
    let folded = read(folder.path());
    assert_eq!(folded.state.epoch, 3);
    assert!(folded.state.is_tripped("crypto"), "its trip can't be read, and it is open");
    assert_eq!(folded.damaged.iter().map(|one| one.seq).collect::<Vec<_>>(), [1]);
    assert!(folded.damaged[0].what.contains("edited"), "{:?}", folded.damaged);
    // And the next word is taken.
    assert_eq!(say(&mut desk, "trip", "auth").unwrap().epoch, 4);
    assert!(read(folder.path()).state.is_tripped("auth"));
}

#[test]
fn a_record_in_doubt_may_block_and_never_opens() {
    let folder = tempfile::tempdir().unwrap();
    three(folder.path());
    // Somebody edits the reset, and the trip before it, each into another that reads well.
    let edit = "UPDATE record SET bytes = CAST(replace(CAST(bytes AS TEXT), 'so it is', 'so it was') AS BLOB)";
    damage(folder.path(), edit);
    let folded = read(folder.path());
    assert_eq!(folded.damaged.len(), 3);
    assert!(folded.state.is_tripped("auth"), "an edited reset was believed");
    assert!(folded.state.is_tripped("crypto"), "an edited trip was not believed");
}

#[test]
fn a_trip_that_was_made_one_of_another_switch_stands_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    say(&mut desk, "trip", "crypto").unwrap();
    damage(
        folder.path(),
        "UPDATE record SET bytes = CAST(replace(CAST(bytes AS TEXT), '\"crypto\"', '\"auth\"') AS BLOB)",
    );
    let state = read(folder.path()).state;
    assert!(state.tripped.contains_key(&SwitchName::new("auth").unwrap()), "{state:?}");
    assert!(state.is_tripped("crypto"), "somebody edited its trip, and it is open");
}

#[test]
fn rows_that_are_missing_or_of_another_form_hide_no_others() {
    for (sql, seq) in [
        ("DELETE FROM record WHERE seq = 1", 1),
        ("DELETE FROM record WHERE seq = 2", 2),
        ("UPDATE record SET link = x'00' WHERE seq = 1", 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        three(folder.path());
        // STRICT tables and checks guard the form; who edits the file by other means is not held by them.
        damage(folder.path(), &format!("PRAGMA ignore_check_constraints = ON; {sql}"));
        let folded = read(folder.path());
        assert_eq!(folded.state.epoch, 3, "{sql}");
        assert!(folded.damaged.iter().any(|one| one.seq == seq), "{sql}: {:?}", folded.damaged);
        // Whichever is gone: nobody has reset crypto, and the reset of auth does not follow from the chain any more.
        for name in ["auth", "crypto", "all"] {
            assert!(folded.state.is_tripped(name), "{sql}: {name} is open");
        }
    }
}

#[test]
fn a_chain_that_was_put_back_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    say(&mut desk, "trip", "auth").unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let mut folded = Folded::read(&reader, &Scope::of(&production())).unwrap();
    assert!(folded.state.is_tripped("auth"));
    damage(folder.path(), "DELETE FROM notice; DELETE FROM node; DELETE FROM record; DELETE FROM chain;");
    folded.read_on(&reader, &Scope::of(&production())).unwrap();
    assert_eq!(folded, Folded::default());
}

#[test]
fn a_switch_is_tripped_beside_a_chain_that_takes_no_record_and_reset_only_in_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let (beside, declared) = (Beside::of(folder.path(), &production()), declared());
    let (alice, auth, now) =
        (Actor::new("person:alice").unwrap(), SwitchName::new("auth").unwrap(), Timestamp(1_767_225_600_000));
    let reason = Reason::new("tokens leak").unwrap();
    let mut desk = three(folder.path());
    let file = folder.path().join(lastgood_store::EVIDENCE_FILE);
    let link: Vec<u8> = rusqlite::Connection::open(file)
        .unwrap()
        .query_row("SELECT link FROM record WHERE seq = 2", [], |row| row.get(0))
        .unwrap();
    damage(folder.path(), "UPDATE record SET link = zeroblob(32) WHERE seq = 2");
    assert!(say(&mut desk, "trip", "auth").is_err());
    let tripped = trip(Ok(&mut desk), &beside, &declared, (&alice, now), (&auth, &reason)).unwrap();
    assert!(matches!(tripped, Tripped::Kept { because } if because.code == "evidence-broken"));
    assert_eq!(
        beside.read().unwrap(),
        [Kept { switch: auth.clone(), at: now, by: alice.clone(), reason: reason.clone() }]
    );
    // It stands whatever becomes of the chain: here it is mended, and auth would be open by it.
    assert!(beside.hand_over(&mut desk, now).is_err());
    let link: String = link.iter().map(|byte| format!("{byte:02x}")).collect();
    damage(folder.path(), &format!("UPDATE record SET link = x'{link}' WHERE seq = 2"));
    assert!(!read(folder.path()).state.is_tripped("auth"));
    let of_all =
        || super::read(&Reader::open(folder.path()).unwrap(), folder.path(), &Scope::of(&production())).unwrap().state;
    assert_eq!((of_all().is_tripped("auth"), of_all().epoch), (true, 3));
    assert_eq!(of_all().tripped[&auth].by, alice);
    // The record comes first, then the file goes, and only then somebody resets it.
    let mut desk = self::desk(folder.path());
    beside.hand_over(&mut desk, now).unwrap();
    assert!(beside.read().unwrap().is_empty());
    assert!(read(folder.path()).state.is_tripped("auth"));
    assert!(!say(&mut desk, "reset", "auth").unwrap().is_tripped("auth"));
    assert!(!of_all().is_tripped("auth"));
}

#[test]
fn what_is_kept_beside_the_chain_trips_even_if_it_can_t_be_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(three(folder.path()));
    let kept = folder.path().join("tripped/production");
    std::fs::create_dir_all(&kept).unwrap();
    for (file, text) in [("auth.json", ""), ("all.json-1.new", "{}")] {
        std::fs::write(kept.join(file), text).unwrap();
    }
    let of_all = || super::read(&Reader::open(folder.path()).unwrap(), folder.path(), &Scope::of(&production()));
    assert!(of_all().unwrap().state.is_tripped("auth"));
    assert!(!of_all().unwrap().state.is_tripped("all"), "one that is still being written is none yet");
    // A folder that can't be read opens nothing either.
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::write(&kept, "").unwrap();
    assert!(of_all().is_err());
}
