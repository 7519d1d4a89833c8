//! Lines of the outbox against a plain model: whatever is enqueued, settled, skipped and replayed, in whatever order, the
//! first of each line is due, nobody else, and nothing is forgotten.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainName, Head},
    terms::{Span, Timestamp},
};
use lastgood_store::{
    Claimed, EVIDENCE_FILE, MessageId, NewNotice, NewRecord, NoticeState, Outcome, Settlement, Store,
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An endpoint and a subject.
type Line = (usize, usize);

#[derive(Debug, Clone)]
enum Act {
    /// Enqueues one message for each of these lines, in one append.
    Enqueue(Vec<Line>),
    Claim,
    Deliver(usize),
    Fail(usize),
    Skip(usize),
    Replay(usize),
    TakeBack,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let line = || (0..2usize, 0..2usize);
    let act = prop_oneof![
        4 => prop::collection::vec(line(), 1..6).prop_map(Act::Enqueue),
        4 => Just(Act::Claim),
        4 => any::<usize>().prop_map(Act::Deliver),
        2 => any::<usize>().prop_map(Act::Fail),
        3 => any::<usize>().prop_map(Act::Skip),
        3 => any::<usize>().prop_map(Act::Replay),
        1 => Just(Act::TakeBack),
    ];
    prop::collection::vec(act, 1..60)
}

/// The store, and beside it what its outbox should be.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    head: Head,
    enqueued: usize,
    lines: BTreeMap<Line, VecDeque<usize>>,
    under_way: BTreeMap<usize, Claimed>,
    aside: BTreeMap<usize, Line>,
    ids: BTreeMap<usize, MessageId>,
}

fn number(claimed: &Claimed) -> usize {
    claimed.kind.parse().unwrap()
}

