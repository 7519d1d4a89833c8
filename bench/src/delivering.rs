//! The outbox emptied to a receiver on loopback: as fast as it goes, and past kills of the sender.

mod sink;

use crate::{Bench, notebook::said, numbers::Rounds, say};
use lastgood_domain::{
    evidence::Head,
    terms::{ChainName, Span, Timestamp},
};
use lastgood_drivers::notice::{EndpointConfig, NoticeConfig};
use lastgood_engine::deliver::Deliverer;
use lastgood_store::{NewNotice, NewRecord, NoticeState, Reader, Store};
use sink::Sink;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// As many as `lastgood serve` has.
const THREADS: usize = 4;
const MESSAGES: usize = 6_000;
/// Lines of messages; those of one line go one after another.
const SUBJECTS: usize = 500;
/// A CloudEvent as `lastgood` makes them.
const NOTICE_BYTES: usize = 480;
/// Most messages that one append takes well.
const BATCH: usize = 1_000;
/// Kills of the sender, spread over the messages.
const KILLS: usize = 5;
/// A delivery that has not come by then never will.
const ARRIVAL_WAIT: Duration = Duration::from_secs(15);
/// Signs loopback messages that nobody else ever sees.
const SECRET: &str = "whsec_bGFzdGdvb2QgbWVhc3VyZXMgd2l0aCB0aGlz";

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    speed(bench)?;
    kills(bench)
}

