//! Questions to running instances outside of any run: are they healthy, does the whole probe pass.

use super::{act::scrubbed, site::Site};
use lastgood_domain::{
    facts::{Liveness, ProbeFacts},
    failure::Failure,
    terms::{InstanceName, Span},
};
use lastgood_drivers::probe::wait_ready;

impl Site {
    /// Asks whether an instance runs and is ready; gives how long the answer took.
    ///
    /// Errors: it doesn't run, or isn't ready in time.
    pub fn health(&self, name: &InstanceName) -> Result<Span, Failure> {
        let instance = self.instance(name)?;
        match self.runtime.liveness(&self.name, name).map_err(|error| Failure::of(&error))? {
            Liveness::Up { .. } => {}
            Liveness::Down { why } => {
                let hint = format!("see what happened: lastgood log {}", self.name);
                return Err(Failure::new("instance-died", format!("{name} doesn't run: {why}"), Some(&hint)));
            }
        }
        let target = self.target(instance, &self.running(instance), &instance.data);
        let limit = self.config.ready_timeout.duration();
        wait_ready(self.config.ready.as_ref(), &target, limit, &|| None)
            .map_err(|error| scrubbed(self, Failure::of(&error)))
    }

    /// Runs the whole probe against an instance, as a user does what it does.
    ///
    /// Errors: the step that failed.
    pub fn smoke(&self, name: &InstanceName) -> Result<ProbeFacts, Failure> {
        let instance = self.instance(name)?;
        let setup = self.running(instance);
        let target = self.target(instance, &setup, &instance.data);
        let facts = setup.probe().run(&target, self.config.ready_timeout.duration());
        facts.map_err(|error| scrubbed(self, Failure::of(&error)))
    }
}
