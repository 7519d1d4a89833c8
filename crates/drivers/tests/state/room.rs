//! A full disk is found before it is met; and where it is met, it leaves nothing half.

use crate::stage::{Stage, bank, code, context, listing, names};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{Mode, RestoreContext, StateError, StatePlace, restore, snapshot};
use rusqlite::Connection;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    ffi::CString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// A file system of its own in memory; unmounted at the end.
pub(crate) struct Tiny(PathBuf);

impl Tiny {
    pub(crate) fn new(path: PathBuf, kib: u32) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = CString::new(format!("size={kib}k,mode=755")).unwrap();
        mount("lastgood-test", &path, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves `kib` free.
    pub(crate) fn fill_but(&self, kib: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let bytes = stat.f_bavail * stat.f_frsize - kib * 1024;
        fs::File::create(self.0.join("ballast")).unwrap().write_all(&vec![1; bytes as usize]).unwrap();
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn too_little_room_is_said_before_anything_is_copied() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 2_000));
    let place = StatePlace::sqlite([&database]);
    let tiny = Tiny::new(stage.path("shelf"), 2_048);
    match stage.snap(&place, Mode::Online, 1).unwrap_err() {
        StateError::NoSpace { path, needed_bytes, available_bytes } => {
            assert!(path.starts_with(&tiny.0));
            // Twice the database: its copy, and the growth of its log meanwhile.
            assert!(needed_bytes > 4_000_000 && available_bytes < 2_100_000, "{needed_bytes} {available_bytes}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(names(&tiny.0), Vec::<String>::new());
}

#[test]
fn room_that_the_caller_needs_afterwards_is_counted() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let mut greedy = context();
    greedy.extra_bytes = 1 << 50;
    let done = snapshot(&StatePlace::sqlite([&database]), Mode::Online, SnapshotId(1), &stage.shelf(), &greedy);
    assert_eq!(code(done), "snapshot-no-space");
}

/// Room for the check but not for what comes: files that grow between the look and the copy stand in for it.
#[test]
fn a_disk_that_fills_at_any_point_of_a_snapshot_leaves_nothing_half() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "delete", 600));
    fs::write(data.join("file"), vec![1; 700_000]).unwrap();
    let place = StatePlace::directory(&data, &[]);
    let (mut full, mut done) = (0, 0);
    let tiny = Tiny::new(stage.path("shelf"), 8_192);
    for kib in (0..4_096).step_by(256) {
        tiny.fill_but(kib);
        match stage.snap(&place, Mode::Stopped, 1) {
            Err(StateError::NoSpace { .. }) => {
                full += 1;
                assert_eq!(names(&tiny.0), ["ballast"], "at {kib} KiB");
            }
            Ok(_) => {
                done += 1;
                fs::remove_dir_all(tiny.0.join("s1")).unwrap();
            }
            Err(other) => panic!("at {kib} KiB: {other}"),
        }
        fs::remove_file(tiny.0.join("ballast")).unwrap();
    }
    assert!(full >= 8 && done >= 2, "{full} {done}");
}

/// Holes are not counted as needed, so a file full of small ones passes the check and fills the disk afterwards.
#[test]
fn a_disk_that_fills_while_it_is_copied_to_leaves_nothing_half() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let file = fs::File::create(data.join("holes")).unwrap();
    file.set_len(64 << 20).unwrap();
    // One page in each block of 64 KiB: copied block by block, 16 times as much is written.
    for block in 0..1024_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], block << 16).unwrap();
    }
    drop(file);
    let place = StatePlace::directory(&data, &[]);
    let tiny = Tiny::new(stage.path("shelf"), 16 << 10);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "snapshot-no-space");
    assert_eq!(names(&tiny.0), Vec::<String>::new());
}

#[test]
fn a_disk_that_fills_at_any_point_of_a_restore_leaves_the_data_as_it_is() {
    let stage = Stage::new();
    let tiny = Tiny::new(stage.path("tiny"), 8_192);
    let data = tiny.0.join("data");
    fs::create_dir(&data).unwrap();
    drop(bank(&data.join("db.sqlite"), "delete", 600));
    fs::write(data.join("file"), vec![1; 700_000]).unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let before = listing(&data);
    Connection::open(data.join("db.sqlite")).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    let newer = listing(&data);
    let put_back = |journal: &Path| {
        restore(&stage.snapshot(1), &place, &tiny.0.join("aside"), journal, &RestoreContext::default())
    };
    let mut full = 0;
    for kib in (0..3_072).step_by(256) {
        tiny.fill_but(kib);
        let done = put_back(&stage.path("journal"));
        fs::remove_file(tiny.0.join("ballast")).unwrap();
        match done {
            Err(StateError::NoSpace { .. }) => {
                full += 1;
                assert_eq!(without_times(listing(&data)), without_times(newer.clone()), "at {kib} KiB");
            }
            Ok(_) => break,
            Err(other) => panic!("at {kib} KiB: {other}"),
        }
    }
    assert!(full >= 4, "{full}");
    assert_eq!(listing(&data), before);
}

fn without_times(listing: std::collections::BTreeMap<String, String>) -> Vec<String> {
    listing
        .into_iter()
        .map(|(name, row)| format!("{name} {}", row.rsplit_once(' ').unwrap().0.rsplit_once(' ').unwrap().0))
        .collect()
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_restore_before_it_begins() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "delete", 10));
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let before = listing(&data);
    let tiny = Tiny::new(stage.path("journals"), 64);
    tiny.fill_but(0);
    let done =
        restore(&stage.snapshot(1), &place, &stage.path("aside"), &tiny.0.join("journal"), &RestoreContext::default());
    assert!(done.is_err());
    assert_eq!(listing(&data), before);
    fs::remove_file(tiny.0.join("ballast")).unwrap();
    restore(&stage.snapshot(1), &place, &stage.path("aside"), &tiny.0.join("journal"), &RestoreContext::default())
        .unwrap();
}

#[test]
fn a_file_system_mounted_inside_the_data_stops_the_restore_before_it_begins() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("file"), "text").unwrap();
    fs::create_dir(data.join("mounted")).unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let tiny = Tiny::new(data.join("mounted"), 64);
    assert_eq!(code(stage.restore(1, &place, "journal")), "restore-nested-mount");
    drop(tiny);
    stage.restore(1, &place, "journal").unwrap();
}

#[test]
fn too_little_room_for_a_restore_is_said_before_it_begins() {
    let stage = Stage::new();
    let tiny = Tiny::new(stage.path("tiny"), 4_096);
    let data = tiny.0.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), vec![1; 1 << 20]).unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    tiny.fill_but(512);
    let context = RestoreContext::default();
    let done = restore(&stage.snapshot(1), &place, &tiny.0.join("aside"), &stage.path("journal"), &context);
    assert_eq!(code(done), "snapshot-no-space");
    assert!(!stage.path("journal").exists());
    assert_eq!(names(&data), ["file"]);
}
