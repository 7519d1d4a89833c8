//! A kill switch to many subscribers on this machine, and what asking for one costs.

use crate::{
    Bench,
    notebook::said,
    numbers::Rounds,
    say,
    switchboard::{Switchboard, ask},
};
use lastgood_client::Switches;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Subscribers of the two rows.
const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// Trips of one round.
const TRIPS: usize = 10;
/// A subscriber that has not heard by then has lost it.
const HEARS_WITHIN: Duration = Duration::from_secs(20);
/// Questions of one round of the local check.
const CHECKS: u32 = 50_000_000;

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    local(bench)?;
    fan_out(bench, FEW)?;
    fan_out(bench, MANY)
}

fn local(bench: &Bench) -> Result<(), String> {
    let board = Switchboard::open(bench, "local", "", &[])?;
    let switches = said(Switches::connect(board.address))?;
    if !switches.wait_until_heard(HEARS_WITHIN) {
        return Err("the daemon was not heard".into());
    }
    let auth = switches.switch("auth");
    let (mut checks, mut floors) = (Rounds::default(), Rounds::default());
    for _ in 0..bench.rounds {
        floors.add(each(|| black_box(false)));
        checks.add(each(|| black_box(&auth).is_tripped()));
    }
    say(&format!("\n{CHECKS} questions in one thread, {} rounds", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: an empty question", "ns"));
    say(&checks.row("`Switch::is_tripped`", "ns"));
    Ok(())
}

/// Gives the nanoseconds of one question.
fn each(ask: impl Fn() -> bool) -> f64 {
    let began = Instant::now();
    let mut tripped = 0_u32;
    for _ in 0..CHECKS {
        tripped += u32::from(ask());
    }
    black_box(tripped);
    began.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS)
}

fn fan_out(bench: &Bench, count: usize) -> Result<(), String> {
    let files = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    said(setrlimit(Resource::Nofile, files))?;
    let board = Switchboard::open(bench, &format!("fan-out-{count}"), "", &[])?;
    let mut crowd = Crowd::gather(&board, count)?;
    let mut api = said(TcpStream::connect(board.address))?;
    said(api.set_nodelay(true))?;
    let (mut middles, mut slowest, mut last) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut epoch, mut lost) = (0, 0);
    for _ in 0..bench.rounds {
        let mut times = Vec::with_capacity(count * TRIPS);
        for _ in 0..TRIPS {
            epoch += 1;
            let began = Instant::now();
            let body = "{\"reason\":\"measured\"}";
            let request = format!(
                "POST /v1/switches/auth/trip HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            said(api.write_all(request.as_bytes()))?;
            lost += count - crowd.hear(epoch, began, &mut times)?;
            // The answer lies there long since.
            ask(&mut api, b"")?;
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        middles.add(at(0.5));
        slowest.add(at(0.99));
        last.add(at(1.0));
    }
    let rounds = bench.rounds;
    say(&format!(
        "\n{count} subscribers, from the trip's request to each one's read, {rounds} rounds of {TRIPS} trips"
    ));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&middles.row("p50", "ms"));
    say(&slowest.row("p99", "ms"));
    say(&last.row("the last one", "ms"));
    say(&format!("| lost | | {lost} | | |"));
    by_command(&board, &mut crowd, epoch, bench.rounds)
}

/// The same by `lastgood switch trip`, which is a process of its own.
fn by_command(board: &Switchboard, crowd: &mut Crowd, mut epoch: u64, rounds: usize) -> Result<(), String> {
    let mut slowest = Rounds::default();
    for _ in 0..rounds {
        epoch += 1;
        let mut times = Vec::new();
        let began = Instant::now();
        board.lastgood(&["switch", "trip", "auth", "--reason", "measured"])?;
        crowd.hear(epoch, began, &mut times)?;
        times.sort_by(f64::total_cmp);
        slowest.add(times[(times.len() - 1) * 99 / 100]);
    }
    say(&slowest.row("p99 by `lastgood switch trip`, its start included", "ms"));
    Ok(())
}

/// Many subscribers in one thread.
struct Crowd {
    epoll: OwnedFd,
    streams: Vec<TcpStream>,
    heard: Vec<u64>,
}

impl Crowd {
    fn gather(board: &Switchboard, count: usize) -> Result<Self, String> {
        let epoll = said(epoll::create(epoll::CreateFlags::CLOEXEC))?;
        let mut crowd = Self { epoll, streams: Vec::new(), heard: vec![0; count] };
        let mut buffer = [0; 4_096];
        for place in 0..count {
            let mut stream = said(TcpStream::connect(board.address))?;
            said(stream.write_all(b"GET /v1/switches/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
            let mut text = Vec::new();
            while !text.ends_with(b"}\n\n") {
                let read = said(stream.read(&mut buffer))?;
                if read == 0 {
                    return Err(format!("subscriber {place} was hung up on"));
                }
                text.extend_from_slice(&buffer[..read]);
            }
            said(stream.set_nonblocking(true))?;
            let data = epoll::EventData::new_u64(place as u64);
            said(epoll::add(&crowd.epoll, &stream, data, epoll::EventFlags::IN))?;
            crowd.streams.push(stream);
        }
        Ok(crowd)
    }

    /// Waits until all have heard of `epoch`; notes when each did, and gives how many.
    fn hear(&mut self, epoch: u64, began: Instant, times: &mut Vec<f64>) -> Result<usize, String> {
        let wanted = format!("\"epoch\":{epoch},");
        let mut events = Vec::with_capacity(512);
        let mut buffer = [0; 4_096];
        let mut count = 0;
        let pause = Timespec { tv_sec: 1, tv_nsec: 0 };
        while count < self.streams.len() && began.elapsed() < HEARS_WITHIN {
            events.clear();
            said(epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)))?;
            for event in &events {
                let place = event.data.u64() as usize;
                let read = said(self.streams[place].read(&mut buffer))?;
                if read == 0 {
                    return Err(format!("subscriber {place} was hung up on"));
                }
                let has = buffer[..read].windows(wanted.len()).any(|window| window == wanted.as_bytes());
                if has && self.heard[place] < epoch {
                    self.heard[place] = epoch;
                    count += 1;
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        Ok(count)
    }
}
