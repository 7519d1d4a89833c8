//! Which service a command is about: one of the configuration, or one that only its records know any more.

use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_domain::{
    terms::{InstanceName, ServiceName},
    words,
};

/// The code of a service that has records and stands in the configuration no more.
const REMOVED: &str = "service-removed";

impl App {
    /// Chooses the service a command is about: the named one, or the only one.
    ///
    /// Errors: exit 2 if it is unknown or was removed, or none is named and there are several.
    pub(crate) fn service(&self, name: Option<&str>) -> Result<ServiceName, Trouble> {
        let known: Vec<&ServiceName> = self.config.service.keys().collect();
        let list = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (name, known.as_slice()) {
            (None, [only]) => Ok((*only).clone()),
            (None, []) => Err(Trouble::say(
                Exit::Usage,
                "service-unknown",
                format!("{} has no service", self.config_path.display()),
                "write one: lastgood init npm:PACKAGE",
            )),
            (None, _) => {
                Err(Trouble::say(Exit::Usage, "service-unnamed", "name a service", &format!("one of: {list}")))
            }
            (Some(name), _) => match known.iter().find(|known| known.as_str() == name) {
                Some(name) => Ok((*name).clone()),
                None => Err(self.removed(name)?.unwrap_or_else(|| {
                    Trouble::say(
                        Exit::Usage,
                        "service-unknown",
                        format!("there is no service {name:?}"),
                        &format!("one of: {list}"),
                    )
                })),
            },
        }
    }

    /// Gives the services a command is about: the named one, or all.
    pub(crate) fn services(&self, name: Option<&str>) -> Result<Vec<ServiceName>, Trouble> {
        match name {
            Some(_) => Ok(vec![self.service(name)?]),
            None => Ok(self.config.service.keys().cloned().collect()),
        }
    }

    /// Chooses the service whose records a command reads; one that was renamed or removed still has them.
    ///
    /// Errors: as [`App::service`], but for a service that was removed.
    pub(crate) fn recorded(&self, name: Option<&str>) -> Result<ServiceName, Trouble> {
        match (self.service(name), name) {
            (Err(trouble), Some(name)) if trouble.failure.code == REMOVED => {
                ServiceName::new(name).map_err(|_| trouble)
            }
            (chosen, _) => chosen,
        }
    }

    /// Gives the services that have records and stand in the configuration no more, by name.
    pub(crate) fn removed_services(&self) -> Result<Vec<ServiceName>, Trouble> {
        let Some(reader) = self.reader()? else { return Ok(Vec::new()) };
        let chains = reader.chains().map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let names = chains.iter().filter_map(|chain| chain.name.as_str().strip_prefix("service/"));
        let names = names.filter_map(|name| ServiceName::new(name).ok());
        Ok(names.filter(|name| !self.config.service.contains_key(name)).collect())
    }

    /// Says what to do where a service without records most likely had another name: all that ran under that name are its
    /// instances. What can't be read of others is no reason to stop.
    pub(crate) fn renamed_to(&self, service: &ServiceName) -> Option<Trouble> {
        let config = self.config.service.get(service)?;
        let was_it = |before: &ServiceName| {
            let Ok(folded) = self.look(before) else { return false };
            let mut ran = folded.service.instances.iter().filter(|(_, one)| one.release.is_some()).peekable();
            ran.peek().is_some() && ran.all(|(name, _)| config.instance(name).is_some())
        };
        let before = self.removed_services().ok()?.into_iter().find(was_it)?;
        self.removed(before.as_str()).ok()?
    }

    /// Says what to do about a service that was renamed or removed; none if there never was one of that name.
    pub(crate) fn removed(&self, name: &str) -> Result<Option<Trouble>, Trouble> {
        let Some(name) = self.removed_services()?.into_iter().find(|known| known.as_str() == name) else {
            return Ok(None);
        };
        let service = self.look(&name)?.service;
        let runs = service.instances.iter().filter(|(_, one)| one.release.is_some());
        let runs: Vec<InstanceName> = runs.map(|(instance, _)| instance.clone()).collect();
        let left = match runs.is_empty() {
            true => String::new(),
            false => format!("; {} still belong to it", words::names(&runs)),
        };
        Ok(Some(Trouble::say(
            Exit::Usage,
            REMOVED,
            format!(
                "{} has no [service.{name}] any more, though {} are kept under that name{left}",
                self.config_path.display(),
                words::count(service.records, "record"),
            ),
            &format!("write [service.{name}] again as it was, and type this again; what happened: lastgood log {name}"),
        )))
    }
}
