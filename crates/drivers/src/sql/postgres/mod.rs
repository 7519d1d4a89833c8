//! PostgreSQL, by its own protocol over a socket of ours, so that every wait has an end.

mod address;
mod session;

pub use address::Address;
pub(crate) use session::{Session, Trouble};

use super::{Limits, Table};
use std::time::Instant;

/// Asks one question inside a read-only transaction.
pub(super) fn query(
    address: &Address,
    password: Option<&str>,
    sql: &str,
    limits: Limits,
    deadline: Instant,
) -> Result<Table, Trouble> {
    let mut session = Session::connect(address, password, deadline)?;
    // The time limit is the server's too: what nobody waits for any more ends.
    session.command(&format!(
        "SET statement_timeout = {}; SET default_transaction_read_only = on; BEGIN READ ONLY",
        limits.time.0.max(1)
    ))?;
    let table = session.query(sql, limits.rows)?;
    session.close();
    Ok(table)
}

/// Runs statements in one transaction.
pub(super) fn install(
    address: &Address,
    password: Option<&str>,
    script: &str,
    limits: Limits,
    deadline: Instant,
) -> Result<(), Trouble> {
    let mut session = Session::connect(address, password, deadline)?;
    session.command(&format!("SET statement_timeout = {}", limits.time.0.max(1)))?;
    // Several statements sent at once are one transaction by themselves.
    session.command(script)?;
    session.close();
    Ok(())
}
