//! What people do with the outbox: look at it, skip, replay, pause, and clear what was delivered long ago.

use super::{
    MessageId, NoticeState,
    line::{self, Last, Place},
};
use crate::{
    error::{StoreError, during},
    open::{Reader, Store},
    read::{count, signed},
};
use lastgood_domain::{
    failure::Coded,
    terms::{ChainName, Span, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// Most rows of one listing.
const LIST_MAX: usize = 1_000;
/// Rows cleared in one transaction, so that senders are not held up.
const CLEAR_MAX: usize = 5_000;

/// Why a message could not be skipped or replayed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// There is no such message.
    #[error("there is no notice {id}")]
    Unknown {
        /// The id given.
        id: MessageId,
    },
    /// The message is in a state for which this makes no sense.
    #[error("notice {id} is {}, so it can't be {act}", state.as_str())]
    WrongState {
        /// The message.
        id: MessageId,
        /// Where it stands.
        state: NoticeState,
        /// What was asked, such as `replayed`.
        act: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for OutboxError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "notice-unknown",
            Self::WrongState { .. } => "notice-wrong-state",
            Self::Store(inner) => inner.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } | Self::WrongState { .. } => Some("list them: lastgood notices list".into()),
            Self::Store(inner) => inner.hint(),
        }
    }
}

/// How much waits for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointBacklog {
    /// The endpoint.
    pub endpoint: String,
    /// Messages pending or in flight.
    pub waiting: u64,
    /// Of these, in flight.
    pub in_flight: u64,
    /// When the oldest waiting one was caused.
    pub oldest: Option<Timestamp>,
    /// Dead messages.
    pub dead: u64,
    /// Messages set aside.
    pub parked: u64,
    /// Why nothing is sent to it now, if it is paused.
    pub paused: Option<String>,
}

/// One attempt as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// The HTTP status, if one came.
    pub code: Option<u16>,
    /// How long it took, once it has ended.
    pub took: Option<Span>,
    /// `delivered` or the kind of error, once it has ended.
    pub class: Option<String>,
    /// What happened.
    pub text: Option<String>,
}

/// A message as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRow {
    /// The `webhook-id`.
    pub id: MessageId,
    /// Where it goes.
    pub endpoint: String,
    /// What it is about.
    pub subject: String,
    /// Its type.
    pub kind: String,
    /// When it was caused.
    pub at: Timestamp,
    /// Where it stands.
    pub state: NoticeState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried next; none while it waits behind another.
    pub due: Option<Timestamp>,
    /// The last error, or why it was set aside.
    pub why: Option<String>,
    /// Name of the chain whose record caused it.
    pub chain: String,
    /// Number of that record.
    pub seq: u64,
}

