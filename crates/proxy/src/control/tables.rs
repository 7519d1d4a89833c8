//! The last table of each service, on disk: what a proxy serves by when nobody tells it anything.

use lastgood_domain::{terms::ServiceName, traffic::Table};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The largest table that is read.
const TABLE_MAX: u64 = 4 << 20;

/// The folder of the tables.
#[derive(Debug)]
pub(crate) struct Tables {
    folder: PathBuf,
}

impl Tables {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("tables");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(format!("{service}.json"))
    }

    /// Reads a service's table; `None` if it never had one.
    ///
    /// Errors: why it can't be used, with its path.
    pub(crate) fn read(&self, service: &ServiceName) -> Result<Option<Table>, String> {
        let path = self.path(service);
        let wrong = |why: String| format!("table {}: {why}", path.display());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut text = Vec::new();
        file.take(TABLE_MAX).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
        let table: Table = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        table.check().map_err(|error| wrong(error.to_string()))?;
        if table.service != *service {
            return Err(wrong(format!("it is of {}", table.service)));
        }
        Ok(Some(table))
    }

    /// Writes a table so that after a crash there is either the one before or this one, whole.
    pub(crate) fn write(&self, table: &Table) -> io::Result<()> {
        let path = self.path(&table.service);
        let beside = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(table)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::{
        terms::{Digest, InstanceName},
        traffic::{Share, Side, Upstream},
    };
    use proptest::prelude::*;

    fn table() -> Table {
        let upstream = Upstream { instance: InstanceName::new("a").unwrap(), address: ([127, 0, 0, 1], 80).into() };
        Table {
            v: Table::VERSION,
            service: ServiceName::new("chat").unwrap(),
            epoch: 7,
            salt: "s".into(),
            last_good: Some(Side { release: Digest::of(b"1"), tag: "1".into(), upstreams: vec![upstream] }),
            candidate: None,
            share: Share::NONE,
            leaving: Vec::new(),
            synthetic: None,
            lease: None,
            fallback: None,
            closed: Vec::new(),
        }
    }

    #[test]
    fn a_table_comes_back_and_a_cut_or_foreign_one_is_refused_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(folder.path()).unwrap();
        let chat = ServiceName::new("chat").unwrap();
        assert_eq!(tables.read(&chat), Ok(None));
        tables.write(&table()).unwrap();
        assert_eq!(tables.read(&chat), Ok(Some(table())));
        let path = folder.path().join("tables/chat.json");
        let whole = fs::read(&path).unwrap();
        for broken in [
            &whole[..whole.len() / 2],
            b"",
            b"{}",
            &String::from_utf8_lossy(&whole).replace("chat", "chit").into_bytes(),
        ] {
            fs::write(&path, broken).unwrap();
            assert!(tables.read(&chat).unwrap_err().contains("tables/chat.json"));
        }
    }

    proptest! {
        /// Whatever is in the file, reading it ends in a table or in words.
        #[test]
        fn damaged_bytes_never_panic(at in 0_usize..400, byte in any::<u8>()) {
            let folder = tempfile::tempdir().unwrap();
            let tables = Tables::open(folder.path()).unwrap();
            let mut text = serde_json::to_vec(&table()).unwrap();
            let at = at % text.len();
            text[at] = byte;
            fs::write(folder.path().join("tables/chat.json"), text).unwrap();
            let _ = tables.read(&ServiceName::new("chat").unwrap());
        }
    }
}
