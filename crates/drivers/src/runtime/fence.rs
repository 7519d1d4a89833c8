//! How a rehearsal is kept from live data and the network.
//!
//! The lastgood binary is executed again in fresh namespaces: a network of its own with nothing but loopback,
//! a process namespace that dies with its first process, and private mounts in which the copy lies over the
//! live path and all other live data is covered. Where the system offers no namespaces, only paths keep the
//! candidate away from live data, and the evidence says so.
//!
//! The outside builds the command ([`Fence::command`]); the inside calls [`enter`] before it starts anything.
//! What the fence does not stop: unix sockets on disk that are neither live data nor in [`SOCKETS`], and load
//! on the machine.

use super::RuntimeError;
use rustix::{
    fd::OwnedFd,
    fs::{CWD, FlockOperation, MemfdFlags, StatVfsMountFlags},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink},
    process::Signal,
    thread::CapabilitySet,
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    ffi::OsString,
    fs, io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What is unshared, and that nothing inside survives the first process or its parent.
const UNSHARE: [&str; 9] =
    ["--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private"];
/// Longest trial of the namespaces, in seconds as `timeout` reads it.
const TRIAL_WAIT_SECONDS: &str = "10";
/// Longest wait for the kernel to answer that loopback is up.
const LOOPBACK_WAIT: Duration = Duration::from_secs(5);

/// Sockets of services that could act on live data for a program inside; covered where they exist.
pub const SOCKETS: [&str; 9] = [
    "/run/containerd",
    "/run/dbus",
    "/run/docker.sock",
    "/run/mysqld",
    "/run/podman",
    "/run/postgresql",
    "/run/redis",
    "/run/systemd/private",
    "/run/user",
];

/// Rights that would lead a program of root around the fence: mounts, other processes, raw disks, the kernel.
const RIGHTS: [CapabilitySet; 11] = [
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYSLOG,
    CapabilitySet::MKNOD,
    CapabilitySet::DAC_READ_SEARCH,
    CapabilitySet::BPF,
    CapabilitySet::CHECKPOINT_RESTORE,
];

/// How rehearsals are fenced on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// By namespaces: the network and live paths are out of reach.
    Namespaces,
    /// By other paths and ports only; why namespaces can't be had.
    Paths(String),
}

/// What is where inside of the fence; all paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The rehearsal's own folder: writable.
    pub scratch: PathBuf,
    /// The releases' folders and whatever else must stay visible in a covered folder: readable.
    pub readable: Vec<PathBuf>,
    /// Copies that lie over the live paths of the rehearsed instance.
    pub over: Vec<Over>,
    /// What is covered: the live data of the other instances, lastgood's state folder, and [`SOCKETS`] unless
    /// the rehearsal needs one. Missing paths are skipped.
    pub cover: Vec<PathBuf>,
}

/// A copy over a live path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// The copy: a folder or a file, as the live path is.
    pub copy: PathBuf,
    /// The live path, which leads to the copy inside.
    pub live: PathBuf,
}

impl Fence {
    /// Tries what this machine offers, by entering fresh namespaces once.
    pub fn available() -> Self {
        let trial = Command::new("timeout")
            .args([TRIAL_WAIT_SECONDS, "unshare"])
            .args(unshare_arguments())
            .arg("true")
            .stdin(Stdio::null())
            .output();
        match trial {
            Ok(output) if output.status.success() => Self::Namespaces,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let line = said.lines().next().unwrap_or("it said nothing").to_owned();
                Self::Paths(format!("unshare failed: {line}"))
            }
            Err(error) => Self::Paths(format!("unshare can't be run: {error}")),
        }
    }

    /// Gives the word for the evidence: `namespaces` or `paths`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Paths(_) => "paths",
        }
    }

    /// Builds the command that runs `exe` with `arguments` inside.
    ///
    /// All of it is killed when the *thread* that spawns it ends, so the thread must live as long as the
    /// rehearsal. With [`Fence::Paths`] only the program itself is: what it leaves behind is the caller's to end
    /// (it leads a process group of its own).
    pub fn command(&self, exe: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(exe);
        command.args(["internal", "guard", &std::process::id().to_string()]);
        if *self == Self::Namespaces {
            command.arg("unshare").args(unshare_arguments()).arg("--");
        }
        command.arg(exe).args(arguments).process_group(0);
        command
    }
}

