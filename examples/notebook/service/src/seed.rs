//! Fills an instance's data before its first start, through the same code that serves requests.

use crate::{DATA_FILE, NotebookError, Release, accounts, password, schema};
use std::path::Path;

/// What an instance's data shall hold.
#[derive(Debug, Clone, Copy)]
pub struct Seed<'a> {
    /// The release that makes the tables.
    pub release: &'a Release,
    /// Accounts with these names; a name that is there already is left as it is.
    pub names: &'a [&'a str],
    /// More accounts, named `reader-1`, `reader-2` and so on.
    pub accounts: u32,
    /// Notes of each account.
    pub notes: u32,
    /// The password of all of them.
    pub password: &'a str,
}

/// Fills the data folder, which is made if it isn't there. All of it is written, or nothing.
pub fn seed(data: &Path, seed: &Seed<'_>) -> Result<(), NotebookError> {
    std::fs::create_dir_all(data).map_err(|source| NotebookError::Unwritable { path: data.into(), source })?;
    let file = data.join(DATA_FILE);
    let broken = |source| NotebookError::DataUnreadable { file: file.clone(), source };
    let mut connection = schema::open(&file, seed.release)?;
    let change = connection.transaction().map_err(broken)?;
    let others = (1..=seed.accounts).map(|number| format!("reader-{number}"));
    let mut written = 0_u32;
    for name in seed.names.iter().map(|name| (*name).to_owned()).chain(others) {
        let hash = password::hash(seed.password)?;
        let Some(account) = accounts::create(&change, seed.release, &name, &hash).map_err(broken)? else {
            continue;
        };
        let texts: Vec<String> = (0..seed.notes).map(|number| note_text(written + number)).collect();
        accounts::write_notes(&change, account, texts.iter().map(String::as_str)).map_err(broken)?;
        written += seed.notes;
    }
    change.commit().map_err(broken)
}

/// Gives a note of about 200 bytes that differs from the others.
pub(crate) fn note_text(number: u32) -> String {
    format!("note {number}: {}", "remember what worked, and when, and why; ".repeat(4 + number as usize % 3))
}
