//! Servers of a test's own on free loopback ports, and configurations as people write them.

use lastgood_drivers::probe::{BusyConfig, ProbeConfig, ProbeTarget, SecretSource, Secrets, Step};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Long enough for a slow test machine; no test waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A request as a server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Which connection it came on.
    pub connection: usize,
}

/// A server that answers each request with the bytes a function gives; without bytes it closes the connection.
pub(crate) struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn answering(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = Arc::clone(&seen);
        let connections = Mutex::new(0);
        let port = raw(move |stream| {
            let number = {
                let mut count = connections.lock().unwrap();
                *count += 1;
                *count
            };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            while let Some(mut request) = read_request(&mut reader) {
                request.connection = number;
                log.lock().unwrap().push(request.clone());
                let bytes = answer(&request);
                if bytes.is_empty() || stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        Self { port, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Runs `serve` for every connection.
pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

pub(crate) fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut seen = Seen::default();
    reader.read_line(&mut seen.line).ok().filter(|count| *count > 0)?;
    seen.line = seen.line.trim().into();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        seen.headers.insert(name.to_lowercase(), value.into());
    }
    let length = seen.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}

/// An answer as a correct server gives it.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

pub(crate) fn probe(text: &str) -> ProbeConfig {
    try_probe(text).unwrap()
}

pub(crate) fn try_probe(text: &str) -> Result<ProbeConfig, String> {
    #[derive(serde::Deserialize)]
    struct File {
        probe: Vec<Step>,
    }
    toml::from_str::<File>(text).map(|file| ProbeConfig { steps: file.probe }).map_err(|error| error.to_string())
}

pub(crate) fn step(text: &str) -> Step {
    probe(&format!("[[probe]]\nname = \"step\"\n{text}")).steps.remove(0)
}

pub(crate) fn busy(text: &str) -> BusyConfig {
    try_busy(text).unwrap()
}

pub(crate) fn try_busy(text: &str) -> Result<BusyConfig, String> {
    #[derive(serde::Deserialize)]
    struct File {
        busy: BusyConfig,
    }
    toml::from_str::<File>(text).map(|file| file.busy).map_err(|error| error.to_string())
}

pub(crate) fn target(port: u16) -> ProbeTarget {
    ProbeTarget { base: format!("http://127.0.0.1:{port}"), ..ProbeTarget::default() }
}

pub(crate) fn target_with_secret(port: u16, value: &str) -> ProbeTarget {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("login"), value, 0o600);
    let sources = BTreeMap::from([("login".to_owned(), SecretSource::File("login".into()))]);
    ProbeTarget { secrets: Secrets::load(&sources, folder.path()).unwrap(), ..target(port) }
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
