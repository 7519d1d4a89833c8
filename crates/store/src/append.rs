//! Appends to a chain: records, head, Merkle peaks and notices in one transaction, fenced by the head.

use crate::{
    error::{StoreError, during},
    open::{Reader, Store},
    outbox,
    read::{ChainRow, chain_row, count, digest, signed},
};
use lastgood_domain::{
    evidence::{ChainId, Head, leaves},
    failure::Coded,
    terms::{ChainName, Timestamp},
};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};

/// Longest record. An event is some hundred bytes; what is larger belongs in a file that evidence names by digest.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Longest notice body: CloudEvents of up to 64 KiB pass every intermediary.
pub const NOTICE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Most records or notices in one append: one transaction stays well below a second.
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// Longest endpoint, subject or kind of a notice.
const NOTICE_NAME_BYTES_MAX: usize = 256;
/// Stored subtrees are 256 wide per level, as in tile logs: 1/255 more rows, and proofs read at most 255 per level.
pub(crate) const NODE_LEVELS: u32 = 8;

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// When it was decided.
    pub at: Timestamp,
    /// Its bytes, kept exactly.
    pub bytes: Vec<u8>,
}

/// A message that the appended records cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotice {
    /// Where it goes, by the name in the configuration.
    pub endpoint: String,
    /// What it is about; messages of one endpoint and subject are delivered in order.
    pub subject: String,
    /// Its type, such as `dev.cdevents.service.rolledback.0.3.0`.
    pub kind: String,
    /// Its body, kept exactly; each attempt signs these bytes anew.
    pub body: Vec<u8>,
    /// When it was caused.
    pub at: Timestamp,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended in between: fold what is new and decide again.
    #[error("chain {chain} has moved: expected {} records, found {}", expected.size, found.size)]
    Moved {
        /// The chain.
        chain: ChainName,
        /// The head that the caller saw.
        expected: Head,
        /// The head that is stored.
        found: Head,
    },
    /// The stored head is not the end of the stored records: somebody edited the file.
    #[error("chain {chain}: the stored head says {} records, but {what}", head.size)]
    HeadMismatch {
        /// The chain.
        chain: ChainName,
        /// The stored head.
        head: Head,
        /// What the records say.
        what: String,
    },
    /// A record, body or batch beyond its limit.
    #[error("{what} is {actual} long, the limit is {limit}: nothing was appended")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// Notices without a record that causes them.
    #[error("chain {chain}: {notices} notices without a record that causes them")]
    NoRecord {
        /// The chain.
        chain: ChainName,
        /// How many.
        notices: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for AppendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "evidence-head-moved",
            Self::HeadMismatch { .. } => "evidence-broken",
            Self::TooLarge { .. } | Self::NoRecord { .. } => "evidence-refused",
            Self::Store(inner) => inner.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Moved { .. } => {
                Some("see what happened meanwhile: lastgood status; then run the command again".into())
            }
            Self::HeadMismatch { .. } => Some("find the first bad position: lastgood evidence verify".into()),
            Self::TooLarge { .. } => Some("keep the data in a file and name it by digest".into()),
            Self::NoRecord { .. } => None,
            Self::Store(inner) => inner.hint(),
        }
    }
}

/// What is appended to one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The chain.
    pub chain: ChainName,
    /// The head that the records were decided on.
    pub expected: Head,
    /// The records; none asks only that the head has not moved.
    pub records: Vec<NewRecord>,
    /// The notices they cause.
    pub notices: Vec<NewNotice>,
}

impl Store {
    /// Appends `records` and enqueues the `notices` they cause, all or nothing, if the head is still `expected`.
    ///
    /// Gives the new head. The notices belong to the last record. Returns only when all of it is on disk.
    pub fn append(
        &mut self,
        chain: &ChainName,
        expected: &Head,
        records: &[NewRecord],
        notices: &[NewNotice],
    ) -> Result<Head, AppendError> {
        check_limits(chain, records, notices)?;
        let failed = during("append to the evidence");
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let head = append_within(&transaction, chain, expected, records, notices)?;
        transaction.commit().map_err(&failed)?;
        Ok(head)
    }

    /// Appends to several chains as [`Store::append`] does to one: to all of them or to none.
    ///
    /// Gives the new heads in the order of `appends`. Errors: those of the first chain that refuses.
    pub fn append_all(&mut self, appends: &[Append]) -> Result<Vec<Head>, AppendError> {
        for one in appends {
            check_limits(&one.chain, &one.records, &one.notices)?;
        }
        let failed = during("append to the evidence");
        let transaction =
            self.connection_mut().transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let heads = appends
            .iter()
            .map(|one| append_within(&transaction, &one.chain, &one.expected, &one.records, &one.notices))
            .collect::<Result<_, _>>()?;
        transaction.commit().map_err(&failed)?;
        Ok(heads)
    }
}

impl Store {
    /// Appends as [`Store::append_all`] does what `decide` makes of the store, while nobody else writes: what was read is what
    /// is appended to. For what else would never get its turn; others wait until it is done.
    ///
    /// Errors: those of `decide`, and of [`Store::append_all`].
    pub fn append_alone<E: From<AppendError>>(
        &mut self,
        decide: impl FnOnce(&Reader) -> Result<Vec<Append>, E>,
    ) -> Result<Vec<Head>, E> {
        let failed = |source| AppendError::from(during("append to the evidence")(source));
        // It rolls back when it is dropped.
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        let appends = decide(&*self)?;
        let mut heads = Vec::with_capacity(appends.len());
        for one in appends {
            check_limits(&one.chain, &one.records, &one.notices)?;
            heads.push(append_within(&transaction, &one.chain, &one.expected, &one.records, &one.notices)?);
        }
        transaction.commit().map_err(failed)?;
        Ok(heads)
    }
}

