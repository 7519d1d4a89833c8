//! Events are for ever: every form that was ever written is read and written again as it was.

use lastgood_domain::operations::Record;

#[test]
fn every_record_of_an_incident_ever_written_is_read_and_means_the_same() {
    let stored = include_str!("../golden/incident-v1.jsonl");
    for line in stored.lines() {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let written = serde_json::to_value(&record).and_then(|value| serde_json::to_string(&value)).unwrap();
        assert_eq!(written, line);
    }
    assert!(stored.lines().count() >= 34, "records were removed");
}
