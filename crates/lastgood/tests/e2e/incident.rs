//! The life of an incident at a real command line: real instances, real probes, a real record.

use crate::{
    kit::{Farm, Plan, Said, said},
    sink::Sink,
};
use lastgood_domain::{
    operations::{Event, incident, incident::State},
    terms::{Actor, IncidentId, Reason, Timestamp},
};
use lastgood_engine::operations::{Desk, Scope};
use lastgood_store::Store;
use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::SystemTime,
};

/// Short times, so that a test lives through all of it.
pub(crate) const QUICK: &str = "\n[incident]\nstable_for = \"100ms\"\nwatch = \"300ms\"\n";

pub(crate) fn plan(tail: &str) -> Plan {
    Plan { instances: vec![("alice", "probe")], tail: tail.into(), ..Plan::default() }
}

/// Runs a command as somebody; words are split at `|`.
pub(crate) fn by(farm: &Farm, who: &str, line: &str) -> Said {
    let words: Vec<&str> = line.split('|').collect();
    said(farm.command(&words).env("SUDO_USER", who))
}

#[track_caller]
pub(crate) fn json(farm: &Farm, who: &str, line: &str, exit: i32) -> Value {
    let said = by(farm, who, &format!("--json|{line}")).ended(exit);
    let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    document["data"].clone()
}

/// Moves an incident as its plan does once it is carried out.
pub(crate) fn carried_out(farm: &Farm) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let now = Timestamp(i64::try_from(now).unwrap());
    let mut desk = Desk::new(Store::open(&farm.path("state")).unwrap(), Scope::default(), Vec::new());
    for to in [State::Executing, State::Cleaning] {
        let decide = |state: &lastgood_domain::operations::Operations| {
            let event = incident::advance(state, IncidentId(0), to, Reason::new("the plan runs").unwrap())?;
            Ok(vec![Event::Incident { incident: IncidentId(0), event }])
        };
        desk.say(&Actor::new("person:alice").unwrap(), now, &decide).unwrap();
    }
}

pub(crate) const CLEAN: [&str; 2] = [
    "checklist|done|i0|errors-normal|--statement|error rates are as before",
    "checklist|done|i0|leftovers-removed|--statement|nothing was changed by hand",
];

/// Brings an incident to where only the unfreeze is missing.
pub(crate) fn ready(farm: &Farm, declare: &str) {
    by(farm, "alice", declare).ended(0);
    by(farm, "alice", "incident|freeze|i0").ended(0).says("frozen");
    carried_out(farm);
    for line in CLEAN {
        by(farm, "alice", line).ended(0);
    }
    by(farm, "alice", "incident|next-owner|i0|--to|bob").ended(0);
    let complete =
        "incident|update|i0|--message|complete|--field|impact=notes were lost|--field|resolution=back on 1.0.0";
    by(farm, "alice", complete).ended(0).says("is over: back on 1.0.0");
}

pub(crate) const DECLARE: &str = "incident|declare|--level|L1|--trigger|notes are lost|--began|20m";

