//! The manifest as a file, with its reports and sources.

use crate::{COMMIT, asked, now};
use lastgood_domain::{
    event::Verdict::{CannotTell, Fail, Pass},
    proof::Kind,
};
use lastgood_drivers::gate::verify;
use std::{fs, path::Path};

const MANIFEST: &str = r#"
reports = ["db.tap"]
required = ["B-1"]

[critical."bank::transfer"]
source = "src/bank.rs"
tests = ["tests"]

[B-1]
promise = "a balance is kept"
tests = ["db a balance is kept"]
"#;

fn farm() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("integrity.toml", MANIFEST),
        ("db.tap", "1..1\nok 1 - a balance is kept\n"),
        ("src/bank.rs", "pub fn transfer() {}\n"),
        ("tests/deep/bank.rs", "#[test]\nfn t() { bank::transfer(); }\n"),
        ("tests/picture.png", "transfer"),
    ] {
        write(folder.path(), name, text);
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn found(folder: &Path, of: &[String]) -> Vec<Kind> {
    let verified = verify(&folder.join("integrity.toml"), &[], of, now()).unwrap();
    verified.findings.into_iter().map(|one| one.kind).collect()
}

#[test]
fn every_way_to_lose_a_proof_is_found() {
    let farm = farm();
    let at = farm.path();
    assert_eq!(found(at, &[]), []);
    let change = |name: &str, text: &str, wanted: &[Kind]| {
        let before = fs::read_to_string(at.join(name)).unwrap();
        write(at, name, text);
        assert_eq!(found(at, &[]), wanted, "{name}: {text}");
        write(at, name, &before);
    };
    change("db.tap", "1..1\nok 1 - a balance stays\n", &[Kind::Missing]);
    change("db.tap", "1..1\nok 1 - a balance is kept # SKIP no\n", &[Kind::Skipped]);
    change("db.tap", "1..2\nok 1 - a balance is kept\n", &[Kind::Skipped]);
    change("db.tap", "1..1\nnot ok 1 - a balance is kept\n", &[Kind::Failed]);
    change("db.tap", "", &[Kind::Unreadable, Kind::Missing]);
    change("src/bank.rs", "pub fn move_money() {}\n", &[Kind::Gone]);
    change("tests/deep/bank.rs", "// transfer is tested elsewhere\n", &[Kind::Untested]);
    assert_eq!(found(at, &[COMMIT.to_owned()]), [Kind::Elsewhere, Kind::Missing]);
    fs::remove_dir_all(at.join("tests")).unwrap();
    assert_eq!(found(at, &[]), [Kind::Unreadable]);
    fs::remove_file(at.join("src/bank.rs")).unwrap();
    assert_eq!(found(at, &[]), [Kind::Unreadable]);
    for emptied in ["", "# every promise is gone\n", "reports = [\"db.tap\"]\n"] {
        write(at, "integrity.toml", emptied);
        assert_eq!(found(at, &[]), [Kind::Unbound], "{emptied}");
    }
    for wrong in ["[B-1]\npromise = 1", "requird = []", "max_age = \"old\"", "["] {
        write(at, "integrity.toml", wrong);
        assert!(verify(&at.join("integrity.toml"), &[], &[], now()).is_err(), "{wrong}");
    }
    assert!(verify(&at.join("none.toml"), &[], &[], now()).is_err());
}

#[test]
fn a_manifest_is_a_gate_too() {
    let farm = farm();
    let at = farm.path();
    let gate = "manifest = { file = \"integrity.toml\", reports = [\"ci/{commit}/db.tap\"] }";
    assert_eq!(asked(gate, at).0, CannotTell);
    write(at, &format!("ci/{COMMIT}/db.tap"), "1..1\nok 1 - a balance is kept\n");
    assert_eq!(asked(gate, at), (Pass, "1 promise proven by 1 test".into()));
    write(at, &format!("ci/{COMMIT}/db.tap"), "1..1\nnot ok 1 - a balance is kept\n");
    assert_eq!(asked(gate, at).0, Fail);
    write(at, &format!("ci/{COMMIT}/db.tap"), "1..1\nok 1 - renamed\n");
    assert_eq!(asked(gate, at).0, CannotTell);
}
