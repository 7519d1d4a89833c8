//! An outbox of its own and a receiver that answers as told.

use lastgood_domain::{
    evidence::Head,
    terms::{ChainName, Timestamp},
};
use lastgood_drivers::notice::NoticeConfig;
use lastgood_engine::deliver::{Deliverer, SecretLookup};
use lastgood_store::{NewNotice, NewRecord, NoticeState, Reader, Store};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// A secret of the right form.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    head: Head,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), head: Head::EMPTY }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Enqueues messages written `endpoint/subject/body`, all in one transaction.
    pub(crate) fn enqueue(&mut self, messages: &[String]) {
        let notices: Vec<_> = messages
            .iter()
            .map(|message| {
                let [endpoint, subject, body]: [&str; 3] = message.split('/').collect::<Vec<_>>().try_into().unwrap();
                let body = format!("{subject}/{body}").into_bytes();
                let (endpoint, subject) = (endpoint.into(), subject.into());
                NewNotice { endpoint, subject, kind: "stale".into(), body, at: Timestamp(0) }
            })
            .collect();
        let record = NewRecord { at: Timestamp(0), bytes: b"{}".to_vec() };
        let mut store = Store::open(&self.state_dir()).unwrap();
        self.head = store.append(&ChainName::new("service/app").unwrap(), &self.head, &[record], &notices).unwrap();
    }

    pub(crate) fn deliverer(&self, endpoints: &str) -> Deliverer {
        deliverer(&self.state_dir(), endpoints, Box::new(|_| Some(SECRET.into())))
    }

    pub(crate) fn count(&self, state: NoticeState) -> usize {
        Reader::open(&self.state_dir()).unwrap().notices(state, 1_000).unwrap().len()
    }
}

pub(crate) fn deliverer(dir: &Path, endpoints: &str, secrets: SecretLookup) -> Deliverer {
    let configs: BTreeMap<String, NoticeConfig> = toml::from_str(endpoints).unwrap();
    Deliverer::new(Store::open(dir).unwrap(), configs, secrets, 8, Timestamp(0)).unwrap()
}

/// Writes the configuration of a webhook.
pub(crate) fn hook(name: &str, url: &str) -> String {
    format!("[{name}]\nwebhook = \"{url}\"\nsecret = \"s\"\nallow_private = true\n")
}

/// What came, as (webhook-id, body), in the order of arrival.
type Taken = Vec<(String, String)>;

pub(crate) struct Sink {
    pub(crate) url: String,
    taken: Arc<(Mutex<Taken>, Condvar)>,
}

impl Sink {
    /// Answers each request by a status line's rest.
    pub(crate) fn new(answer: impl Fn(&str, &Taken) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let taken = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (kept, answer) = (Arc::clone(&taken), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                thread::spawn(move || serve(stream.unwrap(), &kept, &*answer));
            }
        });
        Self { url, taken }
    }

    pub(crate) fn taken(&self) -> Taken {
        self.taken.0.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    pub(crate) fn wait_for(&self, requests: usize) {
        let taken = self.taken.0.lock().unwrap();
        let few = |taken: &mut Taken| taken.len() < requests;
        let (taken, waited) = self.taken.1.wait_timeout_while(taken, Duration::from_secs(60), few).unwrap();
        assert!(!waited.timed_out(), "only {} requests came", taken.len());
    }
}

fn serve(mut stream: TcpStream, kept: &(Mutex<Taken>, Condvar), answer: &dyn Fn(&str, &Taken) -> &'static str) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut id, mut length) = (String::new(), String::new(), 0);
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            match line.trim().split_once(": ") {
                Some(("webhook-id", value)) => id = value.into(),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                _ => {}
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if length == 0 || reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).unwrap();
        let status = {
            let mut taken = kept.0.lock().unwrap();
            taken.push((id, body.clone()));
            kept.1.notify_all();
            answer(&body, &taken)
        };
        let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
        if stream.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}
