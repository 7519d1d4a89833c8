//! `lastgood serve`: keeps the schedule, keeps instances alive, outlives nothing that it need not.

use crate::{
    kit::{Daemon, Farm, Plan, program, request, said, until, until_within},
    sink::{Request, Sink},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{fs, process::Command, time::Duration};

/// Longest wait for something that comes round every minute.
const SCHEDULE_MAX: Duration = Duration::from_secs(180);
pub(crate) const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_killed_daemon_leaves_the_instances_and_the_next_one_adopts_them() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    let daemon = farm.serve();
    daemon.kill();
    assert_eq!(farm.pids(), pids);
    let daemon = farm.serve();
    assert_eq!(farm.status()["driver"]["pid"], daemon.pid());
    assert_eq!(farm.pids(), pids);
    // It has adopted what it didn't start if it notices its end.
    farm.kill("alice");
    until("alice again", || farm.pid("alice").is_some_and(|pid| Some(pid) != pids["alice"]));
    daemon.stop();
    assert_eq!(farm.pid("bob"), pids["bob"]);
}

#[test]
fn a_crashed_instance_is_started_again_and_what_crashed_while_nobody_looked_too() {
    let farm = Farm::running(Plan::default());
    farm.kill("bob");
    let daemon = farm.serve();
    until("bob", || answers(&farm, "bob"));
    for _ in 0..2 {
        farm.kill("alice");
        until("alice", || answers(&farm, "alice"));
    }
    assert_eq!(farm.notes("alice").len(), 5);
    until("two deaths in the log", || {
        farm.log().matches("\"died\"").count() >= 2 || farm.log().matches("died").count() >= 3
    });
    daemon.stop();
}

#[test]
fn others_ask_the_daemon_to_run_and_to_go_back() {
    let farm = Farm::running(Plan::default());
    let daemon = farm.serve();
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(10).says(&daemon.pid().to_string());
    farm.lastgood(&["run"]).ended(10).says("hint: have the daemon run now: lastgood run notebook --now");
    // Without a schedule nothing moves by itself.
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["serve"]).ended(10);
    // What commands name as the next step works beside the daemon.
    farm.lastgood(&["hold", "set", "--reason", "fair"]).ended(0);
    let next =
        farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "over"]).ended(0).says("run notebook --now");
    let next = next.out.split_once("allowed again: lastgood ").unwrap().1.to_owned();
    farm.lastgood(&next.split_whitespace().collect::<Vec<_>>()).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.1.0");
        farm.write(name, "written on 1.1.0");
    }
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert!(farm.notes(name).contains(&"written on 1.1.0".to_owned()));
    }
    farm.lastgood(&["run", "--now"]).ended(9);
    daemon.stop();
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn a_rollback_interrupts_a_run_of_the_daemon() {
    let farm = Farm::running(Plan::default());
    farm.configure(&farm.config().replace("soak = \"200ms\"", "soak = \"1h\""));
    let _daemon = farm.serve();
    farm.publish("2.0.0");
    let mut run = farm.command(&["run", "--now"]).spawn().unwrap();
    // The canary has moved, and is watched for an hour.
    let is_new = |name| {
        let answer = request(farm.port(name), "GET", "/version", "", "");
        answer.is_ok_and(|(_, answer)| answer["version"] == "2.0.0")
    };
    until("the canary", || farm.names().any(is_new));
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert_eq!(farm.notes(name).len(), 5);
    }
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

#[test]
fn a_run_missed_while_the_daemon_was_down_is_not_made_up_for() {
    let now = jiff::Zoned::now();
    let past = now.checked_sub(jiff::Span::new().minutes(1)).unwrap().strftime("%H:%M").to_string();
    let farm = Farm::running(Plan { service: format!("schedule = {{ at = \"{past}\" }}"), ..Plan::default() });
    farm.publish("1.1.0");
    let runs = |farm: &Farm| farm.log().lines().filter(|line| line.contains("run-started")).count();
    let before = runs(&farm);
    assert!(before > 0);
    let daemon = farm.serve();
    // The daemon has gone round its loop once it has started again what we kill.
    let pid = farm.pid("alice");
    farm.kill("alice");
    until("alice", || farm.pid("alice").is_some_and(|now| Some(now) != pid));
    daemon.stop();
    assert_eq!(runs(&farm), before);
    assert_eq!(farm.version("bob"), "1.0.0");
}

