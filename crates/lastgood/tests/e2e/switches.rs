//! Flags and kill switches: from the command line into the evidence, over the daemon into real programs, and what
//! happens when any of these is gone.

use crate::{
    kit::{Daemon, Said, program, request, reserve, said, secret_file, until},
    sink::Sink,
};
use lastgood_client::{Switch, Switches};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Short, so that a test that waits for its end is.
const LEASE: Duration = Duration::from_secs(1);
/// A lease that no test outlives.
const LONG: &str = "lease = \"1h\"";
const SHORT: &str = "lease = \"1s\"";

/// A state folder with an environment, and people at its command line.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    _reserved: [UdpSocket; 2],
}

impl World {
    pub(crate) fn new(switches: &str, tail: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-switches-").tempdir().unwrap();
        let ((port, one), (metrics, other)) = (reserve(), reserve());
        let text = format!(
            "state_dir = \"state\"\nlisten = \"127.0.0.1:{metrics}\"\n[switches]\nlisten = \"127.0.0.1:{port}\"\n\
             subsystems = [\"auth\", \"crypto\", \"transport\"]\n{switches}\n[switches.safe]\n\
             transport = \"as-heard\"\n{tail}"
        );
        fs::write(folder.path().join("lastgood.toml"), text).unwrap();
        Self { folder, port, _reserved: [one, other] }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command as somebody.
    pub(crate) fn by(&self, who: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        said(command.env_remove("LASTGOOD_CONFIG").env("SUDO_USER", who))
    }

    pub(crate) fn lastgood(&self, arguments: &[&str]) -> Said {
        self.by("alice", arguments)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let all = [&["--json"], arguments].concat();
        let said = self.lastgood(&all);
        let document: Value = serde_json::from_str(said.out.trim()).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        document["data"].clone()
    }

    pub(crate) fn serve(&self) -> Daemon {
        let log = fs::File::options().append(true).create(true).open(self.path("serve.log")).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = Daemon(command.spawn().unwrap());
        until("the daemon", || request(self.port, "GET", "/v1/switches", "", "").is_ok());
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("serve.log")).unwrap()
    }

    pub(crate) fn follow(&self) -> Switches {
        let switches = Switches::connect(("127.0.0.1", self.port)).unwrap();
        assert!(switches.wait_until_heard(Duration::from_secs(60)), "the daemon was not heard");
        switches
    }

    fn evaluate(&self, flag: &str, context: &Value) -> (u16, Value) {
        let body = json!({ "context": context }).to_string();
        request(self.port, "POST", &format!("/ofrep/v1/evaluate/flags/{flag}"), "", &body).unwrap()
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("state").join(lastgood_store::EVIDENCE_FILE)).unwrap()
    }
}

fn is(switch: &Switch, tripped: bool) {
    until(&format!("tripped: {tripped}"), || switch.is_tripped() == tripped);
}

#[test]
fn a_trip_goes_into_the_evidence_to_flags_and_to_programs_and_back_again() {
    let world = World::new(LONG, "[switches.flag.log-in]\ntype = \"boolean\"\nsubsystem = \"auth\"\n");
    world.lastgood(&["flag", "on", "log-in", "--reason", "released"]).ended(0);
    let _daemon = world.serve();
    let switches = world.follow();
    let (auth, crypto) = (switches.switch("auth"), switches.switch("crypto"));
    assert!(!auth.is_tripped() && !crypto.is_tripped());
    let given = || world.evaluate("log-in", &json!({ "targetingKey": "bob" }));
    assert_eq!(
        (given().0, given().1["value"].clone(), given().1["reason"].clone()),
        (200, json!(true), json!("STATIC"))
    );

    world.lastgood(&["switch", "trip", "auth", "--reason", "tokens leak"]).ended(0).says("auth is tripped");
    is(&auth, true);
    assert!(!crypto.is_tripped());
    assert_eq!((given().1["value"].clone(), given().1["reason"].clone()), (json!(false), json!("DISABLED")));
    world.lastgood(&["switch", "list"]).ended(0).says("TRIPPED").says("person:alice: tokens leak");

    world.lastgood(&["switch", "reset", "auth", "--reason", "new tokens"]).ended(0).says("open again");
    is(&auth, false);
    assert_eq!(given().1["value"], json!(true));
    assert_eq!(switches.epoch(), Some(3));
    world.lastgood(&["evidence", "verify"]).ended(0).says("switches/production").says("the evidence holds: 3 records");
    let export = world.path("export.jsonl").display().to_string();
    world.lastgood(&["evidence", "export", "switches/production", "--to", &export]).ended(0).says("3 records written");
}

