//! A copy of an example in a folder of its own, with what its README starts: a database, a sink, a daemon.

use crate::person::{LOOK_EVERY, Said, reserve, said, until};
use serde_json::Value;
use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Longest command, in seconds, before it counts as hanging.
const COMMAND_SECONDS_MAX: &str = "120";

/// A running copy of an example; all of it ends with it.
pub(crate) struct Example {
    folder: tempfile::TempDir,
    /// The ports of the example as it is shipped, and ours.
    ports: Vec<(u16, u16)>,
    _reserved: Vec<UdpSocket>,
    children: Vec<Child>,
}

impl Example {
    /// Copies an example, each of its ports replaced by a free one, and starts what it needs.
    ///
    /// `ports`: those of the example; the first is the database's, the second the sink's, the third the daemon's.
    /// `jobs`: the database that pg_cron runs in, if the example has jobs.
    pub(crate) fn start(name: &str, ports: &[u16], jobs: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-example-").tempdir().unwrap();
        // The database runs as somebody without rights, who must come through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (own, reserved): (Vec<u16>, Vec<UdpSocket>) = ports.iter().map(|_| reserve()).unzip();
        let ports = ports.iter().copied().zip(own).collect();
        let mut example = Self { folder, ports, _reserved: reserved, children: Vec::new() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        example.copy(&root, &example.path(""));
        let database = example.path("postgres");
        let port = example.ports[0].1.to_string();
        example.spawn(Command::new("./database").arg(&database).arg(port).args(jobs));
        example.does(&["./setup", database.to_str().unwrap()]);
        let sink = example.ports[1].1.to_string();
        example.spawn(Command::new("./sink").args([&sink, "run/secrets/webhook", "run/inbox"]));
        example.spawn(Command::new(env!("CARGO_BIN_EXE_lastgood")).arg("serve"));
        until("the daemon", || TcpStream::connect(("127.0.0.1", example.ports[2].1)).is_ok());
        example
    }

    fn copy(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            match path.is_dir() {
                true if entry.file_name() == "run" => {}
                true => self.copy(&path, &to),
                false => {
                    fs::write(&to, self.as_ours(&fs::read_to_string(&path).unwrap())).unwrap();
                    fs::set_permissions(&to, path.metadata().unwrap().permissions()).unwrap();
                }
            }
        }
    }

    fn prepare(&self, command: &mut Command) {
        let bin = Path::new(env!("CARGO_BIN_EXE_lastgood")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
        command.env("PATH", path).current_dir(self.folder.path()).stdin(Stdio::null());
    }

    /// Starts what runs beside; it dies with the test.
    fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options().append(true).create(true).open(self.path("beside.log")).unwrap();
        let mut bound = Command::new("setpriv");
        bound.arg("--pdeathsig=QUIT").arg(command.get_program()).args(command.get_args());
        self.prepare(&mut bound);
        self.children.push(bound.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives our port for one of the example.
    pub(crate) fn port(&self, shipped: u16) -> u16 {
        self.ports.iter().find(|(one, _)| *one == shipped).unwrap().1
    }

    /// Gives a text with our ports.
    pub(crate) fn as_ours(&self, text: &str) -> String {
        self.ports
            .iter()
            .fold(text.to_owned(), |text, (shipped, own)| text.replace(&shipped.to_string(), &own.to_string()))
    }

    /// Gives a text with the ports as they are shipped.
    pub(crate) fn as_shipped(&self, text: &str) -> String {
        self.ports
            .iter()
            .fold(text.to_owned(), |text, (shipped, own)| text.replace(&own.to_string(), &shipped.to_string()))
    }

    /// Runs a program of the example, which must do what it is for; gives what it wrote.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> String {
        self.run(words).ended(0).out
    }

    /// Runs a program of the example to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", COMMAND_SECONDS_MAX]).args(words);
        self.prepare(&mut command);
        said(&mut command)
    }

    /// Types a command of lastgood as somebody; words are split at `|`.
    pub(crate) fn by(&self, who: &str, line: &str) -> Said {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", COMMAND_SECONDS_MAX, env!("CARGO_BIN_EXE_lastgood")]).args(line.split('|'));
        self.prepare(&mut command);
        said(command.env("SUDO_USER", who))
    }

    /// Types a command with `--json` and gives the data of its document.
    #[track_caller]
    pub(crate) fn json(&self, who: &str, line: &str, exit: i32) -> Value {
        let said = self.by(who, &format!("--json|{line}")).ended(exit);
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        document["data"].clone()
    }

    /// Gives the release that each instance of a service runs.
    pub(crate) fn releases(&self, service: &str) -> Vec<String> {
        let status = self.json("nobody", &format!("status|{service}"), 0);
        let instances = status["services"][0]["instances"].as_array().unwrap();
        instances.iter().map(|one| one["release"].as_str().unwrap_or("none").to_owned()).collect()
    }

    /// Asks a service, and gives status and body.
    pub(crate) fn ask(&self, port: u16, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port(port))).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.into())))
    }

    /// Gives the summaries of the notices that reached the sink with a genuine signature.
    pub(crate) fn inbox(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("run/inbox")).unwrap().map(|entry| entry.unwrap().path());
        let bodies = files.filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).ok());
        bodies.map(|body| body["data"]["summary"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Example {
    #[expect(clippy::print_stderr, reason = "a test that failed shows what ran beside it")]
    fn drop(&mut self) {
        for child in &mut self.children {
            let pid = rustix::process::Pid::from_child(child);
            // QUIT is PostgreSQL's own fast way, and ends the others as well.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("beside.log")).unwrap_or_default();
            eprintln!("beside:\n{}", log.lines().rev().take(40).collect::<Vec<_>>().join("\n"));
        }
        // Instances outlive lastgood: they are found by our folder, which nobody else has.
        let own = self.folder.path().as_os_str().as_encoded_bytes().to_vec();
        for _ in 0..5 {
            let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            let ours = pids.filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.windows(own.len()).any(|window| window == own)
            });
            let killed = ours.filter_map(rustix::process::Pid::from_raw).map(|pid| {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            });
            if killed.count() == 0 {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
