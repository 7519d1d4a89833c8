//! A real Alertmanager: alerts fire, end and reach its receivers.

use crate::sink::{Sink, say};
use lastgood_domain::terms::{Span, Timestamp};
use lastgood_drivers::notice::{Alert, AlertmanagerClient};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(dir: &Path, port: u16, receiver: u16) -> Running {
    let config = format!(
        "route: {{receiver: sink, group_wait: 0s, group_interval: 1s, group_by: [alertname]}}\n\
         receivers: [{{name: sink, webhook_configs: [{{url: 'http://127.0.0.1:{receiver}/am', send_resolved: true}}]}}]\n"
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let child = Command::new("prometheus-alertmanager")
        .args(["--config.file=config.yml", "--storage.path=data", "--cluster.listen-address="])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .expect("prometheus-alertmanager is needed: apt-get install prometheus-alertmanager");
    Running(child)
}

fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_alert_is_seen_reaches_the_receiver_and_is_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new(|_| say("200 OK", "", ""));
    let port = free_port();
    let _running = start(dir.path(), port, sink.port);
    let base = format!("http://127.0.0.1:{port}");
    let client = AlertmanagerClient::new(&base);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = Timestamp(i64::try_from(now.as_millis()).unwrap());
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let alert = |ends| Alert {
        labels: texts(&[("alertname", "lastgood-stale"), ("service", "app")]),
        annotations: texts(&[("summary", "no release for 7 d")]),
        starts: Timestamp(now.0 - 60_000),
        ends,
    };
    let firing = [alert(now.after(Span::minutes(4)))];
    until("the Alertmanager's start", || client.post(&firing).ok());
    let listed = ureq::get(format!("{base}/api/v2/alerts")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(listed.contains("lastgood-stale") && listed.contains("no release for 7 d"), "{listed}");
    let received = |status: &str| {
        let status = format!("\"status\":\"{status}\"");
        sink.taken()
            .into_iter()
            .map(|request| String::from_utf8(request.body).unwrap())
            .find(|body| body.contains(&status))
    };
    assert!(until("firing", || received("firing")).contains("lastgood-stale"));
    client.post(&[alert(now)]).unwrap();
    assert!(until("resolved", || received("resolved")).contains("lastgood-stale"));
}

#[test]
fn a_refusal_names_the_place_and_the_reason() {
    let sink = Sink::new(|_| say("400 Bad Request", "", "bad labels"));
    let base = format!("http://127.0.0.1:{}", sink.port);
    let alert =
        Alert { labels: BTreeMap::new(), annotations: BTreeMap::new(), starts: Timestamp(0), ends: Timestamp(1) };
    let error = AlertmanagerClient::new(&format!("{base}/")).post(&[alert]).unwrap_err();
    assert_eq!(error.to_string(), format!("the Alertmanager at {base} refused 1 alert: answered 400: bad labels"));
    assert_eq!(sink.taken()[0].line, "POST /api/v2/alerts HTTP/1.1");
}