#[test]
fn the_switch_above_all_reaches_every_program_and_every_flag_and_forgets_nothing() {
    let world = World::new(LONG, "[switches.flag.plain]\ntype = \"boolean\"\n");
    world.lastgood(&["flag", "on", "plain", "--reason", "released"]).ended(0);
    world.lastgood(&["switch", "trip", "crypto", "--reason", "weak"]).ended(0);
    let _daemon = world.serve();
    let switches = world.follow();
    let all = ["auth", "crypto", "transport"].map(|name| switches.switch(name));
    world.lastgood(&["switch", "trip", "all", "--reason", "burning"]).ended(0);
    all.iter().for_each(|switch| is(switch, true));
    assert_eq!(world.evaluate("plain", &json!({})).1["value"], json!(false));
    world.lastgood(&["switch", "reset", "all", "--reason", "out"]).ended(0);
    is(&all[0], false);
    assert!(all[1].is_tripped(), "crypto was tripped before");
    assert_eq!(world.evaluate("plain", &json!({})).1["value"], json!(true));
}

#[test]
fn a_reset_needs_a_second_person_where_it_is_so_configured() {
    let world = World::new("reset_needs_second = true", "");
    world.by("alice", &["switch", "trip", "auth", "--reason", "leak"]).ended(0);
    world.by("bob", &["switch", "confirm", "auth", "--reason", "ok"]).ended(1).says("[switch-reset-not-requested]");
    world.by("alice", &["switch", "reset", "auth", "--reason", "fixed"]).ended(8).says("switch confirm auth");
    world.by("alice", &["switch", "confirm", "auth", "--reason", "ok"]).ended(4).says("[switch-own-confirmation]");
    world.by("alice", &["switch", "list"]).ended(0).says("TRIPPED").says("asks to reset it: fixed");
    world.by("bob", &["switch", "reset", "auth", "--reason", "too"]).ended(8).says("[switch-reset-requested]");
    world.by("bob", &["switch", "confirm", "auth", "--reason", "ok"]).ended(0).says("open again");
    world.by("bob", &["switch", "reset", "auth", "--reason", "ok"]).ended(1).says("[switch-not-tripped]");
}

#[test]
fn programs_go_to_their_safe_states_when_the_daemon_is_killed_and_find_the_next_one() {
    let world = World::new(SHORT, "");
    let daemon = world.serve();
    let switches = world.follow();
    let [auth, transport] = ["auth", "transport"].map(|name| switches.switch(name));
    assert!(!auth.is_tripped() && !transport.is_tripped());
    daemon.kill();
    let killed = Instant::now();
    is(&auth, true);
    assert!(!transport.is_tripped(), "as-heard stays as it was heard");
    assert!(!switches.is_in_contact());
    // What is tripped while nobody serves is heard once somebody does.
    world.lastgood(&["switch", "trip", "transport", "--reason", "cut"]).ended(0);
    let _daemon = world.serve();
    is(&auth, false);
    is(&transport, true);
    assert!(killed.elapsed() >= LEASE / 2);
}

