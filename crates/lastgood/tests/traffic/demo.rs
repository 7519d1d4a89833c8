//! `lastgood demo --traffic` tells its story to the end and leaves nothing behind.

use std::{
    fs,
    process::{Command, Stdio},
};

#[test]
fn the_demo_of_shared_traffic_ends_well_and_leaves_no_process() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("demo");
    let output = Command::new("timeout")
        .args(["-k", "5", "240", env!("CARGO_BIN_EXE_lastgood"), "demo", "--traffic", "--keep"])
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let lines = [
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
    ];
    let mut rest = said.as_str();
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("not {line:?}, in this order, in {said}") };
        rest = &rest[at..];
    }
    assert_eq!(said.matches("none lost, none twice").count(), 3, "{said}");
    let left: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder.to_str().unwrap()))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "{said}");
}
