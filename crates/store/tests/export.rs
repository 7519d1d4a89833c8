//! What is handed to outsiders holds there, and stops holding when a byte is changed.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainName, ExportCheck, ExportLine, ExportVerdict, Head, VerifierKey},
    failure::Coded,
    terms::Timestamp,
};
use lastgood_store::{Anchor, NewRecord, Signer, Store};
use tempfile::TempDir;

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

struct World {
    _dir: TempDir,
    store: Store,
    signer: Signer,
}

/// A chain of 700 records, signed at 650.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let signer = Signer::load_or_create(dir.path()).unwrap();
    let anchor = Anchor::at(&dir.path().join("anchor"));
    let records: Vec<_> =
        (0..700i64).map(|number| NewRecord { at: Timestamp(number), bytes: number.to_string().into() }).collect();
    let head = store.append(&actual(), &Head::EMPTY, &records[..650], &[]).unwrap();
    store.checkpoint(&actual(), &signer, &anchor, Timestamp(1)).unwrap();
    store.append(&actual(), &head, &records[650..], &[]).unwrap();
    World { _dir: dir, store, signer }
}

fn check(file: &str, key: &VerifierKey) -> Result<ExportVerdict, String> {
    let lines: Vec<ExportLine> =
        file.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|wrong| wrong.to_string())?;
    let mut lines = lines.into_iter();
    let mut check = ExportCheck::open(lines.next().ok_or("empty")?, key).map_err(|wrong| wrong.to_string())?;
    for line in lines {
        match line {
            ExportLine::Record(record) => check.record(&record).map_err(|wrong| wrong.to_string())?,
            ExportLine::End(end) => return check.end(&end).map_err(|wrong| wrong.to_string()),
            ExportLine::Open(_) => return Err("opened twice".into()),
        }
    }
    Err("cut".into())
}

#[test]
fn any_stretch_up_to_the_checkpoint_is_exported_and_holds() {
    let world = world();
    let key = world.signer.verifier();
    for range in [0..650, 0..1, 0..0, 255..257, 256..512, 300..650, 649..650, 650..650, 1..649] {
        let mut file = Vec::new();
        let written = world.store.export(&actual(), range.clone(), &key, &mut file).unwrap();
        assert_eq!(written, range.end - range.start);
        let verdict = check(std::str::from_utf8(&file).unwrap(), &key).unwrap();
        assert_eq!((verdict.from, verdict.to, verdict.checkpoint_size), (range.start, range.end, 650));
        assert_eq!(verdict.times_are_signed, range.end == 650);
    }
}

#[test]
fn what_was_not_signed_is_not_exported() {
    let world = world();
    let key = world.signer.verifier();
    let refused = world.store.export(&actual(), 0..651, &key, &mut Vec::new()).unwrap_err();
    assert_eq!(refused.code(), "evidence-not-signed", "{refused}");
    assert_eq!(world.store.prove_record(&actual(), 650, &key).unwrap_err().code(), "evidence-not-signed");
    assert_eq!(world.store.prove_record(&actual(), u64::MAX, &key).unwrap_err().code(), "evidence-not-signed");
    #[expect(clippy::reversed_empty_ranges, reason = "a backwards range is what is tested")]
    let backwards = world.store.export(&actual(), 9..3, &key, &mut Vec::new()).unwrap_err();
    assert_eq!(backwards.code(), "evidence-refused");
    let stranger = Signer::from_seed("lastgood/x", &[1; 32]).unwrap().verifier();
    assert_eq!(world.store.export(&actual(), 0..1, &stranger, &mut Vec::new()).unwrap_err().code(), "evidence-broken");
}

#[test]
fn every_record_is_proved_on_its_own() {
    let world = world();
    let key = world.signer.verifier();
    for seq in [0, 1, 255, 256, 511, 512, 600, 649] {
        let bundle = world.store.prove_record(&actual(), seq, &key).unwrap();
        assert_eq!(bundle.bytes.0, seq.to_string().into_bytes());
        assert!(bundle.check(&key).is_ok());
        let mut edited = bundle.clone();
        edited.bytes.0.push(0);
        assert!(edited.check(&key).is_err());
        assert!(lastgood_domain::evidence::RecordBundle { seq: seq ^ 1, ..bundle }.check(&key).is_err());
    }
}

#[test]
fn an_edited_export_is_refused() {
    let world = world();
    let key = world.signer.verifier();
    let mut file = Vec::new();
    world.store.export(&actual(), 640..650, &key, &mut file).unwrap();
    let good = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let without = |at: usize| {
        let mut rest = lines.clone();
        rest.remove(at);
        rest.join("\n")
    };
    assert_eq!(check(&without(3), &key).unwrap_err(), "record 642 is missing: record 643 comes in its place");
    assert_eq!(
        check(&without(10), &key).unwrap_err(),
        "the export ends at record 649, its header says 650: the tail was cut or added"
    );
    assert_eq!(check(&without(11), &key).unwrap_err(), "cut");
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert!(check(&swapped.join("\n"), &key).unwrap_err().starts_with("record 642 is missing"));
    let at_edited = good.replace("\"at\":645", "\"at\":644");
    assert!(check(&at_edited, &key).unwrap_err().starts_with("the link of record 645"));
    let renamed = good.replace("\"chain\":\"service/actual\"", "\"chain\":\"service/other\"");
    assert!(check(&renamed, &key).unwrap_err().contains("is not chain service/other"));
    let stranger = Signer::from_seed("lastgood/x", &[1; 32]).unwrap().verifier();
    assert!(check(&good, &stranger).is_err());
}
