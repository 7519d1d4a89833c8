//! What is repeated of the output of programs that really failed.

use lastgood_drivers::probe::LogPatterns;
use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

/// Runs a program that fails and gives what is repeated of what it wrote.
fn reason_of(command: &mut Command) -> String {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let out = File::create(&log).unwrap();
    let status = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    assert!(!status.success());
    LogPatterns::new(&[]).unwrap().reason(&log, 0).unwrap()
}

fn script(program: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.js");
    fs::write(&file, text).unwrap();
    reason_of(Command::new(program).arg(file))
}

#[test]
fn nodes_error_is_repeated_and_not_the_end_of_its_stack() {
    // As the sync server of Actual fails on data that is newer than itself.
    let migrate = "console.log('listening');
        async function migrate() {
            await null;
            throw new Error('Missing migration file: 1763873568237-server-global-prefs.js');
        }
        migrate();";
    assert_eq!(script("node", migrate), "Error: Missing migration file: 1763873568237-server-global-prefs.js");
    assert_eq!(script("node", "throw new TypeError('no account')"), "TypeError: no account");
    let open = "require('fs').openSync('/nowhere/account.sqlite')";
    assert_eq!(script("node", open), "Error: ENOENT: no such file or directory, open '/nowhere/account.sqlite'");
    let caused = "throw new Error('the upgrade failed', { cause: new RangeError('version 9') })";
    assert_eq!(script("node", caused), "Error: the upgrade failed");
    let said = "console.log('starting'); console.error('the data is newer than this program'); process.exit(1)";
    assert_eq!(script("node", said), "starting / the data is newer than this program");
}

#[test]
fn pythons_error_is_repeated_with_the_one_behind_it() {
    let chained = "
import sqlite3
print('starting')
try:
    sqlite3.connect(':memory:').execute('select * from accounts')
except Exception as error:
    raise RuntimeError('migration 12 could not be applied') from error
";
    assert_eq!(
        script("python3", chained),
        "sqlite3.OperationalError: no such table: accounts / RuntimeError: migration 12 could not be applied"
    );
    let own = "
class TooNew(Exception):
    pass
raise TooNew('the data has version 9')
";
    assert_eq!(script("python3", own), "TooNew: the data has version 9");
    assert_eq!(script("python3", "import sys; print('hello'); sys.exit('no data')").lines().count(), 1);
    let logged = "
import logging, sys
logging.basicConfig(level='INFO')
logging.error('migration 0007 failed')
for line in range(40): logging.info('closing %s', line)
sys.exit(1)
";
    assert_eq!(script("python3", logged), "ERROR:root:migration 0007 failed / INFO:root:closing 39");
}

#[test]
fn rusts_panic_is_repeated_with_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(
        folder.path(),
        "fn main() -> Result<(), std::io::Error> {
            if std::env::args().count() > 1 { panic!(\"the schema has version 9\") }
            std::fs::read(\"/nowhere\").map(drop)
        }",
    );
    for backtrace in ["0", "1"] {
        let said = reason_of(Command::new(&program).arg("panic").env("RUST_BACKTRACE", backtrace));
        assert!(said.starts_with("thread 'main'") && said.ends_with(": the schema has version 9"), "{said}");
    }
    let said = reason_of(&mut Command::new(&program));
    assert_eq!(said, "Error: Os { code: 2, kind: NotFound, message: \"No such file or directory\" }");
}

fn compiled(folder: &Path, text: &str) -> std::path::PathBuf {
    let (source, program) = (folder.join("program.rs"), folder.join("program"));
    fs::write(&source, text).unwrap();
    let status = Command::new("rustc").arg(&source).arg("-o").arg(&program).status().unwrap();
    assert!(status.success());
    program
}

#[test]
fn a_reason_is_bounded_and_only_of_what_came_after_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let patterns = LogPatterns::new(&["E42".into()]).unwrap();
    fs::write(&log, "Error: of the time before\nstarting\n").unwrap();
    assert_eq!(patterns.reason(&log, 26).as_deref(), Some("starting"));
    fs::write(&log, "").unwrap();
    assert_eq!(patterns.reason(&log, 0), None);
    assert_eq!(patterns.reason(&folder.path().join("none"), 0), None);
    fs::write(&log, format!("E42 {}\n", "x".repeat(10_000)).repeat(40)).unwrap();
    assert_eq!(patterns.reason(&log, 0).unwrap().chars().count(), 2 * 301 + 3);
    fs::write(&log, "one\ntwo\nthree\nfour\nfive\n").unwrap();
    assert_eq!(patterns.reason(&log, 0).as_deref(), Some("two / three / four / five"));
}
