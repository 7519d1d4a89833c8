//! Whoever edits the evidence file is found out, and the chain and place are named.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainId, ChainName, Head, leaf},
    terms::Timestamp,
};
use lastgood_store::{Anchor, EVIDENCE_FILE, NewNotice, NewRecord, Reader, Signer, Store};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use rusqlite::{Connection, params};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tempfile::TempDir;

/// Two full subtrees of 256 and a rest; signed at 500, so that 100 records are behind the checkpoint.
const SIZE: u64 = 600;
const SIGNED: u64 = 500;

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

fn signer() -> Signer {
    Signer::from_seed("lastgood/4be1d06f93a7c521", &[7; 32]).unwrap()
}

fn record(number: u64, edited: Option<u64>) -> NewRecord {
    let text = if edited == Some(number) { format!("forged {number}") } else { format!("record {number}") };
    NewRecord { at: Timestamp(number as i64), bytes: text.into_bytes() }
}

/// Writes the fixed world into `dir`: chain `service/actual` (the one that is edited) and a bystander.
fn build(dir: &Path, size: u64, edited: Option<u64>) -> Store {
    let mut store = Store::open(dir).unwrap();
    let anchor = Anchor::at(&dir.join("anchor"));
    let bystander = ChainName::new("incident/i7").unwrap();
    store.append(&bystander, &Head::EMPTY, &[record(0, None)], &[]).unwrap();
    let mut head = Head::EMPTY;
    for part in [0..SIGNED.min(size), SIGNED..size.max(SIGNED)] {
        let records: Vec<_> = part.clone().map(|number| record(number, edited)).collect();
        let notice = NewNotice {
            endpoint: "ops".into(),
            subject: "service/actual".into(),
            kind: "test".into(),
            body: b"body".to_vec(),
            at: Timestamp(0),
        };
        if !records.is_empty() {
            head = store.append(&actual(), &head, &records, &[notice]).unwrap();
        }
        if part.start == 0 {
            store.checkpoint(&actual(), &signer(), &anchor, Timestamp(9)).unwrap();
        }
    }
    store
}

fn whole() -> &'static Path {
    static WHOLE: OnceLock<TempDir> = OnceLock::new();
    let dir = WHOLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path(), SIZE, None);
        dir
    });
    dir.path()
}

