//! The story of five people with an instance each: rehearsals, canaries, waves, and data that goes back.

use super::{
    other_way,
    stage::{Stage, free_ports},
    trouble,
};
use crate::{
    drive,
    screen::{Screen, Trouble},
};
use lastgood_domain::event::End;
use lastgood_notebook::{Fault, Release, Seed};
use serde_json::{Value, json};
use std::{
    cell::Cell,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

/// The instances, and which accounts they have; only carol's has letters that 2.3.0 breaks.
const INSTANCES: [(&str, &str, u32); 5] = [
    ("alice", "probe", 40),
    ("bob", "probe", 400),
    ("carol", "café o'clock", 20),
    ("dave", "probe", 40),
    ("erin", "probe", 40),
];
/// The one that somebody is using.
const BUSY: &str = "dave";
/// The password of the demo's accounts: nobody's, made for this.
const PASSWORD: &str = "a demo password";

/// The story of five instances with data of their own.
pub(super) struct Notebook {
    pub(super) stage: Stage,
    program: Vec<String>,
    ports: [u16; INSTANCES.len()],
    /// Notes that each person has written so far, besides those there were.
    written: Cell<u32>,
}

impl Notebook {
    /// Makes the instances' data and their configuration; nothing runs yet.
    pub(super) fn build(screen: Screen, folder: &Path) -> Result<Self, Trouble> {
        let program = vec![drive::program()?.display().to_string(), "internal".into(), "notebook".into(), "--".into()];
        for (name, account, notes) in INSTANCES {
            let data = folder.join("data").join(name);
            let first = Release::of_catalogue("1.0.0").ok_or_else(|| trouble("find", folder, &"release 1.0.0"))?;
            let seed = Seed { release: &first, names: &[account], accounts: 3, notes, password: PASSWORD };
            fs::create_dir_all(&data).map_err(|error| trouble("make", &data, &error))?;
            lastgood_notebook::seed(&data, &seed).map_err(|error| trouble("fill", &data, &error))?;
        }
        let secret = folder.join("probe-password");
        fs::write(&secret, PASSWORD)
            .and_then(|()| fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)))
            .map_err(|error| trouble("write", &secret, &error))?;
        let ports = free_ports(folder)?;
        let stage = Stage::build(screen, folder, "notebook", &config(&ports))?;
        Ok(Self { stage, program, ports, written: Cell::new(0) })
    }

    /// Tells the chapters in order; gives how many there were, and whether the evidence holds.
    pub(super) fn tell(&self) -> Result<(u32, bool), Trouble> {
        let stage = &self.stage;
        stage.chapter("1.0.0 comes to five people, each with data of their own");
        self.publish("1.0.0", None)?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;
        self.everybody_writes()?;
        stage.chapter("1.1.0 is good and adds a column; dave is in use and is left for later");
        self.session("open")?;
        self.publish("1.1.0", None)?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;
        self.everybody_writes()?;
        stage.chapter("2.1.0 breaks every login in its migration, with a healthy page: the rehearsal catches it");
        self.publish("2.1.0", None)?;
        stage.expect("rejected in rehearsal", |end| matches!(end, End::RehearsalFailed { .. }))?;
        self.everybody_writes()?;
        stage.chapter("2.3.0 passes the rehearsal and breaks one person's login: the canary goes back, with its data");
        self.publish("2.3.0", None)?;
        stage.expect("rolled back", |end| matches!(end, End::RolledBack { .. }))?;
        self.everybody_writes()?;
        stage.lift()?;
        stage.chapter("2.4.0 dies soon after its start: the watch over the first wave catches it");
        self.publish("2.4.0", Some(Fault::Crash { after_ms: 700 }))?;
        stage.expect("rolled back", |end| matches!(end, End::RolledBack { .. }))?;
        self.everybody_writes()?;
        stage.lift()?;
        stage.chapter("2.5.0 is good; dave's session ends, and dave follows later");
        self.publish("2.5.0", None)?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;
        self.session("close")?;
        stage.expect("promoted", |end| matches!(end, End::Promoted))?;
        self.everybody_writes()?;
        stage.chapter("2.5.0 comes again with other bytes: a tag that moved is refused");
        self.republish("2.5.0")?;
        stage.expect("refused", |end| matches!(end, End::Refused { .. }))?;
        self.read_back()?;
        stage.end()
    }

    fn publish(&self, version: &str, fault: Option<Fault>) -> Result<(), Trouble> {
        let folder = self.stage.folder.join("releases");
        let mut release =
            Release::of_catalogue(version).ok_or_else(|| trouble("find release", Path::new(version), &"unknown"))?;
        if let Some(fault) = fault {
            release.fault = fault;
        }
        fs::create_dir_all(&folder).map_err(|error| trouble("make", &folder, &error))?;
        lastgood_notebook::write_release(&folder, &release, &self.program)
            .map(drop)
            .map_err(|error| trouble("publish into", &folder, &error))
    }

    fn republish(&self, version: &str) -> Result<(), Trouble> {
        let folder = self.stage.folder.join("releases");
        let release =
            Release::of_catalogue(version).ok_or_else(|| trouble("find release", Path::new(version), &"unknown"))?;
        lastgood_notebook::republish(&folder, &release, &self.program)
            .map(drop)
            .map_err(|error| trouble("publish into", &folder, &error))
    }

    /// Opens or closes somebody's session on the busy instance.
    fn session(&self, act: &str) -> Result<(), Trouble> {
        let port = INSTANCES.iter().zip(self.ports).find(|((name, ..), _)| *name == BUSY).map_or(0, |(_, port)| port);
        let status = ask((BUSY, port), "POST", &format!("/session/{act}"), "", &Value::Null)?.0;
        if status != 200 {
            return Err(other_way(&format!("somebody's session on {BUSY}: {act} was answered {status}")));
        }
        self.stage.aside(&format!("somebody's session on {BUSY}: {act}"));
        Ok(())
    }

    /// Has each person log in and write a note: what a way back must not lose.
    fn everybody_writes(&self) -> Result<(), Trouble> {
        let number = self.written.get() + 1;
        for ((name, account, _), port) in INSTANCES.iter().zip(self.ports) {
            let token = log_in((name, port), account)?;
            let text = format!("note {number} of the demo");
            let (status, _) = ask((name, port), "POST", "/notes", &token, &json!({ "text": text }))?;
            if status != 201 {
                return Err(other_way(&format!("{name} could not write a note: {status}")));
            }
        }
        self.written.set(number);
        Ok(())
    }

    /// Counts each person's notes: those of the beginning, and those written between the chapters.
    fn read_back(&self) -> Result<(), Trouble> {
        for ((name, account, seeded), port) in INSTANCES.iter().zip(self.ports) {
            let token = log_in((name, port), account)?;
            let (_, notes) = ask((name, port), "GET", "/notes", &token, &Value::Null)?;
            let (wanted, found) = (seeded + self.written.get(), notes["total"].as_u64());
            if found != Some(wanted.into()) {
                return Err(other_way(&format!("{name} wrote {wanted} notes and has {found:?}")));
            }
        }
        let written = self.written.get() as usize * INSTANCES.len();
        self.stage.aside(&format!("{written} notes were written between the chapters, {written} are read back"));
        Ok(())
    }
}

