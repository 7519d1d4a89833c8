//! Counts over a take-over, against a process before that is told what to say.

use crate::{
    service::Service,
    stage::{Stage, chat, release, until},
};
use lastgood_domain::traffic::{
    Counts, Slice,
    wire::{Ask, Look, Told},
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::SystemTime,
};

/// How many seconds it is behind with its counts: less than a proxy takes for another clock.
const BEHIND: u64 = 4;

/// A process that has handed over and still counts: one request in each second, which it finishes late.
struct Predecessor {
    /// The last second that it has said is finished.
    told: Arc<AtomicU64>,
}

impl Predecessor {
    fn start(listener: UnixListener) -> Self {
        let told = Arc::new(AtomicU64::new(0));
        let finished = told.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, finished) = (stream.unwrap(), finished.clone());
                thread::spawn(move || talk(stream, &finished));
            }
        });
        Self { told }
    }
}

fn talk(mut stream: UnixStream, finished: &AtomicU64) {
    let asks = BufReader::new(stream.try_clone().unwrap()).lines();
    for ask in asks.map_while(Result::ok) {
        let answer = match serde_json::from_str(&ask).unwrap() {
            Ask::HandOver => Told::Listening { sockets: Vec::new(), heard: Vec::new() },
            Ask::Slices { after, .. } => {
                let second = now() - BEHIND;
                finished.fetch_max(second, Ordering::Relaxed);
                let slices = (after.max(second - BEHIND) + 1..=second).map(one_request).collect();
                Told::Slices { slices, finished: second }
            }
            Ask::Look { .. } => Told::Looked(Look::default()),
            Ask::Route { table } => Told::Routed { epoch: table.epoch },
            Ask::Ready | Ask::Succeed | Ask::Stop { .. } => Told::Stopping,
        };
        let line = serde_json::to_string(&answer).unwrap() + "\n";
        if stream.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn one_request(second: u64) -> Slice {
    Slice { second, counts: vec![(release("before"), Counts { status: [0, 1, 0, 0, 0], ..Counts::default() })] }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_second_is_given_out_only_when_the_process_before_has_finished_it() {
    let (mut stage, service) = (Stage::new(), Service::start("one"));
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    let socket = stage.folder.path().join("state/control.sock");
    fs::remove_file(&socket).unwrap();
    let before = Predecessor::start(UnixListener::bind(&socket).unwrap());
    let began = now();
    drop(stage.start_again());
    stage.all_to(service.address);
    let mut after = began - 1;
    until("seconds in which both have counted are given out", || {
        let slices = stage.control().slices(&chat(), after).unwrap();
        let told = before.told.load(Ordering::Relaxed);
        for slice in slices {
            assert!(slice.second > after, "a second is given twice");
            assert!(slice.second <= told, "{} is given out, and the one before has finished {told}", slice.second);
            let theirs = slice.of(&release("before")).map_or(0, Counts::requests);
            assert_eq!(theirs, 1, "what the one before has counted in {} is missing", slice.second);
            after = slice.second;
        }
        after >= began + 2
    });
}