fn unshare_arguments() -> Vec<&'static str> {
    let mut arguments = UNSHARE.to_vec();
    if !rustix::process::geteuid().is_root() {
        // Without root the mounts need a user namespace; files stay the caller's own.
        arguments.extend(["--user", "--map-root-user"]);
    }
    arguments
}

/// Becomes a command that dies with the process named first in `arguments`.
pub(crate) fn guard(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, RuntimeError> {
    let failed = |source: io::Error| RuntimeError::FenceOpen { act: "guard", path: "/proc/self".into(), source };
    let invalid = || failed(io::ErrorKind::InvalidInput.into());
    let parent = arguments.next().and_then(|word| word.to_str()?.parse::<i32>().ok()).ok_or_else(invalid)?;
    let program = arguments.next().ok_or_else(invalid)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    // A parent that died before the line above sends nothing any more.
    if rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero).map(i32::from) != Some(parent) {
        return Err(failed(io::Error::new(io::ErrorKind::BrokenPipe, "the parent has ended")));
    }
    let life = life().map_err(|error| failed(error.into()))?;
    Err(failed(Command::new(program).args(arguments).env(LIFE, life.as_raw_fd().to_string()).exec()))
}

/// Names the open file by which the first process inside sees whether the one that guards it still lives.
const LIFE: &str = "LASTGOOD_GUARD";

/// Makes a file in memory that is locked as long as this process lives, whatever it executes.
///
/// A record lock is not inherited: what is forked has the file and not the lock.
fn life() -> rustix::io::Result<OwnedFd> {
    let life = rustix::fs::memfd_create("lastgood-guard", MemfdFlags::empty())?;
    rustix::fs::fcntl_lock(&life, FlockOperation::NonBlockingLockExclusive)?;
    Ok(life)
}

/// Makes sure that this process ends with the one that guards it.
///
/// `unshare` forks before it asks for the parent's death signal: a guard that was killed in between sends none.
/// So it is asked for once more, and then looked whether the guard lived until then.
fn end_with_the_guard() -> Result<(), RuntimeError> {
    let here = Path::new("/proc/self");
    step("end with", here, || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    let invalid = || open("see the guard of", here, io::ErrorKind::InvalidInput.into());
    let number: u32 = std::env::var(LIFE).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
    let path = PathBuf::from(format!("/proc/self/fd/{number}"));
    let life = fs::OpenOptions::new().read(true).write(true).open(&path);
    let life = life.map_err(|source| open("see the guard of", &path, source))?;
    match rustix::fs::fcntl_lock(&life, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(()),
        Err(error) => Err(open("see the guard of", &path, error.into())),
        Ok(()) => Err(open("see the guard of", &path, io::Error::new(io::ErrorKind::BrokenPipe, "it has ended"))),
    }
}

/// Closes the fence around this process, which must be the first one inside of [`Fence::Namespaces`].
///
/// Errors leave the fence open: the caller must end then. What is executed afterwards, also as root, lacks the
/// rights that lead around it.
pub fn enter(plan: &Plan) -> Result<(), RuntimeError> {
    // Outside, these mounts would cover the live data of the machine.
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "this process is not the first one inside");
        return Err(RuntimeError::FenceOpen { act: "be closed around", path: "/proc/self".into(), source });
    }
    end_with_the_guard()?;
    step("make private", Path::new("/"), || {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)
    })?;
    let trees = take_trees(plan)?;
    let mut covered: Vec<PathBuf> = plan.cover.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    // Outer folders first, or they would hide the covers inside them.
    covered.sort_by_key(|path| path.components().count());
    covered.dedup();
    for path in &covered {
        cover(path)?;
    }
    for tree in &trees {
        tree.put(&covered)?;
    }
    for path in covered.iter().filter(|path| path.is_dir()) {
        make_read_only(path)?;
    }
    step("bring up loopback in", Path::new("/proc/self/ns/net"), loopback_up)?;
    for right in RIGHTS {
        step("give up rights of", Path::new("/proc/self"), || {
            match rustix::thread::remove_capability_from_bounding_set(right) {
                // An older kernel does not know the newest of them.
                Err(rustix::io::Errno::INVAL) => Ok(()),
                result => result,
            }
        })?;
    }
    Ok(())
}