/// Logs in where the release that runs has its login, and gives the session's token.
fn log_in(at: (&str, u16), account: &str) -> Result<String, Trouble> {
    let who = json!({ "name": account, "password": PASSWORD });
    for path in ["/v2/login", "/account/login"] {
        let (_, answer) = ask(at, "POST", path, "", &who)?;
        if let Some(token) = answer["token"].as_str() {
            return Ok(token.to_owned());
        }
    }
    Err(other_way(&format!("{} can't log in", at.0)))
}

/// Asks an instance something; gives the status and the body.
fn ask(at: (&str, u16), method: &str, path: &str, token: &str, body: &Value) -> Result<(u16, Value), Trouble> {
    let (name, port) = at;
    let failed = |error: std::io::Error| trouble("reach", Path::new(name), &error);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

fn config(ports: &[u16]) -> String {
    let mut text = CONFIG.to_owned();
    for ((name, account, _), port) in INSTANCES.iter().zip(ports) {
        text += &format!(
            "\n[[service.notebook.instance]]\nname = \"{name}\"\nport = {port}\ndata = \"data/{name}\"\nvars = {{ account = \"{account}\" }}\n"
        );
    }
    text
}

const CONFIG: &str = r#"# The demo's configuration: examples/notebook/lastgood.toml explains each line.
state_dir = "state"

[secret.login]
file = "probe-password"

[service.notebook]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/notebook"]
env = { NOTEBOOK_DATA = "{data}", NOTEBOOK_PORT = "{port}", NOTEBOOK_BIND = "{bind}" }
state = { directory = "{data}", exclude = ["access.log*"] }
ready = { http = { path = "/health" }, expect = { status = 200 } }
busy = { http = { path = "/busy" }, expect = { status = 200, json = { "$.busy" = true } } }
rollout = { soak = "1200ms", wave_size = 2 }

[[service.notebook.probe]]
name = "log in"
any = [
  { name = "v2", http = { method = "POST", path = "/v2/login", json = { name = "{account}", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
  { name = "v1", http = { method = "POST", path = "/account/login", json = { name = "{account}", password = "{secret:login}" } }, expect = { status = 200 }, capture = { token = { json = "$.token" } } },
]

[[service.notebook.probe]]
name = "read the notes"
http = { method = "GET", path = "/notes", headers = { Authorization = "Bearer {token}" } }
expect = { status = 200 }
"#;
