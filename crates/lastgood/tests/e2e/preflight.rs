//! `lastgood preflight`, doctor's own checks, and what stands before a forward move.

use crate::kit::{Farm, Plan, secret_file, until};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

fn farm(tail: &str) -> Farm {
    let farm = Farm::running(Plan::default());
    farm.configure(&format!("{}\n{tail}", farm.config()));
    farm
}

#[test]
fn preflight_says_one_line_when_all_is_well_and_code_fix_and_page_of_each_failure() {
    let farm = farm(
        "[preflight.room]\ndisk = { path = '.', free_mib_min = 1 }\nbefore = ['host']\n\
         [preflight.settings]\nfile = { path = 'settings' }\nbefore = ['rollback']\n\
         [preflight.nice]\nfile = { path = 'nice' }\nseverity = 'recommended'\nfix = 'make it nice'\n\
         [preflight.far]\nhttp = { url = 'http://no.such.host.invalid/' }\n",
    );
    fs::write(farm.path("settings"), "a").unwrap();
    fs::write(farm.path("nice"), "a").unwrap();
    let said = farm.lastgood(&["preflight", "--offline"]).ended(0);
    assert_eq!(said.out.trim(), "all is well: 3 checks passed");
    fs::remove_file(farm.path("nice")).unwrap();
    let said = farm.lastgood(&["preflight", "--offline"]).ended(20);
    assert_eq!(said.out.lines().last(), Some("1 warning, nothing fails"), "{said:?}");
    said.says("nice: warning: ").says("[preflight-file-missing]").says("  fix   make it nice");
    fs::remove_file(farm.path("settings")).unwrap();
    let said = farm.lastgood(&["preflight", "--offline"]).ended(1);
    assert_eq!(said.out.lines().last(), Some("1 failure, 1 warning"), "{said:?}");
    said.says("settings: error: ").says("  more  lastgood explain preflight-file-missing");

    // Chosen by name, by occasion, and by whether it needs the network.
    farm.lastgood(&["preflight", "--only", "room"]).ended(0);
    farm.lastgood(&["preflight", "--offline", "--skip", "settings,nice"]).ended(0).says("1 check passed");
    farm.lastgood(&["preflight", "--for", "host"]).ended(0).says("1 check passed");
    farm.lastgood(&["preflight", "--for", "rollback"]).ended(1).says("1 failure");
    // Nothing that was looked at is nothing that is well, and a misspelt name is not asked.
    farm.lastgood(&["preflight", "--for", "deploy"]).ended(2).says("[preflight-none]");
    farm.lastgood(&["preflight", "--only", "rom"]).ended(2).says("[preflight-unknown]").says("room");
    // What can't be told is no pass, and no failure either.
    farm.lastgood(&["preflight", "--only", "far"]).ended(12).says("far: cannot tell: ").says("1 can't be told");
    farm.lastgood(&["doctor", "--only", "far"]).ended(12).says("far: cannot tell: ");
    farm.lastgood(&["preflight", "--only", "far,settings"]).ended(1).says("1 failure, 1 can't be told");

    let data = farm.json(&["preflight", "--only", "room"]);
    assert_eq!((&data["checks"][0]["name"], &data["checks"][0]["state"]), (&"room".into(), &"pass".into()), "{data}");
    let said = farm.lastgood(&["--json", "preflight", "--offline"]).ended(1);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let failed = document["data"]["checks"].as_array().unwrap().iter().find(|one| one["name"] == "settings").unwrap();
    assert_eq!((&failed["state"], &failed["code"]), (&"fail".into(), &"preflight-file-missing".into()), "{document}");

    // Doctor asks the same checks beside its own.
    farm.lastgood(&["doctor", "--offline"]).ended(1).says("settings: ").says("[preflight-file-missing]");
    farm.lastgood(&["doctor", "--only", "room,state-dir"]).ended(0).says("all is well");
    farm.lastgood(&["doctor", "--only", "notices"]).ended(20).says("[notice-none]");
    farm.lastgood(&["doctor", "--offline", "--skip", "stat-dir"]).ended(2).says("[preflight-unknown]");
}

#[test]
fn doctor_fails_while_a_chain_ends_at_nobody_and_names_it() {
    let tail = |notice: &str| {
        format!(
            "[notice.pager]\ncommand = [\"true\"]\n[notice.bell]\ncommand = [\"true\"]\n\
             [person.alice]\nnotice = [\"pager\"]\n[person.bob]\n{notice}\n\
             [escalation.default]\nsteps = [{{ to = [\"alice\"], within = \"1m\" }}]\n\
             [escalation.nights]\n\
             steps = [{{ to = [\"alice\"], within = \"1m\" }}, {{ to = [\"bob\"], within = \"1m\" }}]\n"
        )
    };
    // The chain begins at somebody; what counts is where it ends.
    let farm = farm(&tail(""));
    let said = farm.lastgood(&["doctor", "--only", "escalation"]).ended(1);
    said.says("[escalation-nobody]").says("nights");
    let document = farm.lastgood(&["--json", "doctor", "--only", "escalation"]).ended(1).out;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let found = document["data"]["findings"].as_array().unwrap();
    let codes: Vec<_> = found.iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["escalation-nobody"], "{document}");
    let reached = farm.config() + &tail("notice = [\"bell\"]");
    farm.configure(&reached);
    farm.lastgood(&["doctor", "--only", "escalation"]).ended(0);
}

