//! Each release does what the catalogue says of it: real folders, real processes, real HTTP.

use crate::instance::{Instance, PASSWORD, publish, refused_start, release};
use lastgood_notebook::{Fault, Release, Seed, migrations_of, seed};
use serde_json::json;
use std::path::Path;

const V1: &str = "/account/login";
const V2: &str = "/v2/login";

/// Fills data as the release would, for the names and two more accounts, and gives the folder.
fn data_of(version: &str, names: &[&str], world: &Path) -> std::path::PathBuf {
    let data = world.join("data");
    let release = release(version);
    seed(&data, &Seed { release: &release, names, accounts: 2, notes: 3, password: PASSWORD }).unwrap();
    data
}

fn numbers(data: &Path) -> Vec<u32> {
    migrations_of(&data.join("notebook.sqlite")).unwrap().into_keys().collect()
}

#[test]
fn the_first_release_keeps_accounts_and_notes() {
    let world = tempfile::tempdir().unwrap();
    let folder = publish(&release("1.0.0"), &world.path().join("releases"));
    let data = world.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let notebook = Instance::start(&folder, &data);

    assert_eq!(notebook.get("/health", ""), (200, json!({ "status": "ok", "version": "1.0.0" })));
    assert_eq!(notebook.get("/version", ""), (200, json!({ "version": "1.0.0", "migrations": [1] })));
    let who = json!({ "name": "probe", "password": PASSWORD });
    assert_eq!(notebook.post("/account/bootstrap", &who), (201, json!({ "name": "probe" })));
    assert_eq!(notebook.post("/account/bootstrap", &who).0, 409);
    let token = notebook.token_at(V1, "probe");
    assert_eq!(notebook.post_as(&token, "/notes", &json!({ "text": "first" })), (201, json!({ "id": 1 })));
    assert_eq!(notebook.get("/notes", &token), (200, json!({ "total": 1, "notes": [{ "id": 1, "text": "first" }] })));
    assert_eq!(
        notebook.post_as(&token, "/notes/bulk", &json!({ "count": 250 })),
        (201, json!({ "written": 250, "last": 251 }))
    );
    assert_eq!(notebook.get("/notes", &token).1["total"], 251);
    assert_eq!(notebook.get("/notes", "no such token").0, 401);
    assert_eq!(notebook.post(V1, &json!({ "name": "probe", "password": "wrong" })).0, 401);
    assert_eq!(notebook.log_in_at(V2, "probe").0, 404, "1.0.0 has only the old login");
    assert_eq!(numbers(&data), [1]);
}

#[test]
fn a_session_is_found_again_by_its_cookie_and_after_a_restart() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("1.0.0", &["probe"], world.path());
    let folder = publish(&release("1.0.0"), &world.path().join("releases"));
    let notebook = Instance::start(&folder, &data);
    let body = json!({ "name": "probe", "password": PASSWORD }).to_string();
    let answer = crate::instance::agent().post(notebook.url(V1)).send(body).unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(notebook.stop(), "told to stop, it ends well");

    let notebook = Instance::start(&folder, &data);
    let pair = cookie.split(';').next().unwrap();
    let answer = crate::instance::agent().get(notebook.url("/notes")).header("Cookie", pair).call().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[test]
fn a_tolerant_release_starts_on_an_additive_migration() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("1.1.0", &["probe"], world.path());
    assert_eq!(numbers(&data), [1, 2]);
    let old = Instance::start(&publish(&release("1.0.0"), &releases), &data);
    let token = old.token_at(V1, "probe");
    assert_eq!(old.post_as(&token, "/notes", &json!({ "text": "by the old" })).0, 201);
    old.kill();
    let new = Instance::start(&publish(&release("1.1.0"), &releases), &data);
    assert_eq!(new.get("/notes", &token).1["total"], 4);
}

#[test]
fn the_same_release_without_tolerance_refuses_the_additive_migration() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("1.1.0", &[], world.path());
    let strict = Release { tolerant: false, ..release("1.0.0") };
    let ended = refused_start(&publish(&strict, &world.path().join("releases")), &data);
    assert!(!ended.success);
    assert_eq!(ended.log, "notebook: unknown migration 2 (add_pinned): the data is newer than release 1.0.0\n");
}

