//! Pages, clocks, certificates and databases.

use crate::{
    code, keys,
    postgres_kit::{ADMIN, PASSWORD, Postgres},
    server::{Tls, certificate, pages, silent},
    sight, wrong,
};
use jiff::{SignedDuration, Timestamp};
use lastgood_drivers::{
    check::{Check, Sight},
    probe::{SecretSource, Secrets},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

fn page(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n{body}", body.len())
}

#[test]
fn a_page_is_judged_by_its_status_and_its_json_and_no_answer_is_no_pass() {
    let folder = tempfile::tempdir().unwrap();
    let at = || sight(folder.path());
    let good = pages(|_| page("200 OK", "", r#"{"status":"green","nodes":3}"#));
    let http = |address, more: &str| Check::Http(keys(&format!("url = 'http://{address}/health'\n{more}")));
    assert_eq!(code(&http(good, "json = { '$.status' = 'green', '$.nodes' = 3 }"), &at()), "");
    let (found, unknown, what) = wrong(http(good, "json = { '$.status' = 'red' }").look(&at()));
    assert_eq!((found, unknown), ("preflight-http-json", false), "{what}");
    assert_eq!(wrong(http(good, "status = 204").look(&at())).0, "preflight-http-status");
    let down = pages(|_| page("503 Service Unavailable", "", "no"));
    assert_eq!(wrong(http(down, "").look(&at())).0, "preflight-http-status");
    assert_eq!(code(&http(down, "status = [200, 503]"), &at()), "");
    assert_eq!(wrong(http(down, "status = 503\njson = { '$.a' = 1 }").look(&at())).0, "preflight-http-json");
    // A redirect to a page that is well is not a page that is well.
    let moved = pages(move |_| page("302 Found", &format!("Location: http://{good}/\r\n"), ""));
    assert_eq!(wrong(http(moved, "").look(&at())).0, "preflight-http-status");

    let hangs = Sight { until: Instant::now() + Duration::from_millis(300), ..at() };
    assert!(wrong(http(silent(), "").look(&hangs)).1);
    assert!(!Check::Http(keys(&format!("url = 'http://{good}/'"))).needs_network());
    assert!(Check::Http(keys("url = 'https://example.com/'")).needs_network());
}

#[test]
fn a_header_takes_a_secret_that_is_said_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "hunter2-token").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = Secrets::load(&[("token".to_owned(), SecretSource::File(file))].into(), folder.path()).unwrap();
    let sight = Sight { secrets, ..sight(folder.path()) };
    // It echoes what it was sent.
    let server = pages(|request| {
        let sent = request.contains("Bearer hunter2-token");
        page(if sent { "200 OK" } else { "401 Unauthorized" }, "", r#"{"you":"Bearer hunter2-token"}"#)
    });
    let http = |more: &str| {
        Check::Http(keys(&format!(
            "url = 'http://{server}/'\n{more}headers = {{ Authorization = 'Bearer {{secret:token}}' }}"
        )))
    };
    assert_eq!(code(&http(""), &sight), "");
    let (_, _, what) = wrong(http("json = { '$.you' = 'me' }\n").look(&sight));
    assert!(!what.contains("hunter2"), "{what}");
}

#[test]
fn clocks_that_are_apart_are_found_and_an_old_page_of_a_cache_is_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = || sight(folder.path());
    let date = |ahead: i64, more: &'static str| {
        pages(move |_| {
            let now = Timestamp::now() + SignedDuration::from_secs(ahead);
            page("200 OK", &format!("Date: {}\r\n{more}", now.strftime("%a, %d %b %Y %H:%M:%S GMT")), "")
        })
    };
    let clock = |address| Check::Clock(keys(&format!("kernel = false\nurl = 'http://{address}/'\nskew_max = '30s'")));
    assert_eq!(code(&clock(date(0, "")), &at()), "");
    let (found, unknown, what) = wrong(clock(date(3_600, "")).look(&at()));
    assert_eq!((found, unknown), ("preflight-clock-skewed", false), "{what}");
    assert_eq!(wrong(clock(date(-3_600, "")).look(&at())).0, "preflight-clock-skewed");
    assert_eq!(code(&clock(date(-3_600, "Age: 3600\r\n")), &at()), "");
    assert!(wrong(clock(pages(|_| page("200 OK", "", ""))).look(&at())).1);
}

