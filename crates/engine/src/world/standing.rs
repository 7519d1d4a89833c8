//! Compares what runs with what is configured and installed, for people who look before they move anything.

use super::{Site, data::folder_of};
use crate::config::{InstanceConfig, Severity};
use lastgood_domain::{
    facts::Liveness,
    failure::Failure,
    service::{Instance, Service},
    terms::Digest,
};
use lastgood_drivers::{channel, state};
use std::collections::BTreeSet;

impl Site {
    /// Finds what stands against the next move, or the next way back, of a service whose log says `service`; changes
    /// nothing.
    pub fn stands_against(&self, service: &Service) -> Vec<(Failure, Severity)> {
        let mut found = self.damaged(service);
        for config in &self.config.instance {
            let Some(known) = service.instances.get(&config.name) else { continue };
            found.extend(self.other_folder(config, known).map(|failure| (failure, Severity::Required)));
            found.extend(self.other_environment(service, config, known));
        }
        found
    }

    /// Finds installations that run or are led back to, and are not as they were installed.
    fn damaged(&self, service: &Service) -> Vec<(Failure, Severity)> {
        let mut needed: BTreeSet<Digest> = service.last_good.into_iter().chain(service.previous_good).collect();
        for one in service.instances.values() {
            needed.extend(one.release.into_iter().chain(one.history.last().and_then(|moved| moved.from)));
        }
        let known = needed.iter().filter_map(|release| service.installed.get(release));
        let failures = known.filter_map(|known| channel::verify_fast(&self.home.found(&known.installation)).err());
        failures.map(|error| (Failure::of(&error), Severity::Required)).collect()
    }

    /// Tells where an instance's data is not the folder that its newest snapshot was taken of.
    fn other_folder(&self, config: &InstanceConfig, known: &Instance) -> Option<Failure> {
        let moved = known.history.last()?;
        let place = self.place(config, &self.running(config).start, &config.data).ok()?;
        let folder = folder_of(self, moved.snapshot);
        // A snapshot that can't be read says nothing of the folder.
        match state::is_where_taken(&folder, &place) {
            Err(error @ state::StateError::OtherFolder { .. }) => {
                let mut failure = Failure::of(&error);
                failure.message = format!("{}: {}", config.name, failure.message);
                Some(failure)
            }
            _ => None,
        }
    }

    /// Tells where a running program has other variables than are declared: it is started with them at its next move.
    fn other_environment(
        &self,
        service: &Service,
        config: &InstanceConfig,
        known: &Instance,
    ) -> Option<(Failure, Severity)> {
        let release = known.release?;
        let Ok(Liveness::Up { pid, .. }) = self.runtime.liveness(&self.name, &config.name) else { return None };
        let differ = self.undeclared(service, &config.name, &release, pid).ok().filter(|names| !names.is_empty())?;
        let what = format!("{} runs with other values of {} than it is started with", config.name, differ.join(", "));
        let hint = "it gets them at its next start; set them back if that is not wanted";
        Some((Failure::new("drift-environment", what, Some(hint)), Severity::Recommended))
    }
}
