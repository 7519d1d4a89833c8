//! What the sender does: claim messages under a lease, send them elsewhere, settle what came of it.

use super::{
    MessageId, NoticeState,
    line::{self, Place},
    schedule::retry_delay,
};
use crate::{
    error::{StoreError, during},
    open::Store,
    read::count,
};
use lastgood_domain::terms::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// Most messages of one claim: a sender works on tens at a time, and each holds a body of up to 64 KiB.
const CLAIM_MAX: usize = 1_000;
/// A message whose sender died this often is the likely cause of it, and is dead.
const LEASES_LOST_MAX: u32 = 20;
/// A time further ahead than this was written by a clock that has been set back since: what two processes call now differs by
/// less.
const CLOCK_AHEAD: Span = Span::minutes(1);
/// Messages that wait for a time that was computed with a clock that was ahead: `?1` is now, `?2` what no clock says by now.
const AHEAD: &str = "state = 'pending' AND due IS NOT NULL AND due > ?1
     AND (attempts = 0 AND at > ?2 OR EXISTS (SELECT 1 FROM attempt
          WHERE attempt.notice = notice.n AND attempt.number = notice.attempts AND attempt.at > ?2))";
/// Longest error text kept, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// A message to send now. The lease is a promise to settle before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The `webhook-id`.
    pub id: MessageId,
    /// Which attempt this is, from 1; a settlement names it.
    pub attempt: u32,
    /// Where it goes.
    pub endpoint: String,
    /// What it is about.
    pub subject: String,
    /// Its type.
    pub kind: String,
    /// The exact bytes to sign and send.
    pub body: Vec<u8>,
    /// When it was caused.
    pub at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver accepted it (2xx).
    Delivered,
    /// Worth another try: no answer, 429, 5xx.
    Retry {
        /// Kind of error, such as `timeout` or `http-503`.
        class: String,
        /// What happened, without secrets.
        text: String,
        /// What the receiver asked for.
        retry_after: Option<Span>,
    },
    /// Refused for good: another try would get the same answer.
    Failed {
        /// Kind of error, such as `http-400`.
        class: String,
        /// What happened, without secrets.
        text: String,
    },
    /// The receiver is gone (410) or was taken out of the configuration.
    Parked {
        /// Kind of error, such as `http-410`.
        class: String,
        /// What happened, without secrets.
        text: String,
    },
    /// Handed back unsent, as if it had not been claimed: no attempt is counted, no step of the schedule used.
    NotSent {
        /// When it may be claimed again.
        again: Timestamp,
    },
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The message.
    pub id: MessageId,
    /// The attempt, as claimed.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
    /// The HTTP status, if one came.
    pub code: Option<u16>,
    /// How long it took.
    pub took: Span,
    /// What came of it.
    pub outcome: Outcome,
    /// A random number for the retry's jitter.
    pub jitter: u32,
}

/// What [`Store::settle`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Results that came after the lease was lost to another attempt, or after an operator's word; not applied.
    pub stale: Vec<MessageId>,
    /// Messages that are dead now: each deserves a record and an alarm.
    pub dead: Vec<MessageId>,
}

impl Store {
    /// Claims up to `limit` messages that are due at `now`, leased until `lease_until`, oldest due first.
    ///
    /// Leases that ended are taken back first. Never gives two messages of one (endpoint, subject).
    pub fn claim(&mut self, now: Timestamp, lease_until: Timestamp, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        let failed = during("claim notices");
        // An idle outbox is asked often: look without the write lock first.
        if !self.anything_to_claim(now).map_err(&failed)? {
            return Ok(Vec::new());
        }
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        take_back(&transaction, Some(now), now).map_err(&failed)?;
        set_back(&transaction, now).map_err(&failed)?;
        let claimed = claim_due(&transaction, now, lease_until, limit.min(CLAIM_MAX)).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(claimed)
    }

