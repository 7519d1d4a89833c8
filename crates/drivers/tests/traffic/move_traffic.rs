//! Moves under load, with kills and reloads between.

use crate::world::{Server, World, only, release, service, side, states, table};
use lastgood_domain::{failure::Coded as _, traffic::Share};
use lastgood_drivers::traffic::{Load, Router as _, RouterError};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};
use tungstenite::Message;

#[test]
fn a_hundred_flips_under_load_are_one_call_each_and_fail_no_request() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&only(1, &good, &next)).unwrap();
    let load = world.load(true);
    let mut took = Vec::new();
    for flip in 0..100_u64 {
        let routed = if flip.is_multiple_of(2) {
            router.route(&table(flip + 2, &good, &next, Share::ALL))
        } else {
            router.route(&only(flip + 2, &good, &next))
        };
        took.push(routed.unwrap().took);
        let expected = if flip.is_multiple_of(2) { "2" } else { "1" };
        assert_eq!(world.get("/").2, expected, "after flip {flip}");
        load.more(20);
    }
    let (asked, failed) = load.end();
    took.sort();
    println!("{asked} requests; a flip took {:?} in the middle and {:?} at most", took[50], took[99]);
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
}

#[test]
fn a_live_websocket_goes_on_at_the_release_that_leaves_while_new_ones_go_elsewhere() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let look = || router.look(&service()).unwrap();
    let load = |tag, in_flight| Load { release: release(tag), in_flight, tunnels: None, people: None };
    router.route(&table(1, &good, &next, Share::ALL)).unwrap();
    let mut socket = world.websocket();
    let mut say = |text: &str| {
        socket.send(Message::text(text.to_owned())).unwrap();
        socket.read().unwrap().into_text().unwrap().to_string()
    };
    assert_eq!(say("a"), "2 a");
    router.route(&only(2, &good, &next)).unwrap();
    assert_eq!(look(), [load("1.0.0", 0), load("1.1.0", 1)]);
    for number in 0..20 {
        assert_eq!(say(&number.to_string()), format!("2 {number}"));
        let mut fresh = world.websocket();
        fresh.send(Message::text("x")).unwrap();
        assert_eq!(fresh.read().unwrap().into_text().unwrap(), "1 x");
    }
    drop(socket);
    world.wait_for("show stat chat 4 -1", |_| look()[1].in_flight == 0);
}

/// Hands on what the driver says until so many commands are through, then hangs up as a kill would.
fn cut_after(world: &World, commands: usize) -> (std::path::PathBuf, Arc<AtomicUsize>) {
    let path = world.path(&format!("cut-{commands}.sock"));
    let _ = fs::remove_file(&path);
    let (listener, real) = (UnixListener::bind(&path).unwrap(), world.path("admin.sock"));
    let left = Arc::new(AtomicUsize::new(commands));
    let rest = Arc::clone(&left);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            hand_on(stream, &real, &rest);
        }
    });
    (path, left)
}

fn hand_on(mut from: UnixStream, real: &Path, left: &AtomicUsize) {
    let mut reader = BufReader::new(from.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if line.ends_with("<<\n") {
        while !line.ends_with("\n\n") {
            reader.read_line(&mut line).unwrap();
        }
    }
    let all: Vec<&str> = if line.contains("<<") { vec![&line] } else { line.trim_end().split(';').collect() };
    // Questions change nothing: only what changes something is counted.
    let asks = all.iter().all(|command| command.starts_with("show"));
    let through = if asks { all.len() } else { all.len().min(left.load(SeqCst)) };
    if !asks {
        left.fetch_sub(through, SeqCst);
    }
    if through > 0 {
        let mut to = UnixStream::connect(real).unwrap();
        to.write_all(format!("{}\n", all[..through].join(";")).as_bytes()).unwrap();
        let mut answer = Vec::new();
        to.read_to_end(&mut answer).unwrap();
        if through == all.len() {
            let _ = from.write_all(&answer);
        }
    }
    // Else it hangs up without an answer: a killed driver sees none either.
}

#[test]
fn killed_after_any_command_of_a_move_and_told_again_the_end_is_the_same_and_no_request_fails() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let mut epoch = 1;
    router.route(&only(epoch, &good, &next)).unwrap();
    let load = world.load(true);
    for share in [Share::percent(5), Share::percent(60), Share::ALL, Share::NONE] {
        let from = states(&world);
        let mut kills = 0;
        let wanted = {
            epoch += 1;
            router.route(&table(epoch, &good, &next, share)).unwrap();
            states(&world)
        };
        for commands in 0..50 {
            // Back to where the move begins, command by command.
            for (server, state) in &from {
                let fields: Vec<&str> = state.split(' ').collect();
                let is_ready = fields[4] == "4";
                let state = if is_ready { "ready" } else { "maint" };
                if is_ready {
                    world.say(&format!(
                        "set server chat/{server} weight {};set server chat/{server} state {state}",
                        fields[2]
                    ));
                }
            }
            for (server, state) in from.iter().filter(|(_, state)| !state.ends_with("admin 4")) {
                let weight = state.split(' ').nth(2).unwrap();
                world.say(&format!("set server chat/{server} state maint;set server chat/{server} weight {weight}"));
            }
            assert_eq!(states(&world), from);
            epoch += 1;
            let (socket, left) = cut_after(&world, commands);
            let admin = world.path("admin.sock");
            let dying =
                world.router_with(|toml| toml.replace(&admin.display().to_string(), &socket.display().to_string()));
            let routed = dying.route(&table(epoch, &good, &next, share));
            load.more(20);
            drop(dying);
            // A driver that is new knows only what the dead one had on disk.
            let again = world.router().route(&table(epoch, &good, &next, share)).unwrap();
            assert_eq!(again.epoch, epoch);
            assert_eq!(states(&world), wanted, "after {commands} commands to {share}");
            load.more(20);
            if left.load(SeqCst) > 0 {
                routed.unwrap();
                break;
            }
            kills += usize::from(routed.is_err());
        }
        assert!(kills >= 2, "only {kills} kills on the way to {share}");
    }
    let (asked, failed) = load.end();
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
}

