//! Verifies the outbox: each message names a record that exists, and is what that record caused.

use super::{Problem, Verification};
use crate::{
    error::{StoreError, during},
    outbox::message_id,
    read::digest,
};
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
            Ok::<_, rusqlite::Error>(message_id(&link, row.get(1)?, &endpoint, &subject, &kind, &body))
        })();
        if caused.ok().is_none_or(|caused| caused.as_str() != id) {
            run.find(chain.as_deref(), seq, Problem::NoticeEdited { id });
        }
    }
    Ok(())
}
