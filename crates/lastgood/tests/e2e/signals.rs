//! Signals and credentials at the command line and in the daemon, with real SQLite files and a real receiver.

use crate::{
    kit::{Daemon, Said, program, reserve, said, until},
    sink::Sink,
};
use lastgood_domain::operations::Operations;
use lastgood_engine::operations::{Folded, Scope};
use lastgood_store::Reader;
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

pub(crate) struct World {
    folder: tempfile::TempDir,
    metrics: u16,
    _reserved: UdpSocket,
}

impl World {
    /// A database with an outbox and accounts, signals over it, and a receiver of notices.
    pub(crate) fn new(sink: &Sink) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-signals-").tempdir().unwrap();
        let (metrics, reserved) = reserve();
        let world = Self { folder, metrics, _reserved: reserved };
        let text = format!(
            "state_dir = \"state\"\nlisten = \"127.0.0.1:{metrics}\"\n[database.app]\nsqlite = \"app.db\"\n\
             [signal.outbox]\ndatabase = \"app\"\nquery = \"SELECT count(*) FROM outbox\"\nthreshold = {{ above = 2 }}\n\
             every = \"1s\"\nseverity = \"critical\"\ncannot_tell_after = \"1s\"\n\
             [signal.accounts]\ndatabase = \"app\"\ngaps = {{ table = \"accounts\", key = [\"id\"] }}\nevery = \"1h\"\n\
             [notice.pager]\nwebhook = \"http://127.0.0.1:{}/\"\nsecret = \"hook\"\nallow_private = true\n\
             [secret.hook]\nfile = \"hook\"\n[secret.token]\nfile = \"token\"\n\
             [credential.token]\nsecret = \"token\"\nkind = \"file\"\nattempt = [\"./attempt\"]\nreload = [\"./reload\"]\n",
            sink.port
        );
        fs::write(world.path("lastgood.toml"), text).unwrap();
        world.secret("hook", "whsec_bGFzdGdvb2QtdGVzdHMtb25seS1zZWNyZXQ=");
        world.secret("token", "t0ken-that-leaked");
        fs::copy(world.path("token"), world.path("served")).unwrap();
        world.script("reload", "cp token served");
        world.script("attempt", "cmp -s \"$LASTGOOD_CREDENTIAL_FILE\" served && exit 0; exit 77");
        let tables = "CREATE TABLE outbox (a); CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount REAL);
                      INSERT INTO accounts VALUES (1, 5)";
        world.database().execute_batch(tables).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn database(&self) -> Connection {
        Connection::open(self.path("app.db")).unwrap()
    }

    fn lastgood(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        said(command.env_remove("LASTGOOD_CONFIG"))
    }

    fn serve(&self) -> Daemon {
        let log = fs::File::options().append(true).create(true).open(self.path("serve.log")).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Daemon(command.spawn().unwrap())
    }

    /// What people decided, and what was seen.
    fn operations(&self) -> Operations {
        let reader = Reader::open(&self.path("state")).unwrap();
        Folded::read(&reader, &Scope::default()).unwrap().state
    }

    /// The page of metrics; empty while nobody answers.
    fn metrics(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut text = String::new();
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.metrics)) {
            let _gone = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let _gone = stream.read_to_string(&mut text);
        }
        text
    }
}

/// The kinds and summaries of what came of signals, in order.
fn told(sink: &Sink) -> Vec<(String, String)> {
    all_told(sink).into_iter().filter(|(kind, _)| kind.starts_with("signal")).collect()
}

/// How often people were told that they should declare an incident.
fn recommended(sink: &Sink) -> usize {
    all_told(sink).iter().filter(|(_, summary)| summary.starts_with("declare an incident at")).count()
}

/// The kinds and summaries of all that came, in order.
fn all_told(sink: &Sink) -> Vec<(String, String)> {
    let bodies = sink.taken().into_iter().map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    bodies.map(|body| (text(&body["data"]["kind"]), text(&body["data"]["summary"]))).collect()
}

