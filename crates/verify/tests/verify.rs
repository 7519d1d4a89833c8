//! The real binary on real files: what it accepts, what it refuses, and what it says then.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{
        Base64Bytes, ChainId, ChainName, Checkpoint, ConsistencyBundle, ExportEnd, ExportHeader, ExportLine,
        ExportRecord, Frontier, Head, NoteKey, RecordBundle, SignedCheckpoint, consistency_proof, inclusion_proof,
        leaf, origin_of,
    },
    terms::{Digest, Timestamp},
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

const INSTALLATION: &str = "lastgood/4be1d06f93a7c521";

fn key() -> NoteKey {
    NoteKey::from_seed(INSTALLATION, &[5; 32]).unwrap()
}

fn vkey() -> String {
    key().verifier().to_string()
}

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    format!("record {seq}").into_bytes()
}

/// Signs the first `size` records of the one fixed chain.
fn signed(size: u64) -> (SignedCheckpoint, Vec<Digest>) {
    let (mut head, mut frontier) = (Head::EMPTY, Frontier::default());
    let leaves: Vec<_> = (0..size).map(|seq| leaf(&payload(seq))).collect();
    for (at, leaf) in (0..).zip(&leaves) {
        head = head.then(&ChainId::of(&actual()), Timestamp(at), leaf);
        frontier.append(*leaf);
    }
    let checkpoint = Checkpoint { origin: origin_of(INSTALLATION, &actual()), head, root: frontier.root() };
    (checkpoint.sign(&key()).unwrap(), leaves)
}

/// A whole export of nine records.
fn export() -> String {
    let (signed, leaves) = signed(9);
    let header = ExportHeader {
        schema: ExportHeader::SCHEMA.into(),
        chain: actual(),
        from: 0,
        to: 9,
        previous: Head::EMPTY.link,
        frontier: vec![],
        checkpoint: signed.note().into(),
        consistency: vec![],
        vkey: vkey(),
    };
    let mut lines = vec![ExportLine::Open(header)];
    let mut head = Head::EMPTY;
    for (seq, leaf) in (0u64..).zip(&leaves) {
        let at = Timestamp(i64::try_from(seq).unwrap());
        head = head.then(&ChainId::of(&actual()), at, leaf);
        lines.push(ExportLine::Record(ExportRecord { seq, at, bytes: Base64Bytes(payload(seq)), link: head.link }));
    }
    lines.push(ExportLine::End(ExportEnd { records: 9 }));
    lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

fn record_proof() -> RecordBundle {
    let (signed, leaves) = signed(9);
    RecordBundle {
        schema: RecordBundle::SCHEMA.into(),
        vkey: vkey(),
        checkpoint: signed.note().into(),
        seq: 4,
        bytes: Base64Bytes(payload(4)),
        inclusion: inclusion_proof(leaves.as_slice(), 4, 9).unwrap(),
    }
}

fn run(words: &[&str], content: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, content).unwrap();
    Command::new(env!("CARGO_BIN_EXE_lastgood-verify")).args(words).arg(&path).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn bad(content: &str, expected: &str) {
    let output = run(&["--vkey", &vkey()], content);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).starts_with(expected), "expected {expected}\nfound {}", stderr(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_whole_export_holds_and_the_answer_says_what_is_covered() {
    let output = run(&["--vkey", &vkey()], &export());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "ok: 9 records of service/actual (0..9): payloads and times are covered by the signed checkpoint of 9 records\n"
    );
}

#[test]
fn each_edit_of_an_export_is_refused_at_its_place() {
    let good = export();
    let lines: Vec<&str> = good.lines().collect();
    let without = |at: usize| {
        lines.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, l)| format!("{l}\n")).collect::<String>()
    };
    bad(&without(5), "BAD at record 4: record 4 is missing");
    bad(&without(9), "BAD at record 8: the export ends at record 8, its header says 9");
    bad(&without(10), "BAD: the lines of the export are out of order: the last line is missing");
    bad(&good[..good.len() / 2], "BAD: line ");
    bad(
        &format!("{good}{}\n", lines[3]),
        "BAD: the lines of the export are out of order: there are lines behind the end",
    );
    bad(&good.replace("cmVjb3JkIDQ=", "cmVjb3JkIDU="), "BAD at record 4: the link of record 4");
    bad(&good.replace("\"at\":4", "\"at\":5"), "BAD at record 4: the link of record 4");
    bad(&good.replace("\\n9\\n", "\\n8\\n"), "BAD: the checkpoint does not hold: the signature by");
    bad("", "BAD: the file is empty");
    bad("hello\n", "BAD: it is no JSON of ours");
    bad("{}", "BAD: it is no export and no proof of lastgood's");
    bad("{\"schema\":\"lastgood-record-proof/2\"}", "BAD: schema lastgood-record-proof/2 is not known");
    bad(&"x".repeat(3 * 1024 * 1024), "BAD: a line is longer than 2 MiB");
}

#[test]
fn a_history_made_up_afterwards_fits_itself_but_not_the_signature() {
    let (mut head, mut lines) = (Head::EMPTY, Vec::new());
    for (number, line) in export().lines().enumerate() {
        let mut line: ExportLine = serde_json::from_str(line).unwrap();
        if let ExportLine::Record(record) = &mut line {
            if number == 3 {
                record.bytes.0 = b"forged".to_vec();
            }
            head = head.then(&ChainId::of(&actual()), record.at, &leaf(&record.bytes.0));
            record.link = head.link;
        }
        lines.push(serde_json::to_string(&line).unwrap() + "\n");
    }
    bad(
        &lines.concat(),
        "BAD at record 0: the records 0..9 follow from one another but are not those that were signed",
    );
}

