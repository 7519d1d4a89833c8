//! The fence around a rehearsal, tried from inside by a program that wants out.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

#[expect(dead_code, reason = "shared with the tests of processes, which need all of it")]
mod runtime_kit;

use lastgood_domain::failure::Coded as _;
use lastgood_drivers::runtime::fence::{Fence, Over, Plan, enter};
use runtime_kit::{SHIM, heard, pipe, runs, script, until};
use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Two instances with live data, an installation, and a state folder with a secret and the rehearsal's scratch.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for file in [
            "live/alice/app.db",
            "live/bob/app.db",
            "live/carol.db",
            "state/secret",
            "state/installed/v2/run",
            "state/scratch/copy/app.db",
        ] {
            let path = world.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::set_permissions(world.path("state/scratch"), fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink(world.path("live/alice"), world.path("link")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap().join(name)
    }

    fn plan(&self) -> Plan {
        Plan {
            scratch: self.path("state/scratch"),
            readable: vec![self.path("state/installed")],
            over: vec![Over { copy: self.path("state/scratch/copy"), live: self.path("link") }],
            cover: vec![self.path("live/bob"), self.path("live/carol.db"), self.path("state"), self.path("never-was")],
        }
    }

    /// Starts the shim as a driver whose rehearsal runs `text`.
    fn driver(&self, text: &str) -> Command {
        let mut driver = Command::new(SHIM);
        driver
            .arg("fence")
            .arg(serde_json::to_string(&self.plan()).unwrap())
            .arg(script(&self.path("state/scratch/candidate"), text))
            .env("ROOT", self.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        driver
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn said(driver: &mut Command) -> String {
    let output = driver.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn namespaces_are_available_where_these_tests_run() {
    assert_eq!(Fence::available(), Fence::Namespaces);
    assert_eq!(Fence::Namespaces.name(), "namespaces");
    assert_eq!(Fence::Paths("old kernel".into()).name(), "paths");
}

#[test]
fn a_write_to_the_live_path_lands_in_the_copy_and_other_live_data_is_not_there() {
    let world = World::new();
    let text = "#!/bin/sh\ncd $ROOT\n\
        echo migrated > live/alice/app.db && echo migrated > link/new && echo own: $(cat live/alice/app.db)\n\
        echo bob: $(ls live/bob) carol: $(cat live/carol.db) state: $(ls state)\n\
        (echo x > live/bob/app.db) 2>/dev/null || echo bob is closed\n\
        (echo x > state/new) 2>/dev/null || echo state is closed\n\
        (echo x > state/installed/v2/run) 2>/dev/null || echo installed is closed\n\
        cat state/installed/v2/run; echo\n\
        echo x > live/carol.db; rm -rf live/bob live/carol.db 2>/dev/null\n\
        echo x > state/scratch/mine && echo scratch is open\n";
    assert_eq!(
        said(&mut world.driver(text)),
        "own: migrated\nbob: carol: state: installed scratch\nbob is closed\nstate is closed\n\
         installed is closed\nstate/installed/v2/run\nscratch is open\n"
    );
    for untouched in ["live/alice/app.db", "live/bob/app.db", "live/carol.db", "state/secret"] {
        assert_eq!(world.read(untouched), untouched);
    }
    assert!(!world.path("live/alice/new").exists());
    assert_eq!(world.read("state/scratch/copy/app.db"), "migrated\n");
    assert_eq!(world.read("state/scratch/mine"), "x\n");
}

#[test]
fn a_candidate_that_is_root_can_not_take_the_fence_down() {
    let world = World::new();
    // Tries to uncover, to mount again, to look through other processes, and the same in deeper namespaces.
    let text = "#!/bin/sh\ncd $ROOT\n\
        for try in 'umount live/bob' 'umount -l state' 'umount live/alice' 'mount -o remount,rw state' \
        'mount --bind / live/bob' 'nsenter -t 1 -m true' 'mknod disk b 254 0' \
        'unshare -r -m umount live/bob' 'unshare -r -m mount -o remount,bind,rw state'; do\n\
        $try 2>/dev/null && echo did: $try\ndone\n\
        echo bob: $(cat live/bob/* /proc/1/root$ROOT/live/bob/* 2>/dev/null) others: $(ls -d /proc/[0-9]* | wc -l)\n";
    let said = said(&mut world.driver(text));
    // The worker, the script, and its two commands in a pipe.
    let (tries, others) = said.trim().split_once("others: ").unwrap();
    assert_eq!(tries.trim(), "bob:");
    assert!(others.parse::<u32>().unwrap() <= 6, "{said}");
    assert_eq!(world.read("live/bob/app.db"), "live/bob/app.db");
}

#[test]
fn the_network_ends_at_a_loopback_of_its_own() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "#!/usr/bin/env python3\nimport os, socket\n\
         def reach(address):\n    try:\n        socket.create_connection(address, 5).close()\n        return 'reached'\n    \
         except OSError as error: return type(error).__name__\n\
         print('host', reach(('127.0.0.1', {port})))\nprint('outside', reach(('192.0.2.1', 80)))\n\
         own = socket.create_server(('127.0.0.1', {port}))\nprint('own', reach(('127.0.0.1', {port})))\n\
         print(sorted(name for _, name in socket.if_nameindex() if name == 'lo'), flush=True)\n"
    );
    assert_eq!(said(&mut world.driver(&text)), "host ConnectionRefusedError\noutside OSError\nown reached\n['lo']\n");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "something connected to the host's loopback");
}

#[test]
fn nothing_inside_survives_the_kill_of_its_driver() {
    let world = World::new();
    pipe(&world.path("state/scratch/ready"));
    let text = "#!/usr/bin/env python3\nimport os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
        open(os.environ['ROOT'] + 'state/scratch/ready', 'w').write('ready')\n        time.sleep(1000)\n    os._exit(0)\n\
        time.sleep(1000)\n";
    let mut driver = world.driver(text).env("FENCED", world.path("")).spawn().unwrap();
    assert_eq!(heard(&world.path("state/scratch/ready")), "ready");
    let inside = marked(&world.path(""));
    // Driver, unshare, worker, candidate and its daemon.
    assert!(inside.len() >= 5, "{inside:?}");
    driver.kill().unwrap();
    driver.wait().unwrap();
    until("the end of all inside", || marked(&world.path("")).is_empty());
}

#[test]
fn a_driver_killed_at_any_instant_of_a_rehearsals_start_leaves_nothing() {
    let world = World::new();
    // Written once: the one before may be dying in the middle of its exec, and then nobody may write to it.
    let mut command = world.driver("#!/bin/sh\nsleep 1000\n");
    command.env("FENCED", world.path(""));
    for step in 0..20 {
        let mut driver: Child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(step));
        driver.kill().unwrap();
        driver.wait().unwrap();
        until("the end of all inside", || marked(&world.path("")).is_empty());
    }
}

#[test]
fn the_fence_is_never_closed_around_a_process_of_the_machine_itself() {
    let world = World::new();
    let error = enter(&world.plan()).unwrap_err();
    assert_eq!(error.code(), "rehearsal-fence-open");
    assert_eq!(world.read("live/bob/app.db"), "live/bob/app.db");
}

#[test]
fn a_fence_that_can_not_be_closed_lets_nothing_start() {
    let world = World::new();
    let mut plan = world.plan();
    plan.over.push(Over { copy: world.path("no-such-copy"), live: world.path("live/bob") });
    let candidate = script(&world.path("state/scratch/candidate"), "#!/bin/sh\ntouch $ROOT/live/ran\n");
    let output = Command::new(SHIM)
        .arg("fence")
        .arg(serde_json::to_string(&plan).unwrap())
        .arg(candidate)
        .env("ROOT", world.path(""))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no-such-copy"), "{said}");
    assert!(!world.path("live/ran").exists());
}

#[test]
fn without_root_a_user_namespace_gives_the_same_fence() {
    assert!(rustix::process::getuid().is_root(), "only root can be somebody else");
    let world = World::new();
    let own = Command::new("chown").args(["-R", "65534:65534"]).arg(world.folder.path()).status();
    assert!(own.unwrap().success());
    let shim = world.path("shim");
    fs::copy(SHIM, &shim).unwrap();
    let text = "#!/bin/sh\ncd $ROOT\necho migrated > live/alice/app.db\n\
        (echo x > live/bob/app.db) 2>/dev/null || echo bob is closed\necho state: $(ls state)\n";
    let mut driver = Command::new(&shim);
    driver
        .arg("fence")
        .arg(serde_json::to_string(&world.plan()).unwrap())
        .arg(script(&world.path("state/scratch/candidate"), text))
        .env("ROOT", world.path(""))
        .uid(65_534)
        .gid(65_534)
        .current_dir("/");
    assert_eq!(said(&mut driver), "bob is closed\nstate: installed scratch\n");
    assert_eq!(world.read("live/alice/app.db"), "live/alice/app.db");
    assert_eq!(world.read("state/scratch/copy/app.db"), "migrated\n");
}

/// Living processes with this folder as `FENCED` in their environment.
fn marked(folder: &Path) -> Vec<u32> {
    let wanted = format!("FENCED={}", folder.display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| {
        let mut environment = Vec::new();
        let _ = fs::File::open(format!("/proc/{pid}/environ")).and_then(|mut file| file.read_to_end(&mut environment));
        runs(pid) && environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    })
    .collect()
}
