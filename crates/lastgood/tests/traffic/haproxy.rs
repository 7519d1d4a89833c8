//! A HAProxy that was there before carries the traffic: whole runs over the configuration of the guide.

use crate::kit::{Chat, nobody_lost_anything, until};
use std::{
    fs,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A run from its first share to its end, on a machine that has other work.
const LONG: Duration = Duration::from_secs(40);

/// A real HAProxy; it ends with this.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The chat behind the HAProxy of docs/guide/haproxy.md, whose paths and ports are this test's; who has no session gets one.
fn behind_haproxy() -> (Chat, Haproxy) {
    let chat = Chat::new("");
    let folder = chat.path("haproxy");
    fs::create_dir_all(folder.join("state")).unwrap();
    fs::write(folder.join("chat-closed.map"), "").unwrap();
    let page = include_str!("../../../../docs/guide/haproxy.md");
    let example = page.split("```haproxy\n").nth(1).unwrap().split("```").next().unwrap();
    let new_person = "http-request set-var(txn.new) uuid() unless { var(txn.person) -m found }\n    \
         http-request set-var(txn.person) var(txn.new) if { var(txn.new) -m found }\n    \
         http-response add-header Set-Cookie session=%[var(txn.new)] if { var(txn.new) -m found }\n";
    let text = example
        .replace("/run/haproxy/", &format!("{}/", folder.display()))
        .replace("/var/lib/haproxy/", &format!("{}/", folder.display()))
        .replace("/etc/haproxy/", &format!("{}/", folder.display()))
        .replace("bind :80", &format!("bind 127.0.0.1:{}", chat.front))
        .replace("8081", &chat.places[0].to_string())
        .replace("8082", &chat.places[1].to_string())
        .replace("server web-", "server a-")
        .replace("http-request set-var(txn.person) src unless { var(txn.person) -m found }\n", new_person);
    assert!(text.contains("uuid()"), "{text}");
    fs::write(folder.join("haproxy.cfg"), text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", "haproxy.cfg"]).current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
    let log = fs::File::create(folder.join("log")).unwrap();
    let haproxy = Haproxy(command.stderr(log).spawn().expect("haproxy is needed: apt-get install haproxy"));
    until("haproxy", || UnixStream::connect(folder.join("admin.sock")).is_ok());
    chat.configure(|text| {
        let builtin = format!("proxy = {{ listen = [\"127.0.0.1:{}\"] }}", chat.front);
        assert!(text.contains(&builtin), "{text}");
        let socket = folder.join("admin.sock").display().to_string();
        let [map, state] = ["chat-closed.map", "state/chat"].map(|name| folder.join(name).display().to_string());
        let haproxy = format!(
            "haproxy = {{ socket = \"{socket}\", backend = \"chat\", server = \"a-{{port}}\", stick = \"hash\", \
             closed_map = \"{map}\", state_file = \"{state}\" }}"
        );
        text.replace(&builtin, &haproxy).replace(
            "guard = { error_rate_max = 10,",
            "guard = { error_rate_max = 10, no_p95 = \"HAProxy tells none\",",
        )
    });
    (chat, haproxy)
}

#[test]
fn a_haproxy_takes_a_good_release_to_everybody_and_a_bad_one_back() {
    let (chat, _haproxy) = behind_haproxy();
    chat.lastgood(&["run"]).ended(0);
    assert_eq!(chat.version(), "1.0.0");
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(60, LONG);
    let said = run.join().unwrap();
    let report = people.join().unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{report:#?}");
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&report);
    assert!(report.releases["1.0.0"] > 0 && report.releases["1.1.0"] > 0, "{:?}", report.releases);
    let log = chat.log();
    for share in ["25 % of the traffic", "50 % of the traffic", "100 % of the traffic"] {
        assert!(log.contains(share), "not {share:?} in {log}");
    }
    // One that fails a fifth goes back, and the messages that were acknowledged are there.
    chat.publish("1.2.0");
    let run = chat.spawn(&["run"]);
    until("the first share of the bad one", || chat.share() > 0.0);
    let people = chat.people(60, Duration::from_secs(20));
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 5, "{said:?}\n{report:#?}");
    said.says("requests failed").says("1.2.0 is rejected: what the guards said");
    assert_eq!((chat.version(), chat.share()), ("1.1.0".into(), 0.0));
    assert!(report.failed_requests > 0 && report.missing + report.doubled + report.out_of_order == 0, "{report:#?}");
}

#[test]
fn without_anybody_who_measures_times_the_plan_says_that_no_share_will_grow() {
    let (chat, _haproxy) = behind_haproxy();
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    let said = chat.lastgood(&["plan"]).ended(0);
    assert!(!said.out.contains("nobody measures times"), "{said:?}");
    chat.configure(|text| text.replace(" no_p95 = \"HAProxy tells none\",", ""));
    chat.lastgood(&["plan"]).ended(0).says("nobody measures times, so no share grows").says("no_p95");
}
