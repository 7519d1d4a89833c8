//! The chain's fence and the one transaction: what an append promises the engine.

use lastgood_domain::{
    evidence::{ChainName, Head},
    terms::Timestamp,
};
use lastgood_store::{AppendError, NewNotice, NewRecord, Reader, Store};

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
    assert!(
        matches!(&refused, AppendError::Moved { expected: Head::EMPTY, found, .. } if *found == head),
        "{refused}"
    );
    assert_eq!(second.head(&actual).unwrap(), head);
    assert!(second.backlog().unwrap().is_empty(), "a refused append left a notice");
}
