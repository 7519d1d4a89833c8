//! A farm of notebooks in a folder of its own, and a person at its command line.

mod daemon;

pub(crate) use self::daemon::Daemon;
pub(crate) use crate::person::{PATIENCE, Said, reserve, said, until, until_within};
use lastgood_notebook::{Release, Seed, republish, seed, write_release};
use rusqlite::{Connection, OpenFlags, types::Value as Cell};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Longest command, in seconds, before it counts as hanging.
const COMMAND_SECONDS_MAX: &str = "180";
/// The password of every account.
pub(crate) const PASSWORD: &str = "open sesame";

/// A desk that every notice comes to, one a line.
pub(crate) const DESK: &str = "\n[notice.desk]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> notices; echo >> notices\"]\n";

/// The program that is tested.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_lastgood")
}

/// What a farm is made of.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Instances and the accounts that their probes use.
    pub(crate) instances: Vec<(&'static str, &'static str)>,
    /// More keys of the service.
    pub(crate) service: String,
    /// The `rollout` table.
    pub(crate) rollout: &'static str,
    /// More tables at the end of the file.
    pub(crate) tail: String,
    /// Notes of each account.
    pub(crate) notes: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            instances: vec![("alice", "probe"), ("bob", "probe"), ("carol", "café o'clock")],
            service: String::new(),
            rollout: r#"{ soak = "200ms", wave_size = 2 }"#,
            tail: String::new(),
            notes: 5,
        }
    }
}

/// Instances, their data, a channel and a state folder; all of it ends with it.
pub(crate) struct Farm {
    temporary: tempfile::TempDir,
    ports: BTreeMap<String, u16>,
    /// A UDP socket on each port keeps other tests off it, while TCP stays free for the instance.
    _reserved: Vec<UdpSocket>,
    plan: Plan,
}

impl Farm {
    /// Makes data of 1.0.0 for each instance and offers that release; nothing runs yet.
    pub(crate) fn new(plan: Plan) -> Self {
        // A container of its own has /tmp in memory, where nothing is rehearsed.
        let place = if crate::systemd_kit::is_inside() { "/var/lib".into() } else { std::env::temp_dir() };
        let temporary = tempfile::Builder::new().prefix("lastgood-e2e-").tempdir_in(place).unwrap();
        let (mut ports, mut reserved) = (BTreeMap::new(), Vec::new());
        let names = plan.instances.iter().map(|(name, _)| (*name).to_owned());
        for name in names.chain(["listen".to_owned(), "nobody".to_owned()]) {
            let (port, socket) = reserve();
            ports.insert(name, port);
            reserved.push(socket);
        }
        let farm = Self { temporary, ports, _reserved: reserved, plan };
        let first = release("1.0.0");
        for (name, account) in &farm.plan.instances {
            let seed_of =
                Seed { release: &first, names: &[account], accounts: 0, notes: farm.plan.notes, password: PASSWORD };
            seed(&farm.data(name), &seed_of).unwrap();
        }
        secret_file(&farm.path("probe-password"), PASSWORD);
        farm.configure(&farm.config());
        farm.publish("1.0.0");
        farm
    }

    /// Makes a farm that runs 1.0.0.
    pub(crate) fn running(plan: Plan) -> Self {
        let farm = Self::new(plan);
        farm.lastgood(&["run"]).ended(0);
        for name in farm.names() {
            assert_eq!(farm.version(name), "1.0.0");
        }
        farm
    }

