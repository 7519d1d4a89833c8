//! Services of other people, from their registries, with real data and a real login, there and back.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

use rusqlite::Connection;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

/// Every configuration that the examples have.
const EXAMPLES: [&str; 7] = [
    "actual-server/first-run.toml",
    "actual-server/lastgood.toml",
    "cloud-surface/lastgood.toml",
    "failing-cycle/lastgood.toml",
    "isso/lastgood.toml",
    "last-layer/lastgood.toml",
    "notebook/lastgood.toml",
];
/// The configurations of one example: the daily one, and one for its first run if it has one.
const CONFIGURATIONS: [&str; 2] = ["lastgood.toml", "first-run.toml"];

/// A folder with the configurations of an example, with one instance on a free port.
struct Farm {
    folder: tempfile::TempDir,
    port: u16,
}

impl Farm {
    fn of(example: &str, service: &str, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-real-").tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let farm = Self { folder, port };
        for file in CONFIGURATIONS {
            let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
            // The example as it is shipped, with one instance of our own in place of its instances.
            let first = text.find("[[service.").unwrap();
            let probes = text[..text.find(".probe]]").unwrap()].rfind("[[").unwrap();
            let (head, probes) = (&text[..first], &text[probes..]);
            let head = head.replace("runtime = { process = {} }", &format!("runtime = {{ process = {{}} }}\n{more}"));
            let instance = format!(
                "[[service.{service}.instance]]\nname = \"alice\"\nport = {port}\ndata = \"run/data/alice\"\n\n"
            );
            fs::write(farm.path(file), format!("{head}{instance}{probes}")).unwrap();
        }
        fs::create_dir_all(farm.path("run/data/alice")).unwrap();
        for file in ["start"] {
            if root.join(file).exists() {
                fs::copy(root.join(file), farm.path(file)).unwrap();
            }
        }
        farm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lastgood(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lastgood")).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// Runs a command that must end with exit code 0.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.lastgood(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "lastgood {}: {}\n{said}", arguments.join(" "), output.status);
        said
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n", self.port);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = &answer[end + 4..];
        (status, if head.contains("transfer-encoding: chunked") { dechunked(body) } else { body.to_vec() })
    }

    fn ask_json(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        let (status, answer) = self.ask("POST", path, &all, body.to_string().as_bytes());
        assert!(status < 300, "{path}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap()
    }

    fn release(&self) -> String {
        let status: Value = serde_json::from_slice(&self.lastgood(&["--json", "status"]).stdout).unwrap();
        status["data"]["services"][0]["instances"][0]["release"].as_str().unwrap().to_owned()
    }
}

impl Drop for Farm {
    /// Ends the instance that outlives lastgood, found by its data folder in its environment.
    fn drop(&mut self) {
        let mark = self.folder.path().display().to_string();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid.parse::<u32>().is_ok() && String::from_utf8_lossy(&environ).contains(&mark) {
                let _ = Command::new("kill").args(["-9", &pid]).status();
            }
        }
    }
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(String::from_utf8_lossy(&body[..end]).trim(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

/// Everything in a folder: files by their content, databases by their rows.
fn content(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let said = if bytes.starts_with(b"SQLite format 3\0") { rows(&path) } else { format!("{bytes:?}") };
        all.insert(name, said);
    }
    all
}

fn rows(database: &Path) -> String {
    let connection = Connection::open(database).unwrap();
    let mut tables = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let tables: Vec<(String, Option<String>)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let mut said = String::new();
    for (table, sql) in &tables {
        said += &format!("{table} {sql:?}\n");
        if sql.as_deref().is_some_and(|sql| sql.to_uppercase().starts_with("CREATE TABLE")) {
            let mut all = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
            let columns = all.column_count();
            let mut found = all.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                for column in 0..columns {
                    said += &format!("{:?}|", row.get_ref(column).unwrap());
                }
                said.push('\n');
            }
        }
    }
    said
}

#[test]
fn actual_server_moves_from_25_6_0_to_26_9_0_and_back_with_its_data() {
    let farm = Farm::of("actual-server", "actual", "rollout = { soak = \"300ms\" }");
    let password = "a password of this test";
    fs::write(farm.path("run/server-password"), password).unwrap();
    fs::set_permissions(farm.path("run/server-password"), fs::Permissions::from_mode(0o600)).unwrap();
    farm.done(&["pin", "actual", "25.6.0", "--reason", "begin with the old one"]);
    // The daily probe sets no password: without its first run a new server is not accepted, and not rejected either.
    let refused = farm.lastgood(&["run"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("rehearsal, candidate: FAILED") && said.contains("log in"), "{said}");
    assert!(!said.contains("is rejected"), "{said}");
    farm.done(&["--config", "first-run.toml", "run"]);
    assert_eq!(farm.release(), "25.6.0");
    farm.done(&["run"]);

    // Real data: a budget, uploaded as the clients do.
    let login = || farm.ask_json("/account/login", &[], &json!({ "loginMethod": "password", "password": password }));
    let token = login()["data"]["token"].as_str().unwrap().to_owned();
    let file = "7d6a6c1e-2f6b-4b55-9f2b-0d8a1a2b3c4d";
    let budget: Vec<u8> = (0..40_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let headers = [
        ("x-actual-token", token.as_str()),
        ("x-actual-file-id", file),
        ("x-actual-name", "household"),
        ("x-actual-format", "2"),
        ("Content-Type", "application/encrypted-file"),
    ];
    let (status, answer) = farm.ask("POST", "/sync/upload-user-file", &headers, &budget);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let before = content(&farm.path("run/data/alice"));
    assert_eq!(migrations_done(&farm), 6);

    farm.done(&["pin", "actual", "26.9.0", "--reason", "the next one"]);
    let said = farm.done(&["run"]);
    assert_eq!(farm.release(), "26.9.0");
    // Node prints its error before the stack; the reason is what matters.
    let reason = "Error: Missing migration file: 1763873568237-server-global-prefs.js";
    let way_back = said.lines().find(|line| line.contains("way back from 26.9.0: restore"));
    assert!(way_back.is_some_and(|line| line.contains(reason)), "{said}");
    assert_eq!(migrations_done(&farm), 8);
    login();

    farm.done(&["--yes", "rollback", "actual", "--reason", "the test goes back"]);
    assert_eq!(farm.release(), "25.6.0");
    let (status, downloaded) = farm.ask("GET", "/sync/download-user-file", &headers[..2], b"");
    assert_eq!(status, 200);
    assert!(downloaded == budget, "the budget came back as other bytes");
    assert_eq!(login()["data"]["token"].as_str().unwrap(), token);
    let after = content(&farm.path("run/data/alice"));
    assert!(!after["server-files/account.sqlite"].contains("server_prefs"));
    // Every file with its bytes, every row of the database: accounts, sessions, the list of budgets.
    for (name, was) in &before {
        assert!(after.get(name) == Some(was), "{name} is not as it was:\n{was}\n{:?}", after.get(name));
    }
    assert_eq!(after.len(), before.len());
    farm.done(&["evidence", "verify"]);

    // What has lost every account does not pass, although the server answers and would take a first password.
    let accounts = Connection::open(farm.path("run/data/alice/server-files/account.sqlite")).unwrap();
    accounts.execute_batch("DELETE FROM auth; DELETE FROM sessions;").unwrap();
    farm.done(&["waive", "actual", "26.9.0", "--reason", "try it on lost accounts"]);
    let lost = farm.lastgood(&["run", "--dry-run"]);
    assert!(!lost.status.success());
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(said.contains("the gate is broken") && said.contains("log in"), "{said}");
}

fn migrations_done(farm: &Farm) -> usize {
    let state = fs::read(farm.path("run/data/alice/.migrate")).unwrap();
    serde_json::from_slice::<Value>(&state).unwrap()["migrations"].as_array().unwrap().len()
}

#[test]
fn isso_moves_between_releases_from_pypi_and_keeps_comments() {
    let farm = Farm::of("isso", "isso", "rollout = { soak = \"300ms\" }");
    farm.done(&["pin", "isso", "0.13.2", "--reason", "begin with the old one"]);
    farm.done(&["run"]);
    assert_eq!(farm.release(), "0.13.2");
    comment(&farm, "written before the move");
    assert_eq!(user_version(&farm), 3);

    farm.done(&["pin", "isso", "0.14.0", "--reason", "the next one"]);
    let said = farm.done(&["run"]);
    assert_eq!(farm.release(), "0.14.0");
    assert_eq!(said.matches(": passed, ready after").count(), 3, "{said}");
    assert!(said.contains("last-good can use the migrated data"), "{said}");
    assert!(said.contains("way back from 0.14.0: code-only"), "{said}");
    assert_eq!(user_version(&farm), 5);
    comment(&farm, "written after the move");

    let said = farm.done(&["--yes", "rollback", "isso", "--reason", "the test goes back"]);
    assert!(said.contains("alice: 0.14.0 -> 0.13.2, its data stays as it is"), "{said}");
    assert_eq!(farm.release(), "0.13.2");
    comment(&farm, "written after the way back");
    assert_eq!(
        comments(&farm),
        ["<p>written before the move</p>", "<p>written after the move</p>", "<p>written after the way back</p>"]
    );
    farm.done(&["evidence", "verify"]);
}

fn comment(farm: &Farm, text: &str) {
    farm.ask_json("/new?uri=/a-page/", &[], &json!({ "text": text, "author": "bob", "title": "a page" }));
}

fn comments(farm: &Farm) -> Vec<String> {
    let (status, answer) = farm.ask("GET", "/?uri=/a-page/", &[], b"");
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["replies"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

fn user_version(farm: &Farm) -> u32 {
    let database = Connection::open(farm.path("run/data/alice/comments.db")).unwrap();
    database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn init_asks_npm_and_pip_themselves_which_programs_a_package_brings() {
    let folder = tempfile::tempdir().unwrap();
    for (channel, program, needs) in [
        ("npm:@actual-app/sync-server", "{release}/node_modules/.bin/actual-server", "# It needs node "),
        ("pypi:isso", "{release}/bin/isso", "# The only program: entry points of the wheel."),
    ] {
        let file = folder.path().join(channel.replace([':', '/'], "-")).with_extension("toml");
        let mut init = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        let said = init.arg("--config").arg(&file).args(["init", channel]).current_dir(folder.path()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("command = [\"{program}\"]")) && text.contains(needs), "{text}");
    }
}

#[test]
fn a_first_run_is_the_daily_one_but_for_its_schedule_and_its_log_in() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/actual-server");
    let read = |file: &str| -> toml::Table { fs::read_to_string(example.join(file)).unwrap().parse().unwrap() };
    let [mut daily, mut first] = CONFIGURATIONS.map(read);
    assert!(!daily.to_string().contains("/account/bootstrap"), "the daily probe heals what it should find");
    let service = |all: &mut toml::Table| all["service"]["actual"].as_table_mut().unwrap().clone();
    let (mut daily_service, mut first_service) = (service(&mut daily), service(&mut first));
    assert!(daily_service.remove("schedule").is_some());
    let probe = |all: &mut toml::Table| all.remove("probe").unwrap().as_array().unwrap().clone();
    let (daily_probe, first_probe) = (probe(&mut daily_service), probe(&mut first_service));
    assert_eq!(daily_probe[1..], first_probe[1..]);
    assert_eq!(daily_service, first_service);
    assert_eq!((&daily["state_dir"], &daily["secret"]), (&first["state_dir"], &first["secret"]));
}

#[test]
fn every_example_is_a_configuration_as_it_stands() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut checked = Vec::new();
    for example in fs::read_dir(&examples).unwrap() {
        let example = example.unwrap();
        for file in fs::read_dir(example.path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let name = file.strip_prefix(&examples).unwrap().display().to_string();
            let output = Command::new(env!("CARGO_BIN_EXE_lastgood"))
                .args(["--config", file.to_str().unwrap(), "config", "check"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            checked.push(name);
        }
    }
    checked.sort();
    assert_eq!(checked, EXAMPLES);
}