#[test]
fn the_daemon_runs_by_its_schedule_and_moves_who_was_busy_later() {
    let farm = Farm::running(Plan { service: "schedule = { every = \"1m\" }".into(), ..Plan::default() });
    farm.post("bob", "/session/open", "", &Value::Null);
    farm.publish("1.1.0");
    let daemon = farm.serve();
    let is_at = |name| {
        let answer = request(farm.port(name), "GET", "/version", "", "");
        answer.is_ok_and(|(_, answer)| answer["version"] == "1.1.0")
    };
    until_within(SCHEDULE_MAX, "the schedule", || is_at("alice"));
    until("the promotion", || farm.status()["last_good"] == "1.1.0");
    assert_eq!(farm.version("bob"), "1.0.0");
    farm.post("bob", "/session/close", "", &Value::Null);
    until_within(SCHEDULE_MAX, "bob", || is_at("bob"));
    daemon.stop();
}

#[test]
fn notices_reach_a_webhook_signed() {
    let sink = Sink::new(|_| ("204 No Content", String::new()));
    let plan = Plan {
        tail: format!(
            "\n[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{}/hook\"\n\
             secret = \"hook\"\nallow_private = true\n",
            sink.port
        ),
        ..Plan::default()
    };
    let farm = Farm::new(plan);
    crate::kit::secret_file(&farm.path("hook"), SIGNING);
    farm.lastgood(&["run"]).ended(0);
    let daemon = farm.serve();
    farm.publish("1.1.0");
    farm.lastgood(&["run", "--now"]).ended(0);
    let tells = |one: &Request| String::from_utf8_lossy(&one.body).contains("1.1.0");
    until("the notice", || sink.taken().iter().any(tells));
    for one in sink.taken() {
        assert!(is_signed(&one), "{one:?}");
    }
    daemon.stop();
}

#[test]
fn outcomes_counted_before_a_restart_of_the_daemon_count_after_it_and_a_log_that_is_none_is_said() {
    // Nothing that the service itself writes is good or broken here.
    let watch = r#"watch = { log = "{data}/access.log", good = ' 299$', broken = ' 599$', outcomes_min = 20 }"#;
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], service: watch.into(), ..Plan::default() });
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let (log, aside) = (farm.data("alice").join("access.log"), farm.path("access.log"));
    fs::rename(&log, &aside).unwrap();
    fs::create_dir(&log).unwrap();
    let daemon = farm.serve();
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap();
    until("the trouble with the log", || said().contains("is not a regular file"));
    fs::remove_dir(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    let counted = || {
        let kept = fs::read(farm.path("state/services/notebook/outcomes.json")).unwrap_or_default();
        let kept: Value = serde_json::from_slice(&kept).unwrap_or_default();
        kept["count"]["outcomes"]["broken"].as_u64()
    };
    until("the beginning of the count", || counted() == Some(0));
    let break_twelve = || {
        let mut log = fs::File::options().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut log, "POST /notes 599\n".repeat(12).as_bytes()).unwrap();
    };
    break_twelve();
    until("the first count", || counted() == Some(12));
    daemon.stop();
    // Alone, either half is too few to tell anything.
    break_twelve();
    let _daemon = farm.serve();
    until("the way back", || farm.status()["last_good"] == "1.0.0" && farm.status()["run"].is_null());
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn a_rollback_typed_inside_an_instance_outlives_it() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    // A terminal that the service hosts has the instance's mark in its environment.
    let environment = fs::read(format!("/proc/{}/environ", farm.pid("alice").unwrap())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let mark = environment.split('\0').find_map(|entry| entry.strip_prefix("LASTGOOD_INSTANCE=")).unwrap();
    // Whether the command itself lives to see the end is not promised: it ends with its host.
    let _ended = said(farm.command(&["rollback", "--yes"]).env("LASTGOOD_INSTANCE", mark));
    until("the end of the rollback", || farm.status()["run"].is_null() && farm.status()["last_good"] == "1.0.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert_eq!(farm.notes(name).len(), 5);
    }
}