#[test]
fn the_daemon_tells_once_when_a_signal_fires_goes_silent_and_clears() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    let daemon = world.serve();
    let state = |state: &str| format!("lastgood_signal_state{{signal=\"outbox\",state=\"{state}\"}} 1\n");
    until("the signal is read", || world.metrics().contains(&state("ok")));
    world.database().execute_batch("INSERT INTO outbox VALUES (1), (2), (3)").unwrap();
    until("it fires", || world.metrics().contains(&state("firing")));
    until("a notice", || told(&sink).len() == 1);
    world.lastgood(&["signal", "list"]).ended(0).says("outbox    FIRING").says("3 is above 2");
    // A daemon that starts while it fires says nothing twice.
    daemon.kill();
    let _daemon = world.serve();
    until("it fires still", || world.metrics().contains(&state("firing")));
    fs::rename(world.path("app.db"), world.path("away.db")).unwrap();
    until("silence is told", || told(&sink).len() == 2);
    world.lastgood(&["signal", "list"]).ended(0).says("FIRING").says("can't be told since");
    fs::rename(world.path("away.db"), world.path("app.db")).unwrap();
    world.database().execute_batch("DELETE FROM outbox").unwrap();
    until("it is well again", || told(&sink).iter().any(|(kind, _)| kind == "signal-cleared"));
    let told = told(&sink);
    assert_eq!(told[0], ("signal-fired".into(), "signal outbox fires: 3 is above 2".into()));
    assert_eq!(told[1].0, "signal-silent");
    assert!(told[1].1.contains("can't be told for"), "{told:?}");
    assert_eq!(told.last().unwrap().1, "signal outbox is well again: 0 is not above 2");
    world.lastgood(&["signal", "list"]).ended(0).says("outbox    no alert");
    world.lastgood(&["evidence", "verify"]).ended(0).says("signals");
}

const FIRE: &str = "INSERT INTO outbox VALUES (1), (2), (3)";

#[test]
fn a_signal_that_fires_speaks_for_an_incident_until_it_is_quiet_and_is_told_once() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    let daemon = world.serve();
    until("the signal is read", || world.metrics().contains("signal=\"outbox\",state=\"ok\"} 1\n"));
    world.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    world.database().execute_batch(FIRE).unwrap();
    until("it is told", || recommended(&sink) == 1);
    let why = "a signal fires: all services: outbox: 3 is above 2";
    world.lastgood(&["incident", "recommend"]).ended(20).says("at L2").says(why).says("declare --level L2 --trigger");
    world.lastgood(&["status"]).ended(0).says(why).says("lastgood incident declare --level L2");
    let status: Value = serde_json::from_str(&world.lastgood(&["--json", "status"]).ended(0).out).unwrap();
    assert_eq!(status["data"]["recommendation"]["level"], "L2", "{status}");
    world.lastgood(&["doctor", "--only", "incident"]).ended(20).says("[incident-recommended]").says(why);
    // Nobody is told of numbers that move, or again because the daemon began anew.
    daemon.kill();
    world.database().execute_batch("INSERT INTO outbox VALUES (4)").unwrap();
    let daemon = world.serve();
    until("it looks again", || world.metrics().contains("signal=\"outbox\",state=\"firing\"} 1\n"));
    world.database().execute_batch("DELETE FROM outbox").unwrap();
    until("it is quiet", || world.lastgood(&["incident", "recommend"]).out.contains("no incident is recommended"));
    // What is quiet is in the record, and speaks anew if it fires again.
    until("that is written", || world.operations().seen.is_empty());
    assert_eq!(recommended(&sink), 1);
    world.lastgood(&["doctor", "--only", "incident"]).ended(0);
    world.database().execute_batch(FIRE).unwrap();
    until("it is told again", || recommended(&sink) == 2);
    world.lastgood(&["incident", "list"]).ended(0).says("no incident is open");
    daemon.stop();
}

