//! Real processes, killed with -9 at any point: what is on disk afterwards is whole.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::ChainName,
    terms::{ServiceName, Timestamp},
};
use lastgood_store::{DriverLock, LockError, NewNotice, NewRecord, NoticeState, Reader, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

struct Hammer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Hammer {
    fn start(words: &[&str]) -> Self {
        // Cargo builds examples beside the tests: target/debug/examples.
        let mut program: PathBuf = env::current_exe().unwrap();
        program.pop();
        program.pop();
        program.push("examples/hammer");
        let mut child = Command::new(&program).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn actual() -> ChainName {
    ChainName::new("service/actual").unwrap()
}

#[test]
fn a_kill_while_appending_leaves_record_and_notices_both_or_neither() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = 0;
    for round in 0..12u64 {
        let mut hammer = Hammer::start(&["append", text(dir.path())]);
        // Shot after a few appends, each time at another instant of the next one.
        for _ in 0..1 + round % 4 {
            told = hammer.lines.next().unwrap().unwrap().parse().unwrap();
        }
        for _ in 0..round * 5_000 {
            std::hint::spin_loop();
        }
        hammer.kill();
        let mut store = Store::open(dir.path()).unwrap();
        let found = store.verify(None, None).unwrap();
        assert!(found.is_ok(), "round {round}: {:?}", found.findings);
        let size = store.head(&actual()).unwrap().size;
        assert!(size >= told, "{told} records were acknowledged, {size} are there");
        assert_eq!(size % 3, 0, "half a batch was left");
        assert_eq!(found.notices, size / 3 * 2);
        let head = store.head(&actual()).unwrap();
        let three = [0, 1, 2].map(|_| NewRecord { at: Timestamp(0), bytes: vec![] });
        let notice = NewNotice {
            endpoint: "ops".into(),
            subject: "a".into(),
            kind: "test".into(),
            body: vec![],
            at: Timestamp(0),
        };
        store.append(&actual(), &head, &three, &[notice.clone(), notice]).unwrap();
    }
}

#[test]
fn a_sender_killed_again_and_again_loses_nothing_and_keeps_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let sink = dir.path().join("sink");
    let mut store = Store::open(dir.path()).unwrap();
    let mut head = store.head(&actual()).unwrap();
    for number in 0..60i64 {
        let notice = NewNotice {
            endpoint: "ops".into(),
            subject: format!("s{}", number % 6),
            kind: "test".into(),
            body: format!("{number:03}").into_bytes(),
            at: Timestamp(number),
        };
        let record = NewRecord { at: Timestamp(number), bytes: vec![1] };
        head = store.append(&actual(), &head, &[record], &[notice]).unwrap();
    }
    let mut kills = 0;
    while store.backlog().unwrap().iter().any(|endpoint| endpoint.waiting > 0) {
        let mut hammer = Hammer::start(&["deliver", text(dir.path()), text(&sink)]);
        // Shot after its third, fourth, … message: in the middle of a batch of five, before it could settle.
        let sent = (0..3 + kills % 5).take_while(|_| matches!(hammer.lines.next(), Some(Ok(_)))).count();
        hammer.kill();
        assert!(sent > 0, "no progress");
        kills += 1;
    }
    assert!(kills >= 8, "only {kills} kills");
    let sink = fs::read_to_string(&sink).unwrap();
    let lines: Vec<Vec<&str>> = sink.lines().map(|line| line.split(' ').collect()).collect();
    let ids: BTreeSet<_> = lines.iter().map(|words| words[0]).collect();
    assert_eq!(ids.len(), 60, "messages were lost");
    assert!(lines.len() <= 60 + kills * 5, "more repeats than were in flight");
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for words in lines.iter().filter(|words| seen.insert(words[0])) {
        let before = last.insert(words[1], words[2]);
        assert!(before.is_none_or(|before| before < words[2]), "{} came after {before:?}", words[2]);
    }
    let delivered = store.notices(NoticeState::Delivered, 100).unwrap();
    assert_eq!(delivered.len(), 60);
    let killed = delivered.iter().flat_map(|row| store.attempts(&row.id).unwrap());
    assert!(
        killed.into_iter().any(|attempt| attempt.class.as_deref() == Some("lease-lost")),
        "a killed attempt is a row"
    );
}

#[test]
fn a_lock_is_released_by_kill_9_and_names_its_holder_before() {
    let dir = tempfile::tempdir().unwrap();
    let service = ServiceName::new("actual").unwrap();
    assert_eq!(DriverLock::holder(dir.path(), &service).unwrap(), None);
    let mut hammer = Hammer::start(&["lock", text(dir.path()), "actual"]);
    assert_eq!(hammer.lines.next().unwrap().unwrap(), "held");
    let pid = hammer.child.id();
    let refused = DriverLock::take(dir.path(), &service, "me", Timestamp(9)).unwrap_err();
    match refused {
        LockError::Held { by, .. } => assert_eq!((by.pid, by.started, by.what.as_str()), (pid, Timestamp(7), "hammer")),
        other => panic!("{other}"),
    }
    assert_eq!(DriverLock::holder(dir.path(), &service).unwrap().unwrap().pid, pid);
    let other = ServiceName::new("other").unwrap();
    DriverLock::take(dir.path(), &other, "me", Timestamp(9)).unwrap();
    hammer.kill();
    let taken = DriverLock::take(dir.path(), &service, "me", Timestamp(9)).unwrap();
    assert!(DriverLock::take(dir.path(), &service, "me", Timestamp(9)).is_err(), "taken twice in one process");
    drop(taken);
    DriverLock::take(dir.path(), &service, "me", Timestamp(9)).unwrap();
}

#[test]
fn who_looks_between_a_lock_and_its_holders_name_waits_for_the_name() {
    use rustix::fs::{FlockOperation, flock};
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let service = ServiceName::new("actual").unwrap();
    let path = dir.path().join("driver-actual.lock");
    let mut file = std::fs::File::create(&path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    // Nobody ever says who it is, as on a full disk: the kernel knows.
    assert_eq!(DriverLock::holder(dir.path(), &service).unwrap().unwrap().pid, std::process::id());
    let looking = std::thread::spawn({
        let (dir, service) = (dir.path().to_path_buf(), service.clone());
        move || DriverLock::holder(&dir, &service)
    });
    file.write_all(br#"{"pid":7,"started":1,"what":"daemon"}"#).unwrap();
    assert_eq!(looking.join().unwrap().unwrap().unwrap().pid, 7);
}

#[test]
fn who_looks_while_the_file_is_being_made_waits_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // What SQLite leaves for a moment: the file, and nothing in it yet.
    fs::File::create(dir.path().join(lastgood_store::EVIDENCE_FILE)).unwrap();
    let looking = std::thread::spawn({
        let dir = dir.path().to_path_buf();
        move || Reader::open(&dir).map(drop)
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    Store::open(dir.path()).unwrap();
    looking.join().unwrap().unwrap();
}
