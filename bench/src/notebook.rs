//! A service of notebooks, set up as a user would: releases in a folder, a lastgood.toml, the program itself.

use crate::Bench;
use lastgood_domain::{event::Record, terms::ServiceName};
use lastgood_engine::log::read_all;
use lastgood_notebook::{Release, Seed, seed, write_release};
use lastgood_store::Reader;
use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const PASSWORD: &str = "open sesame";
const ACCOUNT: &str = "probe";
/// Notes of about 215 bytes that make 1 MiB of SQLite.
const NOTES: u32 = 4_350;

/// One service below a folder.
pub(crate) struct Notebooks {
    pub(crate) folder: PathBuf,
    pub(crate) ports: Vec<u16>,
    /// Where the daemon answers.
    pub(crate) listen: u16,
    lastgood: PathBuf,
    notebook: PathBuf,
}

impl Notebooks {
    /// Lays out `count` instances with data of 1.0.0, nothing running.
    pub(crate) fn new(bench: &Bench, name: &str, count: usize) -> Result<Self, String> {
        let folder = bench.scratch.join(name);
        let mut ports = free_ports(count + 1)?;
        let made = Self {
            listen: ports.pop().unwrap_or_default(),
            ports,
            lastgood: bench.lastgood.clone(),
            notebook: bench.notebook.clone(),
            folder,
        };
        said(fs::create_dir_all(made.folder.join("releases")))?;
        let secret = made.folder.join("password");
        said(fs::write(&secret, PASSWORD))?;
        said(fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)))?;
        made.publish("1.0.0", "1.0.0")?;
        let first = made.folder.join("data/0");
        let release = Release::of_catalogue("1.0.0").ok_or("no release 1.0.0")?;
        let content = Seed { release: &release, names: &[ACCOUNT], accounts: 0, notes: NOTES, password: PASSWORD };
        said(seed(&first, &content))?;
        for number in 1..count {
            copy_all(&first, &made.data(number))?;
        }
        said(fs::write(made.folder.join("lastgood.toml"), made.config()))?;
        Ok(made)
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.folder.join("data").join(number.to_string())
    }

    pub(crate) fn release(&self, version: &str) -> PathBuf {
        self.folder.join("releases").join(version)
    }

    /// Publishes what the catalogue has as `like` under another version.
    pub(crate) fn publish(&self, version: &str, like: &str) -> Result<(), String> {
        let release = Release::of_catalogue(like).ok_or("no such release")?;
        let release = Release { version: version.into(), ..release };
        let program = self.notebook.to_string_lossy().into_owned();
        said(write_release(&self.folder.join("releases"), &release, &[program])).map(drop)
    }

    fn config(&self) -> String {
        let mut text = format!("listen = \"127.0.0.1:{}\"\n", self.listen);
        text += r#"state_dir = "state"
[secret.login]
file = "password"
[service.notebook]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/notebook"]
env = { NOTEBOOK_DATA = "{data}", NOTEBOOK_PORT = "{port}", NOTEBOOK_BIND = "{bind}" }
state = { directory = "{data}", exclude = ["access.log*"] }
runtime = { process = {} }
rollout = { soak = "0s", wave_size = 100 }
ready = { http = { path = "/health" }, expect = { status = 200 } }
"#;
        for (number, port) in self.ports.iter().enumerate() {
            let _ = write!(
                text,
                "[[service.notebook.instance]]\nname = \"i{number}\"\nport = {port}\ndata = \"data/{number}\"\n"
            );
        }
        text + r#"[[service.notebook.probe]]
name = "log in"
any = [
  { name = "v2", http = { method = "POST", path = "/v2/login", json = { name = "probe", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
  { name = "v1", http = { method = "POST", path = "/account/login", json = { name = "probe", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
]
[[service.notebook.probe]]
name = "read the notes"
http = { path = "/notes", headers = { Authorization = "Bearer {token}" } }
expect = { status = 200 }
"#
    }

    /// Makes a command of lastgood about this service.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.lastgood);
        command.args(["--config", "lastgood.toml", "--yes", "--no-input"]).args(arguments);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; gives what it printed.
    pub(crate) fn lastgood(&self, arguments: &[&str], codes: &[i32]) -> Result<String, String> {
        let output = said(self.command(arguments).output())?;
        if output.status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let tail: String =
            String::from_utf8_lossy(&output.stderr).lines().rev().take(12).collect::<Vec<_>>().join("\n");
        Err(format!("lastgood {arguments:?} ended with {}:\n{tail}", output.status))
    }

    pub(crate) fn serve(&self) -> Result<Child, String> {
        said(self.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
    }

    /// Reads all records of the service.
    pub(crate) fn records(&self) -> Result<Vec<Record>, String> {
        let reader = said(Reader::open(&self.folder.join("state")))?;
        said(read_all(&reader, &said(ServiceName::new("notebook"))?))
    }

    /// Ends the instances that lastgood started: it has no command for that, as users never want it.
    pub(crate) fn end(&self) {
        for number in 0..self.ports.len() {
            let record = self.folder.join(format!("state/run/notebook/i{number}/record.json"));
            let pid = fs::read(record).ok().and_then(|bytes| {
                let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
                value["identity"]["pid"].as_i64()
            });
            if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }
}

impl Drop for Notebooks {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes an error a text.
pub(crate) fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Copies the files of a folder.
pub(crate) fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    said(fs::create_dir_all(to))?;
    for entry in said(fs::read_dir(from))? {
        let entry = said(entry)?;
        said(fs::copy(entry.path(), to.join(entry.file_name())))?;
    }
    Ok(())
}

/// Gives ports of loopback that are free at the moment.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    // Held together, so that no number comes twice.
    let held: Vec<TcpListener> =
        said((0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>())?;
    said(held.iter().map(|one| one.local_addr().map(|address| address.port())).collect())
}
