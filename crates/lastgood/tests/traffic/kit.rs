//! A chat service behind the built-in proxy, in a folder of its own, and people who use it.

pub(crate) use crate::person::until;
use crate::person::{PATIENCE, Said, reserve, said};
use last_layer::{
    Release,
    load::{Load, Report, run},
    write_release,
};
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

/// What a switch closes of the chat.
pub(crate) const CLOSES_POSTING: &str = r#"
[[service.chat.traffic.closes]]
switch = "posting"
routes = ["POST /rooms/*"]
status = 403
body = "Posting is switched off.\n"
"#;

/// Longest command, in seconds, before it counts as hanging.
const COMMAND_SECONDS_MAX: &str = "180";
/// Shares of the tests: the first is the largest that needs no proof of resumed sessions.
const SHARES: &str =
    r#"[{ percent = 25, bake = "1s" }, { percent = 50, bake = "1s" }, { percent = 100, bake = "1s" }]"#;

/// The service, its two places, its proxy and a state folder; all of it ends with it.
pub(crate) struct Chat {
    temporary: tempfile::TempDir,
    pub(crate) front: u16,
    listen: u16,
    pub(crate) places: [u16; 2],
    /// A UDP socket on each port keeps other tests off it, while TCP stays free.
    _reserved: Vec<UdpSocket>,
}

impl Chat {
    /// Sets the service up; nothing runs yet. `more` are keys of its `traffic` table.
    pub(crate) fn new(more: &str) -> Self {
        let temporary = tempfile::Builder::new().prefix("lastgood-traffic-").tempdir().unwrap();
        let (ports, reserved): (Vec<u16>, Vec<UdpSocket>) = (0..4).map(|_| reserve()).unzip();
        let chat =
            Self { temporary, front: ports[0], listen: ports[1], places: [ports[2], ports[3]], _reserved: reserved };
        for folder in ["releases", "data"] {
            fs::create_dir(chat.path(folder)).unwrap();
        }
        fs::write(chat.path("lastgood.toml"), chat.config(more)).unwrap();
        chat.publish("1.0.0");
        chat
    }

    /// Changes its configuration.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        let file = self.path("lastgood.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, change(text)).unwrap();
    }

    /// Sets it up and runs 1.0.0.
    pub(crate) fn running(more: &str) -> Self {
        let chat = Self::new(more);
        chat.lastgood(&["run"]).ended(0);
        assert_eq!(chat.version(), "1.0.0");
        chat
    }

    fn config(&self, more: &str) -> String {
        let [port, other] = self.places;
        // Its people have WebSockets; what they lose they count themselves.
        let resume = if more.contains("resume") { "" } else { "no_resume = \"the test counts what is lost\"" };
        format!(
            r#"state_dir = "state"
listen = "127.0.0.1:{listen}"

[service.chat]
channel = {{ directory = "releases", version_file = "VERSION" }}
command = ["{{release}}/last-layer", "--port", "{{port}}", "--bind", "{{bind}}", "--data", "{{data}}"]
state = {{ directory = "{{data}}" }}
ready = {{ http = {{ path = "/health" }}, expect = {{ status = 200 }} }}
rca = "off"

[service.chat.traffic]
proxy = {{ listen = ["127.0.0.1:{front}"] }}
shares = {SHARES}
drain = "5s"
warm = "10m"
{resume}
guard = {{ error_rate_max = 10, deadline = "1m" }}
{more}

[[service.chat.instance]]
name = "a"
port = {port}
other_port = {other}
data = "data"

[[service.chat.probe]]
name = "read"
http = {{ method = "GET", path = "/rooms/lobby/messages" }}
expect = {{ status = 200 }}
tries = 5

[notice.file]
command = ["sh", "-c", "cat >> {notices}"]
"#,
            listen = self.listen,
            front = self.front,
            notices = self.path("notices").display(),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Offers a release of the catalogue.
    pub(crate) fn publish(&self, version: &str) {
        let program = [env!("CARGO_BIN_EXE_lastgood"), "internal", "last-layer"].map(str::to_owned);
        let release = Release::of_catalogue(version).unwrap();
        write_release(&self.path("releases"), &release, &program).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        let program = env!("CARGO_BIN_EXE_lastgood");
        command.args(["-k", "5", COMMAND_SECONDS_MAX, program, "--config"]).arg(self.path("lastgood.toml"));
        command.args(arguments).current_dir(self.temporary.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn lastgood(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs a command to its end with one more variable.
    pub(crate) fn lastgood_with(&self, arguments: &[&str], name: &str, value: &str) -> Said {
        said(self.command(arguments).env(name, value))
    }

    /// Runs a command beside the test.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> JoinHandle<Said> {
        let mut command = self.command(arguments);
        thread::spawn(move || said(&mut command))
    }

    /// Begins a command.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        command.arg("--config").arg(self.path("lastgood.toml")).args(arguments).current_dir(self.temporary.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command with `--json` and gives the data of its document.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.lastgood(&[&["--json"], arguments].concat()).ended(0);
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        document["data"].clone()
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])["services"][0].clone()
    }

    /// Gives the candidate's share in percent.
    pub(crate) fn share(&self) -> f64 {
        self.status()["traffic"]["percent"].as_f64().unwrap_or(0.0)
    }

    /// Gives the log, orders too, as one text.
    pub(crate) fn log(&self) -> String {
        self.lastgood(&["--json", "log", "--all"]).ended(0).out
    }

    /// Asks through the front door, as a new person.
    pub(crate) fn ask(&self, head: &str) -> String {
        ask(("127.0.0.1", self.front), head)
    }

    /// Gives the daemon's metrics page; nothing while it is not there.
    pub(crate) fn metrics(&self) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.listen)) else { return String::new() };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: chat\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Gives one value of that page.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics();
        let line = page.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }

    /// Gives the release that answers a new person.
    pub(crate) fn version(&self) -> String {
        let answer = self.ask("GET /version");
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        body["version"].as_str().unwrap().to_owned()
    }

    /// Gives the processes that were started with this text in their command line.
    pub(crate) fn processes(&self, text: &str) -> Vec<u32> {
        let folder = self.temporary.path().display().to_string();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(text) && line.contains(&folder)
        })
        .collect()
    }

    /// Lets people use it; they count what they lose.
    pub(crate) fn people(&self, clients: u32, time: Duration) -> JoinHandle<Report> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.front));
        let pause = Duration::from_millis(80);
        let load = Load { address, clients, rooms: 4, messages: u64::MAX, time, pause };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(run(load))
        })
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // What outlives commands by design ends with the test.
        for text in ["last-layer", "proxy --settings", "serve"] {
            for pid in self.processes(text) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
            }
        }
    }
}

/// Asks as a new person.
pub(crate) fn ask(address: (&str, u16), head: &str) -> String {
    ask_with(address, head, "")
}

/// Asks with more lines of a head.
pub(crate) fn ask_with(address: (&str, u16), head: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head} HTTP/1.1\r\nHost: chat\r\n{more}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Nobody saw a failure, and every message came once and in order.
#[track_caller]
pub(crate) fn nobody_lost_anything(report: &Report) {
    assert!(report.holds && report.failed_requests == 0 && report.acknowledged > 0, "{report:#?}");
}
