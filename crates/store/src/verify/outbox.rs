//! Verifies the outbox: each message names a record that exists, is what that record caused, and is there once.

use super::{Problem, Verification};
use crate::{
    error::{StoreError, during},
    outbox::message_id,
    read::{count, digest},
};
use lastgood_domain::terms::Digest;
use rusqlite::Connection;

pub(super) fn verify(connection: &Connection, run: &mut Verification) -> Result<(), StoreError> {
    let failed = during("read the outbox to verify it");
    let mut select = connection
        .prepare(
            "SELECT message_id, ordinal, endpoint, subject, kind, body, notice.seq, chain.name, record.link
             FROM notice LEFT JOIN record ON record.chain = notice.chain AND record.seq = notice.seq
             LEFT JOIN chain ON chain.id = notice.chain ORDER BY n",
        )
        .map_err(&failed)?;
    let mut rows = select.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        run.notices += 1;
        let id: String = row.get(0).map_err(&failed)?;
        let chain: Option<String> = row.get(7).map_err(&failed)?;
        let seq = row.get::<_, i64>(6).ok().and_then(|seq| u64::try_from(seq).ok());
        let Ok(link) = digest(row, 8) else {
            run.find(chain.as_deref(), seq, Problem::NoticeWithoutRecord { id });
            continue;
        };
        let caused = (|| {
            let (endpoint, subject, kind): (String, String, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let body: Vec<u8> = row.get(5)?;
            let parts = [endpoint.as_bytes(), subject.as_bytes(), kind.as_bytes(), &body].map(Digest::of);
            Ok::<_, rusqlite::Error>(message_id(&link, row.get(1)?, parts))
        })();
        if caused.ok().is_none_or(|caused| caused != id) {
            run.find(chain.as_deref(), seq, Problem::NoticeEdited { id });
        }
    }
    copies(connection, run).map_err(failed)
}

/// No index keeps ids unique while they are written: only somebody who edits the file can make two of one.
fn copies(connection: &Connection, run: &mut Verification) -> rusqlite::Result<()> {
    let mut select = connection.prepare(
        "SELECT message_id, count(*), min(seq), chain.name FROM notice LEFT JOIN chain ON chain.id = notice.chain
         GROUP BY message_id HAVING count(*) > 1",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let chain: Option<String> = row.get(3)?;
        let seq = row.get::<_, i64>(2).ok().and_then(|seq| u64::try_from(seq).ok());
        run.find(chain.as_deref(), seq, Problem::NoticeCopied { id: row.get(0)?, rows: count(row, 1)? });
    }
    Ok(())
}
