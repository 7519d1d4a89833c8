//! Signals and credentials at the command line and in the daemon, with real SQLite files and a real receiver.

use crate::{
    kit::{Daemon, Said, program, reserve, said, until},
    sink::Sink,
};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

struct World {
    folder: tempfile::TempDir,
    metrics: u16,
    _reserved: UdpSocket,
}

impl World {
    /// A database with an outbox and accounts, signals over it, and a receiver of notices.
    fn new(sink: &Sink) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn script(&self, name: &str, text: &str) {
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

/// The kinds and summaries of what came, in order.
fn told(sink: &Sink) -> Vec<(String, String)> {
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
    world.lastgood(&["signal", "list"]).ended(0).says("outbox    nothing stands");
    world.lastgood(&["evidence", "verify"]).ended(0).says("signals");
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
    world.lastgood(&["--yes", "credential", "revoke", "token"]).ended(0).says("nobody knows");
    world.lastgood(&["credential", "list"]).ended(0).says("revoked");
    // Somebody's cache brings it back: no new one is made beside it.
    world.secret("served", "t0ken-that-leaked");
    world.lastgood(&["credential", "rotate", "token"]).ended(1).says("still accepted");
    world.lastgood(&["--yes", "credential", "revoke", "token"]).ended(0);
    world.lastgood(&["credential", "prove", "token"]).ended(0).says("the old one is refused");
    world.lastgood(&["credential", "rotate", "token"]).ended(0).says("holds the new secret");
    world.lastgood(&["credential", "prove", "token"]).ended(0).says("the new one is accepted");
    world.lastgood(&["credential", "list"]).ended(0).says("in use");
    assert_ne!(fs::read_to_string(world.path("token")).unwrap(), "t0ken-that-leaked");
}
