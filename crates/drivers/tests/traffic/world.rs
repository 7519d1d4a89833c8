//! A real HAProxy in a folder of its own, before small servers that behave well or badly by path.

use lastgood_domain::{
    terms::{Digest, InstanceName, ServiceName},
    traffic::{Leaving, Share, Side, Table, Upstream},
};
use lastgood_drivers::traffic::{Haproxy, HaproxyConfig};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn service() -> ServiceName {
    ServiceName::new("chat").unwrap()
}

pub(crate) fn release(tag: &str) -> Digest {
    Digest::of(tag.as_bytes())
}

pub(crate) fn side(tag: &str, upstreams: &[(&str, u16)]) -> Side {
    let upstream = |(instance, port): &(&str, u16)| Upstream {
        instance: InstanceName::new(instance).unwrap(),
        address: SocketAddr::from(([127, 0, 0, 1], *port)),
    };
    Side { release: release(tag), tag: tag.into(), upstreams: upstreams.iter().map(upstream).collect() }
}

/// Release 1 and release 2 with a share.
pub(crate) fn table(epoch: u64, last_good: &Side, candidate: &Side, share: Share) -> Table {
    Table {
        v: Table::VERSION,
        service: service(),
        epoch,
        salt: "1.1.0".into(),
        last_good: Some(last_good.clone()),
        candidate: Some(candidate.clone()),
        share,
        leaving: Vec::new(),
        synthetic: None,
        lease: None,
        fallback: None,
        closed: Vec::new(),
    }
}

