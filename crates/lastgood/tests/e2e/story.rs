//! What a user lives through: good bumps, bad releases, and every way back.

use crate::kit::{Farm, Plan};

#[test]
fn a_good_release_reaches_every_instance() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0).says("1.1.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.1.0");
        assert_eq!(farm.notes(name).len(), 5);
    }
    assert_eq!(farm.status()["last_good"], "1.1.0");
    farm.lastgood(&["run"]).ended(0).says("up to date");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}