impl Reader {
    /// Gives the backlog per endpoint, by name; endpoints whose messages were all delivered are left out.
    pub fn backlog(&self) -> Result<Vec<EndpointBacklog>, StoreError> {
        let failed = during("count the outbox's backlog");
        let mut select = self
            .connection
            .prepare_cached(
                "WITH open AS (
                    SELECT endpoint, state, at FROM notice WHERE state = 'pending' AND due IS NOT NULL
                    UNION ALL SELECT endpoint, state, at FROM notice
                        WHERE behind IS NOT NULL AND state = 'pending' AND due IS NULL
                    UNION ALL SELECT endpoint, state, at FROM notice WHERE state = 'in-flight'
                    UNION ALL SELECT endpoint, state, at FROM notice WHERE state = 'failed'
                    UNION ALL SELECT endpoint, state, at FROM notice WHERE state = 'parked'
                    UNION ALL SELECT endpoint, NULL, NULL FROM paused)
                 SELECT open.endpoint,
                    count(*) FILTER (WHERE state IN ('pending', 'in-flight')),
                    count(*) FILTER (WHERE state = 'in-flight'),
                    min(open.at) FILTER (WHERE state IN ('pending', 'in-flight')),
                    count(*) FILTER (WHERE state = 'failed'),
                    count(*) FILTER (WHERE state = 'parked'),
                    max(paused.why)
                 FROM open LEFT JOIN paused ON paused.endpoint = open.endpoint
                 GROUP BY open.endpoint ORDER BY open.endpoint",
            )
            .map_err(&failed)?;
        let rows = select.query_map([], |row| {
            Ok(EndpointBacklog {
                endpoint: row.get(0)?,
                waiting: count(row, 1)?,
                in_flight: count(row, 2)?,
                oldest: row.get::<_, Option<i64>>(3)?.map(Timestamp),
                dead: count(row, 4)?,
                parked: count(row, 5)?,
                paused: row.get(6)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Gives a message, wherever it stands.
    pub fn notice(&self, id: &MessageId) -> Result<Option<NoticeRow>, StoreError> {
        let failed = during("look for a notice");
        let Some(n) = id.find(&self.connection).map_err(&failed)? else { return Ok(None) };
        self.connection
            .prepare_cached(&format!("{ROWS} WHERE n = ?1"))
            .and_then(|mut select| select.query_row([n], row_of).optional())
            .map_err(failed)
    }

    /// Lists messages in `state`, in the order they were caused, at most `limit` and 1000.
    pub fn notices(&self, state: NoticeState, limit: usize) -> Result<Vec<NoticeRow>, StoreError> {
        self.listed(state, None, limit)
    }

    /// As [`Self::notices`], only those about a subject: whatever others have is not in their way.
    pub fn notices_about(&self, subject: &str, state: NoticeState, limit: usize) -> Result<Vec<NoticeRow>, StoreError> {
        self.listed(state, Some(subject), limit)
    }

    fn listed(&self, state: NoticeState, subject: Option<&str>, limit: usize) -> Result<Vec<NoticeRow>, StoreError> {
        let failed = during("list notices");
        let mut select = self
            .connection
            .prepare_cached(&format!("{ROWS} WHERE state = ?1 AND (?3 IS NULL OR subject = ?3) ORDER BY turn LIMIT ?2"))
            .map_err(&failed)?;
        let rows = select.query_map((state.as_str(), limit.min(LIST_MAX) as i64, subject), row_of);
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Gives where each notice stands that a record caused, by endpoint.
    pub fn notices_of(&self, chain: &ChainName, seq: u64) -> Result<Vec<(String, NoticeState)>, StoreError> {
        let failed = during("look for a record's notices");
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT endpoint, state FROM notice JOIN chain ON chain.id = notice.chain
                 WHERE chain.name = ?1 AND seq = ?2 ORDER BY endpoint",
            )
            .map_err(&failed)?;
        let rows = select.query_map((chain.as_str(), seq as i64), |row| {
            let state: String = row.get(1)?;
            // A word that we would not write was put there by hand: nothing is on its way then.
            Ok((row.get(0)?, NoticeState::of(&state).unwrap_or(NoticeState::Failed)))
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Gives every attempt of a message, oldest first.
    pub fn attempts(&self, id: &MessageId) -> Result<Vec<Attempt>, StoreError> {
        let failed = during("list a notice's attempts");
        let Some(n) = id.find(&self.connection).map_err(&failed)? else { return Ok(Vec::new()) };
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT number, at, code, took_ms, class, text FROM attempt WHERE notice = ?1 ORDER BY number LIMIT ?2",
            )
            .map_err(&failed)?;
        let rows = select.query_map((n, LIST_MAX as i64), |row| {
            Ok(Attempt {
                number: row.get(0)?,
                at: Timestamp(row.get(1)?),
                code: row.get(2)?,
                took: row.get::<_, Option<i64>>(3)?.and_then(|ms| u64::try_from(ms).ok()).map(Span),
                class: row.get(4)?,
                text: row.get(5)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Gives when the next pending message is due: how long a sender with nothing to do may sleep.
    pub fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT min(due) FROM notice WHERE state = 'pending' AND due IS NOT NULL
                     AND endpoint NOT IN (SELECT endpoint FROM paused)",
            )
            .and_then(|mut select| select.query_row([], |row| row.get::<_, Option<i64>>(0)))
            .map(|due| due.map(Timestamp))
            .map_err(during("ask when the next notice is due"))
    }
}

/// What a message's row is made of.
const ROWS: &str = "SELECT message_id, endpoint, subject, kind, at, n, attempts, due, why, chain.name, seq, state
     FROM notice JOIN chain ON chain.id = notice.chain";

fn row_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<NoticeRow> {
    let state: String = row.get(11)?;
    Ok(NoticeRow {
        id: MessageId::of_row(row.get(0)?, row.get(5)?),
        endpoint: row.get(1)?,
        subject: row.get(2)?,
        kind: row.get(3)?,
        at: Timestamp(row.get(4)?),
        // A word that we would not write was put there by hand: nothing is on its way then.
        state: NoticeState::of(&state).unwrap_or(NoticeState::Failed),
        attempts: row.get(6)?,
        due: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        why: row.get(8)?,
        chain: row.get(9)?,
        seq: count(row, 10)?,
    })
}

impl Store {
    /// Sets a pending or in-flight message aside on an operator's word, so that those behind it can go.
    pub fn skip(&mut self, id: &MessageId, why: &str, now: Timestamp) -> Result<(), OutboxError> {
        self.change(id, "skipped", |transaction, found| {
            // A dead one has left its line already.
            let waits = matches!(found.state, NoticeState::Pending | NoticeState::InFlight);
            if !waits && found.state != NoticeState::Failed {
                return Ok(false);
            }
            transaction
                .prepare_cached(
                    "UPDATE notice SET state = 'parked', settled_at = ?2, due = NULL, lease_until = NULL, behind = NULL,
                         why = ?3 WHERE n = ?1",
                )?
                .execute((found.place.n, now.0, format!("skipped: {why}")))?;
            if waits {
                line::leave(transaction, &found.place, now)?;
            }
            Ok(true)
        })
    }

    /// Puts a dead or parked message back at the end of its line, with a new run of attempts.
    pub fn replay(&mut self, id: &MessageId, now: Timestamp) -> Result<(), OutboxError> {
        self.change(id, "replayed", |transaction, found| {
            if !matches!(found.state, NoticeState::Failed | NoticeState::Parked) {
                return Ok(false);
            }
            let Place { n, endpoint, subject, .. } = &found.place;
            let before = line::last(transaction, endpoint, subject)?;
            let turn = Last::turn_behind(before, line::next_number(transaction)?);
            let (behind, due) = (before.map(|before| before.n), before.is_none().then_some(now.0));
            transaction
                .prepare_cached(
                    "UPDATE notice SET state = 'pending', settled_at = NULL, step = 0, lost = 0, turn = ?2,
                         behind = ?3, due = ?4 WHERE n = ?1",
                )?
                .execute((n, turn, behind, due))?;
            line::set_last(transaction, endpoint, subject, *n)?;
            Ok(true)
        })
    }

    /// Sends nothing to `endpoint` until it is resumed; its messages wait. Repeating it changes the reason only.
    pub fn pause(&mut self, endpoint: &str, why: &str, now: Timestamp) -> Result<(), StoreError> {
        self.connection_mut()
            .execute(
                "INSERT INTO paused (endpoint, at, why) VALUES (?1, ?2, ?3)
                 ON CONFLICT (endpoint) DO UPDATE SET why = excluded.why",
                (endpoint, now.0, why),
            )
            .map(|_| ())
            .map_err(during("pause an endpoint"))
    }

    /// Sends to `endpoint` again.
    pub fn resume(&mut self, endpoint: &str) -> Result<(), StoreError> {
        self.connection_mut()
            .execute("DELETE FROM paused WHERE endpoint = ?1", [endpoint])
            .map(|_| ())
            .map_err(during("resume an endpoint"))
    }

    /// Removes messages delivered before `before`, with their attempts; the records that caused them stay for ever.
    /// Gives how many; call again while it gives any.
    pub fn clear_delivered(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        self.connection_mut()
            .execute(
                "DELETE FROM notice WHERE n IN
                    (SELECT n FROM notice WHERE state = 'delivered' AND settled_at < ?1 LIMIT ?2)",
                (before.0, signed(CLEAR_MAX as u64)),
            )
            .map(|gone| gone as u64)
            .map_err(during("clear delivered notices"))
    }

    fn change(
        &mut self,
        id: &MessageId,
        act: &'static str,
        apply: impl FnOnce(&Transaction<'_>, &Found) -> rusqlite::Result<bool>,
    ) -> Result<(), OutboxError> {
        let failed = during("change a notice");
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let Some(found) = find(&transaction, id).map_err(&failed)? else {
            return Err(OutboxError::Unknown { id: id.clone() });
        };
        if !apply(&transaction, &found).map_err(&failed)? {
            return Err(OutboxError::WrongState { id: id.clone(), state: found.state, act });
        }
        transaction.commit().map_err(&failed)?;
        Ok(())
    }
}

struct Found {
    place: Place,
    state: NoticeState,
}

fn find(connection: &Connection, id: &MessageId) -> rusqlite::Result<Option<Found>> {
    let Some(n) = id.find(connection)? else { return Ok(None) };
    connection
        // What is due or under way waits for none, whatever an older lastgood that still ran has left.
        .prepare_cached(
            "SELECT endpoint, subject, CASE WHEN state = 'pending' AND due IS NULL THEN behind END, state
             FROM notice WHERE n = ?1",
        )?
        .query_row([n], |row| {
            let word: String = row.get(3)?;
            // The column's CHECK keeps other words out.
            let state = NoticeState::of(&word).unwrap_or(NoticeState::Parked);
            let place = Place { n, endpoint: row.get(0)?, subject: row.get(1)?, behind: row.get(2)? };
            Ok(Found { place, state })
        })
        .optional()
}
