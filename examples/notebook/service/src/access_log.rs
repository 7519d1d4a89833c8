//! The access log: one line for each answer, from which an outsider can tell how real users fare.
//!
//! A line is `TIME METHOD PATH STATUS KIND`; the kind is `fallback` where the old login answered although there is a
//! new one, otherwise `main`.

use crate::report;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// At this size the log becomes `access.log.1` (the one before goes): enough for a day of a busy demo.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// More of a path is not logged; ours have at most 20 characters.
const PATH_CHARACTERS_MAX: usize = 200;

pub(crate) struct AccessLog {
    file: PathBuf,
    open: Mutex<Option<(File, u64)>>,
}

impl AccessLog {
    /// Opens `access.log` in the data folder. Without one the service works all the same and says so.
    pub(crate) fn in_folder(data: &std::path::Path) -> Self {
        let log = Self { file: data.join("access.log"), open: Mutex::new(None) };
        match log.reopen() {
            Ok(open) => *log.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open),
            Err(cause) => report(&format!("no access log: {cause}")),
        }
        log
    }

    /// Writes one line, whole: readers follow the file while it grows.
    pub(crate) fn write(&self, method: &str, path: &str, status: u16, fallback: bool) {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let path = path.get(..PATH_CHARACTERS_MAX).unwrap_or(path);
        let kind = if fallback { "fallback" } else { "main" };
        let line = format!("{time} {method} {path} {status} {kind}\n");
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, length)) = open.as_mut() else {
            return;
        };
        if let Err(cause) = file.write_all(line.as_bytes()) {
            report(&format!("the access log ends here: {cause}"));
            *open = None;
            return;
        }
        *length += line.len() as u64;
        if *length >= LOG_BYTES_MAX {
            let turned = std::fs::rename(&self.file, self.file.with_extension("log.1")).and_then(|()| self.reopen());
            *open = turned.map_err(|cause| report(&format!("the access log ends here: {cause}"))).ok();
        }
    }

    fn reopen(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }
}
