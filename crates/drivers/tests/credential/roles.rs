//! Passwords of roles, on a real PostgreSQL.

use crate::{
    OLD, World,
    postgres_kit::{ADMIN, PASSWORD, Postgres},
};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::{
    credential::Credential,
    probe::{SecretSource, Secrets},
    sql::{Database, Worker},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

const ROLE: &str = "app \"of\" 'it'";

fn server() -> Postgres {
    let server = Postgres::start_with(&["log_statement=all", "log_min_messages=debug1"]);
    let role = ROLE.replace('"', "\"\"");
    server.sql(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{OLD}'"));
    server
}

fn database(world: &World, server: &Postgres) -> Database {
    let password = world.path("admin");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let sources = BTreeMap::from([("admin".to_owned(), SecretSource::File(password))]);
    let secrets = Secrets::load(&sources, &world.path("")).unwrap();
    let toml = format!("postgres = \"{}\"\nsecret = \"admin\"", server.address(ADMIN, "postgres"));
    Database::prepare("admin", &toml::from_str(&toml).unwrap(), &world.path(""), &Worker::new("/nowhere"), &secrets)
        .unwrap()
}

fn credential(world: &World, server: &Postgres) -> Credential {
    let role = ROLE.replace('\\', "\\\\").replace('"', "\\\"");
    world.credential(
        &format!("kind = \"postgres\"\ndatabase = \"admin\"\nrole = \"{role}\""),
        Some(database(world, server)),
    )
}

#[test]
fn a_roles_password_goes_through_the_four_acts_and_no_clear_one_reaches_the_server() {
    let (world, server) = (World::new(), server());
    let credential = credential(&world, &server);
    // A consumer that is logged in with the old one.
    let mut session = Command::new("psql")
        .args(["-X", "-q", "-h", &server.folder().display().to_string(), "-p", &server.port.to_string()])
        .args(["-U", ROLE, "-d", "postgres", "-c", "SELECT pg_sleep(120)"])
        .env("PGPASSWORD", OLD)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'app%'";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while server.sql(sessions) != "1" {
        assert!(std::time::Instant::now() < deadline, "the consumer has no session");
    }
    let done = credential.revoke(None).unwrap();
    assert!(done.what.ends_with("sessions of it that were ended: 1"), "{}", done.what);
    assert_eq!(server.sql(sessions), "0");
    assert!(!session.wait().unwrap().success());
    let done = credential.prove_refused().unwrap();
    assert!(done.what.starts_with("the old one is refused, at host="), "{}", done.what);
    assert_eq!(world.secret(), OLD);
    // Killed after the server took the new one and before it was in the file.
    credential.rotate().unwrap();
    let new = world.secret();
    fs::remove_file(world.path("shelf/rotated")).unwrap();
    fs::write(world.path("secret"), OLD.to_owned() + "\n").unwrap();
    credential.rotate().unwrap();
    assert_eq!(world.secret(), new);
    world.file_is_as_it_was_but_new();
    credential.prove_refused().unwrap();
    credential.prove_consumers().unwrap();
    world.shelf_is_empty();
    assert!(server.psql(ROLE, &new, "SELECT 1").status.success());
    assert!(!server.psql(ROLE, OLD, "SELECT 1").status.success());
    let log = server.log();
    assert!(log.contains("ALTER ROLE") && log.contains("SCRAM-SHA-256$"), "the server logs no statements: {log}");
    assert!(!log.contains(&new), "the server's log has the new password");
    // The old one stands there once: this test made the role with it.
    assert_eq!(log.matches(OLD).count(), 1, "the server's log has the old password");
}

#[test]
fn a_server_that_trusts_is_found_at_every_door() {
    let (world, server) = (World::new(), server());
    server.log_ins("local all postgres scram-sha-256\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 trust\n");
    let role = ROLE.replace('"', "\\\"");
    let address = server.net_address("app%20%22of%22%20'it'", "postgres");
    let toml = format!("kind = \"postgres\"\ndatabase = \"admin\"\nrole = \"{role}\"");
    let by_socket = world.credential(&toml, Some(database(&world, &server)));
    by_socket.revoke(None).unwrap();
    by_socket.prove_refused().unwrap();
    let by_loopback = world.credential(&format!("{toml}\ndoors = [\"{address}\"]"), Some(database(&world, &server)));
    let error = by_loopback.prove_refused().unwrap_err();
    assert_eq!(error.code(), "credential-still-accepted");
    assert!(error.to_string().contains("at host=127.0.0.1"), "{error}");
}

#[test]
fn no_rule_no_role_and_no_server_prove_nothing() {
    let (world, mut server) = (World::new(), server());
    let credential = credential(&world, &server);
    credential.revoke(None).unwrap();
    server.log_ins("local all postgres scram-sha-256\n");
    let error = credential.prove_refused().unwrap_err();
    assert!(error.cannot_tell() && error.to_string().contains("28000"), "{error}");
    server.log_ins("local all all scram-sha-256\n");
    credential.prove_refused().unwrap();
    let new = credential.rotate().map(|_| world.secret()).unwrap();
    server.stop();
    let error = credential.prove_refused().unwrap_err();
    assert_eq!(error.code(), "credential-cannot-tell", "{error}");
    let error = credential.prove_consumers().unwrap_err();
    assert!(error.cannot_tell() && !format!("{error:?}").contains(&new), "{error:?}");
}

#[test]
fn a_role_that_may_not_and_a_role_that_is_not_there_are_said() {
    let (world, server) = (World::new(), server());
    server.sql("CREATE ROLE weak LOGIN PASSWORD 'of-the-weak'");
    fs::write(world.path("weak"), "of-the-weak").unwrap();
    fs::set_permissions(world.path("weak"), fs::Permissions::from_mode(0o600)).unwrap();
    let sources = BTreeMap::from([("weak".to_owned(), SecretSource::File(world.path("weak")))]);
    let secrets = Secrets::load(&sources, &world.path("")).unwrap();
    let toml = format!("postgres = \"{}\"\nsecret = \"weak\"", server.address("weak", "postgres"));
    let weak =
        Database::prepare("weak", &toml::from_str(&toml).unwrap(), &world.path(""), &Worker::new("/nowhere"), &secrets)
            .unwrap();
    let toml = "kind = \"postgres\"\ndatabase = \"admin\"\nrole = ";
    let role = ROLE.replace('"', "\\\"");
    for (server, role, wanted) in
        [(weak, role.as_str(), "permission denied"), (database(&world, &server), "gone", "does not exist")]
    {
        let error = world.credential(&format!("{toml}\"{role}\""), Some(server)).revoke(None).unwrap_err();
        assert_eq!(error.code(), "credential-act-failed");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
