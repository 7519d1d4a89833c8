//! The report of an incident against the evidence that it was made from.

use crate::kit::{Farm, Plan};
use serde_json::Value;
use std::{collections::BTreeMap, fs};

#[test]
fn a_report_tells_what_services_did_and_each_line_is_found_at_its_place_in_their_chains() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["incident", "declare", "--level", "L1", "--trigger", "totals are wrong"]).ended(0);
    farm.lastgood(&["incident", "plan", "i0", "--to", "notebook=1.0.0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    let file = farm.path("report.md").display().to_string();
    farm.lastgood(&["incident", "report", "i0", "--output", &file]).ended(0);
    let report = fs::read_to_string(&file).unwrap();

    // From the rollout before its declaration on: what ran before that is no part of it.
    let window = report.lines().find(|line| line.contains("Window of the timeline")).unwrap();
    assert!(window.contains("(r1 of notebook began)") && window.ends_with("(now)"), "{window}");
    for part in
        ["run r1 started", "part of incident", "hold h0 set by", "rollback r2 started", "run r2 ended: rolled back"]
    {
        let is_told = report.lines().any(|line| line.contains(part) && line.contains("| service/notebook#"));
        assert_eq!(is_told, part != "part of incident", "{part}\n{report}");
    }
    assert!(!report.contains("run r0"), "{report}");
    assert!(report.lines().any(|line| line.ends_with("| operations#0 |")), "{report}");

    let log = farm.lastgood(&["log", "notebook", "--all", "--json"]).ended(0);
    let records: BTreeMap<u64, Value> = log
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|one| (one["seq"].as_u64().unwrap(), one))
        .collect();
    let mut times = Vec::new();
    let mut found = 0;
    for row in report.lines().filter(|line| line.starts_with("| 20")) {
        let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [at, who, what, place] = cells[..] else { continue };
        times.push(at.to_owned());
        let Some(seq) = place.strip_prefix("service/notebook#") else { continue };
        let record = &records[&seq.parse().unwrap()];
        assert_eq!((record["time"].as_str(), record["by"].as_str()), (Some(at), Some(who)), "{row}");
        if !what.contains(['\\', '&']) {
            assert_eq!(record["sentence"].as_str(), Some(what));
            found += 1;
        }
    }
    assert!(found >= 5, "{report}");
    assert!(times.is_sorted(), "{times:?}");

    let page = farm.path("report.html").display().to_string();
    farm.lastgood(&["incident", "report", "i0", "--html", "--output", &page]).ended(0);
    assert!(fs::read_to_string(&page).unwrap().contains("<code>service/notebook#"));
}