/// A part of the file tree, held so that it can be put back after its place was covered.
struct Tree {
    tree: OwnedFd,
    target: PathBuf,
    is_dir: bool,
    writable: bool,
}

/// Takes what must stay visible, before anything is covered; outer folders first.
fn take_trees(plan: &Plan) -> Result<Vec<Tree>, RuntimeError> {
    let mut trees = vec![Tree::take(&plan.scratch, &plan.scratch, true)?];
    for path in &plan.readable {
        trees.push(Tree::take(path, path, false)?);
    }
    for Over { copy, live } in &plan.over {
        trees.push(Tree::take(copy, live, true)?);
    }
    // Of two with the same target the later one wins: the copy lies over what is merely readable.
    trees.sort_by_key(|tree| tree.target.components().count());
    Ok(trees)
}

impl Tree {
    fn take(source: &Path, target: &Path, writable: bool) -> Result<Self, RuntimeError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = step("take", source, || rustix::mount::open_tree(CWD, source, flags))?;
        let is_dir = fs::metadata(source).is_ok_and(|found| found.is_dir());
        // A link in the live path must not lead the mount elsewhere than the program.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
        Ok(Self { tree, target, is_dir, writable })
    }

    fn put(&self, covered: &[PathBuf]) -> Result<(), RuntimeError> {
        let target = self.target.as_path();
        if covered.iter().any(|cover| target.starts_with(cover)) {
            self.make_place().map_err(|source| open("make a place for", target, source))?;
        }
        step("mount", target, || {
            rustix::mount::move_mount(&self.tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        })?;
        if self.writable { Ok(()) } else { make_read_only(target) }
    }

    /// Makes the mount point in the empty folder that covers it.
    fn make_place(&self) -> io::Result<()> {
        if self.target.exists() {
            return Ok(());
        }
        if self.is_dir {
            return fs::create_dir_all(&self.target);
        }
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::File::create(&self.target).map(drop)
    }
}

/// Covers a folder by an empty one, a file by nothing.
fn cover(path: &Path) -> Result<(), RuntimeError> {
    if !path.exists() {
        // It lay in a folder that is covered already.
        return Ok(());
    }
    step("cover", path, || {
        if path.is_dir() {
            // Only mount points are made in it: 1 MiB is thousands.
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=1m,mode=0755")
        } else {
            rustix::mount::mount_bind("/dev/null", path)
        }
    })
}

fn make_read_only(path: &Path) -> Result<(), RuntimeError> {
    step("make read-only", path, || {
        let there = rustix::fs::statvfs(path)?.f_flag;
        // In a user namespace the flags that a mount has can't be taken from it.
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        for (has, keep) in [
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
            (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        ] {
            if there.contains(has) {
                flags |= keep;
            }
        }
        rustix::mount::mount_remount(path, flags, "")
    })
}

/// Brings up the loopback interface, which is down in a fresh network namespace (rtnetlink(7)).
fn loopback_up() -> rustix::io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const LOOPBACK: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    // Header: length, type, flags, sequence, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    // Interface: family, padding and type; index, flags, changed flags.
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(LOOPBACK_WAIT))?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0_u8; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // The answer is a header of 16 bytes and a negative error number, 0 for done.
    let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(rustix::io::Errno::from_raw_os_error(-error)),
        None => Err(rustix::io::Errno::IO),
    }
}

fn step<T>(act: &'static str, path: &Path, act_on: impl FnOnce() -> rustix::io::Result<T>) -> Result<T, RuntimeError> {
    act_on().map_err(|error| open(act, path, error.into()))
}

fn open(act: &'static str, path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::FenceOpen { act, path: path.into(), source }
}
