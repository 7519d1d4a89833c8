//! Room on the state disk: programs' logs are kept small, and a reserve is given up for what must be written on a full one.
//!
//! The evidence lies on the same disk as what programs print. A release that prints without end must not be what keeps
//! anybody from leaving it, so its log gives way first; what is set aside goes last, and only to what keeps harm from going
//! on: a way back, a hold, an incident, an emergency.

use rustix::{
    fs::{FallocateFlags, FlockOperation, OFlags, fallocate, fchown, flock, statvfs},
    process::{Gid, Uid},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A log is cut at this size: days of a talkative service, and with its older half two of them fit on any disk.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// On a small disk a log is cut at this part of it.
const PART_OF_DISK: u64 = 16;
/// What stays of a log where the disk is full: its end, which tells why.
const LAST_WORDS_BYTES: u64 = 256 << 10;
/// The reserve: a way back writes some hundred records and a few small files, a hold a few, which is far less.
pub(crate) const RESERVE_BYTES: u64 = 8 << 20;
/// The reserve is set aside where it is at most this part of what is free.
const PART_OF_FREE: u64 = 4;
/// Appends tried on a full disk: a program that prints without end may take what it gave way with before we do.
pub(crate) const TRIES: u32 = 5;
const RESERVE_FILE: &str = "reserve";

/// Cuts each log that has grown too large; its newer part goes beside it as `output.log.1`, in place of an older one. On a
/// disk that is nearly full all logs are cut to their end.
///
/// Programs have their logs open to append, so what is cut goes on in place. Lines written in the instant of the cut are
/// lost. Tells whether the disk was nearly full.
pub fn keep_logs_small(root: &Path) -> bool {
    let (free, all) = disk(root);
    if free < RESERVE_BYTES {
        cut_all(root, LAST_WORDS_BYTES, LAST_WORDS_BYTES);
        return true;
    }
    let max = LOG_BYTES_MAX.min(all / PART_OF_DISK).max(LAST_WORDS_BYTES);
    // One that is not much larger is kept whole, so that whoever counts its lines finds all of them beside it.
    cut_all(root, max, max.saturating_mul(2).min(free / PART_OF_FREE));
    false
}

/// Makes room where the disk is full: logs are cut to their end, and for a way back the reserve is given up.
pub fn make_room(root: &Path, goes_back: bool) {
    if goes_back {
        let _ = fs::remove_file(root.join(RESERVE_FILE));
    }
    cut_all(root, LAST_WORDS_BYTES, LAST_WORDS_BYTES);
}

/// Makes room for a way back, a hold or what else stops harm and is about to be written, if there is none; tells whether
/// there was none.
pub fn make_room_if_full(root: &Path) -> bool {
    let full = disk(root).0 < RESERVE_BYTES / 2;
    if full {
        make_room(root, true);
    }
    full
}

/// Sets the reserve aside, if it is not there and there is plenty of space.
pub fn set_aside(root: &Path) {
    let path = root.join(RESERVE_FILE);
    let there = fs::symlink_metadata(&path).map_or(0, |meta| meta.blocks() * 512);
    if there >= RESERVE_BYTES || disk(root).0 / PART_OF_FREE < RESERVE_BYTES {
        return;
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let made = made.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?));
    if made.is_err() {
        // One that has no blocks gives none back.
        let _ = fs::remove_file(&path);
    }
}

/// Copies the newest bytes of a log, at most `max` and half of what is free there; gives how many.
///
/// Errors: the log can't be read, or is no regular file; the copy can't be made.
pub fn copy_newest(log: &Path, to: &Path, max: u64) -> io::Result<u64> {
    let from = open_log(log)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let max = max.min(to.parent().map_or(max, |folder| disk(folder).0 / 2));
    let copied = newest(&from, max).and_then(|from| io::copy(&mut from.take(max), &mut copy));
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied
}

/// Gives how many bytes are free for us on the disk of a folder; plenty where it can't be told.
pub fn free(root: &Path) -> u64 {
    disk(root).0
}

/// Gives what is free for us on the disk of a folder, and its size, in bytes; plenty where it can't be told.
fn disk(root: &Path) -> (u64, u64) {
    statvfs(root).map_or((u64::MAX, u64::MAX), |disk| {
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        // Others than root have less; whoever is not root writes as one of them.
        let free = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        (bytes(free), bytes(disk.f_blocks))
    })
}

