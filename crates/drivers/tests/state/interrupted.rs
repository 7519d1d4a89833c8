//! A restore that is killed at any step, and who finishes it.

use crate::stage::{Stage, audit, bank, code, listing, names, peer, text};
use lastgood_domain::terms::OrderId;
use lastgood_drivers::state::{
    Holder, Mode, RestoreContext, StatePlace, finish_begun, forget_done, refuse_begun, restore_journal,
};
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Command,
};

/// The data of a kill test: a folder with every kind of change a restore has to undo.
pub(crate) fn worn(stage: &Stage, name: &str) -> (PathBuf, StatePlace) {
    let data = stage.folder(name);
    drop(bank(&data.join("db.sqlite"), "wal", 20));
    for path in ["sub/file", "sub/cache/x", "gone", "link-target"] {
        fs::create_dir_all(data.join(path).parent().unwrap()).unwrap();
        fs::write(data.join(path), path).unwrap();
    }
    symlink("link-target", data.join("link")).unwrap();
    let place = StatePlace::directory(&data, &["**/cache/**"]);
    (data, place)
}

pub(crate) fn wear_on(data: &Path) {
    let newer = Connection::open(data.join("db.sqlite")).unwrap();
    newer.execute_batch("ALTER TABLE accounts RENAME TO people").unwrap();
    drop(newer);
    fs::write(data.join("db.sqlite-wal"), "stale").unwrap();
    fs::write(data.join("sub/file"), "changed").unwrap();
    fs::write(data.join("sub/cache/x"), "warm").unwrap();
    fs::remove_file(data.join("gone")).unwrap();
    fs::create_dir_all(data.join("new/cache")).unwrap();
    fs::write(data.join("new/cache/y"), "y").unwrap();
    fs::write(data.join("new/file"), "new").unwrap();
}

/// Restores in a process of its own that dies at step `die_at`; gives the steps if it lived.
pub(crate) fn restore_in_process(stage: &Stage, place: &StatePlace, journal: &Path, die_at: u64) -> Option<u64> {
    let output = Command::new(peer())
        .args(["restore", text(&stage.snapshot(1)), &serde_json::to_string(place).unwrap()])
        .args([text(&stage.path("aside")), text(journal), &die_at.to_string()])
        .output()
        .unwrap();
    if output.status.success() {
        let said = String::from_utf8(output.stdout).unwrap();
        return Some(said.split(' ').next().unwrap().parse().unwrap());
    }
    assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    None
}

