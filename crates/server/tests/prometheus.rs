//! The rules for Prometheus, by promtool and by a real Prometheus that scrapes a real server.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod world;

use lastgood_server::{bind, serve};
use lastgood_store::Store;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use world::{ask_by, at, hold, pages, service, started, write};

const MISSING: &str = "prometheus and promtool are needed: install the Debian package prometheus";
/// Scrapes and rules run each second; only a Prometheus that hangs needs this long.
const WAIT_MAX: Duration = Duration::from_secs(90);

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/prometheus")
}

fn promtool(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).current_dir(contrib()).output().expect(MISSING);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

#[test]
fn the_rules_are_well_formed() {
    let (passed, said) = promtool(&["check", "rules", "--lint=all", "--lint-fatal", "lastgood.rules.yml"]);
    assert!(passed, "{said}");
}

#[test]
fn each_rule_fires_when_it_should_and_is_quiet_when_it_should() {
    let (passed, said) = promtool(&["test", "rules", "lastgood.rules.test.yml"]);
    assert!(passed, "{said}");
    let tests = fs::read_to_string(contrib().join("lastgood.rules.test.yml")).unwrap();
    let rules = fs::read_to_string(contrib().join("lastgood.rules.yml")).unwrap();
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 13);
    for name in names {
        let checks: Vec<&str> =
            tests.split("- eval_time:").filter(|check| check.contains(&format!("alertname: {name}\n"))).collect();
        let quiet = checks.iter().filter(|check| check.contains("exp_alerts: []")).count();
        assert!(quiet > 0, "{name} has no quiet case");
        assert!(checks.len() > quiet, "{name} has no firing case");
    }
}

#[test]
fn every_kind_of_alarm_has_a_rule() {
    let rules = fs::read_to_string(contrib().join("lastgood.rules.yml")).unwrap();
    for kind in lastgood_domain::alarm::KINDS {
        let expr = format!("lastgood_alarm{{alarm=\"{}\"}} == 1", lastgood_engine::letter::kind_name(kind));
        assert!(rules.contains(&expr), "{expr}");
    }
}

/// A Prometheus that is ended with its test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn watching(dir: &Path, target: SocketAddr) -> Self {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ {:?} ]\n\
             scrape_configs: [ {{ job_name: lastgood, static_configs: [ {{ targets: [ \"{target}\" ] }} ] }} ]\n",
            contrib().canonicalize().unwrap().join("lastgood.rules.yml"),
        );
        let file = dir.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = fs::File::create(dir.join("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        Self { child, address }
    }

    /// Asks until the answer is as wanted.
    fn until(&mut self, path: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let begun = Instant::now();
        let mut last = serde_json::Value::Null;
        while begun.elapsed() < WAIT_MAX {
            assert!(self.child.try_wait().unwrap().is_none(), "prometheus ended: see prometheus.log");
            if std::net::TcpStream::connect(self.address).is_ok() {
                let (_, body) = ask_by(self.address, &format!("GET {path}"), "HTTP/1.0");
                last = serde_json::from_str(&body).unwrap_or(serde_json::Value::Null);
                if wanted(&last) {
                    return;
                }
            }
            // Prometheus tells nobody when it has evaluated: asking again is the only way.
            thread::sleep(Duration::from_millis(200));
        }
        panic!("{path} never became as wanted; last answer: {last}");
    }
}

fn firing(alerts: &serde_json::Value) -> Vec<(&str, &str)> {
    let alerts = alerts["data"]["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
    firing.filter_map(|one| Some((one["labels"]["alertname"].as_str()?, one["labels"]["service"].as_str()?))).collect()
}

#[test]
fn a_real_prometheus_raises_the_alarm_and_lets_it_go() {
    use lastgood_domain::{
        event::{Cause, End, Event},
        failure::Failure,
        terms::{HoldId, Reason, RunId},
    };
    let dir = tempfile::tempdir().unwrap();
    let names = [service("shop"), service("web")];
    let mut store = Store::open(dir.path()).unwrap();
    let server = serve(bind("127.0.0.1:0".parse().unwrap()).unwrap(), pages(dir.path(), &names, at(60))).unwrap();
    let mut prometheus = Prometheus::watching(dir.path(), server.address());
    prometheus.until("/api/v1/query?query=lastgood_alarm", |answer| {
        answer["data"]["result"].as_array().is_some_and(|series| series.len() == 18)
    });
    prometheus.until("/api/v1/alerts", |alerts| alerts["status"] == "success" && firing(alerts).is_empty());

    let failure = Failure::new("probe-failed", "GET / answered 500", None);
    let cause = Cause::Machine { instance: world::instance("one"), failure };
    let events = [
        (1, started(0, &["one"])),
        (2, hold(0, "rolled back: it failed")),
        (2, Event::RunEnded { run: RunId(0), end: End::RolledBack { cause } }),
    ];
    write(&mut store, &names[1], &events);
    prometheus.until("/api/v1/alerts", |alerts| firing(alerts) == [("LastgoodRolledBack", "web")]);

    let lifted = Event::HoldLifted { hold: HoldId(0), reason: Reason::new("understood").unwrap() };
    write(&mut store, &names[1], &[(3, lifted)]);
    prometheus.until("/api/v1/alerts", |alerts| alerts["status"] == "success" && firing(alerts).is_empty());

    server.stop();
    prometheus.until("/api/v1/query?query=up%7Bjob%3D%22lastgood%22%7D", |answer| {
        answer["data"]["result"][0]["value"][1] == "0"
    });
}