#[test]
fn programs_go_to_their_safe_states_when_the_evidence_cannot_be_read() {
    let world = World::new(SHORT, "[switches.flag.plain]\ntype = \"boolean\"\n");
    world.lastgood(&["flag", "on", "plain", "--reason", "released"]).ended(0);
    let _daemon = world.serve();
    let switches = world.follow();
    let auth = switches.switch("auth");
    assert!(!auth.is_tripped());
    world.database().execute_batch("ALTER TABLE record RENAME TO elsewhere").unwrap();
    is(&auth, true);
    // Who comes now is told nothing either; flags are given as before: an error never flips one.
    let late = Switches::connect(("127.0.0.1", world.port)).unwrap();
    thread::sleep(LEASE);
    assert!(late.switch("auth").is_tripped() && !late.is_in_contact());
    assert_eq!(request(world.port, "GET", "/v1/switches", "", "").unwrap().0, 503);
    assert_eq!(world.evaluate("plain", &json!({})).1["value"], json!(true));
    assert!(world.log().contains("could not"), "{}", world.log());
    world.database().execute_batch("ALTER TABLE elsewhere RENAME TO record").unwrap();
    is(&auth, false);
}

#[test]
fn a_trip_that_cannot_be_read_stays_until_somebody_resets_it_by_name() {
    let world = World::new(LONG, "");
    for name in ["auth", "crypto"] {
        world.lastgood(&["switch", "trip", name, "--reason", "drill"]).ended(0);
    }
    world.lastgood(&["flag", "set", "plain", "--reason", "new"]).ended(0);
    world.lastgood(&["flag", "on", "plain", "--reason", "new"]).ended(0);
    world.database().execute("UPDATE record SET bytes = x'7b' WHERE seq = 1", []).unwrap();
    let _daemon = world.serve();
    let switches = world.follow();
    for name in ["auth", "crypto", "transport", "all"] {
        assert!(switches.switch(name).is_tripped(), "{name} is open");
    }
    assert_eq!(switches.epoch(), Some(4));
    until("the report", || world.log().contains("[switches-damaged]"));
    world
        .lastgood(&["switch", "list"])
        .ended(0)
        .says("DAMAGED: record 1:")
        .says("crypto     TRIPPED  in doubt: record 1 can't be read");
    world.lastgood(&["doctor", "--only", "switches"]).says("all, crypto, transport count as tripped");
    let list = world.json(&["switch", "list"]);
    assert_eq!((&list["damaged"][0]["seq"], &list["switches"][2]["doubt"]), (&json!(1), &json!(1)));
    world.lastgood(&["evidence", "verify"]).ended(1).says("BAD");
    // The flag was turned on behind it, and counts once `all` is known again.
    assert_eq!(world.evaluate("plain", &json!({})).1["value"], json!(false));
    world.lastgood(&["switch", "reset", "all", "--reason", "nobody tripped it"]).ended(0);
    until("the flag", || world.evaluate("plain", &json!({})).1["value"] == json!(true));
    assert!(switches.switch("crypto").is_tripped());
    world.lastgood(&["switch", "reset", "crypto", "--reason", "drill over"]).ended(0);
    is(&switches.switch("crypto"), false);
    // What comes after it is taken.
    world.lastgood(&["switch", "trip", "crypto", "--reason", "drill"]).ended(0);
    is(&switches.switch("crypto"), true);
}

