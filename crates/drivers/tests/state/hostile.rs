//! Data belongs to somebody who is not root and may not be kind.

use crate::stage::{Stage, bank, code, listing, names};
use lastgood_drivers::state::{Mode, Owner, StatePlace, clone};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

/// A user of no account on any machine.
const SOMEBODY: u32 = 54_321;

pub(crate) fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

pub(crate) fn owned(place: StatePlace, uid: u32) -> StatePlace {
    place.owned_by(Owner::new(uid, uid))
}

#[test]
fn a_snapshot_by_root_leaves_no_file_of_roots_beside_a_live_database() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    give(&data, SOMEBODY);
    assert_eq!(names(&data), ["db.sqlite"]);
    stage.snap(&owned(StatePlace::directory(&data, &[]), SOMEBODY), Mode::Online, 1).unwrap();
    for name in names(&data) {
        assert_eq!(fs::metadata(data.join(&name)).unwrap().uid(), SOMEBODY, "{name}");
    }
    // Nor can the owner change the snapshot afterwards.
    let meta = fs::metadata(stage.snapshot(1)).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
}

#[test]
fn what_the_owner_may_not_read_is_not_read_for_them() {
    let stage = Stage::new();
    let secret = stage.folder("root-only");
    fs::write(secret.join("key"), "secret of root").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let data = stage.folder("data");
    fs::write(data.join("file"), "mine").unwrap();
    symlink(secret.join("key"), data.join("link-to-file")).unwrap();
    symlink(&secret, data.join("link-to-folder")).unwrap();
    give(&data, SOMEBODY);
    stage.snap(&owned(StatePlace::directory(&data, &[]), SOMEBODY), Mode::Online, 1).unwrap();
    assert_eq!(names(&stage.snapshot(1).join("files/0")), ["file"]);
}

#[test]
fn a_link_on_the_way_that_somebody_else_made_is_not_followed() {
    let stage = Stage::new();
    let target = stage.folder("etc/data");
    fs::write(target.join("file"), "a file of root's").unwrap();
    let home = stage.folder("home");
    symlink(stage.path("etc"), home.join("app")).unwrap();
    std::os::unix::fs::lchown(home.join("app"), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let place = StatePlace::directory(home.join("app/data"), &[]);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "state-symlink");
    // The same link made by root is the administrator's own choice.
    std::os::unix::fs::lchown(home.join("app"), Some(0), Some(0)).unwrap();
    stage.snap(&place, Mode::Online, 1).unwrap();
    std::os::unix::fs::lchown(home.join("app"), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let before = listing(&target);
    assert_eq!(code(stage.restore(1, &place, "journal")), "state-symlink");
    assert_eq!(listing(&target), before);
}

#[test]
fn a_folder_that_turned_into_a_link_is_not_written_through() {
    let stage = Stage::new();
    let (data, elsewhere) = (stage.folder("data"), stage.folder("elsewhere"));
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "old").unwrap();
    fs::write(elsewhere.join("file"), "not yours").unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let before = listing(&data);
    fs::remove_dir_all(data.join("sub")).unwrap();
    symlink(&elsewhere, data.join("sub")).unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(listing(&data), before);
    assert_eq!(fs::read_to_string(elsewhere.join("file")).unwrap(), "not yours");
}

#[test]
fn owner_mode_and_attributes_come_back_exactly() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    fs::create_dir(data.join("folder")).unwrap();
    fs::write(data.join("folder/file"), "text").unwrap();
    symlink("folder/file", data.join("link")).unwrap();
    give(&data, SOMEBODY);
    fs::set_permissions(data.join("folder"), fs::Permissions::from_mode(0o2570)).unwrap();
    fs::set_permissions(data.join("folder/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(data.join("db.sqlite"), fs::Permissions::from_mode(0o640)).unwrap();
    for name in ["db.sqlite", "folder", "folder/file"] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(data.join(name), "user.origin", b"here \xff\0%", flags).unwrap();
    }
    let place = owned(StatePlace::directory(&data, &[]), SOMEBODY);
    let before = listing(&data);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    assert_eq!(listing(&data), before);
    Connection::open(data.join("db.sqlite")).unwrap().execute_batch("DROP TABLE filler").unwrap();
    fs::write(data.join("folder/file"), "other").unwrap();
    rustix::fs::removexattr(data.join("folder"), "user.origin").unwrap();
    give(&data, 0);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(listing(&data), before);
}

#[test]
fn a_clone_for_a_rehearsal_gets_no_set_id_bits() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("tool"), "#!/bin/sh").unwrap();
    fs::set_permissions(data.join("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    stage.snap(&StatePlace::directory(&data, &[]), Mode::Online, 1).unwrap();
    clone(&stage.snapshot(1), &stage.path("scratch"), Some(&Owner::new(SOMEBODY, SOMEBODY))).unwrap();
    let meta = fs::metadata(stage.path("scratch/tool")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (SOMEBODY, 0o755));
}

#[test]
fn an_owner_that_cannot_reach_the_shelf_is_told_which_folder_bars_the_way() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("file"), "mine").unwrap();
    give(&data, SOMEBODY);
    fs::set_permissions(stage.folder("shelf"), fs::Permissions::from_mode(0o700)).unwrap();
    let place = owned(StatePlace::directory(&data, &[]), SOMEBODY);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "snapshot-shelf-unreachable");
    assert_eq!(stage.shelved(), Vec::<String>::new());
}

#[test]
fn an_owner_that_does_not_exist_is_named() {
    assert_eq!(code(Owner::named("nobody-of-this-name")), "state-owner-unknown");
    assert_eq!(Owner::named("root").map(|owner| (owner.uid, owner.gid)).unwrap(), (0, 0));
}

#[test]
fn a_manifest_cannot_lead_out_of_the_data() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("file"), "mine").unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let path = stage.snapshot(1).join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for bad in ["../file", "/etc/file", "a/../../file", "%00"] {
        fs::write(&path, text.replace(r#""path":"file""#, &format!(r#""path":"{bad}""#))).unwrap();
        assert_eq!(code(stage.restore(1, &place, "journal")), "snapshot-missing", "{bad}");
    }
}