#[test]
fn what_goes_on_after_a_person_ended_the_incident_that_the_daemon_declared_declares_no_other() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    let config = fs::read_to_string(world.path("lastgood.toml")).unwrap();
    // Rows that are another tenant's are no matter of numbers.
    let config = config.replacen("severity = \"critical\"", "severity = \"critical\"\nconcerns = \"security\"", 1);
    fs::write(world.path("lastgood.toml"), config + "[incident]\ndeclare = \"automatic\"\n").unwrap();
    world.database().execute_batch(FIRE).unwrap();
    let daemon = world.serve();
    until("it is declared", || world.lastgood(&["incident", "list"]).out.contains("i0  L3  declared"));
    world
        .lastgood(&["incident", "show", "i0"])
        .ended(0)
        .says("security is at risk: all services: outbox: 3 is above 2");
    world.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    until("the incident covers it", || world.operations().recommended.is_none());
    until("it is told", || recommended(&sink) == 1);
    let by = |line: &[&str]| {
        let mut command = Command::new(program());
        command.args(line).current_dir(world.folder.path()).stdin(Stdio::null()).env("SUDO_USER", "alice");
        said(&mut command)
    };
    by(&["incident", "assign", "i0", "--role", "commander", "--to", "alice"]).ended(0);
    by(&["incident", "stand-down", "i0", "--reason", "rows of a test"]).ended(0);
    until("it is told again", || recommended(&sink) == 2);
    world.lastgood(&["incident", "recommend"]).ended(20).says("at L3");
    let all: Value = serde_json::from_str(&world.lastgood(&["--json", "incident", "list", "--all"]).out).unwrap();
    assert_eq!(all["data"].as_array().unwrap().len(), 1, "{all}");
    daemon.stop();
}

#[test]
fn signals_are_checked_triggers_installed_and_gaps_found_at_the_command_line() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    world.lastgood(&["signal", "check"]).ended(12).says("can't tell");
    world.lastgood(&["signal", "triggers", "outbox"]).ended(2).says("watches no table");
    world.lastgood(&["signal", "triggers", "accounts"]).ended(0).says("CREATE TRIGGER");
    world.lastgood(&["signal", "triggers", "accounts", "--install"]).ended(3).says("nothing was installed");
    world.lastgood(&["--yes", "signal", "triggers", "accounts", "--install"]).ended(0).says("are installed");
    world.lastgood(&["signal", "check"]).ended(0);
    world.database().execute_batch("UPDATE accounts SET amount = 6").unwrap();
    world.lastgood(&["signal", "check", "accounts"]).ended(0).says("every change has its row");
    let off = "DROP TRIGGER lastgood_changes_accounts_update; UPDATE accounts SET amount = 7";
    world.database().execute_batch(off).unwrap();
    world.lastgood(&["signal", "check"]).ended(1).says("FIRING").says("1 is not as the log says");
    world.lastgood(&["signal", "check", "nothing"]).ended(2).says("one of: accounts, outbox");
    for (code, arguments) in [
        (0, &["signal", "list"][..]),
        (1, &["signal", "check"]),
        (0, &["signal", "triggers", "accounts"]),
        (2, &["signal", "check", "nothing"]),
        (0, &["credential", "list"]),
        (3, &["credential", "revoke", "token"]),
        (2, &["credential", "revoke", "nothing"]),
        (1, &["credential", "prove", "token"]),
    ] {
        let said = world.lastgood(&[&["--json"], arguments].concat()).ended(code);
        let text = if said.out.is_empty() { &said.err } else { &said.out };
        serde_json::from_str::<Value>(text.trim()).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said:?}"));
    }
}

#[test]
fn a_leaked_token_goes_through_the_four_acts_at_the_command_line() {
    let sink = Sink::new(|_| ("200 OK", String::new()));
    let world = World::new(&sink);
    world.lastgood(&["credential", "list"]).ended(0).says("token  in use    file, secret token");
    world.lastgood(&["credential", "rotate", "token"]).ended(1).says("is not revoked");
    world.lastgood(&["credential", "revoke", "token"]).ended(3).says("nothing was revoked");
    world.lastgood(&["credential", "revoke", "token", "--confirm", "token"]).ended(0).says("nobody knows");
    world.lastgood(&["credential", "list"]).ended(0).says("revoked");
    // Somebody's cache brings it back: no new one is made beside it.
    world.secret("served", "t0ken-that-leaked");
    world.lastgood(&["credential", "rotate", "token"]).ended(1).says("still accepted");
    world.lastgood(&["credential", "revoke", "token", "--confirm", "token"]).ended(0);
    world.lastgood(&["credential", "prove", "token"]).ended(0).says("the old one is refused");
    world.lastgood(&["--yes", "credential", "rotate", "token"]).ended(0).says("holds the new secret");
    world.lastgood(&["credential", "prove", "token"]).ended(0).says("the new one is accepted");
    world.lastgood(&["credential", "list"]).ended(0).says("in use");
    assert_ne!(fs::read_to_string(world.path("token")).unwrap(), "t0ken-that-leaked");
}
