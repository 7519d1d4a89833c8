//! Whatever is in a folder and whatever happens to it: a restore makes it what it was.

use crate::stage::{Stage, bank, listing};
use lastgood_drivers::state::{Mode, StatePlace};
use proptest::prelude::*;
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// One thing in a tree, or one thing done to it.
#[derive(Debug, Clone)]
enum Act {
    File(PathBuf, Vec<u8>, u32),
    Folder(PathBuf, u32),
    Link(PathBuf, String),
    Database(PathBuf, &'static str),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Migrate(PathBuf),
}

fn path() -> impl Strategy<Value = PathBuf> {
    // Few names, so that acts meet each other.
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c d", "ü", "x-wal", ".hidden"]), 1..4)
        .prop_map(|parts| parts.into_iter().collect())
}

fn made() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (path(), prop::collection::vec(any::<u8>(), 0..3000), 0o400..0o777_u32).prop_map(|(path, bytes, mode)| Act::File(path, bytes, mode)),
        2 => (path(), 0o700..0o777_u32).prop_map(|(path, mode)| Act::Folder(path, mode)),
        1 => (path(), "to-[a-z]{1,8}").prop_map(|(path, to)| Act::Link(path, to)),
        2 => (path(), prop::sample::select(vec!["wal", "delete"])).prop_map(|(path, mode)| Act::Database(path, mode)),
    ]
}

fn done() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => made(),
        2 => path().prop_map(Act::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        2 => path().prop_map(Act::Migrate),
    ]
}

/// Says whether a path has a link in it: through one, an act would reach outside the test's folder, as root.
fn passes_link(root: &Path, path: &Path) -> bool {
    let parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.iter().any(|part| fs::symlink_metadata(root.join(part)).is_ok_and(|meta| meta.is_symlink()))
}

/// Does what the file system lets it do; never through a link.
fn apply(root: &Path, act: &Act) {
    let (first, second) = match act {
        Act::Rename(from, to) => (from, Some(to)),
        Act::File(path, ..) | Act::Folder(path, _) | Act::Link(path, _) => (path, None),
        Act::Database(path, _) | Act::Remove(path) | Act::Migrate(path) => (path, None),
    };
    // A link itself may be removed; what is under its name on the other side may not be touched.
    let within = match act {
        Act::Remove(path) => path.parent().is_none_or(|parent| !passes_link(root, parent)),
        _ => !passes_link(root, first) && second.is_none_or(|path| !passes_link(root, path)),
    };
    if !within {
        return;
    }
    let make_parent = |path: &Path| fs::create_dir_all(root.join(path).parent().unwrap());
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    match act {
        Act::File(path, bytes, mode) => {
            let _ = make_parent(path)
                .and_then(|()| fs::write(root.join(path), bytes))
                .and_then(|()| set_mode(&root.join(path), *mode));
        }
        Act::Folder(path, mode) => {
            let _ = fs::create_dir_all(root.join(path)).and_then(|()| set_mode(&root.join(path), *mode));
        }
        Act::Link(path, to) => {
            let _ = make_parent(path).and_then(|()| symlink(to, root.join(path)));
        }
        Act::Database(path, mode) => {
            if make_parent(path).is_ok() && !root.join(path).exists() && fs::symlink_metadata(root.join(path)).is_err()
            {
                drop(bank(&root.join(path), mode, 3));
            }
        }
        Act::Remove(path) => {
            let path = root.join(path);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        Act::Rename(from, to) => {
            let _ = fs::rename(root.join(from), root.join(to));
        }
        Act::Migrate(path) => {
            let path = root.join(path);
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                let _ = Connection::open(&path)
                    .and_then(|open| open.execute_batch("ALTER TABLE accounts ADD COLUMN x; DELETE FROM filler"));
            }
        }
    }
}

proptest! {
    // 64 trees: about ten seconds.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_changed_in_any_way_comes_back(tree in prop::collection::vec(made(), 1..12), changes in prop::collection::vec(done(), 0..12), online: bool) {
        let stage = Stage::new();
        let data = stage.folder("data");
        fs::write(data.join("always"), "there").unwrap();
        tree.iter().for_each(|act| apply(&data, act));
        let place = StatePlace::directory(&data, &[]);
        let mode = if online { Mode::Online } else { Mode::Stopped };
        let mut before = listing(&data);
        stage.snap(&place, mode, 1).unwrap();
        changes.iter().for_each(|act| apply(&data, act));
        stage.restore(1, &place, "journal").unwrap();
        if online {
            // Reading a database in WAL mode leaves its log and index beside it, which moves the folders' times.
            let timeless = |listing: &mut std::collections::BTreeMap<String, String>| {
                listing.values_mut().filter(|row| row.starts_with("folder")).for_each(|row| *row = row.split(' ').take(3).collect::<Vec<_>>().join(" "));
            };
            let mut after = listing(&data);
            timeless(&mut before);
            timeless(&mut after);
            prop_assert_eq!(after, before);
        } else {
            prop_assert_eq!(listing(&data), before);
        }
    }
}
