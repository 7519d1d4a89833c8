//! Whoever was busy moves only after a quiet period, which somebody saw.

use crate::kit::{Farm, Plan, until, until_within};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The daemon asks once a minute whether somebody can move; the first time a minute after its start.
const FIRST: Duration = Duration::from_secs(60);

#[test]
fn an_instance_moves_only_when_every_look_of_the_quiet_period_found_it_idle() {
    let farm = Farm::running(Plan::default());
    let busy = r#"json = { "$.busy" = true } }"#;
    farm.configure(&farm.config().replace(busy, &format!("{busy}, quiet = \"40s\"")));
    for name in ["bob", "carol"] {
        farm.post(name, "/session/open", "", &Value::Null);
    }
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!((farm.version("alice"), farm.version("bob"), farm.version("carol")), three("1.1.0", "1.0.0", "1.0.0"));
    let daemon = farm.serve();
    let began = Instant::now();
    for name in ["bob", "carol"] {
        farm.post(name, "/session/close", "", &Value::Null);
    }
    // Carol comes back for longer than from look to look (10 s), inside of the quiet period before the first question.
    std::thread::sleep((FIRST - Duration::from_secs(17)).saturating_sub(began.elapsed()));
    farm.post("carol", "/session/open", "", &Value::Null);
    std::thread::sleep(Duration::from_secs(12));
    farm.post("carol", "/session/close", "", &Value::Null);
    until("bob, who was idle all the time", || farm.instance("bob")["release"] == "1.1.0");
    until("the end of that run", || farm.status()["run"].is_null());
    assert_eq!(farm.version("carol"), "1.0.0", "{}", farm.log());
    let says = farm.instance("carol")["says"].as_str().unwrap().to_owned();
    assert!(says.contains("it moves once it was for 40.0 s"), "{says}");
    until_within(FIRST * 2, "carol", || farm.instance("carol")["release"] == "1.1.0");
    daemon.stop();
}

fn three(alice: &str, bob: &str, carol: &str) -> (String, String, String) {
    (alice.into(), bob.into(), carol.into())
}
