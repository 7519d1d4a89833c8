//! The samples a trend needs, in a file of their own: they are no evidence, and losing them only means "cannot tell yet".

use lastgood_domain::{
    signal::Sample,
    terms::{SignalName, Span},
};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Samples that are kept, whatever the window.
const SAMPLES_MAX: usize = 4_000;

/// The last samples of one signal.
#[derive(Debug, Default)]
pub struct History {
    samples: Vec<Sample>,
}

impl History {
    /// Reads what an earlier process kept; what can't be read is as if nothing was kept.
    pub fn read(root: &Path, name: &SignalName) -> Self {
        let samples = fs::read(file(root, name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut samples: Vec<Sample> = samples.unwrap_or_default();
        samples.retain(|sample| sample.value.is_finite());
        samples.sort_by_key(|sample| sample.at);
        Self { samples }
    }

    /// Gives the samples in order of their times.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Adds the newest, and forgets what is older than `window`. A clock that was put back begins anew.
    pub fn add(&mut self, sample: Sample, window: Span) {
        self.samples.retain(|one| one.at <= sample.at && sample.at.since(one.at) <= window);
        self.samples.push(sample);
        let over = self.samples.len().saturating_sub(SAMPLES_MAX);
        self.samples.drain(..over);
    }

    /// Keeps them for the next process.
    ///
    /// Errors: the state folder can't be written.
    pub fn keep(&self, root: &Path, name: &SignalName) -> io::Result<()> {
        let path = file(root, name);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let aside = path.with_extension("new");
        let mut to = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        to.write_all(&serde_json::to_vec(&self.samples)?)?;
        fs::rename(aside, path)
    }
}

fn file(root: &Path, name: &SignalName) -> PathBuf {
    // A dot in a signal's name is no ending.
    root.join("signals").join(format!("{name}.samples"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::terms::Timestamp;

    #[test]
    fn samples_outlive_their_process_and_damage_is_a_new_beginning() {
        let (folder, name) = (tempfile::tempdir().unwrap(), SignalName::new("a.b").unwrap());
        let mut history = History::read(folder.path(), &name);
        for second in 0..5 {
            history.add(Sample { at: Timestamp(second * 1_000), value: 0.5 }, Span::seconds(3));
        }
        history.keep(folder.path(), &name).unwrap();
        let read = History::read(folder.path(), &name);
        assert_eq!(read.samples().iter().map(|one| one.at.0).collect::<Vec<_>>(), [1_000, 2_000, 3_000, 4_000]);
        fs::write(file(folder.path(), &name), "[{").unwrap();
        assert!(History::read(folder.path(), &name).samples().is_empty());
    }
}
