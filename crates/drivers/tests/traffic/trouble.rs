//! Sockets that are gone, hang or refuse, and tables that HAProxy can't carry.

use crate::world::{Server, World, only, service, side, states, table};
use lastgood_domain::{failure::Coded, traffic::Share};
use lastgood_drivers::traffic::{Router, RouterError};
use std::process::Command;

fn code<T: std::fmt::Debug>(result: Result<T, RouterError>) -> &'static str {
    let error = result.unwrap_err();
    assert!(error.hint().is_some());
    error.code()
}

#[test]
fn a_socket_that_is_gone_hangs_refuses_or_is_anothers_is_told_for_what_it_is() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| {
        let dir = cfg.split("stats socket ").nth(1).unwrap().split("admin.sock").next().unwrap();
        let user =
            format!("    stats socket {dir}user.sock level user\n    stats socket {dir}operator.sock level operator\n");
        cfg.replacen("global\n", &format!("global\n{user}"), 1)
    });
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let table = only(1, &good, &next);
    let with_socket = |socket: &str| world.router_with(|toml| toml.replace("admin.sock", socket));
    for (socket, expected) in
        [("gone.sock", "router-unreachable"), ("user.sock", "router-denied"), ("operator.sock", "router-denied")]
    {
        assert_eq!(code(with_socket(socket).route(&table)), expected, "{socket}");
    }
    let admin = world.path("admin.sock").display().to_string();
    let at = |address: String| world.router_with(|toml| toml.replace(&admin, &address));
    assert_eq!(code(at(format!("127.0.0.1:{}", world.front)).route(&table)), "router-answer-unreadable");
    assert_eq!(code(at("127.0.0.1:1".into()).route(&table)), "router-unreachable");

    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &world.pid().to_string()]).status().unwrap().success());
    };
    let router = world.router();
    router.route(&table).unwrap();
    signal("-STOP");
    let answers = [code(router.route(&table)), code(router.slices(&service(), 0)), code(router.look(&service()))];
    signal("-CONT");
    assert_eq!(answers, ["router-silent"; 3]);
    router.route(&table).unwrap();
}

#[test]
fn through_a_socket_on_loopback_the_same_is_done() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let port = crate::world::free_port();
    let world = World::start((one.port, two.port), |cfg| {
        cfg.replacen("global\n", &format!("global\n    stats socket ipv4@127.0.0.1:{port} level admin\n"), 1)
    });
    let admin = world.path("admin.sock").display().to_string();
    let router = world.router_with(|toml| toml.replace(&admin, &format!("127.0.0.1:{port}")));
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&table(1, &good, &next, Share::ALL)).unwrap();
    assert_eq!(world.get("/").2, "2");
}

#[test]
fn a_table_that_haproxy_can_t_carry_is_refused_and_changes_nothing() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&only(1, &good, &next)).unwrap();
    let told = states(&world);
    let backend = world.router_with(|toml| toml.replace("backend = \"chat\"", "backend = \"chit\""));
    let error = backend.route(&only(2, &good, &next)).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("no backend chit")), ("router-server-unknown", true));
    let error = router.route(&only(2, &side("1.0.0", &[("app", 1)]), &next)).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("no server app-1")), ("router-server-unknown", true));
    let by_instance = world.router_with(|toml| toml.replace("-{port}", ""));
    assert_eq!(code(by_instance.route(&table(2, &good, &next, Share::percent(5)))), "router-table-unfit");
    let mut nobody = table(2, &good, &next, Share::percent(5));
    nobody.last_good = None;
    assert_eq!(code(router.route(&nobody)), "router-table-unfit");
    let mut empty = only(2, &good, &next);
    empty.last_good.as_mut().unwrap().upstreams.clear();
    assert_eq!(code(router.route(&empty)), "router-table-unfit");
    let mut foreign = only(2, &good, &next);
    foreign.service = "other".parse().unwrap();
    assert_eq!(code(router.route(&foreign)), "router-table-unfit");
    assert_eq!(states(&world), told);
}

#[test]
fn a_server_is_not_given_another_address_while_somebody_is_on_it() {
    let (one, two, three) = (Server::start("1"), Server::start("2"), Server::start("3"));
    let world = World::start((1, 2), |cfg| cfg.replace("web-1 ", "a ").replace("web-2 ", "b "));
    let router = world.router_with(|toml| toml.replace("{instance}-{port}", "{instance}"));
    let (good, next) = (side("1.0.0", &[("a", one.port)]), side("1.1.0", &[("b", two.port)]));
    router.route(&only(1, &good, &next)).unwrap();
    let mut socket = world.websocket();
    let told = states(&world);
    let moved = side("1.2.0", &[("a", three.port)]);
    assert_eq!(code(router.route(&only(2, &moved, &next))), "router-server-busy");
    assert_eq!(states(&world), told);
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    world.wait_for("show stat chat 4 -1", |_| router.route(&only(2, &moved, &next)).is_ok());
    assert_eq!(world.get("/").2, "3");
}

#[test]
fn a_server_that_haproxy_still_holds_for_down_is_set_up_when_it_must_serve() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let (first, second) = (one.port, two.port);
    // A check that needs long to believe in a server again.
    let world = World::start((first, second), |cfg| cfg.replace("inter 1s", "inter 200ms fall 1 rise 1000"));
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", first)]), side("1.1.0", &[("web", second)]));
    router.route(&table(1, &good, &next, Share::percent(50))).unwrap();
    one.stop();
    let down = format!("chat,web-{first},");
    let is_down = |text: &str| text.lines().any(|line| line.starts_with(&down) && line.contains(",DOWN,"));
    world.wait_for("show stat chat 4 -1", is_down);
    let _again = Server::at("1", first);
    router.route(&only(2, &good, &next)).unwrap();
    assert_eq!(world.get("/").2, "1");
}

#[test]
fn nobody_is_taken_away_while_those_who_come_can_t_serve() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    // A server that follows another one can't be set up by itself.
    let world = World::start((one.port, two.port), |cfg| {
        cfg.replace(&format!("{} check inter 1s", two.port), &format!("{} track other/down", two.port))
            + "\nbackend other\n    server down 127.0.0.1:1 check inter 100ms fall 1\n"
    });
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    router.route(&only(1, &good, &next)).unwrap();
    world.wait_for("show stat other 4 -1", |text| text.contains(",DOWN,"));
    let error = router.route(&table(2, &good, &next, Share::ALL)).unwrap_err();
    assert_eq!(error.code(), "router-server-down");
    assert!(world.people(50).iter().all(|answer| answer == "1"));
    router.route(&only(3, &good, &next)).unwrap();
}
