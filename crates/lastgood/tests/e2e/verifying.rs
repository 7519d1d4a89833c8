//! What an incident's verification asks before anything is lifted: proofs that are there, now.

use crate::{
    incident::{CLEAN, DECLARE, QUICK, by, carried_out, plan, ready},
    kit::{Farm, Plan},
};
use std::{fs, time::SystemTime};

#[test]
fn a_proof_that_is_gone_makes_the_unfreeze_impossible() {
    let tail = format!(
        "{QUICK}\n[incident.verify]\nrequired = [\"check/ci\"]\n\
         [[incident.verify.check]]\nname = \"ci\"\ncommand = [\"./ci\"]\n"
    );
    let farm = Farm::running(plan(&tail));
    let write = |text: &str| {
        fs::write(farm.path("ci"), format!("#!/bin/sh\n{text}\n")).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(farm.path("ci"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("exit 0");
    ready(&farm, DECLARE);
    by(&farm, "alice", "incident|verify|i0").ended(0).says("PASS    check/ci");
    write("exit 1");
    by(&farm, "alice", "incident|verify|i0").ended(9).says("FAIL    check/ci");
    // A gate that can't be evaluated, a command that was renamed, a check that was taken out.
    write("exit 12");
    by(&farm, "alice", "incident|verify|i0").ended(12).says("MISSING check/ci");
    fs::rename(farm.path("ci"), farm.path("ci-2")).unwrap();
    by(&farm, "alice", "incident|verify|i0").ended(12).says("MISSING check/ci");
    farm.configure(
        &farm.config().replace("name = \"ci\"\ncommand = [\"./ci\"]", "name = \"other\"\ncommand = [\"true\"]"),
    );
    by(&farm, "alice", "incident|verify|i0").ended(12).says("no check is called so");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(12).says("stays frozen");
    let risk = "incident|unfreeze|i0|--accept-risk|verified|--reason|it will do|--for|1d";
    by(&farm, "alice", risk).ended(2).says("[incident-risk-unknown]");
}

const COMMIT: &str = "3f0c2b9a4d5e6f708192a3b4c5d6e7f801234567";
const OTHER: &str = "00000000000000000000000000000000000000aa";

#[test]
fn a_test_that_was_renamed_or_skipped_since_is_no_proof_and_makes_the_unfreeze_impossible() {
    let tail = format!(
        "{QUICK}\n[incident.verify]\ngates = [\"unit\"]\nrequired = [\"gate/unit\"]\n\
         [gate.unit]\nreport = {{ files = [\"ci/db.tap\"], tests = [\"db a note is kept\"] }}\nmax_age = \"1h\"\n"
    );
    // The channel is a folder: what names the commit is a file of the release.
    let farm = Farm::new(Plan { service: "commit = \"COMMIT\"".into(), ..plan(&tail) });
    fs::write(farm.path("releases/1.0.0/COMMIT"), format!("commit {COMMIT}\n")).unwrap();
    fs::create_dir_all(farm.path("ci")).unwrap();
    let report = |of: &str, text: &str| {
        fs::write(farm.path("ci/db.tap"), format!("# commit: {of}\n1..1\n{text}\n")).unwrap();
    };
    farm.lastgood(&["run"]).ended(0);
    by(&farm, "alice", DECLARE).ended(0);
    by(&farm, "alice", "incident|freeze|i0").ended(0);
    by(&farm, "alice", "incident|plan|i0").ended(0).says(&format!("commit {COMMIT}"));
    carried_out(&farm);
    for line in CLEAN {
        by(&farm, "alice", line).ended(0);
    }
    by(&farm, "alice", "incident|next-owner|i0|--to|bob").ended(0);
    let complete =
        "incident|update|i0|--message|complete|--field|impact=notes were lost|--field|resolution=back on 1.0.0";
    by(&farm, "alice", complete).ended(0);
    let missing = |why: &str| {
        by(&farm, "alice", "incident|verify|i0").ended(12).says("MISSING gate/unit").says(why);
        by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(12).says("stays frozen");
    };
    missing("ci/db.tap can't be read");
    report(COMMIT, "ok 1 - a note stays");
    missing(&format!("notebook 1.0.0 at {COMMIT}: db a note is kept did not run: was it renamed"));
    report(COMMIT, "ok 1 - a note is kept # SKIP no database");
    missing("db a note is kept was skipped");
    report(OTHER, "ok 1 - a note is kept");
    missing(&format!("is about {}", &OTHER[..12]));
    report(COMMIT, "ok 1 - a note is kept");
    let old = SystemTime::now() - std::time::Duration::from_secs(3 * 3_600);
    fs::File::options().write(true).open(farm.path("ci/db.tap")).unwrap().set_modified(old).unwrap();
    missing("is 3 h 0 min old");
    let risk = "incident|unfreeze|i0|--accept-risk|verified|--reason|it will do|--for|1d";
    by(&farm, "alice", risk).ended(2).says("[incident-risk-unknown]");
    // What fails is a no that two people may take on themselves by name, which a proof that is missing is not.
    report(COMMIT, "not ok 1 - a note is kept");
    by(&farm, "alice", "incident|verify|i0").ended(9).says("FAIL    gate/unit");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(9).says("stays frozen");
    report(COMMIT, "ok 1 - a note is kept");
    by(&farm, "alice", "incident|verify|i0").ended(0).says("PASS    gate/unit").says("1 of 1 named test passed");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(0).says("lifted: claim");
}

#[test]
fn the_gates_that_a_service_requires_are_asked_of_what_it_runs_though_nobody_names_them_again() {
    let gate = format!(
        "{QUICK}\n[gate.unit]\nreport = {{ files = [\"ci/{{tag}}/db.tap\"], tests = [\"db a note is kept\"] }}\nmax_age = \"1h\"\n\
         [gate.load]\ncommand = {{ argv = [\"/bin/sh\", \"-c\", \"cat load\"], expect = \"fine\" }}\n"
    );
    let farm = Farm::new(Plan { service: "gates = [\"unit\"]".into(), ..plan(&gate) });
    fs::create_dir_all(farm.path("ci/1.0.0")).unwrap();
    fs::write(farm.path("ci/1.0.0/db.tap"), "1..1\nok 1 - a note is kept\n").unwrap();
    farm.lastgood(&["run"]).ended(0);
    ready(&farm, DECLARE);
    let verified = by(&farm, "alice", "incident|verify|i0").ended(0).says("PASS    gate/unit");
    assert!(!verified.out.contains("gate/load"), "nobody requires it: {verified:?}");
    fs::write(farm.path("ci/1.0.0/db.tap"), "1..1\nok 1 - a note stays\n").unwrap();
    by(&farm, "alice", "incident|verify|i0").ended(12).says("MISSING gate/unit");
    by(&farm, "alice", "incident|unfreeze|i0|--yes").ended(12).says("stays frozen");
}
