//! The router's own promise, under people: however often it is told otherwise, nobody notices.

use crate::kit::{Chat, nobody_lost_anything, until};
use lastgood_domain::{
    terms::Timestamp,
    traffic::{Leaving, Share, Table},
};
use lastgood_drivers::traffic::{Builtin, Router as _};
use std::{
    fs, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const FLIPS: u64 = 100;
/// Between two flips: some hundred requests are under way at each.
const PAUSE: Duration = Duration::from_millis(100);

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_hundred_flips_forward_and_back_and_an_upgrade_of_the_proxy_cost_nobody_anything() {
    let chat = Chat::running("");
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let first = chat.people(60, Duration::from_secs(20));
    run.join().unwrap().ended(0);
    nobody_lost_anything(&first.join().unwrap());
    // Longer than all flips: people talk at the last one too.
    let people = chat.people(60, Duration::from_secs(45));
    // Both releases are up: the one before stands by, warm.
    let table: Table = serde_json::from_slice(&fs::read(chat.path("state/proxy/tables/chat.json")).unwrap()).unwrap();
    let router = Builtin::new(&chat.path("state/proxy"));
    let (mut serving, mut left) = (table.last_good.clone().unwrap(), table.leaving[0].side.clone());
    let before = chat.processes("proxy --settings");
    for flip in 1..=FLIPS {
        std::mem::swap(&mut serving, &mut left);
        // Most tunnels stay where they are; at each tenth flip all of what is left are closed, and their people come back.
        let grace = if flip % 10 == 0 { 0 } else { 600_000 };
        let leaving = Leaving { side: left.clone(), deadline: Some(Timestamp(now() + grace)) };
        let next = Table {
            epoch: table.epoch + flip,
            last_good: Some(serving.clone()),
            candidate: None,
            share: Share::NONE,
            leaving: vec![leaving],
            ..table.clone()
        };
        assert_eq!(router.route(&next).unwrap().epoch, table.epoch + flip);
        if flip == FLIPS / 2 {
            // A new proxy takes the sockets over from the one that carries all of this.
            let settings = chat.path("state/proxy/settings.json");
            let mut upgrade = chat.begin(&["proxy", "--settings", settings.to_str().unwrap()]);
            until("the new proxy", || {
                router.look(&table.service).is_ok() && chat.processes("proxy --settings").len() == 2
            });
            assert!(upgrade.try_wait().unwrap().is_none());
        }
        thread::sleep(PAUSE);
    }
    assert!(!people.is_finished(), "the last flips had nobody to disturb");
    let report = people.join().unwrap();
    let closed = report.closes.get("1012").copied().unwrap_or(0);
    assert!(closed >= 30, "only {closed} sockets had to come back");
    nobody_lost_anything(&report);
    assert!(report.releases["1.0.0"] > 0 && report.releases["1.1.0"] > 0);
    // With its last tunnel gone the old proxy has nothing to stay for.
    until("the end of the old proxy", || before.iter().all(|pid| !chat.processes("proxy --settings").contains(pid)));
}
