//! A real PostgreSQL for tests: a server of its own in a folder of its own, as a user without rights, without a port
//! that anybody else could know. It ends with the test, however the test ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The first start of a server on a busy machine.
const START_WAIT: Duration = Duration::from_secs(60);
/// Longest life of a server, in seconds as `timeout` reads it: a test that hangs leaves none behind.
const LIFE_SECONDS: &str = "300";
/// `nobody` of Debian: initdb refuses root.
const NOBODY: u32 = 65534;
/// The superuser's password; the server listens to this test only.
pub(crate) const PASSWORD: &str = "only-for-this-test";
/// The name of the superuser and of its database.
pub(crate) const ADMIN: &str = "postgres";

/// A running server.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
    process: Option<Child>,
    /// Its port on 127.0.0.1; with sockets, a part of the socket's name.
    pub(crate) port: u16,
}

impl Postgres {
    /// Starts a server that asks everybody for a SCRAM password, on a socket and on loopback.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings such as `max_connections=5`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let bin = newest_bin();
        let folder = tempfile::tempdir().unwrap();
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, PASSWORD).unwrap();
        if rustix::process::getuid().is_root() {
            for path in [folder.path(), &password] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        // Others pass to the socket: tests connect as whoever they are.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = as_nobody(&bin.join("initdb"))
            .args(["--no-sync", "--no-instructions", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .args(["--username", ADMIN, "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self { folder, bin, process: None, port: 0 };
        // A port that was free a moment ago may be taken: then the next is tried.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            server.port = free.local_addr().unwrap().port();
            drop(free);
            server.process = Some(launch(server.folder.path(), &server.bin, server.port, settings));
            if server.has_started() {
                return server;
            }
        }
        panic!("postgres did not start: {}", server.log());
    }

    fn has_started(&mut self) -> bool {
        let deadline = Instant::now() + START_WAIT;
        while Instant::now() < deadline && !self.has_ended() {
            let ready = Command::new(self.bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stop();
        false
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|ended| ended.is_some()))
    }

    /// The folder with the server's socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a role reaches a database, by the socket.
    pub(crate) fn address(&self, user: &str, database: &str) -> String {
        format!("host={} port={} user={user} dbname={database}", self.folder().display(), self.port)
    }

    /// Where a role reaches a database, by loopback.
    pub(crate) fn net_address(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements as the superuser in its own database, and gives what they answer, one row a line.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let said = self.psql(ADMIN, PASSWORD, sql);
        assert!(said.status.success(), "{sql}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// Runs statements as a role in the superuser's database by the server's own client.
    pub(crate) fn psql(&self, user: &str, password: &str, sql: &str) -> std::process::Output {
        Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(self.folder())
            .args(["-p", &self.port.to_string(), "-U", user, "-d", ADMIN, "-c", sql])
            .env("PGPASSWORD", password)
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Replaces the rules of who may log in how (`pg_hba.conf`).
    pub(crate) fn log_ins(&self, rules: &str) {
        fs::write(self.folder().join("data/pg_hba.conf"), rules).unwrap();
        self.sql("SELECT pg_reload_conf()");
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Ends the server at once; a second time does nothing.
    pub(crate) fn stop(&mut self) {
        if self.has_ended() {
            return;
        }
        let Some(mut process) = self.process.take() else { return };
        // SIGQUIT is the server's own fast way; it ends its children first.
        let id = rustix::process::Pid::from_child(&process);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
        let _ = process.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(folder: &Path, bin: &Path, port: u16, settings: &[&str]) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = as_nobody(&bin.join("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-p", &port.to_string()]);
    let ours = ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB", "jit=off"];
    for setting in ours.iter().chain(settings) {
        command.args(["-c", setting]);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// Runs a program as a user without rights; it dies with the test, and after [`LIFE_SECONDS`] at the latest.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::getuid().is_root() {
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
    }
    // timeout passes signals on; QUIT is what ends a server at once.
    command.args(["--pdeathsig=QUIT", "timeout", "--foreground", "--signal=QUIT", LIFE_SECONDS]).arg(program);
    command
}

fn newest_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|items| items.flatten().collect::<Vec<_>>());
    let newest = versions
        .unwrap_or_default()
        .into_iter()
        .max_by_key(|item| item.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).unwrap_or_default());
    newest.map(|item| item.path().join("bin")).expect("this test needs a PostgreSQL server: apt-get install postgresql")
}
