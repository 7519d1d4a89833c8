//! An incident of a service whose traffic is shared: only the side that serves counts, the other is empty or stands by.

use crate::kit::{Chat, until};
use std::{fs, time::Duration};

#[test]
fn an_incident_goes_back_is_verified_and_unfrozen_while_the_other_side_stands_by() {
    let chat = Chat::running("");
    chat.configure(|text| text + "\n[incident]\nstable_for = \"100ms\"\nwatch = \"300ms\"\n");
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(60, Duration::from_secs(20));
    assert_eq!((run.join().unwrap().code, chat.version()), (0, "1.1.0".into()));
    people.join().unwrap();
    let by = |line: &str| {
        let words: Vec<&str> = line.split('|').collect();
        chat.lastgood_with(&words, "SUDO_USER", "alice")
    };
    by("incident|declare|--level|L1|--trigger|messages are late|--services|chat").ended(0);
    by("incident|freeze|i0").ended(0);
    by("incident|plan|i0|--to|chat=1.0.0").ended(0);
    by("incident|run|i0").ended(0).says("chat is at 1.0.0");
    assert_eq!(chat.version(), "1.0.0");
    assert!(chat.status()["traffic"]["standby"].is_object(), "the other side still runs: {}", chat.status());
    by("checklist|done|i0|errors-normal|--statement|error rates are as before").ended(0);
    by("checklist|done|i0|leftovers-removed|--statement|nothing was changed by hand").ended(0);
    let said = by("incident|verify|i0").ended(0);
    for line in ["release/chat", "health/chat", "smoke/chat"] {
        let found = said.out.lines().find(|one| one.contains(line)).unwrap_or_else(|| panic!("no {line}: {said:?}"));
        assert!(found.contains("1 of 1"), "{found}");
    }
    by("incident|next-owner|i0|--to|bob").ended(0);
    by("incident|update|i0|--message|complete|--field|impact=late messages|--field|resolution=back on 1.0.0").ended(0);
    by("incident|unfreeze|i0|--yes").ended(0).says("lifted: claim");
    assert!(!fs::read_to_string(chat.path("notices")).unwrap().contains("not settled"));
}