fn cut_all(root: &Path, max: u64, keep: u64) {
    // Two who cut one log would cut each other's copy. Whoever has the lock does it for all. It is the folder's own, which
    // others can pass through but not open: a log's would be its user's to hold, and a file for it would come back into a
    // folder that is being removed.
    let Ok(lock) = File::open(root) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    for log in logs(root) {
        if keep <= LAST_WORDS_BYTES {
            let _ = shrink(&beside(&log, ".1"));
        }
        // One that can't be cut is no reason to leave the others.
        let _ = cut(&log, max, keep);
    }
}

/// Finds the logs of all programs, those of services that are no longer configured as well, and those of rehearsals.
fn logs(root: &Path) -> Vec<PathBuf> {
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let services = below(root.join("services"));
    let instances = services.iter().flat_map(|service| below(service.join("instances")));
    let tries = services.iter().flat_map(|service| below(service.join("scratch"))).flat_map(below);
    let of_tries = tries.filter(|path| path.extension().is_some_and(|suffix| suffix == "log"));
    instances
        .map(|instance| instance.join("output.log"))
        .chain(of_tries)
        .chain([root.join("proxy/proxy.log")])
        .collect()
}

/// Gives how many bytes are left of a log that was cut; none if it was not.
pub(crate) fn left_of_cut(log: &Path) -> Option<u64> {
    let length = |path: &Path| fs::metadata(path).map(|meta| meta.len());
    let older = length(&beside(log, ".1")).ok()?;
    Some(older.saturating_add(length(log).unwrap_or(0)))
}

fn cut(log: &Path, max: u64, keep: u64) -> io::Result<()> {
    let file = open_log(log)?;
    if file.metadata()?.len() <= max {
        return Ok(());
    }
    let (older, new) = (beside(log, ".1"), beside(log, ".1.new"));
    let _ = fs::remove_file(&new);
    let kept = if keep <= LAST_WORDS_BYTES {
        // There may be no space for a copy before the log is cut.
        let mut end = Vec::new();
        newest(&file, keep)?.take(keep).read_to_end(&mut end)?;
        file.set_len(0)?;
        let _ = fs::remove_file(&older);
        make_older(&new, &file).and_then(|mut to| io::copy(&mut end.as_slice(), &mut to))
    } else {
        let copied = make_older(&new, &file).and_then(|mut to| copy_end(&file, &mut to, keep));
        file.set_len(0)?;
        copied
    };
    match kept {
        Ok(_) => fs::rename(&new, &older),
        Err(error) => {
            let _ = fs::remove_file(&new);
            Err(error)
        }
    }
}

/// Leaves the end of what was cut before, in place: where the disk is full there may be no space for a copy.
fn shrink(older: &Path) -> io::Result<()> {
    let mut file = open_log(older)?;
    if file.metadata()?.len() <= LAST_WORDS_BYTES {
        return Ok(());
    }
    let mut end = Vec::new();
    newest(&file, LAST_WORDS_BYTES)?.take(LAST_WORDS_BYTES).read_to_end(&mut end)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&end)
}

/// Makes the file of what was cut, for whoever may read the log.
fn make_older(path: &Path, log: &File) -> io::Result<File> {
    let meta = log.metadata()?;
    let file = OpenOptions::new().write(true).create_new(true).mode(meta.mode() & 0o640).open(path)?;
    // Whoever is not root owns it already.
    let _ = fchown(&file, Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())));
    Ok(file)
}

/// Copies the end of a log, and what is written to it meanwhile, as far as it is not more again.
fn copy_end(from: &File, to: &mut File, max: u64) -> io::Result<u64> {
    io::copy(&mut newest(from, max)?.take(max.saturating_mul(2)), to)
}

/// Gives a reader of the last `max` bytes, and of what comes.
fn newest(mut file: &File, max: u64) -> io::Result<&File> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    Ok(file)
}

/// Opens a log to read and to cut it; its user may have put something else in its place.
fn open_log(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no log of a program")),
    }
}

