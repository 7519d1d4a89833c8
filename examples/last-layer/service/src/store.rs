//! The messages: one thread writes, many posts in one commit; a few connections read.

use crate::release::befalls;
use crate::{Fault, LastLayerError, Release, report, schema};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc};

/// Posts that wait for the writer; the next is refused. A second of a busy room.
const WAITING_MAX: usize = 10_000;
/// Posts in one commit: a commit of so many takes some milliseconds, and the lock is another process's then.
const BATCH_MAX: usize = 256;
/// Reads at once, a connection each.
const READERS_MAX: usize = 8;
/// Messages read at once.
pub(crate) const PAGE: u32 = 500;

/// One message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) text: String,
}

/// One message to store.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) room: String,
    pub(crate) id: String,
    pub(crate) text: String,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// Stored now, under this number.
    New(i64),
    /// It was stored before, under this number.
    Before(i64),
    /// Another text has this id.
    Conflict,
    /// It could not be stored; the log says why.
    Failed,
}

/// Is told what became of a post, after the commit.
pub(crate) type Answer = Box<dyn FnOnce(Posted) + Send>;

enum Job {
    Post(Post, Answer),
    Beat(Box<dyn FnOnce(bool) + Send>),
}

/// The messages of all rooms.
pub(crate) struct Store {
    file: PathBuf,
    release: Release,
    jobs: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Store {
    /// Migrates the data and starts the writer, which calls `committed` when there is something new.
    pub(crate) fn open(
        folder: &Path,
        release: &Release,
        committed: impl Fn() + Send + 'static,
    ) -> Result<Arc<Self>, LastLayerError> {
        let file = schema::migrate(folder, release)?;
        let unreadable = |source| LastLayerError::DataUnreadable { file: file.clone(), source };
        let mut data = schema::open(&file).map_err(unreadable)?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let of_writer = release.clone();
        let writer = std::thread::Builder::new().name("writer".into());
        let started = writer.spawn(move || write_all(&mut data, waiting, &of_writer, committed));
        started.map_err(|source| LastLayerError::Unwritable { path: file.clone(), source })?;
        let (readers, permits) = (Mutex::default(), Semaphore::new(READERS_MAX));
        Ok(Arc::new(Self { file, release: release.clone(), jobs, readers, permits }))
    }

    /// Hands a post to the writer. `answer` is called after the commit, at once if the writer is overrun.
    pub(crate) fn post(&self, post: Post, answer: Answer) {
        use mpsc::error::TrySendError::{Closed, Full};
        if let Err(Full(Job::Post(_, answer)) | Closed(Job::Post(_, answer))) =
            self.jobs.try_send(Job::Post(post, answer))
        {
            answer(Posted::Failed);
        }
    }

    /// Tells whether it can write.
    pub(crate) async fn beat(&self) -> bool {
        let (tell, told) = tokio::sync::oneshot::channel();
        let job = Job::Beat(Box::new(move |written| {
            let _gone = tell.send(written);
        }));
        self.jobs.try_send(job).is_ok() && told.await.unwrap_or(false)
    }

    /// Gives the newest number of a room; 0 if there is no message.
    pub(crate) async fn last(self: &Arc<Self>, room: &str) -> rusqlite::Result<i64> {
        let room = room.to_owned();
        self.read(move |data, _| last_of(data, &room)).await
    }

    /// Gives the messages of a room behind `after`, oldest first, at most [`PAGE`].
    pub(crate) async fn page(self: &Arc<Self>, room: &str, after: i64) -> rusqlite::Result<Vec<Message>> {
        let room = room.to_owned();
        self.read(move |data, release| page_of(data, release, &room, after)).await
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        what: impl FnOnce(&Connection, &Release) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let store = Arc::clone(self);
        // Never closed, so there is always a permit to wait for.
        let _permit = self.permits.acquire().await;
        let read = tokio::task::spawn_blocking(move || {
            let kept = store.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let data = kept.map_or_else(|| schema::open(&store.file), Ok)?;
            let found = what(&data, &store.release);
            store.readers.lock().unwrap_or_else(PoisonError::into_inner).push(data);
            found.inspect_err(|cause| report(&format!("error: can't read: {cause}")))
        });
        read.await.unwrap_or(Err(rusqlite::Error::InvalidQuery))
    }

    /// Opens a connection of the caller's own.
    pub(crate) fn connection(&self) -> rusqlite::Result<Connection> {
        schema::open(&self.file)
    }
}

pub(crate) fn last_of(data: &Connection, room: &str) -> rusqlite::Result<i64> {
    let mut ask = data.prepare_cached("SELECT coalesce(max(seq), 0) FROM message WHERE room = ?1")?;
    ask.query_row([room], |row| row.get(0))
}

pub(crate) fn page_of(data: &Connection, release: &Release, room: &str, after: i64) -> rusqlite::Result<Vec<Message>> {
    let text = release.text_column();
    let mut ask = data.prepare_cached(&format!(
        "SELECT seq, id, {text} FROM message WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT {PAGE}"
    ))?;
    let rows = ask
        .query_map(params![room, after], |row| Ok(Message { seq: row.get(0)?, id: row.get(1)?, text: row.get(2)? }))?;
    rows.collect()
}

fn write_all(data: &mut Connection, mut jobs: mpsc::Receiver<Job>, release: &Release, committed: impl Fn()) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        let outcomes = write_batch(data, &batch, release).unwrap_or_else(|cause| {
            report(&format!("error: can't write: {cause}"));
            Vec::new()
        });
        // Others first see the message, then its sender the acknowledgement: nobody waits for an answer's way.
        committed();
        let mut outcomes = outcomes.into_iter();
        for job in batch {
            let outcome = outcomes.next();
            match job {
                Job::Post(_, answer) => answer(outcome.unwrap_or(Posted::Failed)),
                Job::Beat(answer) => answer(outcome.is_some()),
            }
        }
    }
}

/// Writes all or nothing; gives what became of each.
fn write_batch(data: &mut Connection, batch: &[Job], release: &Release) -> rusqlite::Result<Vec<Posted>> {
    let change = data.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch {
        outcomes.push(match job {
            Job::Post(post, _) => write(&change, post, release)?,
            Job::Beat(_) => {
                change.execute(
                    "INSERT INTO beat (release, count) VALUES (?1, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                    [&release.version],
                )?;
                Posted::New(0)
            }
        });
    }
    change.commit()?;
    Ok(outcomes)
}

fn write(change: &Transaction<'_>, post: &Post, release: &Release) -> rusqlite::Result<Posted> {
    let text = release.text_column();
    let mut ask =
        change.prepare_cached(&format!("SELECT seq, {text} = ?3 FROM message WHERE room = ?1 AND id = ?2"))?;
    let known: Option<(i64, bool)> =
        ask.query_row(params![post.room, post.id, post.text], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match known {
        Some((seq, true)) => return Ok(Posted::Before(seq)),
        Some((_, false)) => return Ok(Posted::Conflict),
        None => {}
    }
    let seq = last_of(change, &post.room)? + 1;
    if let Fault::ForgetsToStore { percent } = release.fault
        && befalls(percent)
    {
        return Ok(Posted::New(seq));
    }
    let (column, value) =
        if release.notes_time() { (", stored_at", ", strftime('%Y-%m-%dT%H:%M:%fZ', 'now')") } else { ("", "") };
    let mut add = change.prepare_cached(&format!(
        "INSERT INTO message (room, seq, id, {text}{column}) VALUES (?1, ?2, ?3, ?4{value})"
    ))?;
    add.execute(params![post.room, seq, post.id, post.text])?;
    Ok(Posted::New(seq))
}
