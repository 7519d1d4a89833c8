//! A process to be killed: appends, delivers or holds a lock until it is shot. The kill tests run it.

use lastgood_domain::{
    evidence::ChainName,
    terms::{ServiceName, Span, Timestamp},
};
use lastgood_store::{DriverLock, NewNotice, NewRecord, Outcome, Settlement, Store};
use std::{
    env,
    error::Error,
    fs::OpenOptions,
    io::{Write, stdout},
    path::Path,
    thread,
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["append", dir] => append(Path::new(dir)),
        ["deliver", dir, sink] => deliver(Path::new(dir), Path::new(sink)),
        ["lock", dir, service] => lock(Path::new(dir), service),
        _ => Err("usage: hammer append DIR | deliver DIR SINK | lock DIR SERVICE".into()),
    }
}

/// Appends three records and two notices at a time, for ever, and tells each size once it is on disk.
fn append(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut store = Store::open(dir)?;
    let chain = ChainName::new("service/actual")?;
    let mut head = store.head(&chain)?;
    loop {
        let at = Timestamp(i64::try_from(head.size)?);
        let records: Vec<_> =
            (0..3).map(|part| NewRecord { at, bytes: format!("{}:{part}", head.size).into_bytes() }).collect();
        let notice = |subject: &str| NewNotice {
            endpoint: "ops".into(),
            subject: subject.into(),
            kind: "test".into(),
            body: format!("{}", head.size).into_bytes(),
            at,
        };
        head = store.append(&chain, &head, &records, &[notice("a"), notice("b")])?;
        tell(&head.size.to_string())?;
    }
}

/// Delivers to a file, one line per message, until nothing is due.
fn deliver(dir: &Path, sink: &Path) -> Result<(), Box<dyn Error>> {
    let mut store = Store::open(dir)?;
    let mut sink = OpenOptions::new().create(true).append(true).open(sink)?;
    let now = Timestamp(1_000_000);
    store.reclaim_all(now)?;
    loop {
        let claimed = store.claim(now, now.after(Span::seconds(30)), 5)?;
        if claimed.is_empty() {
            return Ok(());
        }
        let mut settlements = Vec::new();
        for message in claimed {
            let line = format!("{} {} {}\n", message.id, message.subject, String::from_utf8_lossy(&message.body));
            sink.write_all(line.as_bytes())?;
            tell(message.id.as_str())?;
            let (id, attempt) = (message.id, message.attempt);
            let outcome = Outcome::Delivered;
            settlements.push(Settlement { id, attempt, at: now, code: Some(204), took: Span(1), outcome, jitter: 0 });
        }
        store.settle(&settlements)?;
    }
}

/// Takes a service's lock and keeps it.
fn lock(dir: &Path, service: &str) -> Result<(), Box<dyn Error>> {
    let _lock = DriverLock::take(dir, &ServiceName::new(service)?, "hammer", Timestamp(7))?;
    tell("held")?;
    loop {
        thread::park();
    }
}

fn tell(line: &str) -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
