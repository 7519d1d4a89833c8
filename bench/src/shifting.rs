//! A chat service whose traffic goes back while people use it: by hand from a promoted release, and by its guard.

use crate::{
    Bench,
    notebook::{free_ports, said},
    numbers::Rounds,
    say,
    switchboard::ask,
};
use last_layer::{Release, write_release};
use lastgood_domain::{
    effect::Effect,
    event::{Event, Record, Verdict},
    service::Service,
    terms::{OrderId, ServiceName, Timestamp},
    traffic::TrafficEvent,
};
use lastgood_engine::log::read_all;
use lastgood_store::Reader;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// People who talk all the time.
const PEOPLE: &str = "40";
/// Between a person's acknowledgement and the next message.
const PAUSE: &str = "100ms";
/// Longer than any run; the load is ended by its pid when its row is measured.
const LOAD: &str = "10m";
/// Connections of strangers, each of whose requests is somebody new: together about two a millisecond.
const STRANGERS: usize = 4;
/// Between two requests of one connection.
const BREATH: Duration = Duration::from_millis(1);

/// What one way back took, as its records say, in milliseconds since it was decided.
struct Back {
    /// The router has confirmed that nothing new goes to what was left.
    confirmed: f64,
    /// The way back is written as done: everything new is on last-good, which answers.
    returned: f64,
    /// The last request that was sent to the front door after the decision and answered by what was left was sent.
    last_new: f64,
}

/// What one request of a stranger saw.
struct Seen {
    /// When it was sent, in milliseconds since 1970.
    sent: f64,
    /// The version that answered.
    release: String,
}

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    let chat = Chat::new(bench)?;
    chat.offer("1.0.0", "1.0.0")?;
    chat.lastgood(&["run"], &[0])?;
    let mut people = chat.people()?;
    let measured = rounds(bench, &chat);
    let _ = people.kill();
    let _ = people.wait();
    chat.end();
    let [by_hand, by_guard] = measured?;
    say(&format!("\ntraffic goes back, {PEOPLE} people, {} rounds", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    for (name, backs) in [("rollback of a promoted release", by_hand), ("guard says fail", by_guard)] {
        let (mut last_new, mut confirmed, mut returned) = (Rounds::default(), Rounds::default(), Rounds::default());
        for back in backs {
            last_new.add(back.last_new);
            confirmed.add(back.confirmed);
            returned.add(back.returned);
        }
        say(&last_new.row(&format!("{name} → the last new request that what was left answers is sent"), "ms"));
        say(&confirmed.row(&format!("{name} → router confirms: nothing new on what was left"), "ms"));
        say(&returned.row(&format!("{name} → way back done"), "ms"));
    }
    Ok(())
}

fn rounds(bench: &Bench, chat: &Chat) -> Result<[Vec<Back>; 2], String> {
    let (mut by_hand, mut by_guard) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let good = format!("2.{round}.0");
        chat.offer(&good, "1.1.0")?;
        chat.lastgood(&["run"], &[0])?;
        let seen = chat.watched(&["rollback", "chat"], &[0, 5])?;
        by_hand.push(read(&chat.records()?, &seen, &good)?);
        chat.thaw()?;
        let bad = format!("2.{round}.1");
        chat.offer(&bad, "1.2.0")?;
        let seen = chat.watched(&["run"], &[5])?;
        by_guard.push(read(&chat.records()?, &seen, &bad)?);
        chat.thaw()?;
    }
    Ok([by_hand, by_guard])
}

/// Reads the times of the newest way back from `left`: since the guard's word, or since the order where no guard spoke.
fn read(records: &[Record], seen: &[Seen], left: &str) -> Result<Back, String> {
    let traffic = |event: &Event| match event {
        Event::Traffic(event) => Some(event.clone()),
        _ => None,
    };
    let begin = records
        .iter()
        .rposition(|record| matches!(traffic(&record.event), Some(TrafficEvent::ReturnBegun { .. })))
        .ok_or("no way back was begun")?;
    let judged = records[..begin].last().filter(|record| {
        matches!(traffic(&record.event), Some(TrafficEvent::Judged { verdict, .. }) if verdict == Verdict::Fail)
    });
    let decided = judged.map_or(records[begin].at, |record| record.at);
    let since = |at: Timestamp| (at.0 - decided.0) as f64;
    let mut route: Option<OrderId> = None;
    let (mut confirmed, mut returned) = (None, None);
    for record in &records[begin..] {
        match &record.event {
            Event::Ordered { order, effect: Effect::Route { .. } } if route.is_none() => route = Some(*order),
            Event::Answered { order, .. } if Some(*order) == route && confirmed.is_none() => {
                confirmed = Some(since(record.at));
            }
            Event::Traffic(TrafficEvent::Returned { .. }) => returned = Some(since(record.at)),
            _ => {}
        }
    }
    let by_left = seen.iter().filter(|one| one.release == left).map(|one| one.sent - decided.0 as f64);
    let last_new = by_left.max_by(f64::total_cmp).ok_or("what was left answered no stranger")?;
    match (confirmed, returned) {
        // Where nothing came after the decision the last one lies before it.
        (Some(confirmed), Some(returned)) => Ok(Back { confirmed, returned, last_new: last_new.max(0.0) }),
        _ => Err("the way back was not confirmed".into()),
    }
}

/// The service, set up as a user would.
struct Chat {
    folder: PathBuf,
    front: u16,
    lastgood: PathBuf,
    load: PathBuf,
}

