//! A service's folded state and where in its chain it stands, so that only newer records need be read.
//!
//! Drivers keep the state beside the chain now and then. It is a cache and never believed over the chain: one of
//! another program, of another chain or with other bytes is passed over, and everything is folded from the beginning.

#[cfg(test)]
mod source;

use crate::{
    drive::LogError,
    log::{chain_of, parse},
};
use lastgood_domain::{
    evidence::Head,
    service::Service,
    terms::{ChainName, ServiceName},
};
use lastgood_store::{READ_RECORDS_MAX, Reader, Store};

/// Names this program's fold and the form of what it keeps: a digest of their source, made by the build script.
pub const FOLD: &str = env!("LASTGOOD_FOLD");

/// Records since the kept state from which it is kept anew: reading fewer takes about a millisecond.
pub const KEEP_RECORDS_MIN: u64 = 256;

/// A service's state as of one place in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What the records up to `head` fold to.
    pub service: Service,
    /// Where that is.
    pub head: Head,
    /// Records that the kept state folds; 0 if none was of use.
    pub kept: u64,
}

impl Default for Folded {
    fn default() -> Self {
        Self { service: Service::default(), head: Head::EMPTY, kept: 0 }
    }
}

impl Folded {
    /// Gives the state of now: the kept one and what was written since, else everything from the beginning.
    ///
    /// Errors: [`LogError::Failed`] names the first record that can't be understood.
    pub fn read(reader: &Reader, service: &ServiceName) -> Result<Self, LogError> {
        let mut folded = Self::default();
        folded.read_on(reader, service)?;
        Ok(folded)
    }

    /// Folds what was written since; from the kept state on, if nothing was folded yet. If the chain no longer has this
    /// place (the file was put back to an earlier state, or replaced), nothing of it is believed and all is read anew.
    ///
    /// Errors: [`LogError::Failed`]; what was folded before stays, and the next call goes on from there.
    pub fn read_on(&mut self, reader: &Reader, service: &ServiceName) -> Result<(), LogError> {
        let chain = chain_of(service);
        if self.head == Head::EMPTY || !self.is_of(reader, &chain)? {
            *self = kept(reader, &chain);
        }
        loop {
            let stored = reader.read(&chain, self.head.size, READ_RECORDS_MAX).map_err(failed)?;
            if stored.is_empty() {
                return Ok(());
            }
            for one in stored {
                self.service.apply(&parse(&chain, one.seq, &one.bytes)?);
                self.head = Head { size: one.seq + 1, link: one.link };
            }
        }
    }

    /// Tells whether the chain still has what was folded: one record's link stands for all before it.
    fn is_of(&self, reader: &Reader, chain: &ChainName) -> Result<bool, LogError> {
        let Some(last) = self.head.size.checked_sub(1) else { return Ok(true) };
        let stored = reader.read(chain, last, 1).map_err(failed)?;
        Ok(stored.first().is_some_and(|record| record.seq == last && record.link == self.head.link))
    }
}

/// Keeps a state beside its chain.
pub(crate) fn keep(store: &mut Store, chain: &ChainName, head: &Head, service: &Service) -> Result<(), LogError> {
    store.cache_put(chain, FOLD, head, &to_bytes(service)).map_err(failed)
}

/// Gives the kept state; an empty one where none is of use, which only costs time.
fn kept(reader: &Reader, chain: &ChainName) -> Folded {
    let Ok(Some((head, bytes))) = reader.cache_get(chain, FOLD) else { return Folded::default() };
    match from_bytes(&bytes) {
        Some(service) if service.records == head.size => Folded { service, head, kept: head.size },
        _ => Folded::default(),
    }
}

/// Writes a state as it is kept.
pub fn to_bytes(service: &Service) -> Vec<u8> {
    serde_json::to_vec(service).expect("a state holds only texts, whole numbers, and lists and maps of them")
}

/// Reads what [`to_bytes`] of this same program wrote.
pub fn from_bytes(bytes: &[u8]) -> Option<Service> {
    serde_json::from_slice(bytes).ok()
}

fn failed(error: lastgood_store::StoreError) -> LogError {
    LogError::of(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn workspace() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// Copies the sources of the fold to a place where they can be changed.
    fn copied() -> tempfile::TempDir {
        fn copy(from: &Path, to: &Path) {
            if from.is_dir() {
                fs::create_dir_all(to).unwrap();
                for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                    copy(&entry.path(), &to.join(entry.file_name()));
                }
            } else {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from, to).unwrap();
            }
        }
        let place = tempfile::tempdir().unwrap();
        for source in source::SOURCES {
            copy(&workspace().join(source), &place.path().join(source));
        }
        place
    }

    #[test]
    fn a_store_that_is_locked_is_no_damaged_log() {
        let busy = lastgood_store::StoreError::Busy { act: "read the records", waited_seconds: 10 };
        let failure = failed(busy).failure();
        assert_eq!(
            (failure.code.as_str(), failure.hint.as_deref()),
            ("store-busy", Some("see who drives: lastgood status"))
        );
        assert_eq!(LogError::damaged("record 3 is cut").failure().code, "log-failed");
    }

    #[test]
    fn the_folds_name_is_made_of_the_source_that_was_compiled() {
        assert_eq!(source::mark(&workspace()).unwrap(), FOLD);
        assert_eq!(source::mark(copied().path()).unwrap(), FOLD, "where the source lies makes a difference");
    }

    #[test]
    fn no_change_of_the_fold_keeps_its_name() {
        let place = copied();
        let changes = [
            ("service/fold.rs", "instance.deaths += 1;", "instance.deaths += 2;"),
            ("service.rs", "pub deaths: u32,", "pub deaths: u64,"),
            ("service.rs", "\n", "\n\n"),
        ];
        for (file, from, to) in changes {
            let fold = place.path().join("crates/domain/src").join(file);
            let old = fs::read_to_string(&fold).unwrap();
            let new = old.replacen(from, to, 1);
            assert_ne!(new, old, "the change was not made");
            fs::write(&fold, new).unwrap();
            assert_ne!(source::mark(place.path()).unwrap(), FOLD);
            fs::write(&fold, old).unwrap();
            assert_eq!(source::mark(place.path()).unwrap(), FOLD);
        }
        for other in
            ["crates/domain/src/terms.rs", "crates/engine/src/log.rs", "crates/engine/src/fold.rs", "Cargo.lock"]
        {
            let path = place.path().join(other);
            let old = fs::read(&path).unwrap();
            fs::write(&path, [old.as_slice(), b" "].concat()).unwrap();
            assert_ne!(source::mark(place.path()).unwrap(), FOLD, "{other}");
            fs::write(&path, old).unwrap();
        }
        fs::rename(place.path().join("crates/domain/src/alarm.rs"), place.path().join("crates/domain/src/alert.rs"))
            .unwrap();
        assert_ne!(source::mark(place.path()).unwrap(), FOLD, "a file was renamed");
    }
}
