//! With which setup an instance is started: what it last ran well with, unless it is a release on trial.

use super::{Instance, MoveStep, Phase, Service};
use crate::terms::{Digest, InstanceName};
use serde::{Deserialize, Serialize};

/// What an instance was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The release.
    pub release: Digest,
    /// Digest of the setup.
    pub setup: Digest,
}

impl Instance {
    /// Gives the digest of what it runs with, if that was kept.
    pub fn runs_with(&self) -> Option<Digest> {
        let begun = self.begun.filter(|begun| Some(begun.release) == self.release)?;
        Some(begun.setup)
    }

    /// Notes that what runs has passed, with what it was started with.
    pub(super) fn ran_well(&mut self) {
        if let (Some(release), Some(setup)) = (self.release, self.runs_with()) {
            self.setups.insert(release, setup);
        }
    }
}

impl Service {
    /// Gives the digest of what an instance is to be started with as a release: what that last ran well with here, or else
    /// what it was started with. None is the configuration of now: for a candidate, which was rehearsed with that, and
    /// where nothing was kept.
    pub fn setup_for(&self, name: &InstanceName, release: &Digest) -> Option<Digest> {
        let instance = self.instances.get(name)?;
        if self.is_on_trial(name, release) {
            return None;
        }
        let again = || instance.runs_with().filter(|_| instance.release.as_ref() == Some(release));
        instance.setups.get(release).copied().or_else(again)
    }

    /// Tells whether a release is a run's candidate that has not been started as this instance yet.
    pub(super) fn is_on_trial(&self, name: &InstanceName, release: &Digest) -> bool {
        let steps = match self.run.as_ref().map(|run| &run.phase) {
            Some(
                Phase::Moving { release: candidate, steps, .. } | Phase::Shifting { release: candidate, steps, .. },
            ) if candidate == release => steps,
            _ => return false,
        };
        match steps.get(name) {
            Some(
                MoveStep::Waiting
                | MoveStep::Baselining
                | MoveStep::Asking
                | MoveStep::Stopping
                | MoveStep::Keeping { .. }
                | MoveStep::Starting,
            ) => true,
            Some(
                MoveStep::Probing | MoveStep::Soaking | MoveStep::Reprobing | MoveStep::Moved | MoveStep::Deferred,
            )
            | None => false,
        }
    }
}