fn speed(bench: &Bench) -> Result<(), String> {
    let sink = Sink::open()?;
    let mut outbox = Outbox::new(bench.scratch.join("outbox"))?;
    let mut deliverer = deliverer(&outbox.folder, &sink.url())?;
    let (mut floors, mut rates, mut ratios) = (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..bench.rounds {
        let floor = sink.bare_posts(THREADS, MESSAGES, NOTICE_BYTES)?;
        outbox.enqueue(MESSAGES)?;
        let began = Instant::now();
        let report = said(deliverer.deliver_due(now()))?;
        let took = began.elapsed().as_secs_f64();
        if report.delivered as usize != MESSAGES {
            return Err(format!("{} of {MESSAGES} were delivered: {report:?}", report.delivered));
        }
        floors.add(MESSAGES as f64 / floor);
        rates.add(MESSAGES as f64 / took);
        ratios.add(floor / took);
    }
    let rounds = bench.rounds;
    say(&format!("\n{MESSAGES} notices of {NOTICE_BYTES} bytes to loopback, {THREADS} threads, {rounds} rounds"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: bare POSTs, nothing signed, nothing kept", "/s"));
    say(&rates.row("lastgood: claimed, signed, sent, settled durably", "/s"));
    say(&ratios.row("lastgood / floor", "x"));
    Ok(())
}

/// Kills the sending process again and again; counts what is lost and what comes twice.
fn kills(bench: &Bench) -> Result<(), String> {
    let sink = Sink::open()?;
    let mut outbox = Outbox::new(bench.scratch.join("outbox-killed"))?;
    outbox.enqueue(MESSAGES)?;
    let (mut pauses, mut in_flight, mut strange) = (Rounds::default(), 0, 0);
    let mut dead_at: Option<Instant> = None;
    for kill in 1..=KILLS + 1 {
        let before = sink.taken();
        let mut sender = said(
            Command::new(said(env::current_exe())?)
                .arg("sender")
                .env(SENDER_FOLDER, &outbox.folder)
                .env(SENDER_URL, sink.url())
                .stdout(Stdio::null())
                .spawn(),
        )?;
        let arrived = sink.wait_for(before.len() + 1, ARRIVAL_WAIT);
        if let (Some(dead_at), Some(arrived)) = (dead_at, arrived) {
            pauses.add(arrived.duration_since(dead_at).as_secs_f64() * 1e3);
        }
        if kill <= KILLS {
            sink.wait_for(kill * MESSAGES / (KILLS + 1), ARRIVAL_WAIT);
            said(sender.kill())?;
            dead_at = Some(Instant::now());
        }
        said(sender.wait())?;
        let leased: BTreeSet<String> =
            said(said(Reader::open(&outbox.folder))?.notices(NoticeState::InFlight, MESSAGES))?
                .into_iter()
                .map(|row| row.id.to_string())
                .collect();
        in_flight += leased.len();
        // What came before this sender began and is not leased now was settled, unless this sender repeated it.
        strange += repeats_outside(&before, &sink.taken(), &outbox.leased);
        outbox.leased = leased;
    }
    let taken = sink.taken();
    let distinct = taken.iter().collect::<BTreeSet<_>>().len();
    say(&format!("\n{MESSAGES} notices, the sender killed -9 {KILLS} times"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&pauses.row("from the kill to the next delivery, restart included", "ms"));
    say(&format!("| lost | | {} | | notices |", MESSAGES - distinct));
    say(&format!("| came twice, of {in_flight} leased at a kill | | {} | | notices |", taken.len() - distinct));
    say(&format!("| came twice though settled | | {strange} | | notices |"));
    Ok(())
}

/// Counts what came again after `before` though it was not `leased` at the kill.
fn repeats_outside(before: &[String], after: &[String], leased: &BTreeSet<String>) -> usize {
    let seen: BTreeSet<&String> = before.iter().collect();
    after[before.len()..].iter().filter(|id| seen.contains(id) && !leased.contains(*id)).count()
}

const SENDER_FOLDER: &str = "LASTGOOD_BENCH_SENDER_FOLDER";
const SENDER_URL: &str = "LASTGOOD_BENCH_SENDER_URL";

/// The process that is killed: sends what is due, then ends.
pub(crate) fn send() -> Result<(), String> {
    let (folder, url) = (said(env::var(SENDER_FOLDER))?, said(env::var(SENDER_URL))?);
    said(deliverer(Path::new(&folder), &url)?.deliver_due(now())).map(drop)
}

fn deliverer(folder: &Path, url: &str) -> Result<Deliverer, String> {
    let endpoint =
        EndpointConfig::Webhook { url: url.into(), secret: "ops".into(), old_secret: None, allow_private: true };
    let configs = BTreeMap::from([("ops".to_owned(), NoticeConfig { endpoint, kinds: Vec::new() })]);
    said(Deliverer::new(said(Store::open(folder))?, configs, Box::new(|_| Some(SECRET.into())), THREADS, now()))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).after(Span(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

/// A store that is only written to.
struct Outbox {
    folder: PathBuf,
    store: Store,
    chain: ChainName,
    head: Head,
    count: usize,
    /// What was in flight at the last kill.
    leased: BTreeSet<String>,
}

impl Outbox {
    fn new(folder: PathBuf) -> Result<Self, String> {
        let (store, chain) = (said(Store::open(&folder))?, said(ChainName::new("service/notebook"))?);
        Ok(Self { folder, store, chain, head: Head::EMPTY, count: 0, leased: BTreeSet::new() })
    }

    fn enqueue(&mut self, messages: usize) -> Result<(), String> {
        let record = NewRecord { at: now(), bytes: b"{}".to_vec() };
        for first in (0..messages).step_by(BATCH) {
            let numbers = self.count + first..self.count + (first + BATCH).min(messages);
            let notices: Vec<_> = numbers.map(notice).collect();
            self.head = said(self.store.append(&self.chain, &self.head, std::slice::from_ref(&record), &notices))?;
        }
        self.count += messages;
        Ok(())
    }
}

fn notice(number: usize) -> NewNotice {
    let mut body = vec![b'x'; NOTICE_BYTES];
    body[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let subject = format!("service-{}", number % SUBJECTS);
    NewNotice { endpoint: "ops".into(), subject, kind: "rolled-back".into(), body, at: now() }
}