#[test]
fn a_switch_is_tripped_though_its_chain_takes_no_record() {
    let world = World::new(LONG, "");
    world.lastgood(&["switch", "trip", "auth", "--reason", "drill"]).ended(0);
    world.lastgood(&["switch", "reset", "auth", "--reason", "over"]).ended(0);
    let link: Vec<u8> =
        world.database().query_row("SELECT link FROM record WHERE seq = 1", [], |row| row.get(0)).unwrap();
    world.database().execute("UPDATE record SET link = zeroblob(32) WHERE seq = 1", []).unwrap();
    let _daemon = world.serve();
    let switches = world.follow();
    for name in ["all", "auth", "crypto"] {
        world
            .lastgood(&["switch", "trip", name, "--reason", "it burns"])
            .ended(0)
            .says("[evidence-broken]")
            .says("it is kept in a file beside it");
    }
    let answer = request(world.port, "POST", "/v1/switches/transport/trip", "", "{\"reason\":\"too\"}").unwrap();
    assert_eq!((answer.0, answer.1["tripped"].clone()), (200, json!(true)));
    world.lastgood(&["switch", "reset", "auth", "--reason", "over"]).ended(1).says("[evidence-broken]");
    // By the chain alone, as somebody has put it right, auth is open.
    world.database().execute("UPDATE record SET link = ?1 WHERE seq = 1", [&link]).unwrap();
    world.lastgood(&["switch", "list"]).ended(0).says("auth       TRIPPED  since").says("by person:alice: it burns");
    assert!(switches.switch("transport").is_tripped());
    world.lastgood(&["switch", "reset", "all", "--reason", "over"]).ended(0);
    world.lastgood(&["switch", "reset", "auth", "--reason", "over"]).ended(0).says("auth is open again");
    let list = world.json(&["switch", "list"]);
    let tripped = |row: &Value| row["tripped"] == json!(true) && row["beside"] == json!(false);
    let names: Vec<_> = list["switches"].as_array().unwrap().iter().filter(|row| tripped(row)).collect();
    assert_eq!(names.iter().map(|row| &row["switch"]).collect::<Vec<_>>(), ["crypto", "transport"]);
    assert!(world.log().contains("[evidence-broken]"));
}

#[test]
fn a_flag_whose_turning_off_cannot_be_read_is_off() {
    let world = World::new(LONG, "");
    world.lastgood(&["flag", "set", "plain", "--reason", "new"]).ended(0);
    world.lastgood(&["flag", "on", "plain", "--reason", "new"]).ended(0);
    world.lastgood(&["flag", "off", "plain", "--reason", "it does harm"]).ended(0);
    world.database().execute("UPDATE record SET bytes = x'7b' WHERE seq = 2", []).unwrap();
    world.lastgood(&["flag", "list"]).ended(0).says("DOUBT").says("DAMAGED: record 2:");
    assert_eq!(world.json(&["flag", "list"])["flags"][0]["on"], json!(false));
    world.lastgood(&["flag", "show", "plain"]).ended(0).says("it was on and counts as off");
}

#[test]
fn evidence_that_was_put_back_opens_no_switch_and_no_flag_until_somebody_has_acknowledged_it() {
    let world =
        World::new(LONG, "[switches.flag.editor]\ntype = \"boolean\"\n[switches.flag.search]\ntype = \"boolean\"\n");
    world.lastgood(&["flag", "on", "search", "--reason", "released"]).ended(0);
    world.lastgood(&["switch", "trip", "crypto", "--reason", "a leak"]).ended(0);
    let files = ["evidence.db", "evidence.db-wal"];
    let backup = world.path("backup");
    fs::create_dir(&backup).unwrap();
    for file in files.iter().filter(|file| world.path("state").join(file).exists()) {
        fs::copy(world.path("state").join(file), backup.join(file)).unwrap();
    }
    world.lastgood(&["switch", "trip", "auth", "--reason", "tokens leak"]).ended(0);
    world.lastgood(&["evidence", "checkpoint"]).ended(0);
    assert!(!world.lastgood(&["switch", "list"]).ended(0).out.contains("in doubt"));
    for file in ["evidence.db", "evidence.db-wal", "evidence.db-shm"] {
        let _ = fs::remove_file(world.path("state").join(file));
        if backup.join(file).exists() {
            fs::copy(backup.join(file), world.path("state").join(file)).unwrap();
        }
    }

    world.lastgood(&["switch", "list"]).ended(0).says("counts as tripped").says("an older evidence file was put back");
    let opens: [&[&str]; 3] = [&["flag", "on", "editor"], &["switch", "reset", "crypto"], &["flag", "set", "search"]];
    for opens in opens {
        world.lastgood(&[opens, &["--reason", "it is over"]].concat()).ended(9).says("evidence-in-doubt");
    }
    let _daemon = world.serve();
    let switches = world.follow();
    let auth = switches.switch("auth");
    is(&auth, true);
    let given = || world.evaluate("search", &json!({ "targetingKey": "bob" })).1["value"].clone();
    assert_eq!(given(), json!(false), "nobody can tell whether it was turned off");
    world.lastgood(&["flag", "off", "search", "--reason", "it blocks"]).ended(0);
    world.lastgood(&["evidence", "acknowledge", "switches/production", "--reason", "the disk was put back"]).ended(0);
    is(&auth, false);
    world.lastgood(&["switch", "reset", "crypto", "--reason", "it is over"]).ended(0);
    world.lastgood(&["flag", "on", "search", "--reason", "it is over"]).ended(0);
    until("the flag", || given() == json!(true));
}

