//! Closed routes, through the rules of the guide.

use crate::world::{Server, World, only, side};
use lastgood_domain::{
    failure::Coded as _,
    traffic::{Answering, Closed, Table},
};
use lastgood_drivers::traffic::Router as _;
use std::fs;

fn close(table: &mut Table, by: &str, routes: &[&str], status: u16, retry_after: Option<u32>, body: &str) {
    let routes = routes.iter().map(|route| route.parse().unwrap()).collect();
    table.closed.push(Closed { by: by.into(), routes, answer: Answering { status, retry_after, body: body.into() } });
}

#[test]
fn closed_routes_answer_as_chosen_in_any_spelling_and_all_others_go_on_also_after_a_reload() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let mut world = World::start((one.port, two.port), |cfg| cfg);
    let router = world.router();
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let mut table = only(1, &good, &next);
    close(&mut table, "switch auth", &["POST /login", "/account/*"], 503, Some(30), "Log in later;\n\"soon\" % $x");
    close(&mut table, "switch admin", &["/account/*", "/admin.php"], 403, None, "");
    router.route(&table).unwrap();
    for reloaded in [false, true] {
        if reloaded {
            world.reload();
        }
        let (status, head, body) = world.ask("POST", "/login", "Content-Length: 0\r\n");
        assert_eq!((status, body.as_str()), (503, "Log in later; \"soon\" % $x"));
        assert!(head.to_lowercase().contains("retry-after: 30"), "{head}");
        for path in ["//login", "/./login", "/%6Cogin", "/%256cogin", "/LOGIN/", "/login;a=b", "/login?a=b"] {
            assert_eq!(world.ask("POST", path, "Content-Length: 0\r\n").0, 503, "{path} passed");
        }
        for path in ["/account", "/account/", "/account/x/y", "/%61ccount%2fx", "/x/../account"] {
            assert!([400, 503].contains(&world.get(path).0), "{path} passed");
        }
        assert_eq!(world.get("/admin.php").0, 403);
        for path in ["/login", "/login2", "/accounts", "/x/account", "/adminxphp", "/"] {
            assert_eq!(world.get(path).0, 200, "{path} is closed");
        }
    }
    let kept = fs::read_to_string(world.path("chat-closed.map")).unwrap();
    assert_eq!(kept.lines().count(), 4);
    router.route(&only(2, &good, &next)).unwrap();
    assert_eq!(world.ask("POST", "/login", "Content-Length: 0\r\n").0, 200);
    assert_eq!(fs::read_to_string(world.path("chat-closed.map")).unwrap(), "");

    // Opened behind our back: noticed.
    table.epoch = 3;
    router.route(&table).unwrap();
    world.say(&format!("clear map {}", world.path("chat-closed.map").display()));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let error = router.slices(&table.service, 0).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("other routes are closed")), ("router-drifted", true));
}

#[test]
fn what_can_t_be_closed_is_refused_before_anything_is_changed() {
    let (one, two) = (Server::start("1"), Server::start("2"));
    let world = World::start((one.port, two.port), |cfg| cfg);
    let (good, next) = (side("1.0.0", &[("web", one.port)]), side("1.1.0", &[("web", two.port)]));
    let mut table = only(1, &good, &next);
    close(&mut table, "stop-new", &["*"], 503, None, "");
    let without = world
        .router_with(|toml| toml.lines().filter(|line| !line.starts_with("closed_map")).collect::<Vec<_>>().join("\n"));
    let error = without.route(&table).unwrap_err();
    assert_eq!(error.code(), "router-no-closing");
    let other = world.router_with(|toml| toml.replace("chat-closed.map", "other.map"));
    let error = other.route(&table).unwrap_err();
    assert_eq!(error.code(), "router-no-closing");
    assert!(error.to_string().contains("other.map"), "{error}");
    assert_eq!(world.get("/").0, 503, "somebody was let in");
    // Nothing was begun: a table of the same epoch is not too late.
    without.route(&only(1, &good, &next)).unwrap();
    assert_eq!(world.get("/").0, 200);
}
