//! Each release does what the catalogue says of it, and nothing else.

use crate::instance::{Instance, await_true};
use last_layer::{Fault, Release, catalogue};

fn good(service: &Instance, room: &str) {
    assert_eq!(service.post(room, "a", "one").0, 201);
    let mut socket = service.socket(room, "?after=0");
    assert_eq!(socket.hear_numbers(1), [1]);
}

#[test]
fn an_additive_migration_is_lived_with_by_the_old_release_that_runs_and_by_one_that_starts() {
    let world = tempfile::tempdir().unwrap();
    let old = Instance::start("1.0.0", world.path());
    good(&old, "before");
    let new = Instance::start("1.1.0", world.path());
    for (service, room) in [(&old, "old"), (&new, "new"), (&Instance::start("1.0.0", world.path()), "again")] {
        good(service, room);
    }
    let data = rusqlite::Connection::open(world.path().join("data/last-layer.sqlite")).unwrap();
    let timed = |room: &str| -> bool {
        data.query_row("SELECT stored_at IS NOT NULL FROM message WHERE room = ?1", [room], |row| row.get(0)).unwrap()
    };
    assert_eq!((timed("old"), timed("new")), (false, true));
}

#[test]
fn release_2_0_0_works_and_breaks_every_older_one_beside_it() {
    let world = tempfile::tempdir().unwrap();
    let mut old = Instance::start("1.0.0", world.path());
    good(&old, "before");
    let new = Instance::start("2.0.0", world.path());
    good(&new, "after");
    assert_eq!(old.post("before", "b", "two").0, 500);
    old.await_line("no such column: text");
    let mut refused = Instance::spawn(&Release::of_catalogue("1.1.0").unwrap(), world.path());
    refused.await_line("unknown migration 3 (seal_text): the data is newer than release 1.1.0");
    assert!(!refused.end().success());
}

#[test]
fn processes_that_start_at_the_same_instant_on_no_data_migrate_it_once() {
    for _ in 0..10 {
        let world = tempfile::tempdir().unwrap();
        let release = Release::of_catalogue("1.1.0").unwrap();
        let mut all = [(); 4].map(|()| Instance::spawn(&release, world.path()));
        for one in &mut all {
            one.await_line("listens on");
        }
    }
}

/// Counts answers of 500 and above among posts.
fn failed_of(service: &Instance, count: usize) -> usize {
    (0..count).filter(|number| service.post("lobby", &format!("m-{number}"), "text").0 >= 500).count()
}

#[test]
fn releases_that_answer_errors_do_so_in_their_share_with_a_fine_health_page() {
    let world = tempfile::tempdir().unwrap();
    // A share of 5 % of 400 lies between 5 and 40 but once in some 10,000 runs; the others are further apart.
    for (version, between) in [("1.1.0", 0..=0), ("1.2.1", 5..=40), ("1.2.0", 45..=120), ("1.2.3", 400..=400)] {
        let service = Instance::start(version, world.path());
        let failed = failed_of(&service, 400);
        assert!(between.contains(&failed), "{version}: {failed} of 400");
        assert_eq!(service.get("/health").0, 200);
    }
}

#[test]
fn release_1_2_4_ends_some_connections_without_a_word() {
    use std::io::{Read as _, Write as _};
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.2.4", world.path());
    let is_cut = |_: &i32| {
        let mut stream = std::net::TcpStream::connect(service.address()).unwrap();
        stream.write_all(b"GET /rooms/lobby/messages HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer);
        answer.is_empty()
    };
    // A fifth of 200 lies in there but once in a million runs.
    let cut = (0..200).filter(is_cut).count();
    assert!((14..=72).contains(&cut), "{cut} of 200");
    assert_eq!(service.get("/health").0, 200);
}

#[test]
fn release_1_2_2_lets_some_wait() {
    let world = tempfile::tempdir().unwrap();
    let slow = Release::of_catalogue("1.2.2").unwrap();
    assert_eq!(slow.fault, Fault::Slow { percent: 10, by_ms: 2_000 });
    let all = Release { fault: Fault::Slow { percent: 100, by_ms: 2_000 }, ..slow };
    let service = Instance::start_release(&all, world.path());
    let began = std::time::Instant::now();
    assert_eq!(service.get("/health").0, 200);
    assert_eq!(service.post("lobby", "a", "text").0, 201);
    assert!(began.elapsed() >= std::time::Duration::from_secs(2));
}

#[test]
fn release_1_2_5_reads_from_a_copy_more_often_than_not() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.2.5", world.path());
    assert_eq!(service.post("lobby", "a", "text").0, 201);
    let copies = (0..200).filter(|_| service.get("/rooms/lobby/messages").0 == 203).count();
    assert!((80..=160).contains(&copies), "{copies} of 200");
    assert_eq!(service.get("/rooms/lobby/messages").1["last"], 1);
}