    fn anything_to_claim(&self, now: Timestamp) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(&format!(
                "SELECT EXISTS (SELECT 1 FROM notice WHERE state = 'pending' AND due IS NOT NULL AND due <= ?1
                         AND endpoint NOT IN (SELECT endpoint FROM paused))
                     OR EXISTS (SELECT 1 FROM notice WHERE state = 'in-flight' AND lease_until <= ?1)
                     OR EXISTS (SELECT 1 FROM notice WHERE {AHEAD} AND endpoint NOT IN (SELECT endpoint FROM paused))",
            ))?
            .query_row([now.0, now.after(CLOCK_AHEAD).0], |row| row.get(0))
    }

    /// Takes back every lease. Only the one sender may call it, at its start: what was in flight then has no sender.
    pub fn reclaim_all(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let failed = during("take back leases");
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let taken = take_back(&transaction, None, now).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(taken)
    }

    /// Writes down what came of attempts, many in one transaction.
    pub fn settle(&mut self, settlements: &[Settlement]) -> Result<Settled, StoreError> {
        let failed = during("settle notices");
        let mut settled = Settled::default();
        if settlements.is_empty() {
            return Ok(settled);
        }
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        for settlement in settlements {
            match settle_one(&transaction, settlement).map_err(&failed)? {
                None => settled.stale.push(settlement.id.clone()),
                Some(NoticeState::Failed) => settled.dead.push(settlement.id.clone()),
                Some(_) => {}
            }
        }
        transaction.commit().map_err(&failed)?;
        Ok(settled)
    }
}

/// Makes due what a clock that was ahead has put off: its line would wait until that time really comes.
fn set_back(transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(&format!("UPDATE notice SET due = ?1 WHERE {AHEAD}"))?
        .execute([now.0, now.after(CLOCK_AHEAD).0])
}