#[test]
fn people_hear_of_a_trip_and_of_a_reset() {
    let sink = Sink::new(|_| ("204 No Content", String::new()));
    let tail = format!(
        "[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{}/hook\"\nsecret = \"hook\"\n\
         allow_private = true\nkinds = [\"switch-tripped\", \"switch-reset\"]\n",
        sink.port
    );
    let world = World::new(LONG, &tail);
    secret_file(&world.path("hook"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let _daemon = world.serve();
    world.lastgood(&["switch", "trip", "auth", "--reason", "tokens leak"]).ended(0);
    let answer = request(world.port, "POST", "/v1/switches/auth/trip", "", "{\"reason\":\"still\"}").unwrap();
    assert_eq!((answer.0, answer.1["epoch"].clone()), (200, json!(2)));
    world.lastgood(&["switch", "reset", "auth", "--reason", "new tokens"]).ended(0);
    let said = || -> Vec<String> {
        let bodies = sink.taken().into_iter().map(|one| serde_json::from_slice::<Value>(&one.body).unwrap());
        bodies.map(|body| body["data"]["summary"].as_str().unwrap().to_owned()).collect()
    };
    until("three notices", || said().len() == 3);
    assert_eq!(
        said(),
        [
            "production: switch auth was tripped by person:alice: tokens leak",
            "production: switch auth was tripped by lastgood:http: still",
            "production: switch auth was reset by person:alice: new tokens",
        ]
    );
}

#[test]
fn the_daemon_clears_what_was_delivered_long_ago_and_tells_of_one_dead_notice_among_many() {
    let refuses = Arc::new(AtomicBool::new(false));
    let refused = Arc::clone(&refuses);
    let sink = Sink::new(move |_| match refused.load(Ordering::SeqCst) {
        true => ("400 Bad Request", String::new()),
        false => ("204 No Content", String::new()),
    });
    let tail = format!(
        "[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{}/hook\"\nsecret = \"hook\"\n\
         allow_private = true\nkinds = [\"switch-tripped\"]\n",
        sink.port
    );
    let world = World::new(LONG, &tail);
    secret_file(&world.path("hook"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let count = |state: &str| -> i64 {
        world.database().query_row("SELECT count(*) FROM notice WHERE state = ?1", [state], |row| row.get(0)).unwrap()
    };
    let daemon = world.serve();
    for (reason, delivered) in [("long ago", 1), ("just now", 2)] {
        world.lastgood(&["switch", "trip", "auth", "--reason", reason]).ended(0);
        until("the notice", || count("delivered") == delivered);
    }
    daemon.stop();
    // A month and a day; and more dead ones than are ever listed at once, from before.
    let aged = "UPDATE notice SET settled_at = settled_at - 31 * 86400000 WHERE n = 1";
    assert_eq!(world.database().execute(aged, []).unwrap(), 1);
    let dead = "WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < 1001)
        INSERT INTO notice (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state, settled_at)
        SELECT n + 1000 + i, printf('msg_%032x', i), chain, seq, ordinal, endpoint, subject, kind, body, at, turn - 1,
               'failed', settled_at
        FROM notice, number WHERE n = 2";
    assert_eq!(world.database().execute(dead, []).unwrap(), 1001);
    refuses.store(true, Ordering::SeqCst);
    let _daemon = world.serve();
    until("the one of long ago is gone", || count("delivered") == 1);
    world.lastgood(&["switch", "trip", "auth", "--reason", "again"]).ended(0);
    until("the death", || world.log().contains(" is dead after 1 try"));
    // All of them are sent again, more than are listed at once.
    refuses.store(false, Ordering::SeqCst);
    world.lastgood(&["notices", "replay"]).ended(0).says("1002 sent again");
    until("none is dead", || count("failed") == 0);
}

#[test]
fn every_command_speaks_json_and_every_refusal_has_a_code_and_a_fix() {
    let world = World::new(LONG, "");
    let commands: [(i32, &[&str]); 15] = [
        (0, &["switch", "list"]),
        (0, &["switch", "trip", "auth", "--reason", "drill"]),
        (0, &["switch", "reset", "auth", "--reason", "over"]),
        (1, &["switch", "reset", "auth", "--reason", "over"]),
        (1, &["switch", "trip", "autth", "--reason", "typo"]),
        (1, &["switch", "confirm", "auth", "--reason", "over"]),
        (0, &["flag", "set", "new", "--percent", "5", "--reason", "beta"]),
        (0, &["flag", "on", "new", "--reason", "go"]),
        (0, &["flag", "list"]),
        (0, &["flag", "show", "new"]),
        (1, &["flag", "show", "old"]),
        (1, &["flag", "set", "new", "--serve", "maybe", "--reason", "typo"]),
        (1, &["flag", "set", "new", "--type", "number", "--variant", "a=1", "--reason", "typo"]),
        (0, &["flag", "off", "new", "--reason", "enough"]),
        (0, &["flag", "remove", "new", "--reason", "in the code"]),
    ];
    for (code, arguments) in commands {
        let said = world.lastgood(&[&["--json"], arguments].concat()).ended(code);
        if code == 0 {
            let document: Value = serde_json::from_str(said.out.trim()).unwrap();
            assert_eq!(document["schema"], "lastgood/1", "{arguments:?}");
        } else {
            let problem: Value = serde_json::from_str(said.err.trim()).unwrap();
            assert!(problem["code"].is_string() && problem["hint"].is_string(), "{arguments:?}: {problem}");
            assert_eq!(said.out, "", "{arguments:?}");
        }
    }
    let none = tempfile::tempdir().unwrap();
    fs::write(none.path().join("lastgood.toml"), "state_dir = \"state\"\n").unwrap();
    let mut command = Command::new(program());
    said(command.args(["switch", "list"]).current_dir(none.path())).ended(2).says("[switches-none]");
}

#[test]
fn a_configuration_that_cannot_hold_is_refused_with_its_key() {
    for (switches, tail, place, what) in [
        ("lease = \"0s\"", "", "switches.lease", "is not between"),
        ("token = \"nobody\"", "", "switches.token", "no [secret.nobody]"),
        ("", "autth = \"tripped\"\n", "switches.safe", "no switch autth"),
        ("", "[switches.flag.a]\ntype = \"string\"\n", "switches.flag.a", "needs a default or variants"),
        ("", "[switches.flag.a]\ntype = \"number\"\ndefault = \"x\"\n", "switches.flag.a", "is no number"),
        ("", "[switches.flag.a]\ntype = \"boolean\"\nsubsystem = \"b\"\n", "switches.flag.a", "no switch b"),
    ] {
        let world = World::new(switches, tail);
        world.lastgood(&["config", "check"]).ended(2).says(place).says(what);
    }
}
