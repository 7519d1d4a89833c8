//! What HAProxy counts, second by second.

use crate::world::{Server, World, only, release, service, side, table};
use lastgood_domain::traffic::{Counts, Share};
use lastgood_drivers::traffic::{Haproxy, Router as _};
use std::{
    thread,
    time::{Duration, Instant},
};
use tungstenite::Message;

/// Takes slices, each once, and adds them up until `enough`.
fn take(router: &Haproxy, after: &mut u64, sums: &mut [Counts; 2], enough: impl Fn(&[Counts; 2]) -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        for slice in router.slices(&service(), *after).unwrap() {
            assert!(slice.second > *after, "a second was given twice");
            *after = slice.second;
            for (sum, tag) in sums.iter_mut().zip(["1.0.0", "1.1.0"]) {
                if let Some(counts) = slice.of(&release(tag)) {
                    sum.merge(counts);
                }
            }
        }
        if enough(sums) {
            return;
        }
        assert!(Instant::now() < until, "{sums:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn ended(sums: &[Counts; 2]) -> u64 {
    sums[0].requests() + sums[1].requests()
}

#[test]
fn each_request_counts_once_for_the_release_that_it_was_first_sent_to() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| {
        // It waits as long as for a connection before it tries once more, at most a second.
        cfg.replace(" check inter 1s", "").replace("timeout connect 2s", "timeout connect 100ms")
    });
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    assert_eq!(router.slices(&service(), 0).unwrap(), []);
    router.route(&table(1, &good, &next, Share::ALL)).unwrap();
    let (mut after, mut sums) = (0, [Counts::default(), Counts::default()]);
    take(&router, &mut after, &mut sums, |_| true);

    for path in ["/", "/", "/", "/404", "/500", "/500", "/cut", "/close"] {
        world.get(path);
    }
    take(&router, &mut after, &mut sums, |sums| ended(sums) >= 8);
    let all = |status, aborted| Counts { status, aborted, ..Counts::default() };
    assert_eq!(sums, [Counts::default(), all([0, 3, 0, 1, 2], 2)]);
    assert_eq!((sums[1].requests(), sums[1].failed()), (8, 4));

    // One connection is refused, and the other release saves the user.
    router.route(&table(2, &good, &next, Share::percent(50))).unwrap();
    two.stop();
    let answered = world.people(40);
    assert!(answered.iter().all(|answer| answer == "1"));
    take(&router, &mut after, &mut sums, |sums| sums[0].requests() >= 40);
    assert_eq!(sums[0], all([0, 40, 0, 0, 0], 0));
    let saved = sums[1].saved;
    assert!((5..=35).contains(&saved), "{saved} of 40");
    assert_eq!(sums[1].aborted, 2 + saved);
}

#[test]
fn websockets_count_when_they_open_and_when_they_are_reset() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&only(1, &good, &next)).unwrap();
    let (mut after, mut sums) = (0, [Counts::default(), Counts::default()]);
    take(&router, &mut after, &mut sums, |_| true);
    let mut sockets = [world.websocket(), world.websocket(), world.websocket()];
    for socket in &mut sockets {
        socket.send(Message::text("x")).unwrap();
        socket.read().unwrap();
    }
    sockets[0].close(None).unwrap();
    while sockets[0].read().is_ok() {}
    take(&router, &mut after, &mut sums, |sums| sums[0].opened >= 3);
    assert_eq!((sums[0].opened, sums[0].status[0], sums[0].failed()), (3, 3, 0));
    sockets[1].send(Message::text("reset")).unwrap();
    assert!(sockets[1].read().is_err());
    take(&router, &mut after, &mut sums, |sums| sums[0].failed() > 0);
    assert_eq!((sums[0].opened, sums[0].status[0], sums[0].aborted), (3, 3, 1));
}

#[test]
fn no_count_is_lost_or_doubled_by_a_route_a_restart_a_reload_or_counters_set_to_none() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let mut world = World::start((one.port, two.port), |cfg| cfg);
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let router = world.router();
    router.route(&table(1, &good, &next, Share::percent(50))).unwrap();
    let (mut after, mut sums) = (0, [Counts::default(), Counts::default()]);
    take(&router, &mut after, &mut sums, |_| true);
    world.people(100);
    router.route(&table(2, &good, &next, Share::percent(50))).unwrap();
    world.people(100);
    take(&router, &mut after, &mut sums, |sums| ended(sums) >= 200);
    assert_eq!(ended(&sums), 200);

    // What a driver read and nobody took before it was killed, a new one gives again.
    world.people(100);
    thread::sleep(Duration::from_millis(1_100));
    let untaken = router.slices(&service(), after).unwrap();
    drop(router);
    let router = world.router();
    assert_eq!(router.slices(&service(), after).unwrap()[..untaken.len()], untaken);
    take(&router, &mut after, &mut sums, |sums| ended(sums) >= 300);
    assert_eq!(ended(&sums), 300);

    world.say("clear counters all");
    world.people(30);
    take(&router, &mut after, &mut sums, |sums| ended(sums) >= 330);
    assert_eq!(ended(&sums), 330);

    world.reload();
    world.people(50);
    take(&router, &mut after, &mut sums, |sums| ended(sums) >= 380);
    assert_eq!((ended(&sums), sums[0].failed() + sums[1].failed()), (380, 0));
    assert!(sums.iter().all(|sum| sum.latency.count() == 0 && sum.people == 0));
}