/// A copy of the whole world to edit.
struct Copy {
    dir: TempDir,
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in [EVIDENCE_FILE, "anchor"] {
            fs::copy(whole().join(name), dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn anchor(&self) -> PathBuf {
        self.dir.path().join("anchor")
    }

    fn sql(&self, statement: &str, parameters: impl rusqlite::Params) {
        let connection = Connection::open(self.dir.path().join(EVIDENCE_FILE)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let changed = connection.execute(statement, parameters).unwrap();
        assert!(changed > 0, "{statement} changed nothing");
    }

    fn edit_blob(&self, select: &str, update: &str, byte: usize, mask: u8) {
        let connection = Connection::open(self.dir.path().join(EVIDENCE_FILE)).unwrap();
        let mut blob: Vec<u8> = connection.query_row(select, [], |row| row.get(0)).unwrap();
        let at = byte % blob.len();
        blob[at] ^= mask;
        drop(connection);
        self.sql(update, [blob]);
    }

    /// Gives the findings as `chain@place: what`.
    fn verify(&self) -> Vec<String> {
        let reader = Reader::open(self.dir.path()).unwrap();
        let found = reader.verify(Some(&signer().verifier()), Some(&Anchor::at(&self.anchor()))).unwrap();
        found
            .findings
            .iter()
            .map(|finding| {
                let place = finding.seq.map_or("-".into(), |seq| seq.to_string());
                format!("{}@{place}: {}", finding.chain.as_deref().unwrap_or("-"), finding.problem)
            })
            .collect()
    }
}

#[track_caller]
fn first_finding(copy: &Copy, expected: &str) {
    let found = copy.verify();
    let first = found.first().map_or("nothing was found", String::as_str);
    assert!(first.starts_with(expected), "expected {expected}\nfound {found:#?}");
}

#[test]
fn the_untouched_world_verifies_to_its_last_record() {
    let reader = Reader::open(whole()).unwrap();
    let anchor = Anchor::at(&whole().join("anchor"));
    let found = reader.verify(Some(&signer().verifier()), Some(&anchor)).unwrap();
    assert!(found.is_ok(), "{:?}", found.findings);
    assert_eq!((found.records, found.notices), (601, 2));
    let chains: Vec<_> =
        found.chains.iter().map(|chain| (chain.name.as_str(), chain.head.size, chain.signed)).collect();
    assert_eq!(chains, [("incident/i7", 1, None), ("service/actual", 600, Some(500))]);
}

#[test]
fn records_removed_moved_added_or_doubled_are_found_at_their_place() {
    let one = "chain = (SELECT id FROM chain WHERE name = 'service/actual')";
    let cases = [
        (format!("DELETE FROM record WHERE {one} AND seq = 300"), "service/actual@300: record 300 is missing"),
        (format!("DELETE FROM record WHERE {one} AND seq = 0"), "service/actual@0: record 0 is missing"),
        (
            format!("DELETE FROM record WHERE {one} AND seq >= 590"),
            "service/actual@590: the head says 600 records, but they end at 590",
        ),
        (format!("DELETE FROM record WHERE {one}"), "service/actual@0: the head says 600 records, but they end at 0"),
        (
            format!("UPDATE record SET seq = 5000 WHERE {one} AND seq = 300"),
            "service/actual@300: record 300 is missing",
        ),
        (format!("UPDATE record SET seq = -1 WHERE {one} AND seq = 300"), "service/actual@0: the row can't be read"),
        (
            format!("UPDATE record SET at = at + 1 WHERE {one} AND seq = 300"),
            "service/actual@300: the link of record 300",
        ),
        (
            format!(
                "INSERT INTO record SELECT chain, 600, at, leaf, link, bytes FROM record WHERE {one} AND seq = 599"
            ),
            "service/actual@600: the link of record 600",
        ),
        (
            format!(
                "UPDATE record SET (at, leaf, link, bytes) = (SELECT at, leaf, link, bytes FROM record WHERE {one} AND seq = 301) WHERE {one} AND seq = 300"
            ),
            "service/actual@300: the link of record 300",
        ),
        (
            format!("UPDATE record SET leaf = x'00' WHERE {one} AND seq = 300"),
            "service/actual@300: the row can't be read",
        ),
        (
            format!("UPDATE record SET bytes = x'' WHERE {one} AND seq = 599"),
            "service/actual@599: the payload of record 599",
        ),
        (
            "UPDATE chain SET name = 'service/actuaL' WHERE name = 'service/actual'".into(),
            "service/actuaL@-: the chain's name was edited",
        ),
        (
            "UPDATE chain SET name = 'service/other' WHERE name = 'service/actual'".into(),
            "service/other@-: the checkpoint in the store does not hold",
        ),
        ("DELETE FROM chain WHERE name = 'service/actual'".into(), "-@0: there are records of chain number 2"),
        (
            "UPDATE chain SET size = 599 WHERE name = 'service/actual'".into(),
            "service/actual@599: the head says 599 records, but there are 600",
        ),
        (
            "UPDATE chain SET size = 601 WHERE name = 'service/actual'".into(),
            "service/actual@600: the head says 601 records, but they end at 600",
        ),
        (
            "UPDATE chain SET frontier = x'' WHERE name = 'service/actual'".into(),
            "service/actual@599: the stored Merkle frontier",
        ),
        (
            format!("DELETE FROM node WHERE {one} AND number = 1"),
            "service/actual@256: the stored Merkle node 1 of level 8",
        ),
        (
            format!("INSERT INTO node SELECT chain, 16, 0, hash FROM node WHERE {one} AND number = 0"),
            "service/actual@0: the stored Merkle node 0 of level 16",
        ),
        ("UPDATE notice SET body = x'00' WHERE seq = 499".into(), "service/actual@499: notice msg_"),
        ("UPDATE notice SET endpoint = 'elsewhere' WHERE seq = 499".into(), "service/actual@499: notice msg_"),
        ("UPDATE notice SET seq = 4711 WHERE seq = 499".into(), "service/actual@4711: notice msg_"),
        ("UPDATE notice SET seq = 498 WHERE seq = 499".into(), "service/actual@498: notice msg_"),
        ("UPDATE notice SET chain = 4711 WHERE seq = 499".into(), "-@499: notice msg_"),
        (
            "INSERT INTO notice (message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state,
                                 due)
             SELECT message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, 4711, state, 0 FROM notice
             WHERE seq = 499"
                .into(),
            "service/actual@499: notice msg_",
        ),
    ];
    for (statement, expected) in cases {
        let copy = Copy::new();
        copy.sql(&statement, []);
        first_finding(&copy, expected);
    }
}

#[test]
fn a_record_appended_by_hand_with_a_right_link_is_found_behind_the_head() {
    let copy = Copy::new();
    let reader = Reader::open(copy.dir.path()).unwrap();
    let head = reader.head(&actual()).unwrap();
    drop(reader);
    let forged = leaf(b"forged");
    let next = head.then(&ChainId::of(&actual()), Timestamp(600), &forged);
    copy.sql(
        "INSERT INTO record SELECT id, 600, 600, ?1, ?2, x'666f72676564' FROM chain WHERE name = 'service/actual'",
        params![forged.0, next.link.0],
    );
    first_finding(&copy, "service/actual@600: the head says 600 records, but there are 601");
    let mut store = Store::open(copy.dir.path()).unwrap();
    let refused = store.append(&actual(), &head, &[record(600, None)], &[]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "chain service/actual: the stored head says 600 records, but the records end at 601"
    );
}

#[test]
fn a_chain_whose_head_was_edited_takes_no_record() {
    for edit in ["size = 599", "link = zeroblob(32)"] {
        let copy = Copy::new();
        copy.sql(&format!("UPDATE chain SET {edit} WHERE name = 'service/actual'"), []);
        let mut store = Store::open(copy.dir.path()).unwrap();
        let head = store.head(&actual()).unwrap();
        let refused = store.append(&actual(), &head, &[record(600, None)], &[]).unwrap_err();
        assert!(refused.to_string().contains("the stored head says"), "{refused}");
    }
    let copy = Copy::new();
    copy.sql("UPDATE chain SET frontier = x'00' WHERE name = 'service/actual'", []);
    let mut store = Store::open(copy.dir.path()).unwrap();
    let head = store.head(&actual()).unwrap();
    assert!(store.append(&actual(), &head, &[record(600, None)], &[]).is_err());
}

#[test]
fn a_cut_that_also_mends_head_and_tree_is_found_by_the_anchor() {
    let copy = Copy::new();
    let shorter = tempfile::tempdir().unwrap();
    build(shorter.path(), 490, None);
    fs::copy(shorter.path().join(EVIDENCE_FILE), copy.dir.path().join(EVIDENCE_FILE)).unwrap();
    first_finding(
        &copy,
        "service/actual@490: the checkpoint in the store was signed at 500 records, the chain has 490: the tail was cut",
    );
    let all = copy.verify();
    assert!(
        all.iter().any(|finding| finding.contains("an older evidence file was put back or its tail was cut")),
        "{all:#?}"
    );
}

#[test]
fn a_rewritten_history_that_fits_itself_is_found_by_the_signature() {
    let copy = Copy::new();
    let forged = tempfile::tempdir().unwrap();
    build(forged.path(), SIZE, Some(123));
    let note = Reader::open(copy.dir.path()).unwrap().checkpoint_note(&actual()).unwrap().unwrap();
    fs::copy(forged.path().join(EVIDENCE_FILE), copy.dir.path().join(EVIDENCE_FILE)).unwrap();
    copy.sql("UPDATE checkpoint SET note = ?1", [note]);
    first_finding(
        &copy,
        "service/actual@-: the records before 500 follow from one another, but are not those that were signed",
    );
    // What is behind the signature is not covered: the documentation says so.
    let copy = Copy::new();
    let forged = tempfile::tempdir().unwrap();
    build(forged.path(), SIZE, Some(550));
    fs::copy(forged.path().join(EVIDENCE_FILE), copy.dir.path().join(EVIDENCE_FILE)).unwrap();
    assert!(copy.verify().is_empty());
}

#[test]
fn a_chain_that_vanished_with_all_its_rows_is_found_by_the_anchor() {
    let copy = Copy::new();
    for table in ["record", "node", "checkpoint", "notice"] {
        copy.sql(
            &format!("DELETE FROM {table} WHERE chain = (SELECT id FROM chain WHERE name = 'service/actual')"),
            [],
        );
    }
    copy.sql("DELETE FROM chain WHERE name = 'service/actual'", []);
    first_finding(&copy, "service/actual@0: chain service/actual has 0 records in the store, but the anchor");
}

#[test]
fn an_edited_checkpoint_or_anchor_is_found() {
    let copy = Copy::new();
    copy.sql("UPDATE checkpoint SET note = replace(note, '500', '501')", []);
    first_finding(&copy, "service/actual@-: the checkpoint in the store does not hold");
    let copy = Copy::new();
    let text = fs::read_to_string(copy.anchor()).unwrap();
    fs::write(copy.anchor(), text.replace("\\n500\\n", "\\n400\\n")).unwrap();
    first_finding(&copy, "-@-: the anchor");
    fs::remove_file(copy.anchor()).unwrap();
    first_finding(&copy, "service/actual@-: the anchor");
    fs::write(copy.anchor(), &text[..text.len() / 2]).unwrap();
    first_finding(&copy, "-@-: the anchor");
}

#[derive(Debug, Clone)]
enum Edit {
    Payload,
    Leaf,
    Link,
    HeadLink,
    Frontier,
    Node,
    Checkpoint,
    Anchor,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    use Edit::{Anchor, Checkpoint, Frontier, HeadLink, Leaf, Link, Node, Payload};
    prop::sample::select(vec![Payload, Leaf, Link, HeadLink, Frontier, Node, Checkpoint, Anchor])
}

fn apply(copy: &Copy, edit: &Edit, seq: u64, byte: usize, mask: u8) -> String {
    let one = "chain = (SELECT id FROM chain WHERE name = 'service/actual')";
    let column = |name: &str| {
        let select = format!("SELECT {name} FROM record WHERE {one} AND seq = {seq}");
        copy.edit_blob(&select, &format!("UPDATE record SET {name} = ?1 WHERE {one} AND seq = {seq}"), byte, mask);
    };
    let whole_row = |table: &str, column: &str, of: &str| {
        let select = format!("SELECT {column} FROM {table} WHERE {of}");
        copy.edit_blob(&select, &format!("UPDATE {table} SET {column} = ?1 WHERE {of}"), byte, mask);
    };
    match edit {
        Edit::Payload => {
            column("bytes");
            format!("service/actual@{seq}: the payload of record {seq} was edited")
        }
        Edit::Leaf => {
            column("leaf");
            format!("service/actual@{seq}: the leaf of record {seq} was edited")
        }
        Edit::Link => {
            column("link");
            format!("service/actual@{seq}: the link of record {seq} does not follow")
        }
        Edit::HeadLink => {
            whole_row("chain", "link", "name = 'service/actual'");
            "service/actual@599: the head's link is not that of the last record".into()
        }
        Edit::Frontier => {
            whole_row("chain", "frontier", "name = 'service/actual'");
            "service/actual@599: the stored Merkle frontier is not that of the records".into()
        }
        Edit::Node => {
            let number = seq % 2;
            whole_row("node", "hash", &format!("{one} AND number = {number}"));
            format!("service/actual@{}: the stored Merkle node {number} of level 8", number * 256)
        }
        Edit::Checkpoint => {
            let connection = Connection::open(copy.dir.path().join(EVIDENCE_FILE)).unwrap();
            let note: String = connection.query_row("SELECT note FROM checkpoint", [], |row| row.get(0)).unwrap();
            drop(connection);
            copy.sql("UPDATE checkpoint SET note = ?1", [edited_text(&note, byte)]);
            "service/actual@-: the checkpoint in the store does not hold".into()
        }
        Edit::Anchor => {
            let text = fs::read_to_string(copy.anchor()).unwrap();
            // Only what counts: a space between keys means nothing.
            let from = text.find("lastgood/4be1d06f93a7c521/service/actual").unwrap();
            let to = text.rfind("\\n").unwrap();
            fs::write(copy.anchor(), format!("{}{}{}", &text[..from], edited_text(&text[from..to], byte), &text[to..]))
                .unwrap();
            "-@-: the anchor".into()
        }
    }
}

/// Replaces one character by another that keeps the text valid UTF-8 and JSON.
fn edited_text(text: &str, byte: usize) -> String {
    let places: Vec<_> = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).collect();
    let (at, old) = places[byte % places.len()];
    let new = if old == 'x' { 'y' } else { 'x' };
    format!("{}{new}{}", &text[..at], &text[at + 1..])
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        // What failed is kept beside this file, and tried first from then on.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_edited_byte_is_found_and_its_place_named(
        edit in any_edit(), seq in 0..SIZE, byte in 0usize..1000, mask in 1u8..=255,
    ) {
        let copy = Copy::new();
        let expected = apply(&copy, &edit, seq, byte, mask);
        let found = copy.verify();
        prop_assert!(found.first().is_some_and(|first| first.starts_with(&expected)), "expected {expected}\nfound {found:#?}");
    }
}