#[test]
fn an_incident_is_declared_frozen_cleaned_verified_unfrozen_and_closed() {
    let farm = Farm::running(plan(QUICK));
    by(&farm, "alice", DECLARE).ended(0).says("held: claim, merge, promote, deploy");
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(9).says("notes are lost");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(12).says("NO   executed").says("never verified");
    by(&farm, "alice", "incident|freeze|i0").ended(0);
    carried_out(&farm);
    by(&farm, "mallory", CLEAN[0]).ended(4).says("[incident-not-owner]");
    by(&farm, "alice", "checklist|done|i0|errors-normal|--file|lastgood.toml").ended(9).says("--statement");
    for line in CLEAN {
        by(&farm, "alice", line).ended(0);
    }
    by(&farm, "alice", "incident|show|i0").ended(0).says("next: lastgood incident verify i0");
    let verified = json(&farm, "alice", "incident|verify|i0", 0);
    let names: Vec<&str> =
        verified["checks"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["release/notebook", "health/notebook", "smoke/notebook", "freeze", "round-trip"]);
    assert_eq!(verified["state"], "verifying");
    by(&farm, "alice", "incident|unfreeze|i0|--yes")
        .ended(9)
        .says("nobody owns")
        .says("the complete message is not sent");
    by(&farm, "alice", "incident|next-owner|i0|--to|bob").ended(0);
    by(&farm, "alice", "incident|update|i0|--message|complete|--field|impact=notes were lost")
        .ended(2)
        .says("resolution is missing");
    let complete =
        "incident|update|i0|--message|complete|--field|impact=notes were lost|--field|resolution=back on 1.0.0";
    by(&farm, "alice", complete).ended(0);
    by(&farm, "bob", "incident|unfreeze|i0|--yes").ended(4).says("[incident-not-commander]");
    by(&farm, "alice", "incident|unfreeze|i0").ended(3).says("nothing was lifted");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(0).says("lifted: claim");
    farm.lastgood(&["run"]).ended(9);
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(12).says("not verified since");
    let mut last = String::new();
    crate::kit::until("the stage to be watched long enough", || {
        by(&farm, "alice", "incident|verify|i0").ended(0);
        let said = by(&farm, "alice", "incident|unfreeze|i0|--yes|--wait");
        last = said.out;
        said.code == 0
    });
    assert!(last.contains("nothing is held any more"), "{last}");
    by(&farm, "alice", "incident|close|i0|--reason|over").ended(9).says("root cause").says("report");
    by(&farm, "alice", "incident|rca|i0|a retry without a key").ended(0);
    by(&farm, "alice", "incident|follow-up|add|i0|give retries a key|--owner|bob|--due|14d").ended(0).says("f0");
    by(&farm, "alice", "incident|safeguard|i0|the probe sends twice").ended(0);
    by(&farm, "alice", "incident|report|i0|--output|report.md").ended(0);
    by(&farm, "alice", "incident|report|i0|--html|--output|report.html").ended(0);
    let report = fs::read_to_string(farm.path("report.md")).unwrap();
    for part in ["# Incident i0: notes are lost", "20 min", "a retry without a key", "give retries a key", "| Frozen |"]
    {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    // Deploys may go on; what keeps the next release back now is the analysis, and the report can be it.
    farm.lastgood(&["run"]).ended(9).says("an analysis is owed");
    by(&farm, "alice", "rca|submit|notebook|--file|report.md").ended(0);
    // Neither is the incident done before somebody else has read it, nor is the next release let in.
    by(&farm, "alice", "incident|close|i0|--reason|all is said")
        .ended(9)
        .says("the analysis of notebook is not accepted");
    by(&farm, "alice", "hold|check|notebook").ended(9).says("an analysis is owed").says("lastgood rca accept notebook");
    by(&farm, "bob", "rca|accept|notebook").ended(0);
    by(&farm, "alice", "hold|check|notebook").ended(0);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    let page = fs::read_to_string(farm.path("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && !page.contains("http"), "{page}");
    by(&farm, "alice", "incident|close|i0|--reason|all is said").ended(0);
    by(&farm, "alice", "incident|list").ended(0).says("no incident is open");
    by(&farm, "alice", "incident|timeline|i0").ended(0).says("is done, by person:alice: all is said");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn an_instance_that_fails_while_the_freeze_is_lifted_freezes_everything_again() {
    let farm = Farm::running(plan(QUICK));
    ready(&farm, DECLARE);
    by(&farm, "alice", "incident|verify|i0").ended(0);
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(0).says("lifted: claim");
    assert_eq!(standing(&farm), 3);
    farm.kill("alice");
    by(&farm, "alice", "incident|verify|i0").ended(9).says("FAIL    health/notebook");
    assert_eq!(standing(&farm), 4);
    by(&farm, "alice", "incident|show|i0").ended(0).says("VERIFYING");
}

/// Counts the holds that the incident room shows.
fn standing(farm: &Farm) -> usize {
    let room = by(farm, "alice", "incident|show|i0").ended(0);
    room.out.lines().filter(|line| line.trim_start().starts_with("hold-")).count()
}

#[test]
fn a_waiver_an_accepted_risk_and_a_lower_level_take_a_second_person() {
    let farm = Farm::running(plan(QUICK));
    by(&farm, "alice", "incident|declare|--level|L2|--trigger|rows are wrong").ended(0);
    by(&farm, "alice", "incident|level|i0|L1|--reason|only code").ended(8).says("approval approve a0");
    by(&farm, "alice", "approval|approve|a0").ended(4);
    by(&farm, "bob", "approval|approve|a0").ended(0);
    by(&farm, "alice", "incident|level|i0|L1|--reason|only code").ended(0).says("it is L1 now");
    by(&farm, "alice", "incident|freeze|i0").ended(0);
    carried_out(&farm);
    by(&farm, "alice", CLEAN[0]).ended(0);
    by(&farm, "alice", "checklist|waive|i0|leftovers-removed|--risk|a debug flag stays|--for|1d").ended(8);
    by(&farm, "alice", "incident|verify|i0").ended(0);
    let complete = "incident|update|i0|--message|complete|--field|impact=rows|--field|resolution=repaired";
    by(&farm, "alice", complete).ended(0);
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(9).says("open: leftovers-removed");
    by(&farm, "bob", "approval|approve|a1").ended(0).says("leftovers-removed of incident i0 is waived until");
    // Typed again it would void what was signed.
    let again = "checklist|waive|i0|leftovers-removed|--risk|a debug flag stays|--for|1d";
    by(&farm, "alice", again).ended(0).says("waived already, by a1");
    by(&farm, "alice", "checklist|list|i0").ended(0).says("waived").says("nothing is open");
    let risk = "incident|unfreeze|i0|--accept-risk|ownership|--reason|the team is on call|--for|1d";
    by(&farm, "alice", risk).ended(8);
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(9).says("nobody owns");
    by(&farm, "bob", "approval|approve|a2").ended(0).says("the risk of ownership is taken until");
    by(&farm, "alice", risk).ended(0).says("taken already, by a2");
    // Another risk, or a longer time, is another question.
    let longer = "checklist|waive|i0|leftovers-removed|--risk|a debug flag stays|--for|3d";
    by(&farm, "alice", longer).ended(8).says("approval approve a3");
    by(&farm, "bob", "approval|approve|a3").ended(0);
    by(&farm, "alice", "checklist|waive|i0|queues-drained|--risk|there are none|--for|1d").ended(8);
    by(&farm, "alice", "incident|show|i0").ended(0).says("next: see which are awaited: lastgood approval list");
    by(&farm, "bob", "approval|approve|a4").ended(0);
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(0).says("risk taken by person:alice").says("lifted: claim");
    // Raising it again plans anew and holds everything.
    by(&farm, "carol", "incident|level|i0|L3|--reason|a key is out").ended(0).says("plan it anew");
    assert_eq!(standing(&farm), 4);
    by(&farm, "alice", "incident|stand-down|i0|--reason|no").ended(9).says("[incident-executed]");
}

#[test]
fn a_drill_goes_all_the_way_holds_nothing_and_reaches_only_who_asked_for_drills() {
    let (all, drills) = (Sink::new(|_| ("200 OK", String::new())), Sink::new(|_| ("200 OK", String::new())));
    let notice = |name: &str, port: u16, kinds: &str| {
        format!(
            "[notice.{name}]\nwebhook = \"http://127.0.0.1:{port}/\"\nsecret = \"hook\"\nallow_private = true\n{kinds}"
        )
    };
    let tail = format!(
        "{QUICK}\n[secret.hook]\nfile = \"hook\"\n{}{}",
        notice("ops", all.port, ""),
        notice("exercise", drills.port, "kinds = [\"drill\"]\n")
    );
    let farm = Farm::new(plan(&tail));
    crate::kit::secret_file(&farm.path("hook"), "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    farm.lastgood(&["run"]).ended(0);
    let before = all.taken().len();
    ready(&farm, &format!("{DECLARE}|--drill"));
    by(&farm, "alice", "incident|verify|i0").ended(0).says("1 queued");
    by(&farm, "alice", "incident|unfreeze|i0|--yes|--wait").ended(0).says("nothing is held any more");
    // Nothing was held: a release moves as ever.
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    let texts = |sink: &Sink| -> Vec<String> {
        sink.taken().iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect()
    };
    assert!(!texts(&drills).is_empty());
    assert!(texts(&drills).iter().all(|text| text.contains("DRILL: ")), "{:?}", texts(&drills));
    let told = texts(&all).split_off(before);
    assert!(told.iter().any(|text| text.contains("1.1.0 is last-good")), "{told:?}");
    assert!(told.iter().all(|text| !text.contains("DRILL") && !text.contains("incident")), "{told:?}");
}

/// Gives the daemon's page of metrics.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn an_overdue_update_pages_once_and_the_metrics_tell_of_it_and_of_drills_apart() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let tail = format!(
        "\n[incident]\nupdate_every = \"1s\"\n[secret.hook]\nfile = \"hook\"\n[notice.ops]\n\
         webhook = \"http://127.0.0.1:{}/\"\nsecret = \"hook\"\nallow_private = true\n",
        sink.port
    );
    let farm = Farm::new(plan(&tail));
    crate::kit::secret_file(&farm.path("hook"), "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    farm.lastgood(&["run"]).ended(0);
    let daemon = farm.serve();
    by(&farm, "alice", DECLARE).ended(0);
    let overdue = || {
        let taken = sink.taken();
        let texts = taken.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned());
        texts.filter(|text| text.contains("the next update of incident i0 is overdue")).count()
    };
    crate::kit::until("the page", || overdue() > 0);
    by(&farm, "alice", "incident|show|i0").ended(0).says("OVERDUE").says("next: lastgood incident update i0");
    let update = "incident|update|i0|--field|impact=notes are lost|--field|status=going back|--next|1h";
    by(&farm, "alice", update).ended(0).says("is declared: going back");
    assert_eq!(overdue(), 1);
    let page = metrics(farm.port("listen"));
    for line in [
        "lastgood_incidents{level=\"L1\",drill=\"false\"} 1",
        "lastgood_incidents{level=\"L1\",drill=\"true\"} 0",
        "lastgood_incident_mode 1",
        "lastgood_checklist_open 2",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    // A drill beside it is counted apart, and is nobody's mode.
    by(&farm, "bob", &format!("{DECLARE}|--drill")).ended(0);
    let page = metrics(farm.port("listen"));
    for line in [
        "lastgood_incidents{level=\"L1\",drill=\"false\"} 1",
        "lastgood_incidents{level=\"L1\",drill=\"true\"} 1",
        "lastgood_incident_mode 1",
        "lastgood_checklist_open 2",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    by(&farm, "alice", "incident|stand-down|i0|--reason|a false alarm").ended(0);
    let page = metrics(farm.port("listen"));
    for line in [
        "lastgood_incidents{level=\"L1\",drill=\"false\"} 0",
        "lastgood_incidents{level=\"L1\",drill=\"true\"} 1",
        "lastgood_incident_mode 0",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    daemon.stop();
}

#[test]
fn a_template_of_ones_own_must_get_every_field_and_never_keeps_anybody_from_declaring() {
    let tail = "\n[incident.message.update]\ntemplate = \"update.txt\"\nfields = { tickets = \"number\" }\n\
                [incident.message.declared]\ntemplate = \"declared.txt\"\n";
    let farm = Farm::new(plan(tail));
    fs::write(farm.path("update.txt"), "{{ incident }}: {{ status }}, {{ tickets }} tickets\n").unwrap();
    fs::write(farm.path("declared.txt"), "{{ incident }} {{ nobody_gives_this }}\n").unwrap();
    by(&farm, "alice", DECLARE).ended(0).says("[message-template-unfit]");
    let update = "incident|update|i0|--field|impact=lost|--field|status=going back";
    by(&farm, "alice", update).ended(2).says("tickets is missing");
    by(&farm, "alice", &format!("{update}|--field|tickets=many")).ended(2).says("must be a whole number");
    by(&farm, "alice", &format!("{update}|--field|tickets=12|--field|eta=soon")).ended(2).says("no field eta");
    by(&farm, "alice", &format!("{update}|--field|tickets=12|--dry-run")).ended(0).says("i0: going back, 12 tickets");
    let room = json(&farm, "alice", "incident|timeline|i0", 0);
    let sent = room.as_array().unwrap().iter().filter(|one| one["event"]["event"]["what"] == "message").count();
    assert_eq!(sent, 1, "the declared message alone was sent");
    // One that is gone closes no door; whoever looks is told.
    fs::remove_file(farm.path("update.txt")).unwrap();
    by(&farm, "alice", "incident|list").ended(0);
    by(&farm, "alice", &format!("{update}|--field|tickets=12")).ended(2).says("[message-template-unreadable]");
    let found = json(&farm, "alice", "doctor|--only|incident", 1);
    let codes: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"message-template-unreadable"), "{found}");
}

/// Changes the record behind its back.
pub(crate) fn damage(farm: &Farm) {
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    let of = "chain = (SELECT id FROM chain WHERE name = 'operations')";
    let changed =
        database.execute(&format!("UPDATE record SET bytes = CAST('{{}}' AS BLOB) WHERE seq = 6 AND {of}"), []);
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn damaged_evidence_is_recommended_with_its_rule_and_declares_nothing_by_itself() {
    let farm = Farm::running(plan(""));
    by(&farm, "alice", "incident|recommend").ended(0).says("no incident is recommended");
    by(&farm, "alice", DECLARE).ended(0);
    by(&farm, "alice", "incident|stand-down|i0|--reason|a false alarm").ended(0);
    damage(&farm);
    by(&farm, "alice", "incident|recommend")
        .ended(20)
        .says("at L3")
        .says("the evidence is uncertain: all services: record 6 of operations")
        .says("incident declare --level L3 --trigger");
    by(&farm, "alice", "incident|list").ended(0).says("no incident is open");
}

#[test]
fn every_command_of_an_incident_speaks_one_json_document() {
    let farm = Farm::new(plan(QUICK));
    let report = farm.path("report.md").display().to_string();
    let lines: [(i32, &str); 29] = [
        (0, "incident|recommend"),
        (0, "incident|declare|--level|L1|--trigger|an exercise|--drill"),
        (0, "incident|list"),
        (0, "incident|show|i0"),
        (1, "incident|show|i7"),
        (0, "incident|freeze|i0"),
        (0, "incident|level|i0|L2|--reason|data as well"),
        (8, "incident|level|i0|L1|--reason|code only"),
        (0, "incident|assign|i0|--role|data|--to|bob"),
        (8, "incident|handoff|i0|--role|data|--to|carol"),
        (4, "incident|accept|i0|--role|data"),
        (0, "incident|note|i0|seen"),
        (0, "incident|timeline|i0"),
        (0, "incident|update|i0|--field|impact=none|--field|status=under way"),
        (2, "incident|update|i0|--field|impact=none"),
        (12, "incident|verify|i0"),
        (12, "incident|unfreeze|i0"),
        (8, "incident|unfreeze|i0|--accept-risk|ownership|--reason|it will do|--for|1d"),
        (0, "incident|next-owner|i0|--to|bob"),
        (0, "incident|rca|i0|none"),
        (0, "incident|safeguard|i0|none"),
        (0, "incident|follow-up|add|i0|more drills|--owner|bob|--due|9d"),
        (0, "incident|follow-up|close|i0|f0|--reason|planned"),
        (0, "incident|report|i0"),
        (0, "checklist|list|i0"),
        (0, "checklist|done|i0|errors-normal|--statement|as before"),
        (8, "checklist|waive|i0|queues-drained|--risk|none|--for|1d"),
        (1, "incident|close|i0|--reason|over"),
        (0, "incident|stand-down|i0|--reason|enough"),
    ];
    for (exit, line) in lines {
        let said = by(&farm, "alice", &format!("--json|{line}")).ended(exit);
        let all: Vec<&str> = said.out.lines().chain(said.err.lines()).collect();
        assert_eq!(all.len(), 1, "{line}: {said:?}");
        let parsed: Value = serde_json::from_str(all[0]).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"));
        assert!(parsed["kind"].is_string() || parsed["code"].is_string(), "{line}: {parsed}");
    }
    by(&farm, "alice", &format!("incident|report|i0|--output|{report}")).ended(0);
}

#[test]
fn a_service_that_is_called_otherwise_since_is_a_missing_proof_and_so_is_a_gate_about_nothing() {
    let gate = "\n[incident.verify]\ngates = [\"unit\"]\n[gate.unit]\n\
                report = { files = [\"ci/db.tap\"], tests = [\"db a note is kept\"] }\nmax_age = \"1h\"\n";
    let farm = Farm::running(plan(gate));
    by(&farm, "alice", "incident|declare|--level|L1|--trigger|notes are lost|--services|notebook").ended(0);
    farm.configure(&farm.config().replace("service.notebook", "service.diary"));
    let said = by(&farm, "alice", "incident|verify|i0").ended(12);
    said.says("MISSING release/notebook  there is no [service.notebook]").says("MISSING gate/unit");
}
