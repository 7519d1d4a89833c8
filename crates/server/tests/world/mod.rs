//! A store with a service's history in it, and plain HTTP to ask with.
#![expect(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use lastgood_domain::{
    event::{Aim, Event, Record, Settings},
    evidence::Head,
    operations::hold::InFlight,
    terms::{Actor, HoldId, InstanceName, Reason, RunId, ServiceName, Span, Timestamp},
};
use lastgood_engine::log::{canonical, chain_of};
use lastgood_server::{Pages, Snapshot};
use lastgood_store::{NewNotice, NewRecord, Reader, Store};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// 2026-01-01T00:00:00Z, so that golden pages have whole numbers.
pub const NEW_YEAR: i64 = 1_767_225_600_000;

pub fn at(minute: i64) -> Timestamp {
    Timestamp(NEW_YEAR + minute * 60_000)
}

pub fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub fn instance(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

pub fn settings(instances: &[&str]) -> Settings {
    Settings {
        instances: instances.iter().map(|name| instance(name)).collect(),
        canary: None,
        rehearse_on: None,
        wave_size: 1,
        soak: Span::ZERO,
        loss_rows_max: 0,
        loss_files_max: 0,
        loss_age_max: Span::ZERO,
        watch: Span::minutes(60),
        stale_after: Span::minutes(60),
        back_when_broken: true,
        broken_percent: 5,
        degraded_percent: 20,
        outcomes_min: 10,
        traffic: None,
        policy: lastgood_domain::provenance::Policy::default(),
        gates: Vec::new(),
        rca: lastgood_domain::operations::rca::Rca::Off,
        expects: None,
    }
}

pub fn started(run: u64, instances: &[&str]) -> Event {
    Event::RunStarted { run: RunId(run), aim: Aim::Track, settings: settings(instances) }
}

pub fn hold(id: u64, reason: &str) -> Event {
    Event::HoldSet {
        hold: HoldId(id),
        reason: Reason::new(reason).unwrap(),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    }
}

/// Appends to a service's chain.
pub fn write(store: &mut Store, service: &ServiceName, events: &[(i64, Event)]) -> Head {
    write_with(store, service, events, &[])
}

/// Appends to a service's chain, with notices.
pub fn write_with(store: &mut Store, service: &ServiceName, events: &[(i64, Event)], notices: &[NewNotice]) -> Head {
    let chain = chain_of(service);
    let head = store.head(&chain).unwrap();
    let by = Actor::new("lastgood:run").unwrap();
    let records: Vec<NewRecord> = events
        .iter()
        .map(|(minute, event)| {
            let record = Record { v: 1, at: at(*minute), by: by.clone(), event: event.clone() };
            NewRecord { at: record.at, bytes: canonical(&record) }
        })
        .collect();
    store.append(&chain, &head, &records, notices).unwrap()
}

/// Pages as a daemon makes them: one reader and one lookout behind a lock.
pub fn pages(dir: &Path, services: &[ServiceName], now: Timestamp) -> Pages {
    let reader = Reader::open(dir).unwrap();
    let watched = Mutex::new((reader, lastgood_server::Lookout::new(services, &[])));
    Arc::new(move || {
        let (reader, lookout) = &mut *watched.lock().unwrap();
        lookout.look(reader, now).unwrap_or_else(|error| Snapshot::failed(&error, now))
    })
}

/// Asks for `path` and gives status line with headers, and body.
pub fn ask(address: SocketAddr, request: &str) -> (String, String) {
    ask_by(address, request, "HTTP/1.1")
}

/// The same of a server that answers HTTP/1.1 in chunks, as `HTTP/1.0` doesn't know them.
pub fn ask_by(address: SocketAddr, request: &str, version: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    // Ten times what a page may take: only a server that hangs meets it.
    stream.set_read_timeout(Some(Duration::from_secs(80))).unwrap();
    let request = format!("{request} {version}\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    // Pages have a length, so the body stands there as it is.
    (head.to_lowercase(), body.into())
}
