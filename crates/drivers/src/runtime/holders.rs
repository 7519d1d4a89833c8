//! Which processes hold data open: the proof before a restore that nobody can write behind our back.
//!
//! One pass over `/proc/*/fd`, whatever the number of paths. A process in another mount namespace (a
//! container) sees other paths, so its files are compared by device and inode instead.

use super::{RuntimeError, identity::is_gone, members};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Most files below the given paths whose inodes are collected for the comparison with containers: a few
/// hundred milliseconds' worth. Above it, files beyond are compared by path only.
const INODES_MAX: usize = 200_000;

/// A process that has a file below one of the paths open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program's short name.
    pub program: String,
    /// The open file, as the process sees it.
    pub path: PathBuf,
    /// Index of the given path that it lies below; the first that matches.
    pub below: usize,
}

/// What one look at all processes found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    /// One entry for each open file, by process id.
    pub holders: Vec<Holder>,
    /// Processes we may not look into; if there are any, "no holder" is not proven.
    pub unseen: Vec<u32>,
}

/// Finds the processes that have any of `paths`, or anything below one of them, open.
///
/// Paths that don't exist are held by nobody. Our own process counts too.
pub fn holders(paths: &[&Path]) -> Result<Holders, RuntimeError> {
    let failed = |source| RuntimeError::io("look for open files in", "/proc", source);
    // A process has resolved every link when it opened the file; so must we.
    let wanted: Vec<Option<PathBuf>> = paths.iter().map(|path| fs::canonicalize(path).ok()).collect();
    let our_mounts = fs::read_link("/proc/self/ns/mnt").map_err(failed)?;
    let mut inodes = None;
    let mut found = Holders::default();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let open = match open_files(pid) {
            Ok(open) => open,
            Err(error) if is_gone(&error) => continue,
            Err(_) => {
                found.unseen.push(pid);
                continue;
            }
        };
        if open.is_empty() {
            continue;
        }
        let foreign = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|mounts| mounts != our_mounts);
        for (number, target) in open {
            let named = without_deletion(&target);
            let by_path = || wanted.iter().position(|path| path.as_ref().is_some_and(|path| named.starts_with(path)));
            let below = if foreign {
                let inodes = inodes.get_or_insert_with(|| inodes_below(&wanted));
                by_inode(pid, &number, inodes)
            } else {
                by_path()
            };
            if let Some(below) = below {
                found.holders.push(Holder { pid, program: program_of(pid), path: target, below });
            }
        }
    }
    found.holders.sort_by(|a, b| (a.pid, &a.path).cmp(&(b.pid, &b.path)));
    Ok(found)
}

/// Tells whether a holder has that file open to write; one that has gone has not.
pub fn writes(holder: &Holder) -> bool {
    let open = open_files(holder.pid).unwrap_or_default();
    let to_write = |number: &String| {
        let facts = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", holder.pid)).unwrap_or_default();
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        // The lowest two bits: 0 reads, 1 writes, 2 does both.
        flags.is_some_and(|flags| flags & 0b11 != 0)
    };
    open.iter().filter(|(_, target)| *target == holder.path).any(|(number, _)| to_write(number))
}

/// Gives the instance, as `SERVICE/NAME`, as whose process one was started here; none for others.
pub fn instance_of(pid: u32) -> Option<String> {
    let mark = members::mark_of(pid)?;
    mark.split_once('@').map(|(instance, _)| instance.to_owned())
}

/// Longest line of parents that is followed.
const PARENTS_MAX: usize = 64;

/// Tells whether a process is `ancestor`, or was started by it or by one that was.
pub fn descends(pid: u32, ancestor: u32) -> bool {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name comes before and may hold anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok().filter(|parent| *parent > 1)
    };
    std::iter::successors(Some(pid), |pid| parent(*pid)).take(PARENTS_MAX).any(|one| one == ancestor)
}

/// Tells whether two processes are of one unit that is not our own.
pub fn share_unit(one: u32, other: u32) -> bool {
    let group = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let [one, other] = [one, other].map(|pid| group(&pid.to_string()));
    one.is_some() && one == other && one != group("self")
}

/// Lists the open files of a process that are files: sockets, pipes and other things have no absolute path.
fn open_files(pid: u32) -> io::Result<Vec<(String, PathBuf)>> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        match fs::read_link(entry.path()) {
            Ok(target) if target.is_absolute() => {
                open.push((entry.file_name().to_string_lossy().into_owned(), target));
            }
            Ok(_) => {}
            // Closed since it was listed.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(open)
}

/// The kernel adds a word to the path of a removed file; who holds that one still writes to the old data.
fn without_deletion(target: &Path) -> &Path {
    target.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map_or(target, Path::new)
}

fn program_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

type Inodes = BTreeSet<(u64, u64, usize)>;

fn inodes_below(wanted: &[Option<PathBuf>]) -> Inodes {
    let mut inodes = Inodes::new();
    let mut todo: Vec<(usize, PathBuf)> =
        wanted.iter().enumerate().filter_map(|(index, path)| Some((index, path.clone()?))).collect();
    while let Some((index, path)) = todo.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        inodes.insert((found.dev(), found.ino(), index));
        if found.is_dir() && inodes.len() + todo.len() < INODES_MAX {
            let below = fs::read_dir(&path).into_iter().flatten().flatten();
            todo.extend(below.map(|entry| (index, entry.path())));
        }
    }
    inodes
}

fn by_inode(pid: u32, number: &str, inodes: &Inodes) -> Option<usize> {
    let open = fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    let key = (open.dev(), open.ino());
    inodes.range((key.0, key.1, 0)..=(key.0, key.1, usize::MAX)).next().map(|entry| entry.2)
}
