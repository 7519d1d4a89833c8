//! Signing against the anchor: what was signed once can't be taken back unseen.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainName, Head, RewindAcknowledged, SignedCheckpoint},
    failure::Coded,
    terms::{Actor, Reason, Timestamp},
};
use lastgood_store::{Anchor, AnchorError, EVIDENCE_FILE, KEY_FILE, KeyError, NewRecord, SignError, Signer, Store};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};
use tempfile::TempDir;

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

struct World {
    dir: TempDir,
    anchor: Anchor,
    signer: Signer,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Anchor::at(&dir.path().join("elsewhere.json"));
        let signer = Signer::load_or_create(dir.path()).unwrap();
        Self { dir, anchor, signer }
    }

    fn store(&self) -> Store {
        Store::open(self.dir.path()).unwrap()
    }

    fn grow(&self, texts: &[&str]) -> Head {
        let mut store = self.store();
        let head = store.head(&actual()).unwrap();
        let records: Vec<_> = texts.iter().map(|text| NewRecord { at: Timestamp(1), bytes: (*text).into() }).collect();
        store.append(&actual(), &head, &records, &[]).unwrap()
    }

    fn sign(&self) -> Result<SignedCheckpoint, SignError> {
        self.store().checkpoint(&actual(), &self.signer, &self.anchor, Timestamp(2))
    }

    fn drive(&self) -> Result<Store, SignError> {
        Store::open_for_driving(self.dir.path(), &self.signer, &self.anchor)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn acknowledge(&self) -> Result<SignedCheckpoint, SignError> {
        let who = (Actor::new("person:alice").unwrap(), Reason::new("restored the disk").unwrap());
        self.store().acknowledge_rewind(&actual(), (&self.signer, &self.anchor), who, Timestamp(3))
    }

    /// Signing and opening must both refuse, in the same words.
    #[track_caller]
    fn refused(&self, code: &str) -> String {
        let refused = self.sign().unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert_eq!(self.drive().unwrap_err().to_string(), refused.to_string());
        assert!(refused.hint().is_some());
        refused.to_string()
    }
}

#[test]
fn a_checkpoint_is_kept_in_both_places_and_grows_with_the_chain() {
    let world = World::new();
    world.grow(&["a"]);
    let first = world.sign().unwrap();
    assert_eq!(first.checkpoint().head.size, 1);
    assert_eq!(world.sign().unwrap(), first, "the same head gives the same note");
    world.grow(&["b", "c"]);
    let second = world.sign().unwrap();
    assert_eq!(second.checkpoint().head.size, 3);
    assert_eq!(world.store().checkpoint_note(&actual()).unwrap().as_deref(), Some(second.note()));
    let file = fs::read_to_string(world.anchor.path()).unwrap();
    assert!(file.contains(second.note().lines().nth(2).unwrap()), "{file}");
    world.drive().unwrap();
    let key = world.signer.verifier();
    let proof = world.store().prove_consistency(&actual(), &first, &key).unwrap();
    assert!(proof.check(&key).is_ok());
}

#[test]
fn yesterdays_file_put_back_is_refused_until_it_is_acknowledged() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    fs::copy(world.file(EVIDENCE_FILE), world.file("yesterday")).unwrap();
    world.grow(&["b", "c"]);
    let abandoned = world.sign().unwrap();
    fs::copy(world.file("yesterday"), world.file(EVIDENCE_FILE)).unwrap();
    let text = world.refused("evidence-rewound");
    assert!(text.contains("1 record in the store") && text.contains("signed at 3"), "{text}");
    // Growing past the old size does not hide it.
    world.grow(&["x", "y", "z"]);
    world.refused("evidence-forked");
    let signed = world.acknowledge().unwrap();
    assert_eq!(signed.checkpoint().head.size, 5);
    let last = world.store().read(&actual(), 4, 1).unwrap().pop().unwrap();
    let entry: RewindAcknowledged = serde_json::from_slice(&last.bytes).unwrap();
    assert_eq!(entry.check(&world.signer.verifier().named(&signed.checkpoint().origin).unwrap()), Ok(()));
    assert_eq!((entry.found.size, entry.abandoned.as_deref()), (4, Some(abandoned.note())));
    world.drive().unwrap();
    world.grow(&["goes on"]);
    world.sign().unwrap();
    assert!(world.store().verify(Some(&world.signer.verifier()), Some(&world.anchor)).unwrap().is_ok());
}