fn picked<T: Clone>(from: impl ExactSizeIterator<Item = T>, pick: usize) -> Option<T> {
    let count = from.len();
    from.into_iter().nth(pick.checked_rem(count)?)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (lines, under_way, aside, ids) = Default::default();
        Self { dir, store, head: Head::EMPTY, enqueued: 0, lines, under_way, aside, ids }
    }

    fn enqueue(&mut self, lines: &[Line]) {
        let first = self.enqueued;
        let notice = |(number, (endpoint, subject)): (usize, &Line)| NewNotice {
            endpoint: format!("endpoint-{endpoint}"),
            subject: format!("subject-{subject}"),
            kind: (first + number).to_string(),
            body: b"body".to_vec(),
            at: Timestamp(0),
        };
        let notices: Vec<_> = lines.iter().enumerate().map(notice).collect();
        let record = NewRecord { at: Timestamp(0), bytes: first.to_string().into_bytes() };
        let chain = ChainName::new("service/actual").unwrap();
        self.head = self.store.append(&chain, &self.head, &[record], &notices).unwrap();
        for line in lines {
            self.lines.entry(*line).or_default().push_back(self.enqueued);
            self.enqueued += 1;
        }
        let pending = self.store.notices(NoticeState::Pending, 1_000).unwrap();
        self.ids.extend(pending.into_iter().map(|row| (row.kind.parse().unwrap(), row.id)));
    }

    /// Claims; exactly the first of each line that is not under way must come.
    fn claim(&mut self) {
        let claimed = self.store.claim(Timestamp(1), Timestamp(2), 1_000).unwrap();
        let came: BTreeSet<usize> = claimed.iter().map(number).collect();
        let firsts = self.lines.values().filter_map(|line| line.front().copied());
        let expected: BTreeSet<usize> = firsts.filter(|first| !self.under_way.contains_key(first)).collect();
        assert_eq!(came, expected, "claimed and first of their lines");
        self.under_way.extend(claimed.into_iter().map(|claimed| (number(&claimed), claimed)));
    }

    fn settle(&mut self, number: usize, outcome: Outcome) {
        let claimed = self.under_way.remove(&number).unwrap();
        let (id, attempt) = (claimed.id, claimed.attempt);
        let took = Span(1);
        let settlement = Settlement { id, attempt, at: Timestamp(1), code: None, took, outcome, jitter: 0 };
        assert!(self.store.settle(&[settlement]).unwrap().stale.is_empty());
        self.leave(number);
    }

    fn leave(&mut self, number: usize) -> Line {
        let (line, messages) = self.lines.iter_mut().find(|(_, messages)| messages.contains(&number)).unwrap();
        messages.retain(|message| *message != number);
        *line
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Enqueue(lines) => self.enqueue(lines),
            Act::Claim => self.claim(),
            Act::Deliver(pick) => {
                if let Some(number) = picked(self.under_way.keys().copied(), *pick) {
                    self.settle(number, Outcome::Delivered);
                }
            }
            Act::Fail(pick) => {
                if let Some(number) = picked(self.under_way.keys().copied(), *pick) {
                    let line = *self.lines.iter().find(|(_, messages)| messages.contains(&number)).unwrap().0;
                    self.settle(number, Outcome::Failed { class: "http-400".into(), text: String::new() });
                    self.aside.insert(number, line);
                }
            }
            Act::Skip(pick) => {
                let open: Vec<usize> = self.lines.values().flatten().copied().collect();
                if let Some(number) = picked(open.into_iter(), *pick) {
                    self.store.skip(&self.ids[&number], "test", Timestamp(1)).unwrap();
                    self.under_way.remove(&number);
                    let line = self.leave(number);
                    self.aside.insert(number, line);
                }
            }
            Act::Replay(pick) => {
                if let Some(number) = picked(self.aside.keys().copied(), *pick) {
                    self.store.replay(&self.ids[&number], Timestamp(1)).unwrap();
                    let line = self.aside.remove(&number).unwrap();
                    self.lines.entry(line).or_default().push_back(number);
                }
            }
            Act::TakeBack => {
                let taken = self.store.reclaim_all(Timestamp(1)).unwrap();
                assert_eq!(taken as usize, self.under_way.len());
                self.under_way.clear();
            }
        }
        let backlog = self.store.backlog().unwrap();
        let waiting: u64 = backlog.iter().map(|endpoint| endpoint.waiting).sum();
        let aside: u64 = backlog.iter().map(|endpoint| endpoint.dead + endpoint.parked).sum();
        let under_way: u64 = backlog.iter().map(|endpoint| endpoint.in_flight).sum();
        let open: usize = self.lines.values().map(VecDeque::len).sum();
        assert_eq!((waiting, under_way, aside), (open as u64, self.under_way.len() as u64, self.aside.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        // What failed is kept beside this file, and tried first from then on.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_first_of_each_line_is_due_and_nobody_else_whatever_people_and_receivers_do(acts in acts()) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        // To the end: each line comes in its order.
        while world.lines.values().any(|line| !line.is_empty()) {
            world.claim();
            for number in world.under_way.keys().copied().collect::<Vec<_>>() {
                world.settle(number, Outcome::Delivered);
            }
        }
        let file = Connection::open(world.dir.path().join(EVIDENCE_FILE)).unwrap();
        let left: i64 = file.query_row("SELECT count(*) FROM line", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(left, 0, "lines without messages are kept");
        prop_assert!(world.store.verify(None, None).unwrap().is_ok());
    }
}

#[test]
fn a_message_that_would_wait_for_ever_is_not_taken() {
    let mut world = World::new();
    world.enqueue(&[(0, 0)]);
    let file = Connection::open(world.dir.path().join(EVIDENCE_FILE)).unwrap();
    // As an older lastgood writes it, which makes the first of a line due afterwards.
    let refused = file.execute(
        "INSERT INTO notice (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state)
         VALUES (9, 'msg_9', 1, 0, 1, 'endpoint-0', 'subject-0', 'test', x'00', 0, 9, 'pending')",
        [],
    );
    assert!(refused.unwrap_err().to_string().contains("CHECK constraint failed"));
}