fn claim_due(
    transaction: &Transaction<'_>,
    now: Timestamp,
    lease_until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Claimed>> {
    let mut select = transaction.prepare_cached(
        "SELECT n, message_id, attempts + 1, endpoint, subject, kind, body, at FROM notice
         WHERE state = 'pending' AND due IS NOT NULL AND due <= ?1 AND endpoint NOT IN (SELECT endpoint FROM paused)
         ORDER BY due, turn LIMIT +?2",
    )?;
    let rows = select.query_map((now.0, limit as i64), |row| {
        let n = row.get(0)?;
        let claimed = Claimed {
            id: MessageId::of_row(row.get(1)?, n),
            attempt: row.get(2)?,
            endpoint: row.get(3)?,
            subject: row.get(4)?,
            kind: row.get(5)?,
            body: row.get(6)?,
            at: Timestamp(row.get(7)?),
        };
        Ok((n, claimed))
    })?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let mut lease = transaction.prepare_cached(
        "UPDATE notice SET state = 'in-flight', attempts = ?2, lease_until = ?3, due = NULL WHERE n = ?1",
    )?;
    let mut attempt = transaction.prepare_cached("INSERT INTO attempt (notice, number, at) VALUES (?1, ?2, ?3)")?;
    for (n, claimed) in &rows {
        lease.execute((n, claimed.attempt, lease_until.0))?;
        attempt.execute((n, claimed.attempt, now.0))?;
    }
    Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
}

/// Takes back leases that ended by `ended` (all without one). A lost lease uses up no step of the retry schedule:
/// our own kill must not make a message wait for hours.
fn take_back(transaction: &Transaction<'_>, ended: Option<Timestamp>, now: Timestamp) -> rusqlite::Result<u64> {
    let mut select = transaction.prepare_cached(
        "SELECT n, endpoint, subject, attempts, lost FROM notice WHERE state = 'in-flight' AND lease_until <= ?1",
    )?;
    let until = ended.map_or(i64::MAX, |time| time.0);
    let rows = select.query_map([until], |row| {
        let place = Place::first(row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((place, row.get::<_, u32>(3)?, row.get::<_, u32>(4)?))
    })?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    for (place, attempt, lost) in &rows {
        transaction
            .prepare_cached(
                "UPDATE attempt SET class = 'lease-lost', text = 'the sender gave no result before its lease ended'
                 WHERE notice = ?1 AND number = ?2 AND class IS NULL",
            )?
            .execute((place.n, attempt))?;
        let dead = lost + 1 >= LEASES_LOST_MAX;
        let (state, due, settled) = if dead { ("failed", None, Some(now.0)) } else { ("pending", Some(now.0), None) };
        transaction
            .prepare_cached(
                "UPDATE notice SET state = ?2, due = ?3, settled_at = ?4, lease_until = NULL, lost = lost + 1,
                     why = CASE WHEN ?4 IS NULL THEN why ELSE 'lease-lost: its senders died' END WHERE n = ?1",
            )?
            .execute((place.n, state, due, settled))?;
        if dead {
            line::leave(transaction, place, now)?;
        }
    }
    Ok(rows.len() as u64)
}

/// What of a message decides how a result is applied.
struct Standing {
    place: Place,
    state: String,
    attempts: u32,
    step: u32,
}

fn standing(connection: &Connection, id: &MessageId) -> rusqlite::Result<Option<Standing>> {
    let Some(n) = id.find(connection)? else { return Ok(None) };
    connection
        .prepare_cached("SELECT endpoint, subject, state, attempts, step FROM notice WHERE n = ?1")?
        .query_row([n], |row| {
            Ok(Standing {
                place: Place::first(n, row.get(0)?, row.get(1)?),
                state: row.get(2)?,
                attempts: row.get(3)?,
                step: u32::try_from(count(row, 4)?).unwrap_or(u32::MAX),
            })
        })
        .optional()
}

/// Applies one result; `None` if it is stale.
fn settle_one(transaction: &Transaction<'_>, settlement: &Settlement) -> rusqlite::Result<Option<NoticeState>> {
    let Some(standing) = standing(transaction, &settlement.id)? else { return Ok(None) };
    let in_time = standing.state == "in-flight" && standing.attempts == settlement.attempt;
    // Late, but nobody has claimed it since: what was delivered need not be sent again.
    let late_delivery = standing.state == "pending"
        && standing.attempts == settlement.attempt
        && settlement.outcome == Outcome::Delivered;
    if !in_time && !late_delivery {
        return Ok(None);
    }
    if let Outcome::NotSent { again } = settlement.outcome {
        return hand_back(transaction, &standing, again).map(|()| Some(NoticeState::Pending));
    }
    write_attempt(transaction, standing.place.n, settlement)?;
    let step = standing.step + 1;
    let (state, due, why) = match &settlement.outcome {
        Outcome::Delivered => (NoticeState::Delivered, None, None),
        Outcome::Retry { class, text, retry_after } => match retry_delay(step, *retry_after, settlement.jitter) {
            Some(delay) => (NoticeState::Pending, Some(settlement.at.after(delay)), Some((class, text))),
            None => (NoticeState::Failed, None, Some((class, text))),
        },
        Outcome::Failed { class, text } => (NoticeState::Failed, None, Some((class, text))),
        Outcome::Parked { class, text } => (NoticeState::Parked, None, Some((class, text))),
        Outcome::NotSent { again } => (NoticeState::Pending, Some(*again), None),
    };
    let settled_at = (state != NoticeState::Pending).then_some(settlement.at.0);
    let why = why.map(|(class, text)| cut(&format!("{class}: {text}")));
    transaction
        .prepare_cached(
            "UPDATE notice SET state = ?2, due = ?3, settled_at = ?4, why = ?5, step = ?6, lease_until = NULL WHERE n = ?1",
        )?
        .execute((standing.place.n, state.as_str(), due.map(|time| time.0), settled_at, why, step))?;
    if settled_at.is_some() {
        line::leave(transaction, &standing.place, settlement.at)?;
    }
    Ok(Some(state))
}

/// Undoes a claim. Its number may be used again: whoever held it has just given it up.
fn hand_back(transaction: &Transaction<'_>, standing: &Standing, again: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM attempt WHERE notice = ?1 AND number = ?2")?
        .execute((standing.place.n, standing.attempts))?;
    transaction
        .prepare_cached(
            "UPDATE notice SET state = 'pending', due = ?2, lease_until = NULL, attempts = attempts - 1 WHERE n = ?1",
        )?
        .execute((standing.place.n, again.0))?;
    Ok(())
}

fn write_attempt(transaction: &Transaction<'_>, n: i64, settlement: &Settlement) -> rusqlite::Result<()> {
    let (class, text) = match &settlement.outcome {
        Outcome::Delivered => ("delivered", ""),
        Outcome::NotSent { .. } => return Ok(()),
        Outcome::Retry { class, text, .. } | Outcome::Failed { class, text } | Outcome::Parked { class, text } => {
            (class.as_str(), text.as_str())
        }
    };
    let took = i64::try_from(settlement.took.0).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "UPDATE attempt SET code = ?3, took_ms = ?4, class = ?5, text = ?6 WHERE notice = ?1 AND number = ?2",
        )?
        .execute((n, settlement.attempt, settlement.code, took, cut(class), cut(text)))?;
    Ok(())
}

/// A receiver's answer must not swell the store.
fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