#[test]
fn a_certificate_is_looked_at_as_it_is_shown_and_as_it_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "one.test", 20);
    let server = Tls::start(folder.path(), "one.test", &[]);
    let shown = |more: &str| Check::Tls(keys(&format!("address = '127.0.0.1:{}'\n{more}", server.port)));
    let at = || sight(folder.path());
    assert_eq!(code(&shown("name = 'one.test'"), &at()), "");
    let (found, _, what) = wrong(shown("name = 'two.test'").look(&at()));
    assert_eq!((found, what.contains("one.test")), ("preflight-tls-name", true), "{what}");
    let (found, unknown, what) = wrong(shown("name = 'one.test'\ndays_min = 30").look(&at()));
    assert_eq!(
        (found, unknown, what.contains("19 days, at least 30")),
        ("preflight-tls-expires", false, true),
        "{what}"
    );
    // In three weeks it has expired, without anybody changing it.
    let later = Sight { now: Timestamp::now() + SignedDuration::from_hours(24 * 21), ..at() };
    let (found, _, what) = wrong(shown("name = 'one.test'\ndays_min = 0").look(&later));
    assert_eq!((found, what.contains("expired on")), ("preflight-tls-expires", true), "{what}");
    let earlier = Sight { now: Timestamp::now() - SignedDuration::from_hours(24), ..at() };
    assert_eq!(wrong(shown("name = 'one.test'").look(&earlier)).0, "preflight-tls-expires");

    let held = |more: &str| Check::Tls(keys(&format!("file = 'one.test.crt'\n{more}")));
    assert_eq!(code(&held("name = 'one.test'"), &at()), "");
    assert_eq!(code(&held("days_min = 30"), &at()), "preflight-tls-expires");
    fs::write(folder.path().join("none"), "no certificate").unwrap();
    assert!(wrong(Check::Tls(keys("file = 'none'")).look(&at())).1);

    let hangs = Sight { until: Instant::now() + Duration::from_millis(300), ..at() };
    let silent = Check::Tls(keys(&format!("address = '{}'\nname = 'one.test'", silent())));
    assert_eq!(wrong(silent.look(&hangs)).0, "preflight-tls-unreachable");
    // A page of a server with a certificate of its own is read where it is trusted, and only there.
    let url = format!("url = 'https://localhost:{}/'", server.port);
    assert_eq!(code(&Check::Http(keys(&format!("{url}\nca = 'one.test.crt'"))), &at()), "");
    assert!(wrong(Check::Http(keys(&url)).look(&at())).1);
}