#[test]
fn an_untyped_digest_column_is_no_way_around() {
    // A longer blob, a text, a NULL: what lastgood never writes is a finding, not a crash.
    for value in ["zeroblob(33)", "zeroblob(0)"] {
        let copy = Copy::new();
        copy.sql(&format!("UPDATE chain SET link = {value} WHERE name = 'service/actual'"), []);
        first_finding(&copy, "service/actual@-: the row can't be read");
    }
}

#[test]
fn edits_where_batches_and_subtrees_meet_are_found_at_their_place() {
    let dir = tempfile::tempdir().unwrap();
    // Several batches of 1,024, so that both threads check some; signed within a subtree of 256.
    let store = build(dir.path(), 6_000, None);
    let key = signer().verifier();
    let anchor = Anchor::at(&dir.path().join("anchor"));
    let found = store.verify(Some(&key), Some(&anchor)).unwrap();
    assert!(found.is_ok(), "{:?}", found.findings);
    assert_eq!(found.records, 6_001);
    let connection = Connection::open(dir.path().join(EVIDENCE_FILE)).unwrap();
    let one = "chain = (SELECT id FROM chain WHERE name = 'service/actual') AND seq = ?1";
    let flip = |column: &str, seq: u64| {
        let select = format!("SELECT {column} FROM record WHERE {one}");
        let mut blob: Vec<u8> = connection.query_row(&select, [seq as i64], |row| row.get(0)).unwrap();
        blob[0] ^= 1;
        connection.execute(&format!("UPDATE record SET {column} = ?2 WHERE {one}"), params![seq as i64, blob]).unwrap();
    };
    for seq in [0, 1, 255, 256, 1_022, 1_023, 1_024, 1_025, 2_047, 2_048, 5_119, 5_120, 5_999] {
        for column in ["bytes", "leaf", "link"] {
            flip(column, seq);
            let found = store.verify(Some(&key), Some(&anchor)).unwrap();
            let first = found.findings.first().map(|finding| (finding.chain.as_deref(), finding.seq));
            assert_eq!(first, Some((Some("service/actual"), Some(seq))), "{column}: {:?}", found.findings);
            flip(column, seq);
        }
    }
    assert!(store.verify(Some(&key), Some(&anchor)).unwrap().is_ok());
}
