//! Compares what runs with what is configured and installed, for people who look before they move anything.

use super::{Site, act, data::folder_of};
use crate::config::{InstanceConfig, Severity};
use lastgood_domain::{
    effect::Answer,
    facts::Liveness,
    failure::Failure,
    service::{Instance, Service},
    terms::{Digest, InstanceName},
};
use lastgood_drivers::{channel, state};
use std::{collections::BTreeSet, fs};

/// Words before a script's own name in its command line: the interpreter and one option (execve(2)).
const INTERPRETER_WORDS_MAX: usize = 2;

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

    /// Names what a running program has otherwise than declared: variables, and its arguments; never a value.
    ///
    /// Errors: it can't be told what is declared, or the program has ended.
    pub fn otherwise(
        &self,
        service: &Service,
        name: &InstanceName,
        release: &Digest,
        pid: u32,
    ) -> Result<Vec<String>, Failure> {
        let mut differ = self.undeclared(service, name, release, pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).map_err(|error| {
            let hint = "see whether it runs: lastgood status";
            Failure::new("drift-environment", format!("what {name} runs with can't be read: {error}"), Some(hint))
        })?;
        let line = String::from_utf8_lossy(&line);
        let has: Vec<&str> = line.strip_suffix('\0').unwrap_or(&line).split('\0').collect();
        let declared = self.runtime.arguments(&self.declared(service, name, release)?);
        let differs = match has_as_declared(&has, &declared) {
            Some(same) => !same,
            // A wrapper has made way for another program: only what it was started with can be compared.
            None => {
                let config = self.instance(name)?;
                self.running(config).start.command != self.setup_for(service, config, release)?.start.command
            }
        };
        differ.extend(differs.then(|| "arguments".to_owned()));
        Ok(differ)
    }

    /// Asks whether an instance answers its probes. Errors: the first that did not pass.
    pub fn answers(&self, service: &Service, name: &InstanceName) -> Result<(), Failure> {
        match act::probe(self, service, name)? {
            Answer::Failed { failure } => Err(failure),
            _ => Ok(()),
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
        let differ = self.otherwise(service, &config.name, &release, pid).ok().filter(|names| !names.is_empty())?;
        let what = format!("{} runs with other values of {} than it is started with", config.name, differ.join(", "));
        let hint = "it gets them at its next start; set them back if that is not wanted";
        Some((Failure::new("drift-environment", what, Some(hint)), Severity::Recommended))
    }
}

/// Tells whether a command line is the declared one, whose program may be a script; none if it is another program's.
fn has_as_declared(has: &[&str], declared: &[String]) -> Option<bool> {
    let (program, arguments) = declared.split_first()?;
    let at = has.iter().take(INTERPRETER_WORDS_MAX + 1).position(|word| word == program)?;
    Some(has[at + 1..] == *arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_compared_behind_the_interpreter_of_a_script_and_not_with_those_of_another_program() {
        let declared = ["/opt/app/start", "--paint=green"].map(str::to_owned);
        let asked = |line: &[&str]| has_as_declared(line, &declared);
        assert_eq!(asked(&["/opt/app/start", "--paint=green"]), Some(true));
        assert_eq!(asked(&["/bin/sh", "-e", "/opt/app/start", "--paint=green"]), Some(true));
        assert_eq!(asked(&["/opt/app/start", "--paint=blue"]), Some(false));
        assert_eq!(asked(&["/opt/app/start"]), Some(false));
        assert_eq!(asked(&["/bin/sh", "/opt/app/start", "--paint=green", "--loud"]), Some(false));
        assert_eq!(asked(&["/opt/app/server", "--paint=green"]), None);
    }
}
