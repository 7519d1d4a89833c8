//! A real process of the service, and clients over real HTTP and WebSocket.

use last_layer::{Release, write_release};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client};

/// Nothing here takes a second on an idle machine; a loaded one gets time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running process; killed when it is dropped.
pub(crate) struct Instance {
    child: Child,
    log: Mutex<Receiver<String>>,
    pub(crate) port: u16,
}

impl Instance {
    /// Starts a release of the catalogue on the data in `world` and waits until it listens.
    pub(crate) fn start(version: &str, world: &Path) -> Self {
        let release = Release::of_catalogue(version).expect("the catalogue has it");
        Self::start_release(&release, world)
    }

    pub(crate) fn start_release(release: &Release, world: &Path) -> Self {
        let mut instance = Self::spawn(release, world);
        let line = instance.await_line("listens on");
        instance.port = line.rsplit(':').next().unwrap().parse().unwrap();
        instance
    }

    /// Starts a release and doesn't wait.
    pub(crate) fn spawn(release: &Release, world: &Path) -> Self {
        let program = [env!("CARGO_BIN_EXE_last-layer").to_owned()];
        let folder = write_release(&world.join("releases"), release, &program).unwrap();
        let mut command = Command::new(folder.join("last-layer"));
        command.env("LAST_LAYER_DATA", world.join("data")).env("LAST_LAYER_PORT", "0");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log: Mutex::new(log), port: 0 }
    }

    /// Waits for a line of the log that contains the text.
    pub(crate) fn await_line(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.get_mut().unwrap().recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text:?} in {seen:?}"),
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a process that ends by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        read(agent().get(format!("http://{}{path}", self.address())).call())
    }

    pub(crate) fn post(&self, room: &str, id: &str, text: &str) -> (u16, Value) {
        let url = format!("http://{}/rooms/{room}/messages", self.address());
        read(agent().post(url).send(json!({ "id": id, "text": text }).to_string()))
    }

    /// Opens a socket; `query` is such as `?after=3`.
    pub(crate) fn socket(&self, room: &str, query: &str) -> Socket {
        self.try_socket(room, query).unwrap()
    }

    pub(crate) fn try_socket(&self, room: &str, query: &str) -> Result<Socket, String> {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{}/rooms/{room}/socket{query}", self.address());
        let opened = client(url, stream).map_err(|error| match error {
            tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer)) => answer.status().to_string(),
            other => other.to_string(),
        })?;
        Ok(Socket(opened.0))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// A client's socket.
pub(crate) struct Socket(WebSocket<TcpStream>);

impl Socket {
    pub(crate) fn say(&mut self, id: &str, text: &str) {
        let said = json!({ "type": "post", "id": id, "text": text });
        self.0.send(Message::text(said.to_string())).unwrap();
    }

    pub(crate) fn hear(&mut self) -> Value {
        match self.0.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// Hears until as many deliveries came; gives their numbers.
    pub(crate) fn hear_numbers(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let heard = self.hear();
            if heard["type"] == "message" {
                numbers.push(heard["seq"].as_i64().unwrap());
            }
        }
        numbers
    }

    /// Hears until the service closes; gives the texts before it and the code.
    pub(crate) fn hear_close(&mut self) -> (Vec<Value>, u16) {
        let mut heard = Vec::new();
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => heard.push(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => {
                    while self.0.read().is_ok() {}
                    return (heard, frame.unwrap().code.into());
                }
                other => panic!("neither a text nor a Close: {other:?}"),
            }
        }
    }

    /// Tells whether nothing comes for a while.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.0.get_ref().set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        let heard = self.0.read();
        self.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        heard.is_err()
    }
}

pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None).build().into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut answer = answer.unwrap();
    let status = answer.status().as_u16();
    let body = answer.body_mut().read_to_string().unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Asks until the answer fits.
pub(crate) fn await_true(mut question: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < until, "it did not become true");
        std::thread::sleep(Duration::from_millis(5));
    }
}
