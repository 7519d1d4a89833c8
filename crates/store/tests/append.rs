//! The chain's fence and the one transaction: what an append promises the engine.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainName, Head},
    failure::Coded,
    terms::{Digest, Timestamp},
};
use lastgood_store::{Append, AppendError, EVIDENCE_FILE, NewNotice, NewRecord, Reader, Store, StoreError};

fn chain(name: &str) -> ChainName {
    ChainName::new(name).unwrap()
}

fn record(text: &str) -> NewRecord {
    NewRecord { at: Timestamp(1_000), bytes: text.into() }
}

fn notice(text: &str) -> NewNotice {
    NewNotice {
        endpoint: "ops".into(),
        subject: "service/actual".into(),
        kind: "test".into(),
        body: text.into(),
        at: Timestamp(1_000),
    }
}

#[test]
fn what_was_appended_is_read_back_byte_for_byte_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let actual = chain("service/actual");
    let head = {
        let mut store = Store::open(dir.path()).unwrap();
        let head = store.append(&actual, &Head::EMPTY, &[record("a"), record("b")], &[notice("n")]).unwrap();
        store.append(&actual, &head, &[record("c")], &[]).unwrap()
    };
    assert_eq!(head.size, 3);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.head(&actual).unwrap(), head);
    let bytes: Vec<_> = reader.read(&actual, 1, 10).unwrap().into_iter().map(|r| (r.seq, r.bytes)).collect();
    assert_eq!(bytes, [(1, b"b".to_vec()), (2, b"c".to_vec())]);
    assert_eq!(reader.chains().unwrap().len(), 1);
}

#[test]
fn a_driver_that_saw_an_older_head_can_not_append() {
    let dir = tempfile::tempdir().unwrap();
    let actual = chain("service/actual");
    let (mut first, mut second) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
    let seen = second.head(&actual).unwrap();
    let head = first.append(&actual, &Head::EMPTY, &[record("first")], &[]).unwrap();
    let refused = second.append(&actual, &seen, &[record("stale")], &[notice("stale")]).unwrap_err();
    assert!(matches!(&refused, AppendError::Moved { expected: Head::EMPTY, found, .. } if *found == head), "{refused}");
    assert_eq!(second.head(&actual).unwrap(), head);
    assert!(second.backlog().unwrap().is_empty(), "a refused append left a notice");
}

#[test]
fn a_reader_looks_while_a_driver_writes_and_sees_that_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    let actual = chain("service/actual");
    let mut store = Store::open(dir.path()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let mark = reader.change_mark().unwrap();
    assert_eq!(reader.change_mark().unwrap(), mark);
    let own = store.change_mark().unwrap();
    let head = store.append(&actual, &Head::EMPTY, &[record("a")], &[]).unwrap();
    assert_ne!(reader.change_mark().unwrap(), mark);
    assert_ne!(store.change_mark().unwrap(), own, "a writer sees its own change too");
    assert_eq!(reader.head(&actual).unwrap(), head);
}

#[test]
fn a_file_that_is_missing_foreign_or_from_the_future_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Reader::open(dir.path()).unwrap_err().code(), "store-cannot-open");
    let path = dir.path().join(EVIDENCE_FILE);
    std::fs::write(&path, "not a database, but long enough to be looked at as one, byte for byte").unwrap();
    assert_eq!(Store::open(dir.path()).unwrap_err().code(), "store-cannot-open");
    std::fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_file(&path).unwrap();
    drop(Store::open(dir.path()).unwrap());
    let edit = rusqlite::Connection::open(&path).unwrap();
    edit.pragma_update(None, "user_version", 99).unwrap();
    drop(edit);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NewerSchema { found: 99, .. })));
    assert!(matches!(Reader::open(dir.path()), Err(StoreError::NewerSchema { found: 99, .. })));
}

