//! A proxy process in a folder of its own, and what tests say to it.

use crate::client::Builtin;
use lastgood_domain::{
    terms::{Digest, InstanceName, ServiceName},
    traffic::{Counts, Leaving, Share, Side, Slice, Table, Upstream},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn chat() -> ServiceName {
    ServiceName::new("chat").unwrap()
}

/// Finds a port that nobody listens at.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) settings: Value,
    pub(crate) child: Child,
    epoch: AtomicU64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Starts a proxy whose settings of the service were changed by `change`.
    pub(crate) fn with(change: impl FnOnce(&mut Value)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut serving = json!({ "listen": [address] });
        change(&mut serving);
        let settings =
            json!({ "state_dir": folder.path().join("state"), "threads": 2, "services": { "chat": serving } });
        let mut stage = Self { child: start(&folder, &settings), folder, address, settings, epoch: AtomicU64::new(0) };
        stage.await_control();
        stage
    }

    /// Starts another process with the same settings, and gives the one before.
    pub(crate) fn start_again(&mut self) -> Child {
        let child = start(&self.folder, &self.settings);
        let pid = child.id();
        let before = std::mem::replace(&mut self.child, child);
        until("the new process answers", || self.control().look(&chat()).is_ok_and(|look| look.pid == pid));
        before
    }

    fn await_control(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.control().look(&chat()).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the proxy ended: {}", self.said());
            assert!(Instant::now() < until, "the proxy does not answer");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives what the process has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    pub(crate) fn control(&self) -> Builtin {
        Builtin::new(&self.folder.path().join("state"), PATIENCE)
    }

    pub(crate) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes a table of last-good alone.
    pub(crate) fn table(&self, last_good: Option<Side>) -> Table {
        Table {
            v: Table::VERSION,
            service: chat(),
            epoch: self.next_epoch(),
            salt: "salt".into(),
            last_good,
            candidate: None,
            share: Share::NONE,
            leaving: Vec::new(),
            synthetic: None,
            lease: None,
            fallback: None,
            closed: Vec::new(),
        }
    }

    /// Sends all to `address`, as release 1.
    pub(crate) fn all_to(&self, address: SocketAddr) {
        self.control().route(&self.table(Some(side("1", &[address])))).unwrap();
    }

    /// Sends a share to the candidate, release 2.
    pub(crate) fn split(&self, last_good: SocketAddr, candidate: SocketAddr, share: Share) {
        let mut table = self.table(Some(side("1", &[last_good])));
        table.candidate = Some(side("2", &[candidate]));
        table.share = share;
        self.control().route(&table).unwrap();
    }

    /// Drains release 2 until `deadline`.
    pub(crate) fn leave(&self, last_good: SocketAddr, leaving: SocketAddr, deadline: Option<i64>) {
        let mut table = self.table(Some(side("1", &[last_good])));
        let deadline = deadline.map(lastgood_domain::terms::Timestamp);
        table.leaving = vec![Leaving { side: side("2", &[leaving]), deadline }];
        self.control().route(&table).unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes, and gives all that comes until the connection ends.
    pub(crate) fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The proxy may refuse and close before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for a path once, with further header lines, each ended by CR LF.
    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    /// Waits until the seconds that were counted fulfil `wanted` for a release, and gives the sum.
    pub(crate) fn counted(&self, tag: &str, wanted: impl Fn(&Counts) -> bool) -> Counts {
        let mut sum = Counts::default();
        until("the counts are there", || {
            sum = self.sum(tag, &self.control().slices(&chat(), 0).unwrap());
            wanted(&sum)
        });
        sum
    }

    fn sum(&self, tag: &str, slices: &[Slice]) -> Counts {
        let mut sum = Counts::default();
        slices.iter().filter_map(|slice| slice.of(&release(tag))).for_each(|counts| sum.merge(counts));
        sum
    }

    /// Gives the requests in flight and the tunnels of a release.
    pub(crate) fn live(&self, tag: &str) -> (u64, u64) {
        let look = self.control().look(&chat()).unwrap();
        let live = look.releases.iter().find(|live| live.release == release(tag));
        live.map_or((0, 0), |live| (live.in_flight, live.tunnels))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &TempDir, settings: &Value) -> Child {
    let path = folder.path().join("proxy.json");
    fs::write(&path, settings.to_string()).unwrap();
    let said = fs::OpenOptions::new().create(true).append(true).open(folder.path().join("said")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_lastgood-proxy-test-shim"))
        .arg(path)
        .stdin(Stdio::null())
        .stderr(said)
        .spawn()
        .unwrap()
}

pub(crate) fn release(tag: &str) -> Digest {
    Digest::of(tag.as_bytes())
}

pub(crate) fn side(tag: &str, addresses: &[SocketAddr]) -> Side {
    let upstream = |(at, address): (usize, &SocketAddr)| Upstream {
        instance: InstanceName::new(&format!("i{at}")).unwrap(),
        address: *address,
    };
    Side { release: release(tag), tag: tag.into(), upstreams: addresses.iter().enumerate().map(upstream).collect() }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Gives the body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Gives an id whose seat is below (or not below) `share` with the salt of these tests.
pub(crate) fn person(share: Share, is_below: bool) -> String {
    (0..)
        .map(|n| format!("person-{n}"))
        .find(|id| share.has(lastgood_domain::traffic::seat(id.as_bytes(), b"salt")) == is_below)
        .unwrap()
}
