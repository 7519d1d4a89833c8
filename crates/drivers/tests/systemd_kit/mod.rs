//! A real systemd for tests: booted as PID 1 of a throw-away container whose root is the host's own, read
//! through an overlay in memory. Nothing it writes reaches the host, and nothing survives the test.
//!
//! A test calls [`in_systemd`] with its own name: outside, that boots the container and runs the same test
//! binary inside for this one test; inside, it runs the body.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Set inside the container.
const INSIDE: &str = "LASTGOOD_TEST_INSIDE_SYSTEMD";
/// A boot takes about a second; a loaded machine may need longer.
const BOOT_WAIT: Duration = Duration::from_secs(60);
/// One test, in seconds as `timeout` reads it.
const TEST_WAIT_SECONDS: &str = "120";

/// Tells whether this is the test inside its container.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

pub(crate) fn in_systemd(test: &str, body: impl FnOnce()) {
    if is_inside() {
        return body();
    }
    check_tools();
    let machine = Machine::boot();
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("timeout")
        .arg(TEST_WAIT_SECONDS)
        .args(machine.enter())
        .arg(format!("{INSIDE}=1"))
        .arg(exe)
        .args(["--exact", test, "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "inside the container:\n{said}");
    assert!(said.contains("1 passed"), "no test named {test} ran inside the container:\n{said}");
}

fn check_tools() {
    assert!(rustix::process::getuid().is_root(), "this test boots a real systemd in a container and must run as root");
    let missing: Vec<&str> = ["systemd-nspawn", "dbus-daemon", "nsenter", "unshare", "setpriv"]
        .into_iter()
        .filter(|tool| !["/usr/bin", "/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(tool).exists()))
        .collect();
    assert!(
        missing.is_empty(),
        "this test boots a real systemd in a container and lacks {missing:?}: \
         apt-get install systemd-container dbus util-linux"
    );
}

/// Where systemd keeps units: the one tree of cgroup 2, or the two it uses beside cgroup 1.
const CGROUP_TREES: &str = "/sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified";

struct Machine {
    process: Child,
    folder: tempfile::TempDir,
}

impl Machine {
    fn boot() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().display().to_string();
        let exe = std::env::current_exe().unwrap();
        // The folder above `deps` holds the test shim too. It may be a mount of its own, which an overlay of
        // the root does not show, so it is bound in.
        let built = exe.parent().and_then(Path::parent).unwrap().display().to_string();
        // Two containers in one cgroup would end each other's units.
        let cgroup = format!("lastgood-test-{}", std::process::id());
        let script = format!(
            "for tree in {CGROUP_TREES}; do [ -e $tree/cgroup.procs ] || continue; \
             mkdir $tree/{cgroup} && echo 0 > $tree/{cgroup}/cgroup.procs; done; \
             mount -t tmpfs -o size=1g tmpfs {base} && mkdir {base}/up {base}/work {base}/root && \
             mount -t overlay overlay -o lowerdir=/,upperdir={base}/up,workdir={base}/work {base}/root && \
             rm -rf {base}/root/etc/systemd/system/*.wants && \
             exec systemd-nspawn -q -D {base}/root --register=no --keep-unit -M lastgood-test \
             --bind-ro={built} -b systemd.unit=basic.target"
        );
        let log = fs::File::create(folder.path().with_extension("boot")).unwrap();
        // The whole container is one process namespace that dies with this test, however it ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let machine = Self { process, folder };
        let until = Instant::now() + BOOT_WAIT;
        while !machine.is_up() {
            let said = fs::read_to_string(machine.folder.path().with_extension("boot")).unwrap_or_default();
            assert!(Instant::now() < until, "the container did not boot:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
        machine
    }

    /// PID 1 of the container: the child of nspawn, which is the child of unshare.
    fn leader(&self) -> Option<u32> {
        child_of(child_of(self.process.id())?)
    }

    fn enter(&self) -> Vec<String> {
        let leader = self.leader().expect("the container has ended").to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let words = ["nsenter", "-t", &leader, "-m", "-u", "-i", "-p", "-n", "-C", "--root", "--wd=/", "env", "-i"];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.extend([format!("PATH={path}"), "HOME=/root".into(), "LANG=C.UTF-8".into()]);
        words
    }

    fn is_up(&self) -> bool {
        if self.leader().is_none() {
            return false;
        }
        let enter = self.enter();
        let answer = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["systemctl", "is-system-running"])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let state = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        matches!(state.as_str(), "running" | "degraded")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(self.folder.path().with_extension("boot"));
        for tree in CGROUP_TREES.split(' ') {
            remove_cgroup(&Path::new(tree).join(format!("lastgood-test-{}", std::process::id())));
        }
    }
}

/// Removes a cgroup and those below it; one whose last process is still ending is asked again.
fn remove_cgroup(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_cgroup(&below.path());
        }
    }
    let until = Instant::now() + Duration::from_secs(2);
    while cgroup.exists() && fs::remove_dir(cgroup).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
