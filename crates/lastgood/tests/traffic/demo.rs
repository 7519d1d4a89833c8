//! `lastgood demo` and `lastgood demo --traffic` tell their stories to the end and leave nothing behind.

use crate::kit::until;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn the_demo_of_shared_traffic_ends_well_and_leaves_no_process() {
    let said = told(
        &["--traffic"],
        &[
            "== 2. 60 people talk",
            "20 % of the traffic for at least 2.0 s",
            "100 % of the traffic",
            "the people: 0 requests failed",
            "== 3. 1.2.0 fails",
            "all traffic goes back from 1.2.0 to 1.1.0",
            "requests failed",
            "lastgood switch trip auth: a post is answered 503, a read 200",
            "lastgood switch reset auth: a post is answered 201, a read 200",
            "5 chapters in",
            "nobody lost a message, and the evidence holds",
        ],
    );
    assert_eq!(said.matches("none lost, none twice").count(), 3, "{said}");
}

#[test]
fn the_demo_of_five_people_reads_every_note_back_and_leaves_no_process() {
    told(
        &[],
        &[
            "== 2. 1.1.0 is good",
            "dave is deferred: busy",
            "== 3. 2.1.0 breaks every login",
            "rehearsal, candidate: FAILED",
            "== 4. 2.3.0 passes the rehearsal",
            "rehearsal, control: passed",
            "rehearsal, restart: passed",
            "rehearsal, way back: last-good can't use the migrated data",
            "carol is back and answers",
            "== 7. 2.5.0 comes again with other bytes",
            "30 notes were written between the chapters, 30 are read back",
            "8 chapters in",
            "nobody lost a note, and the evidence holds",
        ],
    );
}

#[test]
fn an_interrupted_demo_stops_what_it_has_started() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("demo");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_lastgood"))
        .args(["demo", "--traffic", "--keep"])
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the proxy", || left_of(&folder).iter().any(|line| line.contains("proxy --settings")));
    assert!(Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success());
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    until("the end of all processes", || left_of(&folder).is_empty());
}

/// Has a story told to its end, with these lines in this order and no process left; gives what it said.
fn told(arguments: &[&str], lines: &[&str]) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("demo");
    let output = Command::new("timeout")
        .args(["-k", "5", "240", env!("CARGO_BIN_EXE_lastgood"), "demo"])
        .args(arguments)
        .arg("--keep")
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let mut rest = said.as_str();
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("not {line:?}, in this order, in {said}") };
        rest = &rest[at..];
    }
    assert_eq!(left_of(&folder), Vec::<String>::new(), "{said}");
    said
}

/// Gives the command lines of the processes that have to do with the folder.
fn left_of(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}