fn beside(log: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = log.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let instance = folder.path().join("services/web/instances/a");
        fs::create_dir_all(&instance).unwrap();
        let log = instance.join("output.log");
        (folder, log)
    }

    fn lines(range: std::ops::Range<u32>) -> String {
        range.map(|number| format!("line {number:08}\n")).collect()
    }

    #[test]
    fn a_log_that_is_cut_goes_on_in_place_and_its_newest_part_lies_beside_it() {
        let (folder, log) = home();
        let mut program = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        program.write_all(lines(0..100_000).as_bytes()).unwrap();
        cut(&log, 1 << 20, 700_000).unwrap();
        program.write_all(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "after\n");
        assert_eq!(fs::read_to_string(beside(&log, ".1")).unwrap(), lines(50_000..100_000));
        // The next one takes its place; nothing else is left.
        program.write_all(lines(0..100_000).as_bytes()).unwrap();
        make_room(folder.path(), false);
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert!(fs::read_to_string(beside(&log, ".1")).unwrap().ends_with("line 00099999\n"));
        assert_eq!(fs::metadata(beside(&log, ".1")).unwrap().len(), LAST_WORDS_BYTES);
        assert_eq!(fs::read_dir(log.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn on_a_full_disk_what_was_cut_before_gives_way_too_and_two_never_cut_at_once() {
        let (folder, log) = home();
        fs::write(beside(&log, ".1"), lines(0..100_000)).unwrap();
        fs::write(&log, lines(0..10)).unwrap();
        let lock = File::open(folder.path()).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        make_room(folder.path(), false);
        assert_eq!(fs::metadata(beside(&log, ".1")).unwrap().len(), 1_400_000, "somebody else cuts");
        drop(lock);
        make_room(folder.path(), false);
        let older = fs::read_to_string(beside(&log, ".1")).unwrap();
        assert_eq!(older.len() as u64, LAST_WORDS_BYTES);
        assert!(older.ends_with("line 00099999\n"));
        assert_eq!(fs::read_to_string(&log).unwrap(), lines(0..10));
    }

    #[test]
    fn what_a_rehearsal_prints_is_cut_as_well_and_known_to_be_cut() {
        let (folder, _) = home();
        let tried = folder.path().join("services/web/scratch/candidate");
        fs::create_dir_all(tried.join("data")).unwrap();
        let (log, data) = (tried.join("candidate.log"), tried.join("data/app.log"));
        for path in [&log, &data] {
            fs::write(path, lines(0..100_000)).unwrap();
        }
        assert_eq!(left_of_cut(&log), None);
        make_room(folder.path(), false);
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(left_of_cut(&log), Some(LAST_WORDS_BYTES));
        assert_eq!(fs::metadata(&data).unwrap().len(), 1_400_000, "users' data is no log of ours");
    }

    #[test]
    fn a_small_log_and_what_is_no_log_are_left_alone() {
        let (folder, log) = home();
        fs::write(&log, lines(0..10)).unwrap();
        keep_logs_small(folder.path());
        make_room(folder.path(), false);
        assert_eq!(fs::read_to_string(&log).unwrap(), lines(0..10));
        let elsewhere = folder.path().join("somebody's");
        fs::write(&elsewhere, lines(0..100_000)).unwrap();
        fs::remove_file(&log).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        make_room(folder.path(), true);
        assert_eq!(fs::metadata(&elsewhere).unwrap().len(), 1_400_000);
        assert!(copy_newest(&log, &folder.path().join("copy"), 100).is_err());
        fs::remove_file(&log).unwrap();
        fs::create_dir(&log).unwrap();
        assert!(copy_newest(&log, &folder.path().join("copy"), 100).is_err());
        assert_eq!(copy_newest(&elsewhere, &folder.path().join("copy"), 14).unwrap(), 14);
        assert_eq!(fs::read_to_string(folder.path().join("copy")).unwrap(), "line 00099999\n");
    }

    #[test]
    fn the_reserve_has_blocks_of_its_own_and_only_a_way_back_gets_them() {
        let (folder, _) = home();
        let reserve = folder.path().join(RESERVE_FILE);
        set_aside(folder.path());
        assert!(fs::metadata(&reserve).unwrap().blocks() * 512 >= RESERVE_BYTES);
        make_room(folder.path(), false);
        assert!(reserve.exists());
        make_room(folder.path(), true);
        assert!(!reserve.exists());
    }
}