    /// Gives the text of the configuration.
    pub(crate) fn config(&self) -> String {
        let plan = &self.plan;
        let mut text = format!(
            r#"state_dir = "state"
listen = "127.0.0.1:{listen}"

[secret.login]
file = "probe-password"

[service.notebook]
channel = {{ directory = "releases", version_file = "VERSION" }}
command = ["{{release}}/notebook"]
env = {{ NOTEBOOK_DATA = "{{data}}", NOTEBOOK_PORT = "{{port}}", NOTEBOOK_BIND = "{{bind}}" }}
bind = "127.0.0.1"
state = {{ directory = "{{data}}", exclude = ["access.log*"] }}
ready = {{ http = {{ path = "/health" }}, expect = {{ status = 200 }} }}
busy = {{ http = {{ path = "/busy" }}, expect = {{ status = 200, json = {{ "$.busy" = true }} }} }}
ready_timeout = "20s"
rollout = {rollout}
{service}
"#,
            listen = self.ports["listen"],
            rollout = plan.rollout,
            service = plan.service,
        );
        for (name, account) in &plan.instances {
            text += &format!(
                "\n[[service.notebook.instance]]\nname = \"{name}\"\nport = {}\ndata = \"data/{name}\"\n\
                 vars = {{ account = \"{account}\" }}\n",
                self.ports[*name]
            );
        }
        text += r#"
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
        text + &plan.tail
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.path("lastgood.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    /// Gives the instances' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.plan.instances.iter().map(|(name, _)| *name)
    }

    /// Gives the port of an instance; `nobody` is one where nobody listens.
    pub(crate) fn port(&self, name: &str) -> u16 {
        self.ports[name]
    }

    /// Offers a release of the catalogue.
    pub(crate) fn publish(&self, version: &str) {
        self.publish_release(&release(version));
    }

    pub(crate) fn publish_release(&self, release: &Release) {
        write_release(&self.releases(), release, &notebook()).unwrap();
    }

    /// Offers a release once more: same tag, other bytes.
    pub(crate) fn republish(&self, version: &str) {
        republish(&self.releases(), &release(version), &notebook()).unwrap();
    }

    fn releases(&self) -> PathBuf {
        let releases = self.path("releases");
        fs::create_dir_all(&releases).unwrap();
        releases
    }

    /// Gives a command that is ready to run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", COMMAND_SECONDS_MAX, program(), "--config"]).arg(self.path("lastgood.toml"));
        command.args(arguments).current_dir(self.temporary.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn lastgood(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs a command with `--json` and gives the data of its document.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let said = self.lastgood(&all).ended(0);
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        document["data"].clone()
    }

    /// Gives the service's status.
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])["services"][0].clone()
    }

    /// Gives one instance's status.
    pub(crate) fn instance(&self, name: &str) -> Value {
        let status = self.status();
        let instances = status["instances"].as_array().unwrap();
        instances.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
    }

    /// Gives the log, orders too, as one text.
    pub(crate) fn log(&self) -> String {
        self.lastgood(&["--json", "log", "--all"]).ended(0).out
    }

    /// Waits until one notice of this kind has come to the [`DESK`], and gives its severity and summary.
    #[track_caller]
    pub(crate) fn noticed(&self, kind: &str) -> (String, String) {
        until(&format!("a notice of {kind}"), || !self.notices(kind).is_empty());
        let mut all = self.notices(kind);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Gives severity and summary of the notices of this kind that came to the [`DESK`].
    pub(crate) fn notices(&self, kind: &str) -> Vec<(String, String)> {
        let all = fs::read_to_string(self.path("notices")).unwrap_or_default();
        let notices = all.lines().filter(|line| !line.is_empty()).filter_map(|line| {
            // The last may be half written.
            let notice: Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| notice["data"][key].as_str().unwrap().to_owned();
            (text("kind") == kind).then(|| (text("severity"), text("summary")))
        });
        notices.collect()
    }

    pub(crate) fn get(&self, name: &str, path: &str, token: &str) -> (u16, Value) {
        request(self.port(name), "GET", path, token, "").unwrap()
    }

    pub(crate) fn post(&self, name: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        request(self.port(name), "POST", path, token, &body.to_string()).unwrap()
    }

    /// Logs in as a user of the instance does, and gives the token.
    #[track_caller]
    pub(crate) fn log_in(&self, name: &str) -> String {
        let account = self.plan.instances.iter().find(|(one, _)| *one == name).unwrap().1;
        let body = json!({ "name": account, "password": PASSWORD });
        let (mut status, mut answer) = self.post(name, "/v2/login", "", &body);
        if status == 404 {
            (status, answer) = self.post(name, "/account/login", "", &body);
        }
        assert_eq!(status, 200, "{name}: {answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Writes a note as a user does.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, text: &str) {
        let token = self.log_in(name);
        let (status, answer) = self.post(name, "/notes", &token, &json!({ "text": text }));
        assert_eq!(status, 201, "{answer}");
    }

    /// Writes many notes at once.
    #[track_caller]
    pub(crate) fn write_many(&self, name: &str, count: u32) {
        let token = self.log_in(name);
        let (status, answer) = self.post(name, "/notes/bulk", &token, &json!({ "count": count }));
        assert_eq!(status, 201, "{answer}");
    }

    /// Reads the notes as a user does.
    #[track_caller]
    pub(crate) fn notes(&self, name: &str) -> Vec<String> {
        let token = self.log_in(name);
        let (status, answer) = self.get(name, "/notes", &token);
        assert_eq!(status, 200, "{answer}");
        let notes = answer["notes"].as_array().unwrap();
        notes.iter().map(|note| note["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Gives the release that answers.
    #[track_caller]
    pub(crate) fn version(&self, name: &str) -> String {
        let (status, answer) = self.get(name, "/version", "");
        assert_eq!(status, 200, "{answer}");
        answer["version"].as_str().unwrap().to_owned()
    }

    /// Gives the process of an instance; none if it doesn't run.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let data = format!("NOTEBOOK_DATA={}", self.data(name).display());
        processes().into_iter().find(|pid| {
            let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let environment = of("environ");
            environment.split(|byte| *byte == 0).any(|entry| entry == data.as_bytes())
                && String::from_utf8_lossy(&of("cmdline")).contains("release.json")
        })
    }

    /// Gives all instances' processes.
    pub(crate) fn pids(&self) -> BTreeMap<&'static str, Option<u32>> {
        self.names().map(|name| (name, self.pid(name))).collect()
    }

    /// Gives everything that is in an instance's database, as text.
    pub(crate) fn dump(&self, name: &str) -> String {
        dump(&self.data(name).join(lastgood_notebook::DATA_FILE))
    }

    /// Gives the names, owners and modes of an instance's files that are data.
    pub(crate) fn files(&self, name: &str) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.data(name))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with("access.log"))
            .map(|entry| {
                let meta = entry.metadata().unwrap();
                format!("{} {}:{} {:o}", entry.file_name().display(), meta.uid(), meta.gid(), meta.mode())
            })
            .collect();
        files.sort();
        files
    }

    /// Kills an instance as a power cut of its own would.
    pub(crate) fn kill(&self, name: &str) {
        let pid = self.pid(name).unwrap_or_else(|| panic!("{name} doesn't run"));
        kill(pid);
        until(&format!("the end of {name}"), || !Path::new(&format!("/proc/{pid}")).exists());
    }

    /// Starts the daemon and waits until it drives.
    pub(crate) fn serve(&self) -> Daemon {
        let daemon = self.begin_serving();
        until("the daemon", || self.status()["driver"].is_object());
        daemon
    }

    /// Starts the daemon.
    pub(crate) fn begin_serving(&self) -> Daemon {
        let log = fs::File::options().append(true).create(true).open(self.path("serve.log")).unwrap();
        let mut command = Command::new(program());
        command.arg("--config").arg(self.path("lastgood.toml")).arg("serve").current_dir(self.temporary.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Daemon(command.spawn().unwrap())
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        let own = self.temporary.path().as_os_str().as_encoded_bytes().to_vec();
        // A daemon may start one more while it is being killed.
        for _ in 0..5 {
            let mut any = false;
            for pid in processes() {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if line.windows(own.len()).any(|window| window == own) {
                    kill(pid);
                    any = true;
                }
            }
            if !any {
                return;
            }
            std::thread::sleep(crate::person::LOOK_EVERY);
        }
    }
}