#[test]
fn times_made_up_afterwards_do_not_fit_the_signature_either() {
    let (mut head, mut lines) = (Head::EMPTY, Vec::new());
    for line in export().lines() {
        let mut line: ExportLine = serde_json::from_str(line).unwrap();
        if let ExportLine::Record(record) = &mut line {
            record.at.0 += 1;
            head = head.then(&ChainId::of(&actual()), record.at, &leaf(&record.bytes.0));
            record.link = head.link;
        }
        lines.push(serde_json::to_string(&line).unwrap() + "\n");
    }
    bad(&lines.concat(), "BAD: the payloads are those that were signed, but a time or a link before record 9 is not");
}

#[test]
fn one_record_is_proved_without_the_others() {
    let proof = record_proof();
    let output = run(&["--vkey", &vkey()], &serde_json::to_string_pretty(&proof).unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("ok: record 4 (8 bytes, sha256:"), "{}", stdout(&output));
    for edited in [
        RecordBundle { bytes: Base64Bytes(b"other".to_vec()), ..proof.clone() },
        RecordBundle { seq: 5, ..proof.clone() },
        RecordBundle { inclusion: vec![], ..proof.clone() },
    ] {
        let seq = edited.seq;
        bad(
            &serde_json::to_string(&edited).unwrap(),
            &format!("BAD at record {seq}: record {seq} is not what the checkpoint covers"),
        );
    }
}

#[test]
fn growth_is_proved_and_a_rewrite_is_not() {
    let ((older, _), (newer, leaves)) = (signed(5), signed(9));
    let proof = ConsistencyBundle {
        schema: ConsistencyBundle::SCHEMA.into(),
        vkey: vkey(),
        older: older.note().into(),
        newer: newer.note().into(),
        consistency: consistency_proof(leaves.as_slice(), 5, 9).unwrap(),
    };
    let output = run(&["--vkey", &vkey()], &serde_json::to_string(&proof).unwrap());
    assert_eq!(
        stdout(&output),
        "ok: lastgood/4be1d06f93a7c521/service/actual only grew, from 5 to 9 records: nothing was rewritten\n"
    );
    let backwards = ConsistencyBundle { older: proof.newer.clone(), newer: proof.older.clone(), ..proof.clone() };
    bad(
        &serde_json::to_string(&backwards).unwrap(),
        "BAD: the checkpoint of 5 records does not continue the one of 9 records",
    );
    let empty = ConsistencyBundle { consistency: vec![], ..proof };
    bad(&serde_json::to_string(&empty).unwrap(), "BAD: the checkpoint of 9 records does not continue");
}

#[test]
fn a_key_from_the_file_is_never_trusted() {
    let stranger = NoteKey::from_seed(INSTALLATION, &[6; 32]).unwrap().verifier().to_string();
    let output = run(&["--vkey", &stranger], &export());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has no signature by lastgood/4be1d06f93a7c521"), "{}", stderr(&output));
    let of_chain = key().verifier().named("lastgood/4be1d06f93a7c521/service/actual").unwrap().to_string();
    assert_eq!(run(&["--vkey", &of_chain], &export()).status.code(), Some(0));
    let of_other_chain = key().verifier().named("lastgood/4be1d06f93a7c521/service/other").unwrap().to_string();
    assert_eq!(run(&["--vkey", &of_other_chain], &export()).status.code(), Some(1));
}

#[test]
fn json_is_one_document_on_stdout_or_one_problem_on_stderr() {
    let output = run(&["--json", "--vkey", &vkey()], &export());
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((told["schema"].as_str(), told["kind"].as_str()), (Some("lastgood-verify/1"), Some("export")));
    assert_eq!(told["data"]["checkpoint_size"], 9);
    let output = run(&["--json", "--vkey", &vkey()], &export().replace("cmVjb3JkIDQ=", "cmVjb3JkIDU="));
    assert_eq!(output.status.code(), Some(1));
    let problem: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!((problem["code"].as_str(), problem["seq"].as_u64()), (Some("evidence-broken"), Some(4)));
    assert_eq!(problem["type"], "urn:lastgood:error:evidence-broken");
    assert!(output.stdout.is_empty());
}

#[test]
fn it_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastgood-verify")).arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).trim(), concat!("lastgood-verify ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_exit_code_2_and_shows_the_usage() {
    let key = vkey();
    let cases: [&[&str]; 6] = [
        &[],
        &["--vkey"],
        &["--vkey", "nonsense"],
        &["--vkey", &key, "--frob"],
        &["--vkey", &key, "another"],
        &["--json"],
    ];
    for words in cases {
        let output = run(words, "");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(stderr(&output).contains("usage: lastgood-verify"), "{words:?}");
    }
    let missing =
        Command::new(env!("CARGO_BIN_EXE_lastgood-verify")).args(["--vkey", &key, "/nowhere/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_file_is_read_from_stdin_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lastgood-verify"))
        .args(["--vkey", &vkey(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(export().as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}