/// Hands on what a driver says, but its first line only when it is let.
fn held_up(world: &World) -> (std::path::PathBuf, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let path = world.path("held-up.sock");
    let (listener, real) = (UnixListener::bind(&path).unwrap(), world.path("admin.sock"));
    let ((came, has_come), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            if at == 0 {
                came.send(()).unwrap();
                may_go.recv().unwrap();
            }
            hand_on(stream, &real, &AtomicUsize::new(usize::MAX));
        }
    });
    (path, has_come, go)
}

#[test]
fn a_table_that_is_told_again_by_somebody_else_at_the_same_time_undoes_no_way_back() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let driver = world.router();
    driver.route(&table(1, &good, &next, Share::ALL)).unwrap();
    let (socket, has_come, go) = held_up(&world);
    let admin = world.path("admin.sock");
    let again = world.router_with(|toml| toml.replace(&admin.display().to_string(), &socket.display().to_string()));
    let shares = table(1, &good, &next, Share::ALL);
    let telling = thread::spawn(move || again.route(&shares).map(drop).map_err(|error| error.to_string()));
    // It has read what was told last, and is about to tell that again.
    has_come.recv().unwrap();
    let back = only(2, &good, &next);
    let (done, is_done) = mpsc::channel();
    let flipping = thread::spawn(move || {
        let routed = driver.route(&back).map(drop).map_err(|error| error.to_string());
        let _ = done.send(());
        routed
    });
    // Long enough for a way back that does not wait.
    let _ = is_done.recv_timeout(Duration::from_secs(1));
    go.send(()).unwrap();
    telling.join().unwrap().unwrap();
    flipping.join().unwrap().unwrap();
    assert_eq!(world.people(20), vec!["1"; 20], "the way back was confirmed, and undone");
    let told = world.router().route(&table(1, &good, &next, Share::ALL)).unwrap_err();
    assert!(matches!(told, RouterError::TableOlder { has: 2, .. }), "{told}");
}

#[test]
fn a_reload_keeps_what_was_told_and_fails_no_request_and_what_an_older_process_has_is_not_taken_for_nothing() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let mut world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&table(1, &good, &next, Share::ALL)).unwrap();
    let mut socket = world.websocket();
    router.route(&table(2, &good, &next, Share::percent(25))).unwrap();
    let (told, load) = (states(&world), world.load(false));
    load.more(50);
    world.reload();
    load.more(50);
    assert_eq!(states(&world), told);
    assert_eq!(router.slices(&service(), 0).map(|_| ()).map_err(|error| error.to_string()), Ok(()));
    let (asked, failed) = load.end();
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
    // The socket lives in the older process.
    router.route(&only(3, &good, &next)).unwrap();
    assert_eq!(router.look(&service()).unwrap_err().code(), "router-older-process");
    socket.send(Message::text("still")).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap(), "2 still");
    drop(socket);
    world.wait_alone();
    assert!(router.look(&service()).unwrap().iter().all(|load| load.in_flight == 0));
}

#[test]
fn a_reload_that_forgets_is_noticed_and_told_again() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let mut world = World::start((one.port, two.port), |cfg| cfg);
    let router = world
        .router_with(|toml| toml.lines().filter(|line| !line.starts_with("state_file")).collect::<Vec<_>>().join("\n"));
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let table = table(1, &good, &next, Share::percent(5));
    router.route(&table).unwrap();
    let told = states(&world);
    world.reload();
    assert_eq!(world.get("/").0, 503, "nobody is let in before lastgood has said who serves");
    let error = router.slices(&service(), 0).unwrap_err();
    assert_eq!(error.code(), "router-drifted");
    assert!(error.to_string().contains("takes no requests"), "{error}");
    router.route(&table).unwrap();
    assert_eq!(states(&world), told);
    assert_eq!(world.get("/").0, 200);
}

#[test]
fn an_older_table_and_another_of_the_same_epoch_change_nothing_also_after_a_restart() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    world.router().route(&table(7, &good, &next, Share::NONE)).unwrap();
    let told = states(&world);
    for late in [table(6, &good, &next, Share::ALL), table(7, &good, &next, Share::ALL)] {
        let error = world.router().route(&late).unwrap_err();
        assert_eq!(error.code(), "router-table-older");
        assert_eq!(states(&world), told);
    }
    // The same once more is made so once more.
    world.say("set server chat/web-1 weight 7;set server chat/nobody weight 7");
    world.say(&format!("set server chat/web-{} state maint", one.port));
    world.router().route(&table(7, &good, &next, Share::NONE)).unwrap();
    assert_eq!(states(&world), told);
    // What was kept and can't be read must not stand in the way of going back.
    for file in ["chat.haproxy-table.json", "chat.haproxy-counts.json"] {
        fs::write(world.path("kept").join(file), b"{\"v\":").unwrap();
    }
    world.router().route(&only(8, &good, &next)).unwrap();
    assert_eq!(world.get("/").2, "1");
}