#[test]
fn the_breaking_migration_keeps_everything_and_shuts_out_older_releases() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("1.0.0", &["probe", "café o'clock"], world.path());
    let new = Instance::start(&publish(&release("2.0.0"), &releases), &data);
    for name in ["probe", "café o'clock", "reader-1", "reader-2"] {
        let token = new.token_at(V2, name);
        assert_eq!(new.get("/notes", &token).1["total"], 3, "{name}");
    }
    assert_eq!(new.log_in_at(V1, "probe").0, 200, "the old login stays as fallback");
    new.kill();
    assert_eq!(numbers(&data), [1, 2, 3]);

    // 1.0.0 is tolerant, but this migration is not additive.
    for old in ["1.0.0", "1.1.0"] {
        let ended = refused_start(&publish(&release(old), &releases), &data);
        assert!(!ended.success);
        assert_eq!(
            ended.log,
            format!("notebook: unknown migration 3 (split_account): the data is newer than release {old}\n")
        );
    }
    let after = Instance::start(&publish(&release("2.0.0"), &releases), &data);
    assert_eq!(after.log_in_at(V2, "probe").0, 200, "a refused start breaks nothing");
    assert_eq!(numbers(&data), [1, 2, 3]);
}

#[test]
fn release_2_1_0_is_healthy_and_nobody_can_log_in() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("2.0.0", &["probe"], world.path());
    let bad = Instance::start(&publish(&release("2.1.0"), &releases), &data);
    assert_eq!(bad.get("/health", "").0, 200);
    for name in ["probe", "reader-1", "reader-2"] {
        assert_eq!(bad.log_in_at(V2, name).0, 401, "{name}");
        assert_eq!(bad.log_in_at(V1, name).0, 401, "{name}");
    }
    bad.kill();
    assert_eq!(numbers(&data), [1, 2, 3, 4]);
    let ended = refused_start(&publish(&release("2.0.0"), &releases), &data);
    assert!(ended.log.contains("unknown migration 4 (shorten_hashes)"), "{}", ended.log);
}

#[test]
fn release_2_2_0_is_healthy_and_its_login_answers_500_without_touching_the_data() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("2.0.0", &["probe"], world.path());
    let bad = Instance::start(&publish(&release("2.2.0"), &releases), &data);
    assert_eq!(bad.get("/health", "").0, 200);
    assert_eq!(bad.log_in_at(V2, "probe").0, 500);
    assert_eq!(bad.log_in_at(V1, "probe").0, 500);
    bad.kill();
    assert_eq!(numbers(&data), [1, 2, 3]);
    let good = Instance::start(&publish(&release("2.0.0"), &releases), &data);
    assert_eq!(good.log_in_at(V2, "probe").0, 200, "its way back is code only");
}

#[test]
fn release_2_3_0_shuts_out_only_names_with_an_apostrophe_or_a_letter_outside_ascii() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("2.0.0", &["probe", "café", "o'clock", "oclock", "жж"], world.path());
    let bad = Instance::start(&publish(&release("2.3.0"), &world.path().join("releases")), &data);
    let statuses: Vec<u16> =
        ["probe", "reader-1", "oclock", "café", "o'clock", "жж"].map(|name| bad.log_in_at(V2, name).0).into();
    assert_eq!(statuses, [200, 200, 200, 401, 401, 401]);
    assert_eq!(numbers(&data), [1, 2, 3, 5]);
}

#[test]
fn release_2_4_0_dies_by_itself_and_another_start_finds_the_data() {
    assert_eq!(release("2.4.0").fault, Fault::Crash { after_ms: 60_000 });
    let world = tempfile::tempdir().unwrap();
    let data = data_of("2.0.0", &["probe"], world.path());
    let sooner = Release { fault: Fault::Crash { after_ms: 50 }, ..release("2.4.0") };
    let folder = publish(&sooner, &world.path().join("releases"));
    let mut bad = Instance::start(&folder, &data);
    assert!(!bad.end(), "it aborts");
    let good = Instance::start(&publish(&release("2.5.0"), &world.path().join("releases")), &data);
    assert_eq!(good.log_in_at(V2, "probe").0, 200);
}

#[test]
fn release_2_5_0_is_good_and_moves_in_either_direction() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("1.0.0", &["probe"], world.path());
    for version in ["2.5.0", "2.0.0", "2.5.0"] {
        let notebook = Instance::start(&publish(&release(version), &releases), &data);
        assert_eq!(notebook.get("/version", "").1["version"], version);
        assert_eq!(notebook.log_in_at(V2, "probe").0, 200, "{version}");
    }
}

#[test]
fn release_3_0_0_never_ends_its_migration_and_a_kill_leaves_nothing_of_it() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("1.0.0", &["probe"], world.path());
    let mut hanging = Instance::spawn(&publish(&release("3.0.0"), &releases), &data);
    // The migrations before it are done and written down: it is in the endless one.
    while numbers(&data) != [1, 2, 3] {
        assert!(hanging.is_running());
        std::thread::yield_now();
    }
    let other = rusqlite::Connection::open(data.join("notebook.sqlite")).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    while other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
        assert!(hanging.is_running());
        std::thread::yield_now();
    }
    drop(other);
    assert!(hanging.is_running());
    assert!(!hanging.stop(), "SIGTERM ends it, badly");
    assert_eq!(numbers(&data), [1, 2, 3]);
    let good = Instance::start(&publish(&release("2.5.0"), &releases), &data);
    assert_eq!(good.log_in_at(V2, "probe").0, 200);
}

