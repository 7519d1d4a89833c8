//! Flags over OFREP: processor time of a question for 100 flags, and of one that nothing has changed for.

use crate::{
    Bench,
    notebook::said,
    numbers::Rounds,
    say,
    switchboard::{Switchboard, ask, is_whole},
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Flags of one question.
const FLAGS: usize = 100;
/// Clients that ask at the same time, as in the figures that this is compared with.
const CLIENTS: usize = 32;
/// Questions of each client in a round.
const QUESTIONS: usize = 1_500;
/// Flips of one flag in a round.
const FLIPS: usize = 10;
/// A subscriber that has not heard by then has lost it.
const HEARS_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    let names: Vec<String> = (0..FLAGS).map(|number| format!("flag-number-{number}")).collect();
    let more: String = names.iter().map(|name| format!("[switches.flag.{name}]\ntype = \"boolean\"\n")).collect();
    let words = |text: String| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
    let commands: Vec<_> = names
        .iter()
        .flat_map(|name| {
            [format!("flag set {name} --percent 50 --reason measured"), format!("flag on {name} --reason measured")]
        })
        .map(words)
        .collect();
    let board = Switchboard::open(bench, "flags", &more, &commands)?;
    let body =
        "{\"context\":{\"targetingKey\":\"5f0c8a9e-7a53-4a6e-9b1c-0d8f3a2b6c71\",\"plan\":\"pro\",\"app\":\"1.4.0\"}}";
    let request = |more: &str| {
        let length = body.len();
        let head = "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        format!("{head}{more}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    let all = request("");
    let first = ask(&mut said(TcpStream::connect(board.address))?, &all)?;
    let text = String::from_utf8_lossy(&first);
    let tag = text.lines().find_map(|line| line.strip_prefix("ETag: ")).ok_or("there is no ETag")?;
    let same = request(&format!("If-None-Match: {tag}\r\n"));
    let one = b"GET /v1/switches HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let mut clients = (0..CLIENTS).map(|_| said(TcpStream::connect(board.address))).collect::<Result<Vec<_>, _>>()?;
    for client in &clients {
        said(client.set_nodelay(true))?;
    }
    let rows =
        [("floor: the switches, a fixed text", &one), ("100 flags at 50 %", &all), ("the same, unchanged: 304", &same)];
    let mut costs = rows.each_ref().map(|_| (Rounds::default(), Rounds::default()));
    for _ in 0..bench.rounds {
        for ((_, request), (cost, rate)) in rows.iter().zip(&mut costs) {
            let (before, began) = (cpu_us(board.pid())?, Instant::now());
            for _ in 0..QUESTIONS {
                round(&mut clients, request)?;
            }
            let count = (QUESTIONS * CLIENTS) as f64;
            cost.add((cpu_us(board.pid())? - before) / count);
            rate.add(count / began.elapsed().as_secs_f64());
        }
    }
    say(&format!("\n{} bytes of answer, {CLIENTS} kept connections, {} rounds", first.len(), bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    for ((name, _), (cost, rate)) in rows.iter().zip(&costs) {
        say(&cost.row(&format!("{name}: processor time of the daemon, HTTP included"), "us"));
        say(&rate.row(&format!("{name}: answers, the asking on the same cores"), "/s"));
    }
    flip(bench, &board)
}

/// Flips a flag by its command, and waits until each subscriber of OFREP's events has been told.
fn flip(bench: &Bench, board: &Switchboard) -> Result<(), String> {
    let subscribe = || {
        let mut stream = said(TcpStream::connect(board.address))?;
        said(stream.set_read_timeout(Some(HEARS_WITHIN)))?;
        said(stream.write_all(b"GET /ofrep/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        hear(&mut stream)?;
        Ok::<_, String>(stream)
    };
    let mut subscribers = (0..CLIENTS).map(|_| subscribe()).collect::<Result<Vec<_>, _>>()?;
    let (mut last, mut commands) = (Rounds::default(), Rounds::default());
    for _ in 0..bench.rounds {
        for number in 0..FLIPS {
            let way = if number % 2 == 0 { "off" } else { "on" };
            let began = Instant::now();
            let heard = thread::scope(|scope| {
                let command = scope.spawn(|| {
                    board.lastgood(&["flag", way, "flag-number-0", "--reason", "measured"])?;
                    Ok::<_, String>(began.elapsed())
                });
                let heard = subscribers.iter_mut().try_for_each(hear).map(|()| began.elapsed());
                let took = command.join().map_err(|_| "the command panicked".to_owned())??;
                commands.add(took.as_secs_f64() * 1e3);
                heard
            });
            last.add(heard?.as_secs_f64() * 1e3);
        }
    }
    say(&format!("\na flag flipped by its command, {CLIENTS} subscribers, {} rounds of {FLIPS} flips", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&last.row("the command's start to the last subscriber's read", "ms"));
    say(&commands.row("the command, to its end", "ms"));
    Ok(())
}

/// Reads up to the end of an event; the first comes with the answer's head.
fn hear(stream: &mut TcpStream) -> Result<(), String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4_096]);
    while !text.ends_with(b"}\n\n") {
        let count = said(stream.read(&mut buffer))?;
        if count == 0 {
            return Err("a subscriber was hung up on".into());
        }
        text.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

/// Lets each client ask once, and reads all answers.
fn round(clients: &mut [TcpStream], request: &[u8]) -> Result<(), String> {
    for client in clients.iter_mut() {
        said(client.write_all(request))?;
    }
    let mut buffer = vec![0; 64 * 1024];
    for client in clients {
        let mut have = 0;
        while !is_whole(&buffer[..have]) {
            let count = said(client.read(&mut buffer[have..]))?;
            if count == 0 {
                return Err("the daemon has hung up".into());
            }
            have += count;
        }
    }
    Ok(())
}

/// Gives the processor time that a process has used, by the scheduler's own count.
fn cpu_us(pid: u32) -> Result<f64, String> {
    let mut sum = 0.0;
    for task in said(fs::read_dir(format!("/proc/{pid}/task")))? {
        let text = said(fs::read_to_string(said(task)?.path().join("schedstat")))?;
        let ns: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or("no schedstat")?;
        sum += ns / 1e3;
    }
    Ok(sum)
}