impl Chat {
    fn new(bench: &Bench) -> Result<Self, String> {
        let folder = bench.scratch.join("chat");
        said(fs::create_dir_all(folder.join("releases")))?;
        said(fs::create_dir_all(folder.join("data")))?;
        let [front, blue, green, listen] = free_ports(4)?[..] else { return Err("no four ports are free".into()) };
        let config = CONFIG
            .replace("FRONT", &front.to_string())
            .replace("BLUE", &blue.to_string())
            .replace("GREEN", &green.to_string())
            .replace("LISTEN", &listen.to_string());
        said(fs::write(folder.join("lastgood.toml"), config))?;
        let load = bench.lastgood.with_file_name("last-layer-load");
        if !load.is_file() {
            return Err(format!("build {} first", load.display()));
        }
        Ok(Self { folder, front, lastgood: bench.lastgood.clone(), load })
    }

    /// Publishes what the catalogue has as `like` under another version.
    fn offer(&self, version: &str, like: &str) -> Result<(), String> {
        let release = Release::of_catalogue(like).ok_or("no such release")?;
        let release = Release { version: version.into(), ..release };
        let program = [self.lastgood.to_string_lossy().into_owned(), "internal".to_owned(), "last-layer".to_owned()];
        said(write_release(&self.folder.join("releases"), &release, &program)).map(drop)
    }

    fn people(&self) -> Result<Child, String> {
        let mut load = Command::new(&self.load);
        load.args(["--address", &format!("127.0.0.1:{}", self.front)]);
        load.args(["--clients", PEOPLE, "--pause", PAUSE, "--for", LOAD]);
        said(load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
    }

    fn lastgood(&self, arguments: &[&str], codes: &[i32]) -> Result<(), String> {
        let mut command = Command::new(&self.lastgood);
        command.args(["--config", "lastgood.toml", "--yes", "--no-input"]).args(arguments);
        let output = said(command.current_dir(&self.folder).stdin(Stdio::null()).output())?;
        if output.status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        Err(format!("lastgood {arguments:?} ended with {}:\n{}", output.status, tail.join("\n")))
    }

    /// Runs a command while strangers ask which release answers, each time as somebody new.
    fn watched(&self, arguments: &[&str], codes: &[i32]) -> Result<Vec<Seen>, String> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let strangers: Vec<_> = (0..STRANGERS).map(|_| scope.spawn(|| self.strangers(&over))).collect();
            let done = self.lastgood(arguments, codes);
            over.store(true, Ordering::Relaxed);
            let seen: Result<Vec<_>, String> =
                strangers.into_iter().map(|one| one.join().map_err(|_| "a stranger panicked".to_owned())?).collect();
            done.and(seen).map(|seen| seen.into_iter().flatten().collect())
        })
    }

    fn strangers(&self, over: &AtomicBool) -> Result<Vec<Seen>, String> {
        let mut door = said(TcpStream::connect(("127.0.0.1", self.front)))?;
        said(door.set_nodelay(true))?;
        let mut seen = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let sent = said(SystemTime::now().duration_since(UNIX_EPOCH))?.as_secs_f64() * 1_000.0;
            let answer = ask(&mut door, b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let head = String::from_utf8_lossy(&answer);
            let release = head.lines().find_map(|line| line.strip_prefix("x-release: ")).unwrap_or_default();
            seen.push(Seen { sent, release: release.into() });
            thread::sleep(BREATH);
        }
        Ok(seen)
    }

    /// Lifts what a way back has frozen.
    fn thaw(&self) -> Result<(), String> {
        let service = Service::fold(&self.records()?);
        for hold in service.holds.keys() {
            self.lastgood(&["hold", "lift", "chat", &hold.to_string(), "--reason", "the next round"], &[0])?;
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, String> {
        let reader = said(Reader::open(&self.folder.join("state")))?;
        said(read_all(&reader, &said(ServiceName::new("chat"))?))
    }

    /// Ends what outlives commands by design: the release's processes and the proxy, all of which name the folder.
    fn end(&self) {
        let folder = self.folder.to_string_lossy().into_owned();
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let Some(pid) = Pid::from_raw(pid) else { continue };
            if String::from_utf8_lossy(&line).contains(&folder) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

const CONFIG: &str = r#"state_dir = "state"
listen = "127.0.0.1:LISTEN"
[service.chat]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/last-layer", "--port", "{port}", "--bind", "{bind}", "--data", "{data}"]
state = { directory = "{data}" }
ready = { http = { path = "/health" }, expect = { status = 200 } }
[service.chat.traffic]
proxy = { listen = ["127.0.0.1:FRONT"] }
shares = [{ percent = 25, bake = "1s" }, { percent = 100, bake = "1s" }]
drain = "2s"
warm = "10m"
guard = { error_rate_max = 3, deadline = "1m" }
[service.chat.traffic.resume]
path = "/rooms/lastgood-{run}/socket"
resume_path = "/rooms/lastgood-{run}/socket?after={last}"
send_json = { type = "post", id = "{id}", text = "c2VjcmV0" }
when = { "$.type" = "message" }
id = "$.id"
position = "$.seq"
[[service.chat.instance]]
name = "chat"
port = BLUE
other_port = GREEN
data = "data"
[[service.chat.probe]]
name = "read the lobby"
http = { method = "GET", path = "/rooms/lobby/messages" }
expect = { status = 200 }
tries = 5
"#;
