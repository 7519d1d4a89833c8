//! Guards that judge by what a Prometheus has counted, while the proxy itself sees nothing wrong.

use crate::{
    kit::{Chat, until},
    person::reserve,
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a Prometheus that scrapes `target` each second.
fn prometheus(chat: &Chat, port: u16, target: u16) -> Running {
    let file = chat.path("prometheus.yml");
    let scrape = format!("[{{job_name: chat, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]");
    fs::write(&file, format!("global: {{scrape_interval: 1s}}\nscrape_configs: {scrape}\n")).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", chat.path("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus is needed: apt-get install prometheus");
    Running(child)
}

/// What the service says of itself; the text can be changed.
fn page() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, text) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(String::new())));
    let said = Arc::clone(&text);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _ = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count();
            let body = said.lock().unwrap().clone();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    (port, text)
}

#[test]
fn a_release_goes_back_by_what_a_real_prometheus_counted_and_waits_while_it_knows_nothing() {
    let (port, _reserved) = reserve();
    let queries = format!(
        r#"
[service.chat.traffic.guard.prometheus]
url = "http://127.0.0.1:{port}"
requests = 'sum(requests_total{{version="{{release}}"}})'
errors = 'sum(errors_total{{version="{{release}}"}}) or vector(0)'
slow = 'sum(slow_total{{version="{{release}}"}}) or vector(0)'
fresh = "10s"
"#
    );
    let chat = Chat::new("");
    // A table of its own takes the guard's other keys along.
    chat.configure(|text| {
        let guard = "guard = { error_rate_max = 10, deadline = \"1m\" }\n";
        assert!(text.contains(guard), "{text}");
        let other = "\n[service.chat.traffic.guard]\nerror_rate_max = 10\ndeadline = \"1m\"\n";
        text.replace(guard, &format!("{other}{queries}"))
    });
    let (target, said) = page();
    let _prometheus = prometheus(&chat, port, target);
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    let mut counts = [0_u64; 3];
    let mut say = |fails: u64| {
        counts = [counts[0] + 100, counts[1] + 20, counts[2] + fails];
        let [old, new, failed] = counts;
        let page = format!(
            "requests_total{{version=\"1.0.0\"}} {old}\nrequests_total{{version=\"1.1.0\"}} {new}\n\
             errors_total{{version=\"1.1.0\"}} {failed}\n"
        );
        *said.lock().unwrap() = page;
    };
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    // The proxy carries nothing and would say so; what is asked knows no such release.
    until("the missing sample", || chat.lastgood(&["why"]).out.contains("has no fresh sample"));
    assert_eq!(chat.share(), 25.0);
    while !run.is_finished() {
        say(10);
        thread::sleep(Duration::from_millis(500));
    }
    run.join().unwrap().ended(5).says("requests failed").says("last-good 0 of");
    assert_eq!(chat.version(), "1.0.0");
    assert_eq!(chat.status()["rejected"][0]["release"], "1.1.0");
}