#[test]
fn release_3_1_0_answers_and_is_never_ready() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("2.0.0", &["probe"], world.path());
    let bad = Instance::start(&publish(&release("3.1.0"), &world.path().join("releases")), &data);
    assert_eq!(bad.get("/health", ""), (503, json!({ "status": "starting" })));
    assert_eq!(bad.log_in_at(V2, "probe").0, 200);
    assert_eq!(bad.log_in_at(V1, "probe").0, 404, "the third series has no fallback any more");
}

#[test]
fn release_3_2_0_gets_slow_but_its_health_page_does_not() {
    assert_eq!(release("3.2.0").fault, Fault::Slow { after_ms: 5_000, by_ms: 1_800 });
    let world = tempfile::tempdir().unwrap();
    let data = data_of("2.0.0", &["probe"], world.path());
    // Slower than any patience, so that no clock is needed to see it.
    let slow = Release { fault: Fault::Slow { after_ms: 0, by_ms: 3_600_000 }, ..release("3.2.0") };
    let bad = Instance::start(&publish(&slow, &world.path().join("releases")), &data);
    let (tell, told) = std::sync::mpsc::channel();
    let url = bad.url("/version");
    std::thread::spawn(move || {
        let answered = crate::instance::agent().get(url).call().is_ok();
        tell.send(answered).unwrap();
    });
    assert_eq!(bad.get("/health", "").0, 200);
    assert!(told.try_recv().is_err(), "the other page has not answered yet");
    bad.kill();
    assert!(!told.recv_timeout(crate::instance::PATIENCE).unwrap());
}

#[test]
fn release_3_3_0_says_that_its_migration_failed_and_serves_all_the_same() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let data = data_of("2.0.0", &["probe"], world.path());
    let mut bad = Instance::spawn(&publish(&release("3.3.0"), &releases), &data);
    assert_eq!(
        bad.await_line("migration"),
        "notebook: migration failed: 7 note_index: no such column: label in \
         CREATE INDEX note_of_label ON note (label) at offset 36"
    );
    bad.port = bad.await_line("listens on").rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(bad.get("/health", "").0, 200);
    assert_eq!(bad.log_in_at(V2, "probe").0, 200);
    assert_eq!(numbers(&data), [1, 2, 3]);
    bad.kill();

    let honest = Release { fault: Fault::None, version: "3.3.1".to_owned(), ..release("3.3.0") };
    let ended = refused_start(&publish(&honest, &releases), &data);
    assert!(!ended.success, "a release without the fault stops at the same failure");
    assert!(ended.log.starts_with("notebook: migration failed: 7 note_index: "), "{}", ended.log);
}

#[test]
fn an_open_session_makes_the_instance_busy_until_it_is_closed() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("1.0.0", &[], world.path());
    let notebook = Instance::start(&publish(&release("1.0.0"), &world.path().join("releases")), &data);
    assert_eq!(notebook.get("/busy", ""), (200, json!({ "busy": false, "open": 0 })));
    assert_eq!(notebook.post("/session/open", &json!({})), (200, json!({ "busy": true, "open": 1 })));
    assert_eq!(notebook.post("/session/open", &json!({})), (200, json!({ "busy": true, "open": 2 })));
    assert_eq!(notebook.post("/session/close", &json!({})), (200, json!({ "busy": true, "open": 1 })));
    assert_eq!(notebook.get("/busy", ""), (200, json!({ "busy": true, "open": 1 })));
    assert_eq!(notebook.post("/session/close", &json!({})).1["busy"], false);
    assert_eq!(notebook.post("/session/close", &json!({})).0, 409);
}

#[test]
fn the_access_log_tells_the_fallback_from_the_main_way() {
    let world = tempfile::tempdir().unwrap();
    let data = data_of("2.0.0", &["probe"], world.path());
    let notebook = Instance::start(&publish(&release("2.0.0"), &world.path().join("releases")), &data);
    notebook.log_in_at(V2, "probe");
    notebook.log_in_at(V1, "probe");
    notebook.log_in_at(V2, "nobody");
    notebook.get("/nowhere?name=probe", "");
    let log = std::fs::read_to_string(data.join("access.log")).unwrap();
    let lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "POST /v2/login 200 main",
            "POST /account/login 200 fallback",
            "POST /v2/login 401 main",
            "GET /nowhere 404 main"
        ]
    );
    let time = log.split(' ').next().unwrap();
    assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len());
    assert!(!log.contains(PASSWORD));
}