#[test]
fn what_hangs_is_given_up_by_its_own_limit_and_is_no_pass() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    thread::spawn(move || silent.incoming().flatten().collect::<Vec<_>>());
    let farm = farm(&format!(
        "[preflight.hangs]\nhttp = {{ url = 'http://{address}/' }}\ntimeout = '300ms'\n\
         [preflight.hangs-too]\ntls = {{ address = '{address}' }}\ntimeout = '300ms'\n\
         [preflight.room]\ndisk = {{ path = '.', free_mib_min = 1 }}\n"
    ));
    let said = farm.lastgood(&["--json", "preflight"]).ended(12);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let states: Vec<_> = document["data"]["checks"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["cannot-tell", "cannot-tell", "pass"], "{document}");
}

#[test]
fn a_variable_is_looked_at_in_the_environment_the_service_gets_with_its_secrets_put_in() {
    let farm = Farm::running(Plan::default());
    secret_file(&farm.path("api-key"), "sk-12345");
    let env = "env = { API_KEY = '{secret:api-key}', NOTEBOOK_DATA";
    let config = farm.config().replacen("env = { NOTEBOOK_DATA", env, 1) + "\n[secret.api-key]\nfile = 'api-key'\n";
    let check = |pattern: &str| {
        format!(
            "{config}\n[preflight.key]\nenv = {{ variables = ['API_KEY'], service = 'notebook', matches = '{pattern}' }}\n"
        )
    };
    farm.configure(&check("^sk-[0-9]+$"));
    let said = farm.lastgood(&["--json", "preflight"]).ended(0);
    assert!(!said.out.contains("12345"), "{said:?}");
    farm.configure(&check("^pk-"));
    let said = farm.lastgood(&["--json", "preflight"]).ended(1).says("preflight-env-mismatch");
    assert!(!said.out.contains("12345"), "{said:?}");
}

const GUARD: &str = "[preflight.ready]\nfile = { path = 'ready' }\nbefore = ['deploy']\n";

#[test]
fn a_failing_check_before_a_deploy_stops_forward_moves_and_no_way_back() {
    let farm = farm(GUARD);
    farm.publish("1.1.0");
    let pids = farm.pids();
    farm.lastgood(&["run"]).ended(9).says("preflight gate").says("[preflight-file-missing]").says("0 of 1 check");
    assert_eq!(farm.pids(), pids, "nothing moved");
    farm.lastgood(&["plan"]).ended(9).says("preflight");
    farm.lastgood(&["why"]).says("lastgood preflight --for deploy");
    fs::write(farm.path("ready"), "yes").unwrap();
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    assert!(farm.log().contains("1 of 1 check"), "the numbers are in the evidence: {}", farm.log());

    fs::remove_file(farm.path("ready")).unwrap();
    farm.lastgood(&["--yes", "rollback", "--reason", "slow"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn a_check_that_nobody_can_tell_stops_a_move_with_12_whoever_says_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    thread::spawn(move || silent.incoming().flatten().collect::<Vec<_>>());
    let hangs =
        format!("[preflight.hangs]\nhttp = {{ url = 'http://{address}/' }}\ntimeout = '300ms'\nbefore = ['deploy']\n");
    let farm = farm(&hangs);
    farm.publish("1.1.0");
    farm.lastgood(&["preflight", "--for", "deploy"]).ended(12);
    farm.lastgood(&["plan"]).ended(12).says("the preflight gate says cannot tell");
    farm.lastgood(&["run"]).ended(12).says("preflight could not be evaluated: hangs: ");
    farm.lastgood(&["why"]).says("lastgood preflight --for deploy");
    // What fails is said before what nobody can tell.
    farm.configure(&(farm.config() + GUARD));
    farm.lastgood(&["preflight", "--for", "deploy"]).ended(1);
    farm.lastgood(&["run"]).ended(9).says("refused by the preflight gate: ready: ");
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn a_record_that_gives_no_answer_keeps_only_the_check_that_asks_it() {
    let farm = Farm::running(Plan::default());
    let checks = "\n[preflight.pay]\nenv = { variables = ['PAY_KEY'], only_if = { flag = 'pay' } }\ntimeout = '300ms'\n\
                  [preflight.room]\ndisk = { path = '.', free_mib_min = 1 }\n";
    farm.configure(&format!("{}\n[switches]\nlisten = '127.0.0.1:0'\n{checks}", farm.config()));
    farm.lastgood(&["preflight"]).ended(0);
    let locked = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    locked.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    let said = farm.lastgood(&["--json", "preflight"]).ended(12);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let checks = document["data"]["checks"].as_array().unwrap();
    let seen: Vec<_> = checks.iter().map(|one| (&one["name"], &one["state"], &one["code"])).collect();
    let none = serde_json::Value::Null;
    let wanted =
        [(&"pay".into(), &"cannot-tell".into(), &"preflight-timeout".into()), (&"room".into(), &"pass".into(), &none)];
    assert_eq!(seen, wanted, "{document}");
}

fn metrics(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[test]
fn the_daemon_looks_at_its_start_and_before_what_it_is_asked_to_run() {
    let farm = farm(GUARD);
    farm.publish("1.1.0");
    let daemon = farm.serve();
    let failing = "lastgood_doctor_checks{severity=\"required\",state=\"fail\"} 1\n";
    until("the first look", || metrics(farm.port("listen")).is_ok_and(|page| page.contains(failing)));
    farm.lastgood(&["run", "--now"]).ended(9).says("preflight gate");
    assert_eq!(farm.version("alice"), "1.0.0");
    fs::write(farm.path("ready"), "yes").unwrap();
    farm.lastgood(&["run", "--now"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    daemon.stop();
}
