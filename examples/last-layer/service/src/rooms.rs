//! Who listens where: one thread sees what this and other processes have committed and wakes those whom it concerns.
//!
//! A socket follows its room by its own place in it. What it sends next is what stands behind that place, from the
//! room's newest messages in memory or from the database. There is no switch from replay to live, so nothing can
//! fall between the two and nothing can be in both.

use crate::store::{Message, PAGE, Store, page_of};
use crate::{Release, report};
use rusqlite::Connection;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// How often it is asked whether another process has committed: some microseconds each time.
const LOOK: Duration = Duration::from_millis(5);
/// Messages of a room that are kept in memory; who is further behind reads the database.
const TAIL_MAX: usize = 256;
/// Looks after which rooms without listeners are forgotten.
const SWEEP_LOOKS: u32 = 1_000;

/// Why the feeder looks.
pub(crate) enum Wake {
    /// This process has committed.
    Committed,
    /// Somebody listens to a room where nobody did.
    Entered(Arc<Room>),
}

/// The rooms that somebody listens to.
pub(crate) struct Rooms {
    open: Mutex<HashMap<String, Arc<Room>>>,
    wake: Sender<Wake>,
}

/// One room that somebody listens to.
pub(crate) struct Room {
    pub(crate) name: String,
    /// The newest number that listeners know of.
    head: watch::Sender<i64>,
    /// The newest messages, as they are sent, up to `head`.
    tail: Mutex<VecDeque<(i64, Utf8Bytes)>>,
}

impl Rooms {
    /// Starts the feeder, which ends with the process.
    pub(crate) fn start(
        store: &Store,
        release: &Release,
        wake: Sender<Wake>,
        woken: Receiver<Wake>,
    ) -> std::io::Result<Arc<Self>> {
        let data = store.connection().map_err(std::io::Error::other)?;
        let rooms = Arc::new(Self { open: Mutex::default(), wake });
        let (fed, release) = (Arc::clone(&rooms), release.clone());
        std::thread::Builder::new().name("feeder".into()).spawn(move || fed.feed(&data, &release, &woken))?;
        Ok(rooms)
    }

    /// Begins to listen; `last` is a number of the room that was seen just now.
    pub(crate) fn enter(&self, name: &str, last: i64) -> (Arc<Room>, watch::Receiver<i64>) {
        let mut open = self.open();
        if let Some(room) = open.get(name) {
            return (Arc::clone(room), room.head.subscribe());
        }
        let (head, listener) = watch::channel(last);
        let room = Arc::new(Room { name: name.into(), head, tail: Mutex::default() });
        open.insert(name.into(), Arc::clone(&room));
        // The feeder may have passed what was committed since `last` was seen.
        let _gone = self.wake.send(Wake::Entered(Arc::clone(&room)));
        (room, listener)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Room>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feed(&self, data: &Connection, release: &Release, woken: &Receiver<Wake>) {
        let mut place = Place { fed: None, version: -1 };
        let mut looks = 0_u32;
        loop {
            let mut entered = Vec::new();
            match woken.recv_timeout(LOOK) {
                Ok(Wake::Entered(room)) => entered.push(room),
                Ok(Wake::Committed) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            entered.extend(woken.try_iter().filter_map(|wake| match wake {
                Wake::Entered(room) => Some(room),
                Wake::Committed => None,
            }));
            let fed = entered
                .iter()
                .try_for_each(|room| room.catch_up(data, release))
                .and_then(|()| self.look(data, release, &mut place));
            if let Err(cause) = fed {
                report(&format!("error: can't follow the rooms: {cause}"));
                // A schema that this release can't read stays so; 200 lines a second help nobody.
                std::thread::sleep(LOOK * 20);
            }
            looks += 1;
            if looks.is_multiple_of(SWEEP_LOOKS) {
                self.open().retain(|_, room| room.head.receiver_count() > 0);
            }
        }
    }

    /// Takes what was committed since the last look to those who listen.
    fn look(&self, data: &Connection, release: &Release, place: &mut Place) -> rusqlite::Result<()> {
        // Changes with every commit of another connection, in this process or elsewhere.
        let version = data.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if place.fed.is_some() && version == place.version {
            return Ok(());
        }
        let Some(mut fed) = place.fed else {
            place.fed = Some(data.query_row("SELECT coalesce(max(number), 0) FROM message", [], |row| row.get(0))?);
            place.version = version;
            let open: Vec<_> = self.open().values().cloned().collect();
            return open.iter().try_for_each(|room| room.catch_up(data, release));
        };
        loop {
            let news = news(data, release, fed)?;
            for (number, name, message) in &news {
                let room = self.open().get(name).cloned();
                if let Some(room) = room {
                    room.add(data, release, message)?;
                }
                fed = *number;
            }
            place.fed = Some(fed);
            if news.len() < PAGE as usize {
                place.version = version;
                return Ok(());
            }
        }
    }
}

/// How far the feeder is.
struct Place {
    /// The last message that was taken to its room, by its number among all.
    fed: Option<i64>,
    /// SQLite's count of commits at the last whole look.
    version: i64,
}

fn news(data: &Connection, release: &Release, fed: i64) -> rusqlite::Result<Vec<(i64, String, Message)>> {
    let text = release.text_column();
    let mut ask = data.prepare_cached(&format!(
        "SELECT number, room, seq, id, {text} FROM message WHERE number > ?1 ORDER BY number LIMIT {PAGE}"
    ))?;
    let rows = ask.query_map([fed], |row| {
        Ok((row.get(0)?, row.get(1)?, Message { seq: row.get(2)?, id: row.get(3)?, text: row.get(4)? }))
    })?;
    rows.collect()
}

impl Room {
    /// Gives what comes behind `after`, if it is in memory.
    pub(crate) fn recent(&self, after: i64) -> Option<Vec<(i64, Utf8Bytes)>> {
        let tail = self.tail();
        let (oldest, _) = tail.front()?;
        (*oldest <= after + 1).then(|| tail.iter().filter(|(seq, _)| *seq > after).cloned().collect())
    }

    fn tail(&self) -> MutexGuard<'_, VecDeque<(i64, Utf8Bytes)>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the next message; only the feeder does.
    fn add(&self, data: &Connection, release: &Release, message: &Message) -> rusqlite::Result<()> {
        let head = *self.head.borrow();
        if message.seq > head + 1 {
            return self.catch_up(data, release);
        }
        if message.seq == head + 1 {
            self.push(message);
        }
        Ok(())
    }

    fn catch_up(&self, data: &Connection, release: &Release) -> rusqlite::Result<()> {
        loop {
            let head = *self.head.borrow();
            let page = page_of(data, release, &self.name, head)?;
            page.iter().for_each(|message| self.push(message));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    fn push(&self, message: &Message) {
        {
            let mut tail = self.tail();
            tail.push_back((message.seq, said(message)));
            if tail.len() > TAIL_MAX {
                tail.pop_front();
            }
        }
        self.head.send_replace(message.seq);
    }
}

/// Writes a message as subscribers get it.
pub(crate) fn said(message: &Message) -> Utf8Bytes {
    json!({ "type": "message", "seq": message.seq, "id": message.id, "text": message.text }).to_string().into()
}
