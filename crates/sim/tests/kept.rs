//! A state kept beside its chain, over the logs of random worlds: it saves time and changes nothing else.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{event::Record, service::Service, terms::ServiceName};
use lastgood_engine::{
    fold::{FOLD, Folded, from_bytes, to_bytes},
    log::{canonical, chain_of},
};
use lastgood_sim::random;
use lastgood_store::{EVIDENCE_FILE, NewRecord, Reader, Store};
use std::path::Path;

const WORLDS: u64 = 300;

fn name() -> ServiceName {
    ServiceName::new("web").unwrap()
}

/// Writes a log whose state was kept once, after the first `kept` records.
fn written(dir: &Path, records: &[Record], kept: usize) {
    let mut store = Store::open(dir).unwrap();
    let (before, after) = records.split_at(kept);
    let append = |store: &mut Store, records: &[Record]| {
        let new = records.iter().map(|one| NewRecord { at: one.at, bytes: canonical(one) }).collect::<Vec<_>>();
        let head = store.head(&chain_of(&name())).unwrap();
        store.append(&chain_of(&name()), &head, &new, &[]).unwrap()
    };
    let head = append(&mut store, before);
    store.cache_put(&chain_of(&name()), FOLD, &head, &to_bytes(&Service::fold(before))).unwrap();
    append(&mut store, after);
}

/// Gives logs and a place in each, such as a driver may keep its state at.
fn logs() -> impl Iterator<Item = (u64, Vec<Record>, usize)> {
    (0..WORLDS).map(|seed| (seed, random(seed).records)).filter(|(_, records)| records.len() > 20).map(
        |(seed, records)| {
            let kept = 20 + usize::try_from(seed).unwrap() * 7 % (records.len() - 20);
            (seed, records, kept)
        },
    )
}

#[test]
fn at_every_place_of_random_logs_a_kept_state_is_the_folded_one_and_goes_on_as_it_would() {
    for seed in 0..WORLDS {
        let records = random(seed).records;
        let whole = Service::fold(&records);
        let mut folded = Service::default();
        for (seq, record) in records.iter().enumerate() {
            folded.apply(record);
            let mut kept = from_bytes(&to_bytes(&folded)).unwrap_or_else(|| panic!("seed {seed}, record {seq}"));
            assert_eq!(kept, folded, "seed {seed}, record {seq}");
            if seq % 17 == 0 {
                records[seq + 1..].iter().for_each(|record| kept.apply(record));
                assert_eq!(kept, whole, "seed {seed}, kept after record {seq}");
            }
        }
    }
}

#[test]
fn what_is_read_behind_a_kept_state_is_what_the_whole_chain_folds_to() {
    for (seed, records, kept) in logs().take(60) {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &records, kept);
        let found = Folded::read(&Reader::open(dir.path()).unwrap(), &name()).unwrap();
        assert_eq!(found.kept, kept as u64, "seed {seed}: the kept state was not used");
        assert_eq!(found.head.size, records.len() as u64, "seed {seed}");
        assert_eq!(found.service, Service::fold(&records), "seed {seed}");
    }
}

#[test]
fn damage_to_what_is_kept_changes_nothing() {
    let edits = [
        "DELETE FROM cache",
        "UPDATE cache SET tag = 'another program''s'",
        "UPDATE cache SET bytes = x''",
        "UPDATE cache SET bytes = substr(bytes, 1, length(bytes) - 1)",
        "UPDATE cache SET bytes = CAST(replace(CAST(bytes AS TEXT), '\"records\":', '\"recards\":') AS BLOB)",
        "UPDATE cache SET bytes = CAST(replace(CAST(bytes AS TEXT), 'alice', 'malic') AS BLOB)",
        "UPDATE cache SET digest = zeroblob(32)",
        "UPDATE cache SET seq = seq - 1",
        "UPDATE cache SET seq = seq + 1",
        "UPDATE cache SET seq = 1000000",
        // The chain is another one from there on, as after a file was put back.
        "UPDATE record SET link = zeroblob(32) WHERE seq = (SELECT seq - 1 FROM cache)",
    ];
    for (seed, records, kept) in logs().take(5) {
        for sql in edits {
            let dir = tempfile::tempdir().unwrap();
            written(dir.path(), &records, kept);
            let edit = rusqlite::Connection::open(dir.path().join(EVIDENCE_FILE)).unwrap();
            assert_eq!(edit.execute(sql, []).unwrap(), 1, "{sql}");
            let found = Folded::read(&Reader::open(dir.path()).unwrap(), &name()).unwrap();
            assert_eq!(found.kept, 0, "seed {seed}: believed after {sql}");
            assert_eq!(found.service, Service::fold(&records), "seed {seed}: {sql}");
        }
    }
}

#[test]
fn a_state_of_another_form_or_length_is_passed_over_whoever_sealed_it() {
    let (_, records, kept) = logs().next().unwrap();
    let whole = Service::fold(&records);
    let longer = Service { records: whole.records + 1, ..whole.clone() };
    for bytes in [b"{}".to_vec(), b"no JSON".to_vec(), to_bytes(&longer)] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &records, kept);
        let mut store = Store::open(dir.path()).unwrap();
        let head = store.head(&chain_of(&name())).unwrap();
        store.cache_put(&chain_of(&name()), FOLD, &head, &bytes).unwrap();
        let found = Folded::read(&store, &name()).unwrap();
        assert_eq!((found.kept, &found.service), (0, &whole));
    }
}
