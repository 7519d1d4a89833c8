//! Who gets what.

use crate::world::{Server, World, only, side, table};
use lastgood_domain::traffic::Share;
use lastgood_drivers::traffic::Router as _;

fn part(answers: &[String], name: &str) -> f64 {
    answers.iter().filter(|answer| *answer == name).count() as f64 / answers.len() as f64
}

#[test]
fn with_a_consistent_hash_the_share_is_met_nobody_moves_back_as_it_grows_and_all_return() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let mut before = vec![false; 2_000];
    for (epoch, percent) in (1..).zip([0, 5, 25, 50, 75, 100, 25, 5, 0]) {
        let share = Share::percent(percent);
        let routed = router.route(&table(epoch, &good, &next, share)).unwrap();
        assert_eq!(routed.epoch, epoch);
        assert!(routed.share.seats().abs_diff(share.seats()) <= 25, "{share} became {}", routed.share);
        let answers = world.people(before.len());
        let on: Vec<bool> = answers.iter().map(|answer| answer == "2").collect();
        let seen = part(&answers, "2");
        // Places on the ring are chance, the same each time: 3 points are twice what was seen.
        assert!((seen - f64::from(percent) / 100.0).abs() < 0.03, "{seen} at {percent} %");
        let grows = epoch <= 6;
        let moved =
            before.iter().zip(&on).filter(|(was, is)| if grows { **was && !**is } else { !**was && **is }).count();
        assert_eq!(moved, 0, "people moved the other way at {percent} %");
        if percent == 0 || percent == 100 {
            assert!(on.iter().all(|on| *on == (percent == 100)), "{percent} % is not all or nobody");
        }
        before = on;
    }
}

#[test]
fn without_stickiness_the_share_of_requests_is_exact() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| {
        cfg.replace("balance hash var(txn.person)", "balance roundrobin")
            .replace("hash-type consistent sdbm avalanche", "")
    });
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    for (epoch, percent, expected) in [(1, 5, 50), (2, 25, 250), (3, 100, 1_000), (4, 0, 0)] {
        router.route(&table(epoch, &good, &next, Share::percent(percent))).unwrap();
        let got = world.people(1_000).iter().filter(|answer| *answer == "2").count();
        // A turn that began under the weights before may be finished.
        assert!(got.abs_diff(expected) <= 5, "{got} of 1000 at {percent} %");
    }
}

#[test]
fn who_sticks_by_a_cookie_leaves_at_once_when_a_release_gets_nothing_any_more() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| {
        cfg.replace("balance hash var(txn.person)", "cookie lastgood insert indirect nocache")
            .replace("hash-type consistent sdbm avalanche", "")
            .replace(&format!("{} check", one.port), &format!("{} cookie a check", one.port))
            .replace(&format!("{} check", two.port), &format!("{} cookie b check", two.port))
    });
    let router = world.router_with(|toml| toml.replace("\"hash\"", "\"cookie\""));
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&table(1, &good, &next, Share::percent(50))).unwrap();
    let mine = || world.ask("GET", "/", "Cookie: lastgood=b\r\n").2;
    assert_eq!([mine(), mine(), mine()], ["2", "2", "2"], "the cookie does not stick");
    router.route(&only(2, &good, &next)).unwrap();
    assert_eq!([mine(), mine(), mine()], ["1", "1", "1"]);
    // A candidate without a share yet is as closed as one that leaves.
    router.route(&table(3, &good, &next, Share::NONE)).unwrap();
    assert_eq!(mine(), "1");
}

#[test]
fn a_server_that_the_table_does_not_name_gets_nothing_and_a_backup_server_is_left_alone() {
    let (one, two, sorry) = (Server::start("1"), Server::start("2"), Server::start("sorry"));
    let world = World::start((one.port, two.port), |cfg| {
        format!("{cfg}\n    server stranger 127.0.0.1:{}\n    server sorry 127.0.0.1:{} backup\n", two.port, sorry.port)
    });
    let router = world.router();
    let good = side("1.0.0", &[("web", one.port)]);
    let mut alone = table(1, &good, &good, Share::NONE);
    alone.candidate = None;
    router.route(&alone).unwrap();
    assert!(world.people(200).iter().all(|answer| answer == "1"));
    // A service that is closed: nobody but the backup answers.
    (alone.epoch, alone.last_good) = (2, None);
    router.route(&alone).unwrap();
    assert!(world.people(20).iter().all(|answer| answer == "sorry"));
}

#[test]
fn an_instance_that_comes_back_at_another_port_is_found_there() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((1, 2), |cfg| cfg.replace("web-1 ", "a ").replace("web-2 ", "b "));
    let router =
        world.router_with(|toml| toml.replace("server = \"{instance}-{port}\"\n", "servers = { second = \"b\" }\n"));
    let (good, next) = (side("1.0.0", &[("a", one.port)]), side("1.1.0", &[("second", two.port)]));
    router.route(&table(1, &good, &next, Share::percent(50))).unwrap();
    let answers = world.people(200);
    assert!(part(&answers, "1") > 0.0 && part(&answers, "2") > 0.0);
    // The idle connections that HAProxy keeps to the old place must not be used again.
    let three = Server::start("3");
    let moved = side("1.0.0", &[("a", three.port)]);
    router.route(&table(2, &moved, &next, Share::NONE)).unwrap();
    assert!(world.people(200).iter().all(|answer| answer == "3"));
}
