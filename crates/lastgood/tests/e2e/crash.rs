//! The driver killed at every boundary of a bump and of a rollback: what it left is brought to a good end by
//! the next command, whichever it is.

use crate::kit::{Farm, Plan, Said};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// What a killed command ends with.
const KILLED: i32 = 137;
/// Farms that work at a time.
const LANES: u32 = 2;
/// Bumps and rollbacks on one farm: a long log takes every command longer to read.
const LIVES_MAX: usize = 10;
/// More boundaries than any command has.
const BOUNDARIES_MAX: u32 = 1_000;

#[test]
fn a_kill_at_any_boundary_of_a_bump_or_a_rollback_does_no_harm() {
    let (bumps, rollbacks) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for lane in 1..=LANES {
            let (bumps, rollbacks) = (&bumps, &rollbacks);
            scope.spawn(move || live_through(lane, bumps, rollbacks));
        }
    });
    let (bumps, rollbacks) = (bumps.into_inner(), rollbacks.into_inner());
    assert!(bumps >= 100 && rollbacks >= 60, "killed {bumps} bumps and {rollbacks} rollbacks");
}

/// Bumps and goes back again and again, each time killed one boundary later, until no boundary is left.
fn live_through(lane: u32, bumps: &AtomicU32, rollbacks: &AtomicU32) {
    let mut farm = fresh();
    let mut rollback_is_over = false;
    for (life, boundary) in (lane..BOUNDARIES_MAX).step_by(LANES as usize).enumerate() {
        if life % LIVES_MAX == LIVES_MAX - 1 {
            farm = fresh();
        }
        let old: BTreeMap<_, _> = farm.names().map(|name| (name, farm.dump(name))).collect();
        let before = format!("bump killed at boundary {boundary}");
        let said = crash(&farm, boundary, &["run"]);
        let bump_is_over = said.code != KILLED;
        if bump_is_over {
            said.ended(0);
        } else {
            bumps.fetch_add(1, Ordering::SeqCst);
            nothing_old_runs_on_migrated_data(&farm, &before);
            if rollback_is_over {
                // What a person types who has no patience left.
                let said = farm.lastgood(&["rollback", "--yes"]);
                assert!([0, 5, 9].contains(&said.code), "{before}: {said:?}");
                is_whole(&farm, "1.0.0", &old, &before);
                waive(&farm);
                continue;
            }
            let said = farm.lastgood(&["run"]);
            assert_eq!(said.code, 0, "{before}: {said:?}");
        }
        is_whole(&farm, "2.0.0", &BTreeMap::new(), &before);

        let after = format!("rollback killed at boundary {boundary}");
        let said = crash(&farm, boundary, &["rollback", "--yes"]);
        rollback_is_over = said.code != KILLED;
        if rollback_is_over {
            said.ended(0);
        } else {
            rollbacks.fetch_add(1, Ordering::SeqCst);
            nothing_old_runs_on_migrated_data(&farm, &after);
            // 9: killed after the last instance was back, there is nothing to go back from.
            let said = farm.lastgood(&["rollback", "--yes"]);
            assert!([0, 9].contains(&said.code), "{after}: {said:?}");
        }
        is_whole(&farm, "1.0.0", &old, &after);
        waive(&farm);
        if bump_is_over && rollback_is_over {
            return;
        }
    }
    panic!("more than {BOUNDARIES_MAX} boundaries");
}

fn fresh() -> Farm {
    let farm = Farm::running(Plan { rollout: r#"{ soak = "0s", wave_size = 2 }"#, notes: 2, ..Plan::default() });
    farm.publish("2.0.0");
    farm
}

fn crash(farm: &Farm, boundary: u32, arguments: &[&str]) -> Said {
    crate::kit::said(farm.command(arguments).env("LASTGOOD_CRASH_AFTER", boundary.to_string()))
}

/// Allows the release once more that the rollback rejected; 1: what was killed before it rejected anything has nothing
/// to waive.
fn waive(farm: &Farm) {
    let said = farm.lastgood(&["waive", "notebook", "2.0.0", "--reason", "once more"]);
    assert!([0, 1].contains(&said.code), "{said:?}");
}

/// Checks that no instance runs 1.0.0 on data of 2.0.0; one that doesn't run is between the two.
fn nothing_old_runs_on_migrated_data(farm: &Farm, when: &str) {
    for name in farm.names() {
        if farm.pid(name).is_none() {
            continue;
        }
        let Ok((200, answer)) = crate::kit::request(farm.port(name), "GET", "/version", "", "") else { continue };
        let is_old = answer["version"] == "1.0.0";
        let is_migrated = farm.dump(name).contains("person:");
        assert!(!(is_old && is_migrated), "{when}: {name} runs 1.0.0 on data of 2.0.0");
    }
}

/// Checks that every instance answers a real log-in with this release and its data.
fn is_whole(farm: &Farm, version: &str, data: &BTreeMap<&str, String>, when: &str) {
    for name in farm.names() {
        assert_eq!(farm.version(name), version, "{when}: {name}");
        assert_eq!(farm.notes(name).len(), 2, "{when}: {name}");
        let dump = farm.dump(name);
        assert_eq!(dump.contains("person:"), version == "2.0.0", "{when}: {name}");
        if let Some(data) = data.get(name) {
            assert_eq!(dump, *data, "{when}: {name}");
        }
    }
    let said = farm.lastgood(&["evidence", "verify"]);
    assert_eq!(said.code, 0, "{when}: {said:?}");
}

#[test]
fn a_run_that_nobody_drives_is_said_by_status_why_doctor_and_watch_until_somebody_does() {
    let farm = Farm::running(Plan::default());
    farm.configure(&farm.config().replace("soak = \"200ms\"", "soak = \"1h\""));
    farm.publish("1.1.0");
    let program = crate::kit::program();
    let config = farm.path("lastgood.toml");
    let mut run = std::process::Command::new(program).arg("--config").arg(&config).arg("run").spawn().unwrap();
    crate::kit::until("the soak", || !farm.status()["run"]["soak_until"].is_null());
    let nobody = "nobody drives it: go on with lastgood run notebook, or back with lastgood rollback notebook";
    let said = farm.lastgood(&["status"]).ended(0).says("watching the wave for another").says("driven by process");
    assert!(!said.out.contains(nobody), "{said:?}");
    run.kill().unwrap();
    run.wait().unwrap();

    farm.lastgood(&["status"]).ended(0).says("watching the wave for another").says(nobody);
    let why = farm.json(&["why"]);
    assert_eq!(why[0]["how"], "lastgood run notebook", "{why}");
    assert!(why[0]["because"].as_str().unwrap().starts_with("nobody drives run r"), "{why}");
    farm.lastgood(&["doctor", "--offline"]).says("[run-undriven]").says("lastgood run notebook");
    let said = farm.lastgood(&["watch", "--until", "terminal", "--timeout", "1s"]).ended(7);
    assert_eq!(said.err.matches(nobody).count(), 1, "{said:?}");

    // Nobody would ever end this wait, and nobody can tell how the run would.
    let waited = farm.lastgood(&["watch", "--until", "healthy"]).ended(11).says("[run-undriven]");
    assert!(waited.err.contains("lastgood run notebook"), "{waited:?}");

    farm.lastgood(&["rollback", "--yes"]).ended(0);
    let said = farm.lastgood(&["status"]).ended(0);
    assert!(!said.out.contains("nobody drives"), "{said:?}");
}