#[test]
fn a_migration_that_is_done_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let actual = chain("service/actual");
    let head = Store::open(dir.path()).unwrap().append(&actual, &Head::EMPTY, &[record("a")], &[notice("n")]).unwrap();
    let edit = rusqlite::Connection::open(dir.path().join(EVIDENCE_FILE)).unwrap();
    edit.pragma_update(None, "user_version", 0).unwrap();
    drop(edit);
    assert!(matches!(Reader::open(dir.path()), Err(StoreError::OlderSchema { found: 0, .. })));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.head(&actual).unwrap(), head);
    assert!(store.verify(None, None).unwrap().is_ok());
}

#[test]
fn many_who_open_a_new_store_at_once_all_succeed() {
    // Twenty new files: two openers must meet in the microseconds in which a file becomes one.
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let dir = dir.path();
                scope.spawn(move || {
                    let mut store = Store::open(dir).unwrap();
                    store.append(&chain(&format!("service/s{number}")), &Head::EMPTY, &[record("a")], &[]).unwrap();
                });
            }
        });
        assert_eq!(Reader::open(dir.path()).unwrap().chains().unwrap().len(), 8);
    }
}

#[test]
fn a_cached_state_is_given_back_only_for_its_tag_and_a_position_that_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let actual = chain("service/actual");
    let mut store = Store::open(dir.path()).unwrap();
    store.cache_put(&actual, "v1", &Head { size: 1, ..Head::EMPTY }, b"early").unwrap();
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None, "a chain that is not there");
    let head = store.append(&actual, &Head::EMPTY, &[record("a"), record("b")], &[]).unwrap();
    store.cache_put(&actual, "v1", &Head { size: 3, ..head }, b"beyond").unwrap();
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None);
    store.cache_put(&actual, "v1", &Head { link: Digest::of(b"another"), ..head }, b"of another chain").unwrap();
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None);
    store.cache_put(&actual, "v1", &head, b"state").unwrap();
    store.append(&actual, &head, &[record("c")], &[]).unwrap();
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), Some((head, b"state".to_vec())));
    assert_eq!(store.cache_get(&actual, "v2").unwrap(), None);
    let edit = |sql: &str| {
        let edit = rusqlite::Connection::open(dir.path().join(EVIDENCE_FILE)).unwrap();
        assert_eq!(edit.execute(sql, []).unwrap(), 1);
    };
    edit("UPDATE cache SET bytes = x'00'");
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None, "a damaged state was believed");
    store.cache_put(&actual, "v1", &head, b"state").unwrap();
    edit("UPDATE cache SET seq = 1");
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None, "a state was believed for another position");
    edit("UPDATE cache SET seq = 99");
    assert_eq!(store.cache_get(&actual, "v1").unwrap(), None, "a state beyond the head was believed");
}

#[test]
fn a_record_too_large_is_refused_with_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let large = NewRecord { at: Timestamp(0), bytes: vec![0; 1_048_577] };
    let refused = store.append(&chain("service/actual"), &Head::EMPTY, &[large], &[]).unwrap_err();
    assert_eq!(refused.to_string(), "a record is 1048577 long, the limit is 1048576: nothing was appended");
    assert!(store.chains().unwrap().is_empty());
}

#[test]
fn several_chains_take_all_of_it_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let append = |name: &str, expected: Head, text: &str| Append {
        chain: chain(name),
        expected,
        records: vec![NewRecord { at: Timestamp(1), bytes: text.into() }],
        notices: Vec::new(),
    };
    let both = [append("operations", Head::EMPTY, "a"), append("service/notes", Head::EMPTY, "b")];
    let heads = store.append_all(&both).unwrap();
    assert_eq!(heads, [store.head(&chain("operations")).unwrap(), store.head(&chain("service/notes")).unwrap()]);
    // The second has moved since: the first gets nothing either.
    let stale = [append("operations", heads[0], "c"), append("service/notes", Head::EMPTY, "d")];
    assert!(
        matches!(store.append_all(&stale), Err(AppendError::Moved { chain, .. }) if chain.as_str() == "service/notes")
    );
    assert_eq!(store.head(&chain("operations")).unwrap(), heads[0]);
}