/// Gives a release of the catalogue.
pub(crate) fn release(version: &str) -> Release {
    Release::of_catalogue(version).unwrap()
}

/// Asks over real HTTP; an error if nobody answers.
pub(crate) fn request(port: u16, method: &str, path: &str, token: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Gives everything that is in a database, as text.
pub(crate) fn dump(file: &Path) -> String {
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut tables = database.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let tables: Vec<(String, Option<String>)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let mut text = String::new();
    for (name, sql) in tables {
        text += &format!("{name}: {sql:?}\n");
        // Probes log in while nobody looks, so sessions come and go.
        if name == "session" || !sql.is_some_and(|sql| sql.starts_with("CREATE TABLE")) {
            continue;
        }
        let mut rows = database.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<Cell> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            text += &format!("  {cells:?}\n");
        }
    }
    text
}

/// Finds the folders of newer data that a restore of an instance kept: those with a database that is not in use.
pub(crate) fn kept_aside(farm: &Farm, name: &str) -> Vec<PathBuf> {
    let data = farm.data(name);
    let mut found = Vec::new();
    let mut open = vec![farm.path("data"), farm.path("state/services/notebook/instances").join(name)];
    while let Some(folder) = open.pop() {
        if folder == data {
            continue;
        }
        if folder.join(lastgood_notebook::DATA_FILE).exists() {
            let others = farm.names().any(|one| folder == farm.data(one));
            if !others && folder.display().to_string().contains(name) {
                found.push(folder);
            }
            continue;
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().map(Result::unwrap);
        open.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
    }
    found
}

/// Writes a file that only its owner can read.
pub(crate) fn secret_file(path: &Path, secret: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(secret.as_bytes()).unwrap();
}

fn notebook() -> Vec<String> {
    [program(), "internal", "notebook"].map(ToOwned::to_owned).into()
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    // Gone already is as good.
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