fn append_within(
    transaction: &Transaction<'_>,
    chain: &ChainName,
    expected: &Head,
    records: &[NewRecord],
    notices: &[NewNotice],
) -> Result<Head, AppendError> {
    let row = checked_row(transaction, chain)?;
    if row.head != *expected {
        return Err(AppendError::Moved { chain: chain.clone(), expected: *expected, found: row.head });
    }
    if records.is_empty() {
        return Ok(row.head);
    }
    let head = insert_records(transaction, chain, &row, records)?;
    outbox::enqueue(transaction, row.id, &head, notices).map_err(during("append to the evidence"))?;
    Ok(head)
}

fn check_limits(chain: &ChainName, records: &[NewRecord], notices: &[NewNotice]) -> Result<(), AppendError> {
    let within = |what, actual: usize, limit: usize| {
        if actual > limit { Err(AppendError::TooLarge { what, actual, limit }) } else { Ok(()) }
    };
    if records.is_empty() && !notices.is_empty() {
        return Err(AppendError::NoRecord { chain: chain.clone(), notices: notices.len() });
    }
    within("a batch of records", records.len(), BATCH_RECORDS_MAX)?;
    within("a batch of notices", notices.len(), BATCH_RECORDS_MAX)?;
    for record in records {
        within("a record", record.bytes.len(), RECORD_BYTES_MAX)?;
    }
    for notice in notices {
        within("a notice's body", notice.body.len(), NOTICE_BODY_BYTES_MAX)?;
        within("a notice's endpoint", notice.endpoint.len(), NOTICE_NAME_BYTES_MAX)?;
        within("a notice's subject", notice.subject.len(), NOTICE_NAME_BYTES_MAX)?;
        within("a notice's kind", notice.kind.len(), NOTICE_NAME_BYTES_MAX)?;
    }
    Ok(())
}

/// Gives the chain's row after comparing it with the last record; makes it for a new chain.
fn checked_row(transaction: &Transaction<'_>, chain: &ChainName) -> Result<ChainRow, AppendError> {
    let failed = during("read a chain's head");
    let Some(row) = chain_row(transaction, chain).map_err(&failed)? else {
        transaction
            .prepare_cached("INSERT INTO chain (name, size, link, frontier) VALUES (?1, 0, ?2, x'')")
            .and_then(|mut insert| insert.execute((chain.as_str(), Head::EMPTY.link.0)))
            .map_err(&failed)?;
        return Ok(ChainRow { id: transaction.last_insert_rowid(), head: Head::EMPTY, frontier: Vec::new() });
    };
    let last = transaction
        // The plus sign: SQLite compiles a statement anew for each value that could change its plan, and would look at
        // this one because of the order. Compiling takes longer than all else that an append of one record computes.
        .prepare_cached("SELECT seq, link FROM record WHERE chain = +?1 ORDER BY seq DESC LIMIT 1")
        .and_then(|mut select| select.query_row([row.id], |found| Ok((count(found, 0)?, digest(found, 1)?))).optional())
        .map_err(&failed)?;
    let end = match last {
        None => Head::EMPTY,
        Some((seq, link)) => Head { size: seq + 1, link },
    };
    if end == row.head {
        return Ok(row);
    }
    let what = if end.size == row.head.size {
        format!("the link of record {} is another", end.size.saturating_sub(1))
    } else {
        format!("the records end at {}", end.size)
    };
    Err(AppendError::HeadMismatch { chain: chain.clone(), head: row.head, what })
}

/// Inserts the records and the subtrees they complete, and moves the head.
fn insert_records(
    transaction: &Transaction<'_>,
    chain: &ChainName,
    row: &ChainRow,
    records: &[NewRecord],
) -> Result<Head, AppendError> {
    let failed = during("append to the evidence");
    let mut frontier = row.frontier(chain)?;
    let id = ChainId::of(chain);
    let mut head = row.head;
    let mut nodes = Vec::new();
    let mut insert = transaction
        .prepare_cached("INSERT INTO record (chain, seq, at, leaf, link, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .map_err(&failed)?;
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.bytes.as_slice()).collect();
    for (record, leaf) in records.iter().zip(leaves(&payloads)) {
        let seq = signed(head.size);
        head = head.then(&id, record.at, &leaf);
        insert.execute((row.id, seq, record.at.0, leaf.0, head.link.0, &record.bytes)).map_err(&failed)?;
        frontier.append_telling(leaf, |level, number, hash| {
            if level % NODE_LEVELS == 0 {
                nodes.push((level, number, hash));
            }
        });
    }
    let mut insert = transaction
        .prepare_cached("INSERT INTO node (chain, level, number, hash) VALUES (?1, ?2, ?3, ?4)")
        .map_err(&failed)?;
    for (level, number, hash) in nodes {
        insert.execute((row.id, level, signed(number), hash.0)).map_err(&failed)?;
    }
    transaction
        .prepare_cached("UPDATE chain SET size = ?2, link = ?3, frontier = ?4 WHERE id = ?1")
        .and_then(|mut update| update.execute((row.id, signed(head.size), head.link.0, frontier.to_bytes())))
        .map_err(&failed)?;
    Ok(head)
}
