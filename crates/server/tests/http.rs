//! How the server behaves towards those who ask, and those who only pretend to.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod world;

use lastgood_server::{DriverState, METRICS_TYPE, Pages, ServeError, Server, Snapshot, bind, serve};
use lastgood_store::Store;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};
use world::{ask, at, hold, pages, service, write};

fn here() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn serving(pages: Pages) -> Server {
    serve(bind(here()).unwrap(), pages).unwrap()
}

fn told(snapshot: Snapshot) -> Pages {
    Arc::new(move || snapshot.clone())
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = bind(address.parse().unwrap());
        assert!(matches!(refused, Err(ServeError::NotLoopback { .. })), "{address}: {refused:?}");
    }
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(matches!(serve(open, told(Snapshot::default())), Err(ServeError::NotLoopback { .. })));
}

#[test]
fn an_address_in_use_is_told_by_name() {
    let taken = TcpListener::bind(here()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).unwrap_err();
    assert_eq!(error.to_string(), format!("can't listen on {address}"));
}

#[test]
fn metrics_come_with_their_type_and_are_as_fresh_as_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let server = serving(pages(dir.path(), &[service("web")], at(9)));
    let (head, body) = ask(server.address(), "GET /metrics");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains(&format!("content-type: {METRICS_TYPE}")), "{head}");
    assert!(body.contains("lastgood_hold_standing{service=\"web\"} 0\n"), "{body}");
    write(&mut store, &service("web"), &[(1, hold(0, "an audit"))]);
    let (_, body) = ask(server.address(), "GET /metrics");
    assert!(body.contains("lastgood_hold_standing{service=\"web\"} 1\n"), "{body}");
    assert!(body.contains("lastgood_alarm{service=\"web\",alarm=\"frozen\"} 1\n"), "{body}");
}

#[test]
fn health_tells_when_each_service_was_last_looked_after() {
    let mut snapshot = Snapshot { at: at(5), ..Snapshot::default() };
    snapshot.drivers.insert(service("web"), DriverState { alive: true, last_look: Some(at(4)) });
    let (head, body) = ask(serving(told(snapshot)).address(), "GET /health");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        page,
        serde_json::json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "at": "2026-01-01T00:05:00.000Z",
            "services": { "web": { "alive": true, "last_look": "2026-01-01T00:04:00.000Z" } },
        })
    );
}

#[test]
fn one_dead_driver_thread_is_a_503() {
    let mut snapshot = Snapshot { at: at(5), ..Snapshot::default() };
    snapshot.drivers.insert(service("shop"), DriverState { alive: true, last_look: Some(at(4)) });
    snapshot.drivers.insert(service("web"), DriverState { alive: false, last_look: None });
    let server = serving(told(snapshot));
    let (head, body) = ask(server.address(), "GET /health");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(body.contains(r#""web":{"alive":false,"last_look":null}"#), "{body}");
    let (head, _) = ask(server.address(), "GET /metrics");
    assert!(head.starts_with("http/1.1 200"), "the numbers are right all the same: {head}");
}

#[test]
fn evidence_that_cannot_be_read_is_a_503_on_both_pages() {
    let why = std::io::Error::other("the disk is gone");
    let server = serving(told(Snapshot::failed(&why, at(1))));
    for path in ["/metrics", "/health"] {
        let (head, body) = ask(server.address(), &format!("GET {path}"));
        assert!(head.starts_with("http/1.1 503"), "{path}: {head}");
        assert!(body.contains("the disk is gone"), "{path}: {body}");
    }
}

#[test]
fn a_page_that_panics_is_a_500_and_the_next_one_is_answered() {
    let asked = std::sync::atomic::AtomicBool::new(false);
    let server = serving(Arc::new(move || {
        assert!(asked.swap(true, std::sync::atomic::Ordering::SeqCst), "only the first time");
        Snapshot::default()
    }));
    assert!(ask(server.address(), "GET /metrics").0.starts_with("http/1.1 500"));
    assert!(ask(server.address(), "GET /metrics").0.starts_with("http/1.1 200"));
    assert!(server.is_alive());
}

#[test]
fn other_pages_and_other_methods_are_refused() {
    let server = serving(told(Snapshot::default()));
    assert!(ask(server.address(), "GET /").0.starts_with("http/1.1 404"));
    assert!(ask(server.address(), "GET /metrics/../../etc/passwd").0.starts_with("http/1.1 404"));
    assert!(ask(server.address(), "POST /metrics").0.starts_with("http/1.1 405"));
    assert!(ask(server.address(), "DELETE /health").0.starts_with("http/1.1 405"));
}

#[test]
fn clients_that_send_nothing_are_let_go_and_others_are_answered_meanwhile_or_after() {
    let server = serving(told(Snapshot::default()));
    // More than are served at once: the one behind them waits until their time is over.
    let mut idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    idle[0].write_all(b"GET /metr").unwrap();
    assert!(ask(server.address(), "GET /metrics").0.starts_with("http/1.1 200"));
    let mut rest = Vec::new();
    // An end of file or a reset: the server let go. Only a server that holds on would hang here.
    let _ = idle[0].read_to_end(&mut rest);
}

#[test]
fn noise_is_answered_with_a_400_and_harms_nobody() {
    let server = serving(told(Snapshot::default()));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"\x16\x03\x01\x00\xff\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert!(ask(server.address(), "GET /metrics").0.starts_with("http/1.1 200"));
}

#[test]
fn a_stopped_server_frees_its_address() {
    let server = serving(told(Snapshot::default()));
    let address = server.address();
    server.stop();
    let again = serve(bind(address).unwrap(), told(Snapshot::default())).unwrap();
    assert!(ask(again.address(), "GET /metrics").0.starts_with("http/1.1 200"));
}
