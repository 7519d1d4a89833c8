//! Counters by release at a real Prometheus that scrapes a service of ours.

use crate::prometheus::{Running, free_port, start_with};
use lastgood_domain::{failure::Coded as _, terms::Digest};
use lastgood_drivers::metric::{CountersConfig, MetricError, ReleaseCounters};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A service's metrics page; what it says can be changed, and it can stop answering.
struct Page {
    port: u16,
    text: Arc<Mutex<String>>,
    gone: Arc<AtomicBool>,
}

impl Page {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (text, gone) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let page = Self { port, text: Arc::clone(&text), gone: Arc::clone(&gone) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                if gone.load(Ordering::SeqCst) {
                    continue;
                }
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let _ = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
                let body = text.lock().unwrap().clone();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
                let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        page
    }

    /// Sets the counters of a release: requests, errors, slow ones.
    fn says(&self, all: &[(&str, [u64; 3])]) {
        let mut page = String::new();
        for (release, [requests, errors, slow]) in all {
            for (name, count) in [("requests_total", requests), ("errors_total", errors), ("slow_total", slow)] {
                page += &format!("{name}{{version=\"{release}\"}} {count}\n");
            }
        }
        *self.text.lock().unwrap() = page;
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Looks each second until something is so; longer than a scrape of a second on a busy machine.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn what_a_real_prometheus_counted_of_each_release_is_a_slice_and_what_it_does_not_know_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (page, port) = (Page::open(), free_port());
    let _running: Running = start_with(dir.path(), port, page.port);
    let query = |name: &str| format!("sum({name}{{version=\"{{release}}\"}})");
    let config = CountersConfig {
        url: format!("http://127.0.0.1:{port}/"),
        requests: query("requests_total"),
        errors: query("errors_total"),
        slow: query("slow_total"),
        fresh: serde_json::from_str("\"5s\"").unwrap(),
    };
    let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
    let both = [(new, "1.1.0".to_owned()), (old, "1.0.0".to_owned())];
    let mut counters = ReleaseCounters::new(config);
    // Only the older release is known: the candidate has answered nothing yet.
    page.says(&[("1.0.0", [1_000, 1, 0])]);
    let refused = until("the older release alone", || match counters.slice(&both, now()) {
        Err(error @ MetricError::NoSample { .. }) => Some(error),
        _ => None,
    });
    assert_eq!(refused.code(), "metric-no-data");
    page.says(&[("1.0.0", [1_000, 1, 0]), ("1.1.0", [10, 2, 0])]);
    // What was there at the first look is nobody's.
    let first = until("both", || counters.slice(&both, now()).ok().flatten());
    assert_eq!([old, new].map(|release| first.of(&release).unwrap().requests()), [0, 0]);
    page.says(&[("1.0.0", [1_100, 1, 0]), ("1.1.0", [30, 7, 3])]);
    let mut seen = [0; 4];
    until("the growth", || {
        let slice = counters.slice(&both, now()).unwrap()?;
        let (mine, theirs) = (slice.of(&new).unwrap(), slice.of(&old).unwrap());
        let grown = [mine.requests(), mine.failed(), mine.timed.slow, theirs.requests()];
        seen = [0, 1, 2, 3].map(|at| seen[at] + grown[at]);
        (seen[3] == 100).then_some(())
    });
    assert_eq!(seen, [20, 5, 3, 100]);
    // A service that is not scraped any more is not taken for a quiet one.
    page.gone.store(true, Ordering::SeqCst);
    until("silence", || counters.slice(&both, now()).is_err().then_some(()));
}