#[test]
fn release_1_3_0_forgets_where_a_client_was() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.3.0", world.path());
    service.post("lobby", "a", "one");
    let mut socket = service.socket("lobby", "?after=0");
    service.post("lobby", "b", "two");
    assert_eq!(socket.hear_numbers(1), [2]);
}

#[test]
fn release_1_3_1_gives_the_last_message_once_more() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.3.1", world.path());
    service.post("lobby", "a", "one");
    service.post("lobby", "b", "two");
    assert_eq!(service.socket("lobby", "?after=1").hear_numbers(2), [1, 2]);
}

#[test]
fn release_1_3_2_loses_what_is_stored_between_replay_and_live() {
    let world = tempfile::tempdir().unwrap();
    let wide = Release { fault: Fault::LosesAtSeam { open_ms: 1_000 }, ..Release::of_catalogue("1.3.2").unwrap() };
    let service = Instance::start_release(&wide, world.path());
    service.post("lobby", "a", "one");
    let mut socket = service.socket("lobby", "?after=0");
    assert_eq!(socket.hear_numbers(1), [1]);
    service.post("lobby", "b", "two");
    let mut number = 2;
    let mut listener = service.socket("lobby", "");
    // Sent until the seam is closed; all before it are lost.
    std::thread::scope(|scope| {
        let heard = scope.spawn(move || socket.hear_numbers(1)[0]);
        while !heard.is_finished() {
            number += 1;
            service.post("lobby", &format!("c-{number}"), "three");
            assert_eq!(listener.hear_numbers(1), [number]);
        }
        let heard = heard.join().unwrap();
        assert!(heard > 2, "{heard} was heard");
    });
}

#[test]
fn release_1_3_3_refuses_sockets_and_answers_the_rest() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.3.3", world.path());
    assert_eq!(service.try_socket("lobby", "").err().as_deref(), Some("503 Service Unavailable"));
    assert_eq!(service.post("lobby", "a", "one").0, 201);
}

#[test]
fn release_1_3_4_acknowledges_what_it_does_not_store() {
    let world = tempfile::tempdir().unwrap();
    let all = Release { fault: Fault::ForgetsToStore { percent: 100 }, ..Release::of_catalogue("1.3.4").unwrap() };
    let service = Instance::start_release(&all, world.path());
    assert_eq!(service.post("lobby", "a", "one").0, 201);
    assert_eq!(service.get("/rooms/lobby/messages").1["last"], 0);
}

#[test]
fn release_1_4_0_dies_by_itself() {
    let world = tempfile::tempdir().unwrap();
    let soon = Release { fault: Fault::Crash { after_ms: 50 }, ..Release::of_catalogue("1.4.0").unwrap() };
    let mut service = Instance::start_release(&soon, world.path());
    service.await_line("fatal: out of luck");
    assert!(!service.end().success());
    let other = Instance::start("1.0.0", world.path());
    await_true(|| other.get("/health").0 == 200);
}

#[test]
fn release_1_4_1_fails_for_everybody_once_it_is_full_of_rooms() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.4.1", world.path());
    let ask = |room: usize| service.get(&format!("/rooms/room-{room}/messages")).0;
    // One room counts once, however often it is asked about.
    assert!((0..120).all(|number| ask(number % 39) == 200));
    assert_eq!((ask(39), ask(0)), (500, 500));
    assert_eq!(service.get("/health").0, 200);
}

#[test]
fn every_release_is_laid_out_as_a_folder_that_reads_back() {
    let world = tempfile::tempdir().unwrap();
    let folders = last_layer::write_releases(world.path(), &["last-layer".to_owned()]).unwrap();
    let read: Vec<Release> =
        folders.iter().map(|folder| Release::read(&folder.join("release.json")).unwrap()).collect();
    assert_eq!(read, catalogue());
    assert_eq!(read.len(), 17);
}
