//! What went well is started as it went well: only a candidate takes what was edited since.

use lastgood_domain::terms::{Digest, InstanceName};
use std::collections::BTreeMap;

/// With what each instance was started.
#[derive(Debug, Default)]
pub(super) struct Setups {
    /// The newest start of each: release and setup.
    newest: BTreeMap<InstanceName, (Digest, Digest)>,
    /// With what each release went well.
    well: BTreeMap<(InstanceName, Digest), Digest>,
}

impl Setups {
    /// A start is ordered; a candidate's may take what it likes.
    pub(super) fn ordered(&mut self, instance: &InstanceName, release: Digest, is_candidate: bool) {
        if is_candidate {
            self.well.remove(&(instance.clone(), release));
        }
    }

    /// It was carried out.
    pub(super) fn started(&mut self, instance: &InstanceName, release: Digest, setup: Digest, wrong: &mut Vec<String>) {
        if self.well.get(&(instance.clone(), release)).is_some_and(|well| *well != setup) {
            wrong.push(format!("{instance} was started with something else than it ran well with"));
        }
        self.newest.insert(instance.clone(), (release, setup));
    }

    /// What runs as the instance has passed.
    pub(super) fn ran_well(&mut self, instance: &InstanceName) {
        if let Some((release, setup)) = self.newest.get(instance) {
            self.well.insert((instance.clone(), *release), *setup);
        }
    }

    /// A release has passed, wherever it runs.
    pub(super) fn promoted(&mut self, promoted: Digest) {
        let newest = self.newest.iter().filter(|(_, (release, _))| *release == promoted);
        self.well.extend(newest.map(|(name, (release, setup))| ((name.clone(), *release), *setup)));
    }
}
