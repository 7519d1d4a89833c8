//! Who leads an incident: roles handed over, and taken over from whoever can't lead.

use crate::{
    incident::{DECLARE, by, damage, plan},
    kit::Farm,
};

#[test]
fn roles_are_handed_over_by_two_people() {
    let farm = Farm::new(plan(""));
    by(&farm, "alice", DECLARE).ended(0);
    by(&farm, "alice", "incident|assign|i0|--role|data|--to|bob").ended(0);
    by(&farm, "bob", "incident|handoff|i0|--role|data|--to|carol").ended(8).says("person:bob has it until they accept");
    by(&farm, "dan", "incident|accept|i0|--role|data").ended(4).says("[incident-role-not-offered]");
    by(&farm, "alice", "incident|show|i0").ended(0).says("person:bob, offered to person:carol");
    by(&farm, "carol", "incident|accept|i0|--role|data").ended(0);
    by(&farm, "alice", "incident|note|i0|carol knows the schema").ended(0);
    by(&farm, "alice", "incident|stand-down|i0|--reason|a false alarm").ended(0);
    by(&farm, "alice", "incident|timeline|i0").ended(0).says("carol knows the schema").says("stood-down");
}

#[test]
fn where_it_is_configured_the_daemon_declares_and_somebody_takes_it_over() {
    let farm = Farm::new(plan("\n[incident]\ndeclare = \"automatic\"\n"));
    by(&farm, "alice", DECLARE).ended(0);
    by(&farm, "alice", "incident|stand-down|i0|--reason|a false alarm").ended(0);
    let daemon = farm.serve();
    by(&farm, "alice", "incident|list").ended(0).says("no incident is open");
    damage(&farm);
    crate::kit::until("the declaration", || by(&farm, "alice", "incident|list").out.contains("i1  L3  declared"));
    by(&farm, "alice", "incident|show|i1").ended(0).says("lastgood:clock").says("record 6 of operations");
    by(&farm, "bob", "incident|assign|i1|--role|commander|--to|bob").ended(0);
    by(&farm, "bob", "incident|show|i1").ended(0).says("commander      person:bob");
    daemon.stop();
}

#[test]
fn nobody_gets_an_incident_who_cannot_lead_it_and_one_whose_commander_left_is_taken_over() {
    let people = "\n[person.alice]\nroles = [\"leader\"]\n[person.bob]\nroles = [\"leader\"]\n[person.dave]\n\
                  [role.leader]\nmay = [\"lead\"]\n";
    let farm = Farm::running(plan(people));
    let declare = "incident|declare|--level|L1|--trigger|notes are lost";
    by(&farm, "alice", &format!("{declare}|--ic|zed")).ended(2).says("[person-name]").says("alice, bob, dave");
    by(&farm, "alice", &format!("{declare}|--ic|dave")).ended(4).says("may not lead");
    by(&farm, "alice", declare).ended(0);
    for line in [
        "incident|assign|i0|--role|api|--to|zed",
        "incident|handoff|i0|--role|commander|--to|zed",
        "incident|next-owner|i0|--to|zed",
        "incident|follow-up|add|i0|a key|--owner|zed|--due|14d",
    ] {
        by(&farm, "alice", line).ended(2).says("[person-name]");
    }
    by(&farm, "alice", "incident|handoff|i0|--role|commander|--to|dave").ended(4).says("may not lead");
    let take_over = "incident|take-over|i0|--reason|she left";
    by(&farm, "bob", take_over).ended(1).says("[incident-role-owned]");
    // She leaves, and nobody could end what she led.
    farm.configure(&farm.config().replace("[person.alice]", "[person.carol]"));
    by(&farm, "bob", "incident|stand-down|i0|--reason|it was none").ended(4).says("incident take-over i0");
    by(&farm, "bob", "incident|show|i0").ended(0).says("next: lastgood incident take-over i0");
    by(&farm, "dave", take_over).ended(4).says("may not lead");
    by(&farm, "bob", take_over).ended(0).says("you lead incident i0");
    by(&farm, "bob", "page|list")
        .ended(0)
        .says("incident i0 is led by person:bob now and not by person:alice: she left");
    by(&farm, "bob", "incident|stand-down|i0|--reason|it was none").ended(0);
    let taken = "person:bob takes incident i0 over from person:alice, who can't lead it: she left";
    by(&farm, "bob", "incident|timeline|i0").ended(0).says(taken);
}
