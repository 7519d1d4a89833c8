//! Real instances for the runtime's tests: a folder of their own, small scripts, nothing left behind.

use lastgood_domain::terms::{Digest, InstanceName, Release, ReleaseTag, ServiceName, Span};
use lastgood_drivers::runtime::{Launch, Runtime, process::ProcessRuntime};
use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_lastgood-driver-test-shim");
/// Longest wait for something that must happen; a test that reaches it has failed.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn service() -> ServiceName {
    ServiceName::new("notes").unwrap()
}

pub(crate) fn alice() -> InstanceName {
    InstanceName::new("alice").unwrap()
}

pub(crate) fn release(tag: &str) -> Release {
    Release { tag: ReleaseTag::new(tag).unwrap(), digest: Digest::of(tag.as_bytes()), origin: "dir:test".into() }
}

/// A folder of one test with a runtime in it; stops what it started when it goes.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: ProcessRuntime,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = ProcessRuntime::new(&folder.path().join("state"), Path::new(SHIM)).unwrap();
        Self { folder, runtime }
    }

    /// A second driver over the same state, as after a restart of the daemon.
    pub(crate) fn another_driver(&self) -> ProcessRuntime {
        ProcessRuntime::new(&self.folder.path().join("state"), Path::new(SHIM)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        script(&self.path(name), text)
    }

    pub(crate) fn launch(&self, tag: &str, program: String) -> Launch {
        Launch {
            service: service(),
            instance: alice(),
            release: release(tag),
            installation: self.folder.path().into(),
            argv: vec![program],
            env: [("FOLDER".to_owned(), self.folder.path().display().to_string())].into(),
            workdir: self.folder.path().into(),
            user: None,
            groups: lastgood_drivers::runtime::Groups::default(),
            log: self.path("log"),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.another_driver().stop(&service(), &alice(), Span::ZERO);
    }
}

pub(crate) fn script(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// A named pipe: reading it to the end waits, without a sleep, until a script has written and closed it.
pub(crate) fn pipe(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
}

/// Waits for what a script writes into a pipe made by [`pipe`].
pub(crate) fn heard(path: &Path) -> String {
    let path = path.to_owned();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        let _ = tell.send(text.trim().to_owned());
    });
    told.recv_timeout(SOON).expect("the script did not write into its pipe")
}

/// True while the process exists and is no zombie.
pub(crate) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// Waits for a condition that no handle tells of.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} has not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
