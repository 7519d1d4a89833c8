//! Measures what the design promises about speed, in release mode, and prints it:
//! `cargo run --release -p lastgood-store --example measure`.
#![expect(clippy::print_stdout, reason = "it prints its measurements")]

use lastgood_domain::{
    evidence::{ChainCheck, ChainId, ChainName, Head, RecordView, leaf},
    terms::{Span, Timestamp},
};
use lastgood_store::{Anchor, EVIDENCE_FILE, NewNotice, NewRecord, Outcome, Settlement, Signer, Store};
use rusqlite::Connection;
use std::{error::Error, hint::black_box, time::Instant};

const RECORDS: u64 = 1_000_000;
const RECORD_BYTES: usize = 256;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let chain = ChainName::new("service/actual")?;
    in_memory(&chain)?;
    let dir = tempfile::tempdir()?;
    let mut store = Store::open(dir.path())?;
    append(&mut store, &chain)?;
    verify(&store, dir.path())?;
    prove(&mut store, &chain, dir.path())?;
    outbox()
}

fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![b'x'; RECORD_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn rate(what: &str, count: u64, start: Instant) -> f64 {
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{what}: {:.2} M/s", rate / 1e6);
    rate
}

/// Gives this thread's nanoseconds on a processor: on a shared machine the wall clock counts other people's work.
fn on_cpu() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn in_memory(chain: &ChainName) -> Result<(), Box<dyn Error>> {
    let id = ChainId::of(chain);
    let mut head = Head::EMPTY;
    let records: Vec<_> = (0..RECORDS)
        .map(|seq| {
            let bytes = payload(seq);
            head = head.then(&id, Timestamp(0), &leaf(&bytes));
            (seq, bytes, head.link)
        })
        .collect();
    for _ in 0..ROUNDS {
        let (start, busy) = (Instant::now(), on_cpu());
        let mut check = ChainCheck::new(chain);
        for (seq, bytes, link) in &records {
            check.next(&RecordView { seq: *seq, at: Timestamp(0), bytes, leaf: None, link: *link })?;
        }
        black_box(check.head());
        rate("chain verified in memory, one core", RECORDS, start);
        if let (Some(before), Some(after)) = (busy, on_cpu()) {
            println!("  {:.2} M per second on the processor", RECORDS as f64 * 1e3 / (after - before) as f64);
        }
    }
    Ok(())
}

fn append(store: &mut Store, chain: &ChainName) -> Result<(), Box<dyn Error>> {
    let mut head = store.head(chain)?;
    let start = Instant::now();
    for batch in 0..RECORDS / 10_000 {
        let records: Vec<_> = (batch * 10_000..(batch + 1) * 10_000)
            .map(|seq| NewRecord { at: Timestamp(0), bytes: payload(seq) })
            .collect();
        head = store.append(chain, &head, &records, &[])?;
    }
    rate("appended, 10 000 per transaction, FULL", RECORDS, start);
    Ok(())
}

fn verify(store: &Store, dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let reading = Connection::open(dir.join(EVIDENCE_FILE))?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut select = reading.prepare_cached("SELECT seq, at, leaf, link, bytes FROM record ORDER BY chain, seq")?;
        let mut rows = select.query([])?;
        let mut sum = 0u64;
        while let Some(row) = rows.next()? {
            let (seq, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            let blobs = [row.get_ref(2)?.as_blob()?, row.get_ref(3)?.as_blob()?, row.get_ref(4)?.as_blob()?];
            sum += (seq ^ at) as u64 + blobs.iter().map(|blob| blob.len() as u64).sum::<u64>();
        }
        black_box(sum);
        let read = rate("rows only read", RECORDS, start);
        let start = Instant::now();
        let found = store.verify(None, None)?;
        assert!(found.is_ok());
        let verified = rate("verified from SQLite, Merkle tree included", RECORDS, start);
        println!("  ratio {:.2}", verified / read);
    }
    Ok(())
}

fn prove(store: &mut Store, chain: &ChainName, dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let signer = Signer::load_or_create(dir)?;
    let anchor = Anchor::at(&dir.join("anchor"));
    let start = Instant::now();
    store.checkpoint(chain, &signer, &anchor, Timestamp(0))?;
    println!("checkpoint of 1 M records: {:?}", start.elapsed());
    let start = Instant::now();
    let bundle = store.prove_record(chain, 123_456, &signer.verifier())?;
    println!("proof of one record: {:?}, {} bytes of hashes", start.elapsed(), bundle.inclusion.len() * 32);
    let start = Instant::now();
    store.check_anchor(&signer.verifier(), &anchor)?;
    println!("compared with the anchor: {:?}", start.elapsed());
    Ok(())
}

fn outbox() -> Result<(), Box<dyn Error>> {
    const NOTICES: u64 = 20_000;
    let dir = tempfile::tempdir()?;
    let mut store = Store::open(dir.path())?;
    let chain = ChainName::new("service/actual")?;
    let mut head = Head::EMPTY;
    for batch in 0..NOTICES / 1_000 {
        let notices: Vec<_> = (0..1_000u64)
            .map(|number| NewNotice {
                endpoint: "ops".into(),
                subject: format!("s{}", batch * 1_000 + number),
                kind: "test".into(),
                body: vec![b'x'; 740],
                at: Timestamp(0),
            })
            .collect();
        head = store.append(&chain, &head, &[NewRecord { at: Timestamp(0), bytes: vec![1] }], &notices)?;
    }
    let start = Instant::now();
    loop {
        let claimed = store.claim(Timestamp(1), Timestamp(1).after(Span::seconds(30)), 64)?;
        if claimed.is_empty() {
            break;
        }
        let settlements: Vec<_> = claimed
            .into_iter()
            .map(|message| Settlement {
                id: message.id,
                attempt: message.attempt,
                at: Timestamp(2),
                code: Some(204),
                took: Span(1),
                outcome: Outcome::Delivered,
                jitter: 0,
            })
            .collect();
        store.settle(&settlements)?;
    }
    println!("claimed and settled, 64 at a time: {:.0} notices/s", NOTICES as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