fn asking(folder: &Path, databases: &[(&str, String)]) -> Sight {
    let file = folder.join("password");
    fs::write(&file, PASSWORD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = Secrets::load(&[("it".to_owned(), SecretSource::File(file))].into(), folder).unwrap();
    let config = |address: &String| keys(&format!("postgres = \"{address}\"\nsecret = 'it'"));
    let databases = databases.iter().map(|(name, address)| ((*name).to_owned(), config(address))).collect();
    Sight { secrets, databases, ..sight(folder) }
}

#[test]
fn a_setting_is_what_the_role_gets_in_its_database_not_what_the_server_has() {
    let server = Postgres::start_with(&["work_mem=8MB"]);
    let folder = tempfile::tempdir().unwrap();
    server.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    let databases = [("admin", server.address(ADMIN, ADMIN)), ("app", server.address("app", ADMIN))];
    let at = || asking(folder.path(), &databases);
    let postgres = |toml: &str| Check::Postgres(keys(toml));
    assert_eq!(code(&postgres("database = 'app'\nsettings = { work_mem = '8MB', fsync = false }"), &at()), "");
    assert_eq!(code(&postgres("database = 'app'\nsettings = { work_mem = '8192kB' }"), &at()), "");
    // We set a limit for our own question; that is not what the role gets.
    assert_eq!(code(&postgres("database = 'app'\nsettings = { statement_timeout = 0 }"), &at()), "");
    let limits = |most: &str| format!("database = 'app'\nsettings = {{ max_connections = {{ at_{most} }} }}");
    assert_eq!(code(&postgres(&limits("least = 50")), &at()), "");
    assert_eq!(wrong(postgres(&limits("most = 50")).look(&at())).0, "preflight-setting-wrong");

    server.sql("ALTER ROLE app SET work_mem = '1MB'");
    let (found, _, what) = wrong(postgres("database = 'app'\nsettings = { work_mem = '8MB' }").look(&at()));
    assert_eq!((found, what.contains("by ALTER ROLE app")), ("preflight-setting-wrong", true), "{what}");
    assert_eq!(code(&postgres("database = 'admin'\nsettings = { work_mem = '8MB' }"), &at()), "");
    // Asked as another role: the override of the role that uses it counts.
    let other = |value| postgres(&format!("database = 'admin'\nrole = 'app'\nsettings = {{ work_mem = '{value}' }}"));
    assert_eq!((code(&other("8MB"), &at()), code(&other("1MB"), &at())), ("preflight-setting-wrong", ""));
    server.sql("ALTER ROLE app IN DATABASE postgres SET work_mem = '2MB'");
    assert_eq!((code(&other("1MB"), &at()), code(&other("2MB"), &at())), ("preflight-setting-wrong", ""));
    server.sql("ALTER ROLE postgres SET lock_timeout = '5s'");
    let hidden = postgres("database = 'admin'\nrole = 'app'\nsettings = { lock_timeout = '5s' }");
    assert_eq!(wrong(hidden.look(&at())).0, "preflight-setting-unknown");
    assert!(wrong(postgres("database = 'app'\nsettings = { no_such = 1 }").look(&at())).1);
}

#[test]
fn a_value_that_waits_for_a_restart_and_a_missing_or_old_extension_are_found() {
    let server = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let databases = [("admin", server.address(ADMIN, ADMIN))];
    let at = || asking(folder.path(), &databases);
    let check = |toml: &str| Check::Postgres(keys(&format!("database = 'admin'\n{toml}")));
    let connections = check("settings = { max_connections = 100 }");
    assert_eq!(code(&connections, &at()), "");
    server.sql("ALTER SYSTEM SET max_connections = 50");
    server.sql("SELECT pg_reload_conf()");
    // The reload is heard a moment later.
    let until = Instant::now() + Duration::from_secs(30);
    while code(&connections, &at()).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wrong(connections.look(&at())).0, "preflight-setting-pending");

    let trgm = |version: &str| check(&format!("extensions = {{ plpgsql = '', pg_trgm = '{version}' }}"));
    assert_eq!(wrong(trgm("").look(&at())).0, "preflight-extension-missing");
    server.sql("CREATE EXTENSION pg_trgm");
    assert_eq!(code(&trgm("1.3"), &at()), "");
    assert_eq!(wrong(trgm("99.1").look(&at())).0, "preflight-extension-old");
    let mut gone = server;
    gone.stop();
    assert!(wrong(trgm("").look(&at())).1);
}

#[test]
fn a_job_of_pg_cron_counts_once_it_has_really_succeeded() {
    let server = Postgres::start_with(&[
        "shared_preload_libraries=pg_cron",
        "cron.database_name=postgres",
        // By connections: background workers of pg_cron 1.4 wait for each other.
        "cron.host=127.0.0.1",
    ]);
    server.log_ins("local all all scram-sha-256\nhost all all 127.0.0.1/32 trust\n");
    let folder = tempfile::tempdir().unwrap();
    let databases = [("admin", server.address(ADMIN, ADMIN))];
    let at = || asking(folder.path(), &databases);
    let job = |name: &str| Check::PgCron(keys(&format!("database = 'admin'\njob = '{name}'\nage_max = '5m'")));
    assert_eq!(wrong(job("tick").look(&at())).0, "preflight-extension-missing");
    server.sql("CREATE EXTENSION pg_cron");
    assert_eq!(wrong(job("tick").look(&at())).0, "preflight-job-missing");
    server.sql("SELECT cron.schedule('tick', '* * * * *', 'SELECT 1')");
    server.sql("SELECT cron.schedule('slow', '* * * * *', 'SELECT pg_sleep(600)')");
    server.sql("SELECT cron.schedule('broken', '* * * * *', 'SELECT 1/0')");
    assert_eq!(wrong(job("tick").look(&at())).0, "preflight-job-never");
    // Each is started at the next full minute.
    let until = Instant::now() + Duration::from_secs(100);
    let runs = "SELECT string_agg(status, ' ' ORDER BY status) FROM cron.job_run_details";
    while server.sql(runs) != "failed running succeeded" && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(code(&job("tick"), &at()), "", "{}", server.sql("SELECT * FROM cron.job_run_details"));
    // It was started, and that is no success.
    assert_eq!(wrong(job("slow").look(&at())).0, "preflight-job-never");
    let (found, _, what) = wrong(job("broken").look(&at()));
    assert_eq!((found, what.contains("division by zero")), ("preflight-job-failed", true), "{what}");
    server.sql("UPDATE cron.job SET active = false WHERE jobname = 'tick'");
    assert_eq!(wrong(job("tick").look(&at())).0, "preflight-job-inactive");
}