#[test]
fn the_daemon_says_where_it_listens_and_what_begins_ends_dies_and_is_given_up_as_the_log_says_it() {
    let gone = Sink::new(|_| ("400 Bad Request", "no such hook".into()));
    let plan = Plan {
        tail: format!(
            "\n[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{}/hook\"\n\
             secret = \"hook\"\nallow_private = true\nkinds = [\"died\"]\n",
            gone.port
        ),
        ..Plan::default()
    };
    let farm = Farm::new(plan);
    crate::kit::secret_file(&farm.path("hook"), SIGNING);
    farm.lastgood(&["run"]).ended(0);
    let daemon = farm.serve();
    farm.publish("1.1.0");
    farm.lastgood(&["run", "--now"]).ended(0);
    farm.kill("alice");
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap();
    until("the death and its notice", || said().contains(" is dead after 1 try") && said().contains("alice died"));
    daemon.stop();
    let said = said();
    let first = said.lines().next().unwrap();
    assert_eq!(
        first,
        format!("lastgood serves 1 service; metrics and health at http://127.0.0.1:{}", farm.port("listen"))
    );
    let log = farm.lastgood(&["log"]).ended(0).out;
    for what in ["run r1 started by person:", "run r1 ended: promoted", "alice died: "] {
        let line = log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what:?} in {log}"));
        assert_eq!(said.lines().filter(|one| *one == line).count(), 1, "{line}\n{said}");
    }
    assert!(said.contains("send it again: lastgood notices replay "), "{said}");
}

fn answers(farm: &Farm, name: &str) -> bool {
    request(farm.port(name), "GET", "/health", "", "").is_ok_and(|(status, _)| status == 200)
}

/// Checks as a receiver does, by Standard Webhooks.
pub(crate) fn is_signed(request: &Request) -> bool {
    let key = STANDARD.decode(SIGNING.strip_prefix("whsec_").unwrap()).unwrap();
    let mut text = format!("{}.{}.", request.headers["webhook-id"], request.headers["webhook-timestamp"]).into_bytes();
    text.extend_from_slice(&request.body);
    let wanted = format!("v1,{}", STANDARD.encode(hmac(&key, &text)));
    request.headers["webhook-signature"].split(' ').any(|signature| signature == wanted)
}

/// HMAC-SHA-256 written out from RFC 2104, independent of the library that signs.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[test]
fn a_daemon_without_a_service_keeps_holds_enforced() {
    let farm = Farm::new(Plan::default());
    farm.configure(&format!(
        "state_dir = \"state\"\nlisten = \"127.0.0.1:{}\"\n[person.alice]\n[enforcer.queue]\nkinds = [\"claim\"]\n\
         command = {{ set = [\"touch\", \"closed\"], lift = [\"rm\", \"closed\"], read = [\"sh\", \"-c\", \"test ! -e closed || echo hold-0\"] }}\n",
        farm.port("listen")
    ));
    let mut command = Command::new(program());
    command.arg("--config").arg(farm.path("lastgood.toml")).arg("serve").current_dir(farm.path(""));
    let log = fs::File::create(farm.path("serve.log")).unwrap();
    let daemon = Daemon(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    until("the daemon", || {
        fs::read_to_string(farm.path("serve.log")).is_ok_and(|said| said.contains("serves 0 services"))
    });
    farm.lastgood(&["hold", "set", "--all", "--kind", "claim", "--reason", "an audit"]).ended(0);
    until("the queue to be closed", || farm.path("closed").exists());
    daemon.stop();
}
