use super::*;
use crate::operations;
use lastgood_domain::operations::{Event, Operations, Record};
use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// A subject with a part in another chain, which somebody moves each time it was read.
struct Busy {
    other: ChainName,
    read: Sender<()>,
    moved: Mutex<Receiver<()>>,
}

impl Subject for Busy {
    type State = Operations;
    type Record = Record;
    type Event = Event;
    type Refused = lastgood_domain::operations::Refused;

    fn chain(&self) -> ChainName {
        operations::chain()
    }

    fn parse(bytes: &[u8]) -> Result<Record, String> {
        operations::Scope::parse(bytes)
    }

    fn record(at: Timestamp, by: Actor, event: Event) -> Record {
        operations::Scope::record(at, by, event)
    }

    fn apply(state: &mut Operations, seq: u64, record: Option<&Record>) {
        operations::Scope::apply(state, seq, record);
    }

    fn only_blocks(record: &Record) -> bool {
        operations::Scope::only_blocks(record)
    }

    fn notices(&self, _: &[Route], _: &Operations, _: u64, _: &Record) -> Vec<NewNotice> {
        Vec::new()
    }

    fn elsewhere(
        &self,
        store: &Reader,
        _: &[Route],
        _: &Operations,
        records: &[Record],
    ) -> Result<Vec<Append>, AppendError> {
        let expected = store.head(&self.other)?;
        self.read.send(()).unwrap();
        // Whoever can't write because we do is not waited for.
        let _late = self.moved.lock().unwrap().recv_timeout(Duration::from_millis(200));
        let records = records.iter().map(|one| NewRecord { at: one.at, bytes: canonical(one) }).collect();
        Ok(vec![Append { chain: self.other.clone(), expected, records, notices: Vec::new() }])
    }
}

#[test]
fn what_is_said_in_many_chains_is_said_although_one_of_them_moves_at_every_try() {
    let folder = tempfile::tempdir().unwrap();
    let other = ChainName::new("service/web").unwrap();
    let (read, reads) = channel();
    let (tell, moved) = channel();
    let subject = Busy { other: other.clone(), read, moved: Mutex::new(moved) };
    let mut desk = Desk::new(Store::open(folder.path()).unwrap(), subject, Vec::new());
    let mut rival = Store::open(folder.path()).unwrap();
    let rival = thread::spawn(move || {
        let mut moves = 0;
        while reads.recv().is_ok() {
            let head = rival.head(&other).unwrap();
            let record = NewRecord { at: Timestamp(0), bytes: b"{}".to_vec() };
            // Where it could not write because we did, the chain has moved by us.
            moves += u32::from(rival.append(&other, &head, &[record], &[]).is_ok());
            let _gone = tell.send(());
        }
        moves
    });
    let by = Actor::new("person:alice").unwrap();
    let event = || Event::Seen { signs: [].into() };
    desk.say(&by, Timestamp(0), &|_| Ok(vec![event()])).unwrap();
    drop(desk);
    assert_eq!(rival.join().unwrap(), ELSEWHERE_MAX);
}