#[test]
fn a_deleted_evidence_file_is_a_rewind_to_nothing() {
    let world = World::new();
    world.grow(&["a", "b"]);
    world.sign().unwrap();
    fs::remove_file(world.file(EVIDENCE_FILE)).unwrap();
    assert!(world.refused("evidence-rewound").contains("0 records in the store"));
}

#[test]
fn nothing_is_acknowledged_where_nothing_is_wrong() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    let refused = world.acknowledge().unwrap_err();
    assert_eq!(refused.code(), "nothing-to-acknowledge");
    assert_eq!(world.store().head(&actual()).unwrap().size, 1);
}

#[test]
fn a_missing_anchor_is_told_from_a_first_use() {
    let world = World::new();
    world.grow(&["a"]);
    world.drive().unwrap();
    world.sign().unwrap();
    fs::remove_file(world.anchor.path()).unwrap();
    world.refused("anchor-missing");
    world.acknowledge().unwrap();
    world.drive().unwrap();
}

#[test]
fn an_anchor_that_can_not_be_read_is_refused_and_kept_aside_when_acknowledged() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    for damage in ["", "{", "{\"schema\":\"lastgood-anchor/2\",\"installation\":\"x\",\"checkpoints\":{}}"] {
        fs::write(world.anchor.path(), damage).unwrap();
        world.refused("anchor-unreadable");
    }
    world.acknowledge().unwrap();
    let aside = fs::read_to_string(world.file("elsewhere.json.abandoned-3")).unwrap();
    assert!(aside.contains("lastgood-anchor/2"));
    world.drive().unwrap();
}

#[test]
fn an_anchor_of_another_installation_is_told_as_such() {
    let (world, other) = (World::new(), World::new());
    for one in [&world, &other] {
        one.grow(&["a"]);
        one.sign().unwrap();
    }
    fs::copy(other.anchor.path(), world.anchor.path()).unwrap();
    let text = world.refused("anchor-foreign");
    assert!(text.contains(other.signer.installation()) && text.contains(world.signer.installation()), "{text}");
}

#[test]
fn the_anchor_of_a_store_that_was_lost_is_acknowledged_with_a_record_or_left_where_it_is() {
    let (world, other) = (World::new(), World::new());
    other.grow(&["a"]);
    other.sign().unwrap();
    fs::copy(other.anchor.path(), world.anchor.path()).unwrap();
    // The new store has no record yet; why it was gone on with is its first.
    let signed = world.acknowledge().unwrap();
    assert_eq!(signed.checkpoint().head.size, 1);
    assert!(world.file("elsewhere.json.abandoned-3").exists());
    world.drive().unwrap();
    let refused = world.acknowledge().unwrap_err();
    assert_eq!(refused.code(), "nothing-to-acknowledge");
}

#[test]
fn an_older_anchor_put_back_is_noticed() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    let older = fs::read(world.anchor.path()).unwrap();
    world.grow(&["b"]);
    world.sign().unwrap();
    fs::write(world.anchor.path(), older).unwrap();
    world.refused("anchor-behind");
}

#[test]
fn a_kill_between_anchor_and_store_is_no_finding() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    fs::copy(world.file(EVIDENCE_FILE), world.file("before")).unwrap();
    let grown = {
        world.grow(&["b"]);
        fs::copy(world.file(EVIDENCE_FILE), world.file("before")).unwrap();
        world.sign().unwrap()
    };
    // The anchor was written, the store's own copy was not.
    fs::copy(world.file("before"), world.file(EVIDENCE_FILE)).unwrap();
    world.drive().unwrap();
    assert_eq!(world.sign().unwrap(), grown);
}