#[test]
fn killed_at_any_step_a_restore_called_again_ends_the_same() {
    let mut steps = 0;
    for die_at in 0.. {
        let stage = Stage::new();
        let (data, place) = worn(&stage, "data");
        stage.snap(&place, Mode::Stopped, 1).unwrap();
        let mut before = listing(&data);
        wear_on(&data);
        let journal = stage.path("journal");
        let lived = restore_in_process(&stage, &place, &journal, die_at);
        // Killed a second time, at each of the first steps of the resumption.
        if lived.is_none() {
            restore_in_process(&stage, &place, &journal, die_at % 7);
        }
        let facts = stage.restore(1, &place, "journal").unwrap();
        let mut after = listing(&data);
        for excluded in ["sub/cache/x", "new", "new/cache", "new/cache/y"] {
            before.remove(excluded);
            after.remove(excluded);
        }
        assert_eq!(after, before, "killed at step {die_at}");
        assert_eq!(fs::read_to_string(data.join("sub/cache/x")).unwrap(), "warm");
        let aside = PathBuf::from(facts.aside.unwrap()).join("0");
        assert_eq!(names(&aside), ["db.sqlite", "db.sqlite-wal", "link", "link-target", "new", "sub"], "step {die_at}");
        assert_eq!(fs::read_to_string(aside.join("sub/file")).unwrap(), "changed");
        assert_eq!(fs::read_to_string(aside.join("new/file")).unwrap(), "new");
        assert_eq!(audit(&data.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
        if let Some(count) = lived {
            steps = count;
            break;
        }
    }
    assert!(steps >= 15, "only {steps} steps were tried");
}

/// Takes what a restore with another order's journal must find whole again.
fn is_as_before(data: &Path, before: &BTreeMap<String, String>, when: &str) {
    let mut after = listing(data);
    for excluded in ["sub/cache/x", "new", "new/cache", "new/cache/y"] {
        after.remove(excluded);
    }
    assert_eq!(after, *before, "{when}");
}

#[test]
fn killed_at_any_step_a_restore_is_finished_by_the_next_order_and_all_newer_data_is_named() {
    let mut lived = None;
    for die_at in 0.. {
        let stage = Stage::new();
        let (data, place) = worn(&stage, "data");
        stage.snap(&place, Mode::Stopped, 1).unwrap();
        let mut before = listing(&data);
        before.remove("sub/cache/x");
        wear_on(&data);
        let newer = fs::read(data.join("db.sqlite")).unwrap();
        let journals = stage.folder("journals");
        lived = lived.or(restore_in_process(&stage, &place, &restore_journal(&journals, OrderId(9)), die_at));
        let when = format!("killed at step {die_at}");
        let second = restore_journal(Path::new("journals"), OrderId(10));
        let facts = stage.restore(1, &place, text(&second)).unwrap();
        is_as_before(&data, &before, &when);
        assert!(names(&data).iter().all(|name| !name.starts_with(".lastgood-")), "{when}: {:?}", names(&data));
        // Every folder with newer data is named, and the newer data is in one of them.
        let told: BTreeSet<PathBuf> = facts.earlier.iter().chain(&facts.aside).map(PathBuf::from).collect();
        let there: BTreeSet<PathBuf> =
            names(&stage.path("aside")).iter().map(|name| stage.path("aside").join(name)).collect();
        assert_eq!(told, there, "{when}");
        let holds = |folder: &PathBuf| fs::read(folder.join("0/db.sqlite")).is_ok_and(|bytes| bytes == newer);
        assert!(told.iter().any(holds), "{when}: the newer database is in none of {told:?}");
        // The answer stays the same until it is known to be recorded.
        assert_eq!(stage.restore(1, &place, text(&second)).unwrap(), facts);
        forget_done(&journals, OrderId(11)).unwrap();
        assert_eq!(names(&journals), Vec::<String>::new(), "{when}");
        if lived.is_some() {
            break;
        }
    }
    assert!(lived.is_some_and(|steps| steps >= 15), "only {lived:?} steps were tried");
}

#[test]
fn half_exchanged_data_is_refused_until_somebody_finishes_it() {
    let stage = Stage::new();
    let (data, place) = worn(&stage, "data");
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let mut before = listing(&data);
    before.remove("sub/cache/x");
    wear_on(&data);
    let journals = stage.folder("journals");
    refuse_begun(&journals).unwrap();
    let journal = restore_journal(&journals, OrderId(9));
    let half = (0..).find(|die_at| {
        assert_eq!(restore_in_process(&stage, &place, &journal, *die_at), None, "it never took the data apart");
        !data.join("db.sqlite").exists()
    });
    assert!(half.is_some());
    assert_eq!(code(refuse_begun(&journals)), "restore-unfinished");
    // Who has it open now is in the way, as at the beginning.
    let held = RestoreContext { still_held: vec![Holder { pid: 4711, path: data.clone() }], ..Default::default() };
    assert_eq!(code(finish_begun(&journals, &held)), "restore-still-held");
    assert_eq!(code(refuse_begun(&journals)), "restore-unfinished");
    finish_begun(&journals, &RestoreContext::default()).unwrap();
    refuse_begun(&journals).unwrap();
    is_as_before(&data, &before, "finished");
}

#[test]
fn what_an_older_version_passed_over_is_named_and_not_done_again() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let journals = stage.folder("journals");
    let (first, second) = (restore_journal(&journals, OrderId(9)), restore_journal(&journals, OrderId(10)));
    // It was begun, and another order's journal says that all is in place; the instance went on from there.
    assert_eq!(restore_in_process(&stage, &place, &first, 4), None);
    let begun = fs::read(&first).unwrap();
    stage.restore(1, &place, text(&second)).unwrap();
    fs::write(&first, begun).unwrap();
    Connection::open(&database).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    refuse_begun(&journals).unwrap();
    finish_begun(&journals, &RestoreContext::default()).unwrap();
    assert_eq!(audit(&database).2, 1, "it was done again");
}

#[test]
fn killed_at_any_step_two_databases_are_restored_together() {
    let mut steps = 0;
    for die_at in 0.. {
        let stage = Stage::new();
        let data = stage.folder("data");
        let paths = [data.join("a.db"), data.join("b.db")];
        for path in &paths {
            drop(bank(path, "wal", 5));
        }
        let place = StatePlace::sqlite(&paths);
        stage.snap(&place, Mode::Stopped, 1).unwrap();
        for path in &paths {
            Connection::open(path).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
            fs::write(path.with_extension("db-wal"), "stale").unwrap();
        }
        let lived = restore_in_process(&stage, &place, &stage.path("journal"), die_at);
        // Never data without a journal that says how to finish.
        let whole = paths.iter().all(|path| path.exists());
        assert!(whole || stage.path("journal").exists(), "killed at step {die_at}");
        stage.restore(1, &place, "journal").unwrap();
        assert_eq!(names(&data), ["a.db", "b.db"]);
        for path in &paths {
            assert_eq!(audit(path), (100_000, 0, 0, "ok".into()), "killed at step {die_at}");
        }
        if let Some(count) = lived {
            steps = count;
            break;
        }
    }
    assert!(steps >= 12, "only {steps} steps were tried");
}
