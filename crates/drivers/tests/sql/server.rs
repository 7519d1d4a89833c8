//! With a real PostgreSQL.

use super::{database, limits, postgres_kit::Postgres};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::sql::Scalar::{Boolean, Integer, Null, Number, Text};
use std::net::TcpListener;

const SECRET: &str = "p4ss-of-the-reader";

fn server() -> Postgres {
    let server = Postgres::start();
    server.sql(&format!(
        "CREATE ROLE reader LOGIN PASSWORD '{SECRET}'; CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (3);
         GRANT ALL ON t TO reader"
    ));
    server
}

#[test]
fn values_come_typed_over_the_socket_and_over_loopback_and_nothing_is_written() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    for address in [server.address("reader", "postgres"), server.net_address("reader", "postgres")] {
        let app = database(folder.path(), &format!("postgres = \"{address}\"\nsecret = \"it\""), Some(SECRET));
        let sql = "SELECT 1::int2, 9223372036854775807, 1.5::numeric, 0.25::float8, true, null::int, 'ä', '\\x00ff'::bytea, \
                   'NaN'::float8, '2026-11-26'::date AS day";
        let table = app.query(sql, limits(20, 10)).unwrap();
        let text = |text: &str| Text(text.into());
        assert_eq!(
            table.rows,
            [[
                Integer(1),
                Integer(i64::MAX),
                Number(1.5),
                Number(0.25),
                Boolean(true),
                Null,
                text("ä"),
                text("\\x00ff"),
                text("NaN"),
                text("2026-11-26")
            ]]
        );
        assert_eq!(table.columns.last().unwrap(), "day");
        for write in [
            "INSERT INTO t VALUES (4)",
            "WITH gone AS (DELETE FROM t RETURNING a) SELECT count(*) FROM gone",
            "SELECT set_config('transaction_read_only', 'off', false); INSERT INTO t VALUES (4)",
            "COPY t FROM STDIN",
        ] {
            let error = app.query(write, limits(20, 10)).unwrap_err();
            assert_eq!(error.code(), "database-query-refused", "{write}: {error}");
        }
        assert_eq!(app.query("SELECT count(*) FROM t", limits(20, 10)).unwrap().scalar(), Ok(&Integer(3)));
    }
}

#[test]
fn rows_and_time_have_limits() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let toml = format!("postgres = \"{}\"\nsecret = \"it\"", server.address("reader", "postgres"));
    let app = database(folder.path(), &toml, Some(SECRET));
    let table = app.query("SELECT a FROM t ORDER BY a", limits(20, 2)).unwrap();
    assert_eq!((table.rows.len(), table.more), (2, true));
    let table = app.query("SELECT a FROM t ORDER BY a", limits(20, 3)).unwrap();
    assert_eq!((table.rows.len(), table.more), (3, false));
    let error = app.query("SELECT pg_sleep(600)", limits(1, 2)).unwrap_err();
    assert_eq!(error.code(), "database-timed-out", "{error}");
    let error = app.query("SELECT repeat('x', 1000000) FROM generate_series(1, 50)", limits(60, 100)).unwrap_err();
    assert_eq!(error.code(), "database-answer-too-long", "{error}");
    // Its statement is given up on the server too.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active' \
                 AND usename = 'reader'";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while server.sql(waits) != "0" {
        assert!(std::time::Instant::now() < deadline, "the server still works for nobody");
    }
}

#[test]
fn a_server_that_says_nothing_is_waited_for_until_the_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("postgres = \"postgresql://u@{}/d\"", silent.local_addr().unwrap());
    let error = database(folder.path(), &toml, None).query("SELECT 1", limits(1, 1)).unwrap_err();
    assert_eq!(error.code(), "database-timed-out", "{error}");
}

#[test]
fn a_wrong_password_is_refused_and_no_password_is_ever_said() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let address = server.address("reader", "postgres");
    let toml = format!("postgres = \"{address}\"\nsecret = \"it\"");
    let app = database(folder.path(), &toml, Some("another-passw0rd"));
    let error = app.query("SELECT 1", limits(20, 1)).unwrap_err();
    assert_eq!(error.code(), "database-log-in-refused");
    let said = format!("{error} {error:?} {app:?}");
    assert!(said.contains("28P01") && !said.contains("passw0rd"), "{said}");
    let without = database(folder.path(), &format!("postgres = \"{address}\""), None);
    let error = without.query("SELECT 1", limits(20, 1)).unwrap_err();
    assert!(error.to_string().contains("asks for a password, and none is configured"), "{error}");
    // An old server's MD5, and a server that wants it clear.
    server.sql("SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'p4ss-of-the-reader'");
    server.log_ins("local all postgres scram-sha-256\nlocal all old md5\nlocal all reader password\n");
    for role in ["old", "reader"] {
        let toml = format!("postgres = \"{}\"\nsecret = \"it\"", server.address(role, "postgres"));
        let app = database(folder.path(), &toml, Some(SECRET));
        assert_eq!(app.query("SELECT 1", limits(20, 1)).unwrap().scalar(), Ok(&Integer(1)), "{role}");
    }
}

#[test]
fn nobody_there_another_machine_and_a_server_that_is_full_are_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display();
    for (address, wanted) in [
        (format!("host={here} user=u"), "No such file"),
        ("postgresql://u@192.0.2.1/d".to_owned(), "TLS to PostgreSQL is not built yet"),
    ] {
        let app = database(folder.path(), &format!("postgres = \"{address}\""), None);
        let error = app.query("SELECT 1", limits(20, 1)).unwrap_err();
        assert_eq!(error.code(), "database-unreachable");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
