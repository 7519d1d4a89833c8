//! The load: wrk at full, paced clients of our own at half, idle connections, and clients that watch a flip.

use super::peers::find;
use crate::{Bench, notebook::said};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// People in a load: as many cookies.
const PEOPLE: u64 = 1_000;
/// Paced clients, each with a kept connection.
const CLIENTS: u64 = 16;

/// Writes wrk's script: a thousand people in turn.
pub(super) fn script(bench: &Bench) -> Result<PathBuf, String> {
    let path = bench.scratch.join("people.lua");
    let text = format!(
        "local all = {{}}\ninit = function() for i = 0, {0} do all[i] = wrk.format('GET', '/', {{ Cookie = \
         string.format('lastgood=%032x', i * 2654435761) }}) end end\nlocal n = 0\n\
         request = function() n = n + 1; return all[n % {PEOPLE}] end\n",
        PEOPLE - 1
    );
    said(fs::write(&path, text))?;
    Ok(path)
}

/// Loads with 32 connections; gives the requests that were answered well.
pub(super) fn wrk(script: &Path, address: SocketAddr, time: Duration) -> Result<u64, String> {
    let mut command = Command::new(find("wrk").ok_or("wrk is missing")?);
    command
        .args(["-t1", "-c32", &format!("-d{}s", time.as_secs()), "-s"])
        .arg(script)
        .arg(format!("http://{address}/"));
    let output = said(command.output())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("wrk saw errors: {text}"));
    }
    let line = text.lines().find(|line| line.contains("requests in")).unwrap_or_default();
    let count = line.split_whitespace().next().and_then(|word| word.parse().ok());
    count.ok_or_else(|| format!("wrk said something else: {text}"))
}

/// One client of our own.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr, person: u64) -> Result<Self, String> {
        let stream = said(TcpStream::connect(address))?;
        said(stream.set_nodelay(true))?;
        said(stream.set_read_timeout(Some(Duration::from_secs(5))))?;
        let person = person * 2_654_435_761;
        let request = format!("GET / HTTP/1.1\r\nHost: chat\r\nCookie: lastgood={person:032x}\r\n\r\n").into_bytes();
        Ok(Self { stream, request, answer: vec![0; 4_096] })
    }

    /// Asks once; tells whether the new release answered.
    fn ask(&mut self) -> Result<bool, String> {
        said(self.stream.write_all(&self.request))?;
        let mut got = 0;
        loop {
            match said(self.stream.read(&mut self.answer[got..]))? {
                0 => return Err("the connection ended".into()),
                count => got += count,
            }
            if self.answer[..got].ends_with(b"release says it\n") {
                let is_new = self.answer[..got].windows(4).any(|part| part == b"new ");
                return if self.answer.starts_with(b"HTTP/1.1 200") { Ok(is_new) } else { Err("not 200".into()) };
            }
        }
    }
}

/// Times of paced requests, in microseconds.
pub(super) struct Paced {
    pub(super) median: f64,
    pub(super) p99: f64,
}

/// Sends `rate` requests a second for `time`. A request that could not start in time counts from when it should have.
pub(super) fn paced(address: SocketAddr, rate: f64, time: Duration) -> Result<Paced, String> {
    let step = Duration::from_secs_f64(CLIENTS as f64 / rate);
    let threads: Vec<_> = (0..CLIENTS)
        .map(|number| {
            thread::spawn(move || -> Result<Vec<f64>, String> {
                let mut client = Client::new(address, number)?;
                client.ask()?;
                let mut times = Vec::new();
                let start = Instant::now() + step.mul_f64(number as f64 / CLIENTS as f64);
                let mut due = start;
                while due < start + time {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // The sleep's own lateness is the machine's, not the proxy's.
                    let began = if Instant::now() > due + step { due } else { Instant::now() };
                    client.ask()?;
                    times.push(began.elapsed().as_secs_f64() * 1e6);
                    due += step;
                }
                Ok(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all.get((all.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    Ok(Paced { median: at(0.5), p99: at(0.99) })
}

/// Opens connections that have carried one request each.
pub(super) fn idle(address: SocketAddr, count: usize) -> Result<Vec<impl Sized + use<>>, String> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    said(rustix::process::setrlimit(rustix::process::Resource::Nofile, raised))?;
    (0..count as u64)
        .map(|person| {
            let mut client = Client::new(address, person % PEOPLE)?;
            client.ask()?;
            // Only the connection matters; our own buffers would fill the machine.
            Ok(client.stream)
        })
        .collect()
}

/// Loads while `act` moves all traffic; gives the milliseconds until it returned, and until the last request was sent
/// that the other release still answered.
pub(super) fn flip(
    address: SocketAddr,
    to_new: bool,
    act: impl FnOnce() -> Result<(), String>,
) -> Result<(f64, f64), String> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..4)
            .map(|number| {
                let stop = &stop;
                scope.spawn(move || -> Result<Option<Instant>, String> {
                    let mut client = Client::new(address, number)?;
                    let mut last = None;
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        if client.ask()? != to_new {
                            last = Some(began);
                        }
                    }
                    Ok(last)
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        let acted = act();
        let took = began.elapsed().as_secs_f64() * 1e3;
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        let mut until_last = 0.0_f64;
        for watcher in watchers {
            if let Some(last) = watcher.join().map_err(|_| "a client panicked")?? {
                until_last = until_last.max(last.saturating_duration_since(began).as_secs_f64() * 1e3);
            }
        }
        acted.map(|()| (took, until_last))
    })
}