/// Only `serving`, while `leaving` finishes what it has.
pub(crate) fn only(epoch: u64, serving: &Side, leaving: &Side) -> Table {
    let leaving = vec![Leaving { side: leaving.clone(), deadline: None }];
    Table { candidate: None, leaving, ..table(epoch, serving, serving, Share::NONE) }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A small HTTP/1.1 and WebSocket server that answers with its name.
pub(crate) struct Server {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    listening: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(name: &'static str) -> Self {
        Self::at(name, 0)
    }

    pub(crate) fn at(name: &'static str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, opened) = (Arc::clone(&stop), Arc::clone(&open));
        let listening = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(SeqCst) {
                    return;
                }
                opened.lock().unwrap().push(stream.try_clone().unwrap());
                let end = stream.try_clone().unwrap();
                thread::spawn(move || {
                    serve(name, stream);
                    // Others hold it too: without this nobody would be told.
                    let _ = end.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, stop, open, listening }
    }

    /// Ends it and all of its connections, as a kill does.
    pub(crate) fn stop(self) {
        self.stop.store(true, SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.listening.join().unwrap();
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(name: &str, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut path, mut key) = (String::new(), None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or_default() == 0 {
                return;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => key = Some(value.to_owned()),
                _ if line == "\r\n" => break,
                _ => {}
            }
        }
        if let Some(key) = key {
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut socket = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Server, None);
            while let Ok(message) = socket.read() {
                match message.to_text() {
                    // Disconnecting is what makes the kernel send a reset, however many hold the socket.
                    Ok("reset") => return rustix::net::connect_unspec(socket.get_ref()).unwrap(),
                    Ok(text) if message.is_text() => socket.send(Message::text(format!("{name} {text}"))).unwrap(),
                    _ => {}
                }
            }
            return;
        }
        let answer = match path.as_str() {
            "/500" => "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/404" => "HTTP/1.1 404 Not here\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/cut" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                return;
            }
            "/close" => return,
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A HAProxy with the configuration of the guide, or a variant of it.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) front: u16,
    processes: Vec<Child>,
}

/// The example of the guide, with its paths moved into `dir` and its ports to real ones.
pub(crate) fn guide(dir: &Path, front: u16, ports: (u16, u16)) -> String {
    let page = include_str!("../../../../docs/guide/haproxy.md");
    let example = page.split("```haproxy\n").nth(1).unwrap().split("```").next().unwrap();
    example
        .replace("/run/haproxy/", &format!("{}/", dir.display()))
        .replace("/var/lib/haproxy/state", &format!("{}/state", dir.display()))
        .replace("/etc/haproxy/", &format!("{}/", dir.display()))
        .replace("bind :80", &format!("bind 127.0.0.1:{front}"))
        .replace("8081", &ports.0.to_string())
        .replace("8082", &ports.1.to_string())
}

impl World {
    /// Starts HAProxy before two ports; `change` makes a variant of the guide's example.
    pub(crate) fn start(ports: (u16, u16), change: impl Fn(String) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        fs::create_dir(dir.path().join("kept")).unwrap();
        fs::write(dir.path().join("chat-closed.map"), "").unwrap();
        // A port that is free now may be taken by the time HAProxy binds it.
        let mut world = Self { dir, front: 0, processes: Vec::new() };
        for _ in 0..5 {
            world.front = free_port();
            let text = change(guide(world.dir.path(), world.front, ports));
            fs::write(world.dir.path().join("haproxy.cfg"), text).unwrap();
            if world.run(&[]) {
                return world;
            }
        }
        panic!("haproxy does not start: {}", fs::read_to_string(world.path("log")).unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.processes.last().unwrap().id()
    }

    fn run(&mut self, arguments: &[String]) -> bool {
        let child = Command::new("haproxy")
            .args(["-db", "-f", "haproxy.cfg"])
            .args(arguments)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .expect("haproxy is needed: apt-get install haproxy");
        let pid = format!("Pid: {}\n", child.id());
        self.processes.push(child);
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            if self.processes.last_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if try_say(&self.path("admin.sock"), "show info").is_ok_and(|info| info.contains(&pid)) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Reloads it: a new process takes the sockets over, the older one finishes what it has.
    pub(crate) fn reload(&mut self) {
        let socket = self.path("admin.sock").display().to_string();
        let arguments = ["-x".to_owned(), socket, "-sf".to_owned(), self.pid().to_string()];
        assert!(self.run(&arguments), "{}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Says one line to the runtime socket.
    pub(crate) fn say(&self, line: &str) -> String {
        try_say(&self.path("admin.sock"), line).unwrap()
    }

    /// Waits until a line's answer is as wanted.
    pub(crate) fn wait_for(&self, line: &str, wanted: impl Fn(&str) -> bool) {
        let until = Instant::now() + LONG;
        while !wanted(&self.say(line)) {
            assert!(Instant::now() < until, "{}", self.say(line));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until every older process has ended.
    pub(crate) fn wait_alone(&mut self) {
        let until = Instant::now() + LONG;
        let last = self.processes.len() - 1;
        while self.processes[..last].iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            assert!(Instant::now() < until, "an older process stays");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The guide's configuration of lastgood, moved into the folder; `change` makes a variant.
    pub(crate) fn config(&self, change: impl Fn(String) -> String) -> HaproxyConfig {
        let page = include_str!("../../../../docs/guide/haproxy.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let example = example
            .replace("[service.chat.traffic.haproxy]\n", "")
            .replace("/run/haproxy/", &format!("{}/", self.dir.path().display()))
            .replace("/var/lib/haproxy/state", &format!("{}/state", self.dir.path().display()))
            .replace("/etc/haproxy/", &format!("{}/", self.dir.path().display()));
        toml::from_str(&change(example)).unwrap()
    }

    pub(crate) fn router(&self) -> Haproxy {
        self.router_with(|toml| toml)
    }

    pub(crate) fn router_with(&self, change: impl Fn(String) -> String) -> Haproxy {
        Haproxy::new(service(), self.config(change), &self.path("kept"))
    }

    /// Asks for a path on a connection of its own and gives status, head and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", path, "")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.front)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, head.to_owned(), body.to_owned())
    }

    /// Asks once for each of so many people and gives who answered whom.
    pub(crate) fn people(&self, count: usize) -> Vec<String> {
        let mut client = Client::connect(self.front);
        (0..count).map(|person| client.get("/", &format!("person-{person}")).unwrap()).collect()
    }

    /// Opens a WebSocket through HAProxy.
    pub(crate) fn websocket(&self) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.front)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        tungstenite::client(format!("ws://127.0.0.1:{}/ws", self.front), stream).unwrap().0
    }

    /// Lets four clients ask without a pause until it is ended.
    pub(crate) fn load(&self, keep_alive: bool) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let front = self.front;
        let clients = (0..4)
            .map(|number| {
                let (stop, asked, failed) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&failed));
                thread::spawn(move || {
                    let mut client = Client::connect(front);
                    for person in (0_u64..).step_by(4).take_while(|_| !stop.load(SeqCst)) {
                        if !keep_alive {
                            client = Client::connect(front);
                        }
                        if let Err(why) = client.get("/", &format!("person-{}", (person + number) % 500)) {
                            failed.lock().unwrap().push(why);
                            client = Client::connect(front);
                        }
                        asked.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        Load { stop, asked, failed, clients }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn try_say(socket: &Path, line: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sets one weight, state and address by instance and port of all servers, as text that can be compared.
pub(crate) fn states(world: &World) -> BTreeMap<String, String> {
    let all = world.say("show servers state chat");
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines = all.lines().skip(2).filter(|line| !line.is_empty()).map(fields);
    lines.map(|f| (f[3].clone(), format!("{}:{} weight {} admin {}", f[4], f[18], f[7], f[6]))).collect()
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Asks as a person and gives the body; anything but 200 is an error.
    fn get(&mut self, path: &str, person: &str) -> Result<String, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: chat\r\nCookie: session={person}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let (mut status, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).map_err(|error| error.to_string())? == 0 {
                return Err(format!("hung up after {status:?}"));
            }
            if status.is_empty() {
                line.trim().clone_into(&mut status);
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|error| error.to_string())?;
        if status.starts_with("HTTP/1.1 200") { Ok(String::from_utf8(body).unwrap()) } else { Err(status) }
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Waits until so many more requests have been answered.
    pub(crate) fn more(&self, count: u64) {
        let (from, until) = (self.asked.load(SeqCst), Instant::now() + LONG);
        while self.asked.load(SeqCst) < from + count {
            assert!(Instant::now() < until, "the load stands still");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it; gives how many were asked, and how each failed one failed.
    pub(crate) fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        (self.asked.load(SeqCst), self.failed.lock().unwrap().clone())
    }
}
