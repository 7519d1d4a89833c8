//! A real Prometheus that watches itself, and answers that no Prometheus should give.

use crate::{config, outcomes};
use lastgood_domain::{facts::Outcomes, failure::Coded as _};
use lastgood_drivers::metric::{Count, MetricError, Watch};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one on `port` that watches itself.
fn start(dir: &Path, port: u16) -> Running {
    start_with(dir, port, port)
}

/// Starts one on `port` that scrapes `target` each second.
pub(crate) fn start_with(dir: &Path, port: u16, target: u16) -> Running {
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    );
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    let child = Command::new("prometheus")
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .expect("prometheus is needed: apt-get install prometheus");
    Running(child)
}

fn ask(url: &str, good: &str, broken: &str) -> Result<Outcomes, MetricError> {
    let watch = config(&format!("prometheus = {url:?}\ngood = {good:?}\nbroken = {broken:?}"));
    Watch::new(&watch, Vec::new()).count(&mut Count::default())
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn queries_are_answered_by_a_real_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _running = start(dir.path(), port);
    let url = format!("http://127.0.0.1:{port}/");
    let end = Instant::now() + Duration::from_secs(60);
    // Its own scrape, once it has been made.
    while ask(&url, "sum(up{job=\"self\"}) == 1", "sum(nonsense)").is_err() {
        assert!(Instant::now() < end, "{}", fs::read_to_string(dir.path().join("log")).unwrap());
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ask(&url, "sum(up) * 41 + 0.7", "scalar(sum(up)) + 2").unwrap(), outcomes(42, 0, 3));
    let refused = ask(&url, "sum(", "1").unwrap_err();
    assert_eq!(refused.code(), "metric-query-failed");
    assert!(refused.to_string().contains("answered 400") && refused.to_string().contains("parse error"), "{refused}");
    assert_eq!(ask(&url, "sum(nonsense)", "sum(nonsense)").unwrap_err().code(), "metric-no-data");
    let several = ask(&url, "prometheus_http_requests_total or up", "1").unwrap_err();
    assert_eq!(several.code(), "metric-not-a-count");
    assert!(several.to_string().contains("series"), "{several}");
    assert_eq!(ask(&url, "vector(0) / 0", "1").unwrap_err().code(), "metric-not-a-count");
    assert_eq!(ask(&url, "-1 * sum(up)", "1").unwrap_err().code(), "metric-not-a-count");
}

/// A server that gives every connection the same answer.
fn pretend(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn an_answer_that_is_not_prometheus_is_an_error_and_never_a_count() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"status\":",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let error = ask(&pretend(answer), "1", "1").unwrap_err();
        assert_eq!(error.code(), "metric-query-failed", "{answer}: {error}");
    }
    let error = ask(&format!("http://127.0.0.1:{}", free_port()), "1", "1").unwrap_err();
    assert!(
        error.to_string().ends_with("nothing accepts a connection there") || error.to_string().contains("refused"),
        "{error}"
    );
}

#[test]
fn a_count_with_a_warning_misses_a_part_and_is_no_count() {
    // Without a length: it ends with the connection.
    let answer = concat!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        r#"{"status":"success","warnings":["remote read failed"],"#,
        r#""data":{"resultType":"vector","result":[{"metric":{},"value":[1,"7"]}]}}"#
    );
    let error = ask(&pretend(answer), "1", "1").unwrap_err();
    assert_eq!(error.code(), "metric-query-failed");
    assert!(error.to_string().contains("remote read failed"), "{error}");
}
