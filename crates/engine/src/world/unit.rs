//! What a way back does about the operator's files of a unit: they stay as they are, unless last-good does not start with
//! them.

use super::{Site, act::scrubbed, deaths::Deaths};
use crate::{
    config::{Config, RuntimeConfig},
    drive::Happening,
};
use lastgood_domain::{
    effect::Answer,
    failure::Failure,
    service::{Phase, Service},
    terms::{Digest, InstanceName, ServiceName},
};
use lastgood_drivers::runtime::{FilesBack, Launch};

/// Finds the other services that run instances of the same template unit.
pub(super) fn sharers(config: &Config, name: &ServiceName) -> Vec<ServiceName> {
    let template = |service: &ServiceName| match config.service.get(service).map(|service| &service.runtime) {
        Some(RuntimeConfig::Systemd(systemd)) => {
            systemd.unit.split_once('@').map(|(template, _)| (template, systemd.bus.as_deref()))
        }
        _ => None,
    };
    let Some(own) = template(name) else { return Vec::new() };
    config.service.keys().filter(|other| *other != name && template(other) == Some(own)).cloned().collect()
}

/// An instance that goes back to a release, on the unit as it is.
pub(super) struct WayBack<'w> {
    site: &'w Site,
    deaths: &'w Deaths,
    instance: &'w InstanceName,
    launch: &'w Launch,
    /// Follows the names under which replaced files are kept.
    beside: String,
    /// Who else needs the template as it is.
    sharer: Option<String>,
    /// What differs from what the release last ran well with.
    differs: Vec<String>,
}

impl<'w> WayBack<'w> {
    /// Looks what the unit is, if the instance goes back to this release, and reports what differs; changes nothing.
    pub(super) fn of(
        site: &'w Site,
        deaths: &'w Deaths,
        service: &Service,
        instance: &'w InstanceName,
        release: &Digest,
        launch: &'w Launch,
    ) -> Option<Self> {
        let run = service.run.as_ref()?;
        let Phase::Returning { back, .. } = &run.phase else { return None };
        // One that is opened again after a failed way back has the unit that it has.
        if back.get(instance).is_none_or(|(one, _)| one.to.as_ref() != Some(release)) {
            return None;
        }
        let stays = service.instances.iter().find(|(name, one)| {
            let runs = back.get(*name).map_or(one.release, |(one, _)| one.to);
            *name != instance && runs.is_some_and(|runs| runs != *release)
        });
        let sharer = site.unit_sharers.first().map(|other| format!("service {other} runs with it as well"));
        let sharer = stays.map(|(name, _)| format!("{name} stays on another release and shares it")).or(sharer);
        let beside = format!(".before-{}", run.id);
        let mut way = Self { site, deaths, instance, launch, beside, sharer, differs: Vec::new() };
        match site.runtime.files_differ(launch) {
            Ok(differs) => way.differs = differs,
            Err(error) => way.report(Failure::of(&error)),
        }
        if !way.differs.is_empty() {
            let what = format!(
                "the unit of {instance} is not what {} last ran well with: {}; it is started on it as it is",
                launch.release.tag,
                way.differs.join(", ")
            );
            way.report(Failure::new("unit-changed", what, Some("see what it is now: systemctl cat UNIT")));
        }
        Some(way)
    }

    /// Starts the instance on its unit as it is; where that fails and the unit differs, once more on the files that the
    /// release last ran well with. If that fails too they are again what they were, and the first answer counts.
    ///
    /// `halt` stops what a start has left behind.
    pub(super) fn start(
        &self,
        attempt: &dyn Fn() -> Result<Answer, Failure>,
        halt: &dyn Fn() -> Result<Answer, Failure>,
        is_given_up: &dyn Fn() -> bool,
    ) -> Result<Answer, Failure> {
        let first = attempt();
        if matches!(first, Ok(Answer::Started { .. })) {
            self.site.runtime.files_helped(self.launch);
            return first;
        }
        if self.differs.is_empty() || is_given_up() || halt().is_err() {
            self.undo();
            return first;
        }
        let done = self.put_back();
        if done.is_empty() {
            return first;
        }
        if let Ok(Answer::Started { pid, setup, .. }) = attempt() {
            self.site.runtime.files_helped(self.launch);
            return Ok(Answer::Started { pid, setup, unit: done });
        }
        // A file may decide how it is stopped: nothing of the attempt is left before it is changed again.
        if let Err(failure) = halt() {
            self.report(failure);
        }
        self.undo();
        first
    }

    fn put_back(&self) -> Vec<String> {
        let done = match self.site.runtime.put_files_back(self.launch, &self.beside, self.sharer.is_none()) {
            Ok(done) => done,
            Err(error) => {
                self.report(Failure::of(&error));
                return Vec::new();
            }
        };
        let FilesBack { put_back, left, failed } = done;
        if let Some(sharer) = self.sharer.as_ref().filter(|_| !left.is_empty()) {
            let what =
                format!("{} is not what {} last ran with, and was left: {sharer}", left.join(", "), self.instance);
            let hint = "roll all instances back, or compare it yourself: systemctl cat";
            self.report(Failure::new("unit-shared", what, Some(hint)));
        }
        failed.iter().for_each(|error| self.report(Failure::of(error)));
        put_back
    }

    fn undo(&self) {
        let done = match self.site.runtime.undo_files_back(self.launch) {
            Ok(done) => done,
            Err(error) => return self.report(Failure::of(&error)),
        };
        done.failed.iter().for_each(|error| self.report(Failure::of(error)));
        let mut says = Vec::new();
        if !done.put_back.is_empty() {
            says.push(format!("{} is again as it was before", done.put_back.join(", ")));
        }
        if !done.left.is_empty() {
            says.push(format!("{} was changed meanwhile, and left", done.left.join(", ")));
        }
        if !says.is_empty() {
            let (instance, tag) = (self.instance, &self.launch.release.tag);
            let what = format!(
                "{instance} did not start on the unit that {tag} last ran well with either: {}",
                says.join("; ")
            );
            self.report(Failure::new(
                "unit-not-the-cause",
                what,
                Some("see why it does not start: lastgood why SERVICE"),
            ));
        }
    }

    fn report(&self, failure: Failure) {
        self.deaths.report(Happening::WentOnWithout { failure: scrubbed(self.site, failure) });
    }
}