#[test]
fn a_tree_that_no_longer_fits_is_never_signed() {
    let world = World::new();
    world.grow(&["a", "b"]);
    world.sign().unwrap();
    world.grow(&["c"]);
    let edit = rusqlite::Connection::open(world.file(EVIDENCE_FILE)).unwrap();
    edit.execute("UPDATE record SET leaf = zeroblob(32) WHERE seq = 2", []).unwrap();
    drop(edit);
    let refused = world.sign().unwrap_err();
    assert_eq!(refused.code(), "evidence-broken", "{refused}");
}

#[test]
fn peaks_that_are_not_those_of_the_records_are_never_signed_for_the_first_time() {
    let world = World::new();
    world.grow(&["a", "b", "c"]);
    let edit = rusqlite::Connection::open(world.file(EVIDENCE_FILE)).unwrap();
    edit.execute("UPDATE chain SET frontier = zeroblob(64)", []).unwrap();
    drop(edit);
    assert_eq!(world.sign().unwrap_err().code(), "evidence-broken");
    assert!(!world.anchor.path().exists());
}

#[test]
fn an_anchor_in_a_folder_that_is_not_there_is_an_error_and_nothing_is_signed() {
    let mut world = World::new();
    world.grow(&["a"]);
    world.anchor = Anchor::at(&world.file("not-mounted/anchor"));
    let refused = world.sign().unwrap_err();
    assert!(matches!(refused, SignError::Anchor(AnchorError::Unwritable { .. })), "{refused}");
    assert_eq!(world.store().checkpoint_note(&actual()).unwrap(), None);
}

#[test]
fn signers_of_many_chains_at_once_lose_no_checkpoint() {
    let world = World::new();
    let names: Vec<_> = (0..8).map(|number| ChainName::new(&format!("service/s{number}")).unwrap()).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| {
                let mut store = world.store();
                let record = NewRecord { at: Timestamp(1), bytes: vec![1] };
                store.append(name, &Head::EMPTY, &[record], &[]).unwrap();
                store.checkpoint(name, &world.signer, &world.anchor, Timestamp(2)).unwrap();
            });
        }
    });
    let found = world.store().verify(Some(&world.signer.verifier()), Some(&world.anchor)).unwrap();
    assert!(found.is_ok(), "{:?}", found.findings);
    assert_eq!(found.chains.iter().filter(|chain| chain.signed == Some(1)).count(), 8);
}

#[test]
fn who_looks_while_others_sign_finds_nothing() {
    let world = World::new();
    world.grow(&["a"]);
    world.sign().unwrap();
    // Many others are looked at before it, so that something is signed between the looks at the two places.
    let mut store = world.store();
    for number in 0..100 {
        let name = ChainName::new(&format!("other/s{number}")).unwrap();
        let record = NewRecord { at: Timestamp(1), bytes: vec![1] };
        store.append(&name, &Head::EMPTY, &[record], &[]).unwrap();
        store.checkpoint(&name, &world.signer, &world.anchor, Timestamp(2)).unwrap();
    }
    drop(store);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..60 {
                world.grow(&["b"]);
                world.sign().unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            let found = world.store().verify(Some(&world.signer.verifier()), Some(&world.anchor)).unwrap();
            assert!(found.is_ok(), "{:?}", found.findings);
            world.drive().unwrap();
        }
    });
}

#[test]
fn the_key_is_private_stays_the_same_and_is_never_replaced() {
    let world = World::new();
    let path = world.file(KEY_FILE);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let again = Signer::load_or_create(world.dir.path()).unwrap();
    assert_eq!(again.verifier(), world.signer.verifier());
    let line = fs::read_to_string(&path).unwrap();
    let seed = line.trim_end().rsplit(' ').next().unwrap();
    assert!(!format!("{again:?}").contains(seed));
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 1, "a draft of the key was left");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Signer::load_or_create(world.dir.path()), Err(KeyError::TooOpen { mode: 0o640, .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for damage in ["", "x", &line[..line.len() - 2], &line.replace("/1", "/2")] {
        fs::write(&path, damage).unwrap();
        let refused = Signer::load_or_create(world.dir.path()).unwrap_err();
        assert!(matches!(refused, KeyError::Damaged { .. }), "{refused}");
        assert!(!refused.to_string().contains(seed));
    }
}

#[test]
fn processes_that_make_the_key_at_once_get_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Signer::load_or_create(dir.path()).unwrap().verifier())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}
