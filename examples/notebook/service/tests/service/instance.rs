//! A real notebook: a release folder, a data folder, a process, and a client over real HTTP.

use lastgood_notebook::{Release, write_release};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing here takes a second on an idle machine; a loaded one gets time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PASSWORD: &str = "open sesame";

/// The command that plays releases in these tests.
pub(crate) fn program() -> Vec<String> {
    vec![env!("CARGO_BIN_EXE_notebook").to_owned()]
}

pub(crate) fn release(version: &str) -> Release {
    Release::of_catalogue(version).expect("the catalogue has it")
}

/// A running instance; killed when it is dropped.
pub(crate) struct Instance {
    child: Child,
    log: Receiver<String>,
    pub(crate) port: u16,
}

/// What a start that ends by itself says.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) log: String,
}

pub(crate) fn publish(release: &Release, releases: &Path) -> PathBuf {
    write_release(releases, release, &program()).unwrap()
}

fn command(folder: &Path, data: &Path) -> Command {
    let mut command = Command::new(folder.join("notebook"));
    command.env("NOTEBOOK_DATA", data).env("NOTEBOOK_PORT", "0").env("NOTEBOOK_BIND", "127.0.0.1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Instance {
    /// Starts the release on the data and waits until it listens.
    pub(crate) fn start(folder: &Path, data: &Path) -> Self {
        let mut instance = Self::spawn(folder, data);
        let line = instance.await_line("listens on");
        instance.port = line.rsplit(':').next().unwrap().parse().unwrap();
        instance
    }

    /// Starts the release on the data and doesn't wait.
    pub(crate) fn spawn(folder: &Path, data: &Path) -> Self {
        let mut child = command(folder, data).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log, port: 0 }
    }

    /// Waits for a line of the log that contains the text.
    pub(crate) fn await_line(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text:?} in {seen:?}"),
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> bool {
        rustix::process::kill_process(self.id(), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a process that ends by itself.
    pub(crate) fn end(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> (u16, Value) {
        read(agent().get(self.url(path)).header("Authorization", format!("Bearer {token}")).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        read(agent().post(self.url(path)).send(body.to_string()))
    }

    pub(crate) fn post_as(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = agent().post(self.url(path)).header("Authorization", format!("Bearer {token}"));
        read(request.send(body.to_string()))
    }

    pub(crate) fn log_in_at(&self, path: &str, name: &str) -> (u16, Value) {
        self.post(path, &json!({ "name": name, "password": PASSWORD }))
    }

    /// Logs in where it must work and gives the token.
    pub(crate) fn token_at(&self, path: &str, name: &str) -> String {
        let (status, body) = self.log_in_at(path, name);
        assert_eq!(status, 200, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    /// Sends bytes as they are and reads until the service closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_running() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Starts the release on data which it must refuse.
pub(crate) fn refused_start(folder: &Path, data: &Path) -> Ended {
    let mut instance = Instance::spawn(folder, data);
    let deadline = Instant::now() + PATIENCE;
    let mut log = String::new();
    loop {
        match instance.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => log = log + &line + "\n",
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("it was not refused: {log}"),
        }
        assert!(!log.contains("listens on"), "it was not refused: {log}");
    }
    Ended { success: instance.end(), log }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None).build().into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut answer = answer.unwrap();
    let status = answer.status().as_u16();
    let body = answer.body_mut().read_to_string().unwrap();
    (status, serde_json::from_str(&body).unwrap())
}
