//! What holds a service from outside its own log: a freeze file, and holds over several services that have not reached it.

use crate::app::{operations_of, scope};
use lastgood_domain::{operations::hold, service::Service, terms::ServiceName};
use lastgood_engine::{
    config::Config,
    operations::{self, Scope},
    paths::Home,
    world,
};
use std::path::{Path, PathBuf};

/// What stops a service's forward moves and is not in its own chain.
pub(crate) struct Outside {
    file: PathBuf,
    home: Home,
    scope: Scope,
    name: ServiceName,
    subject: Option<hold::Subject>,
}

impl Outside {
    /// Makes what looks for a service.
    pub(crate) fn of(config: &Config, home: &Home, name: &ServiceName) -> Self {
        let subject = config.service.get(name).map(|config| config.subject());
        let (file, home, scope) = (config.freeze_file(), home.clone(), scope(config));
        Self { file, home, scope, name: name.clone(), subject }
    }

    /// Says what does so now, if anything does.
    pub(crate) fn stops(&self, service: &Service) -> Option<String> {
        if let Some(frozen) = frozen_by(&self.file) {
            return Some(frozen);
        }
        let subject = self.subject.as_ref()?;
        match operations_of(&self.home, &self.scope) {
            Ok(operations) => operations::unmirrored(&operations, &self.name, subject, service, world::now()),
            Err(trouble) => Some(format!("holds over several services can't be read: {}", trouble.failure)),
        }
    }
}

/// Says why a freeze file holds everything. Only one that is certainly not there doesn't: a link that leads nowhere is one,
/// and where nobody can look there may be one.
pub(crate) fn frozen_by(file: &Path) -> Option<String> {
    match std::fs::symlink_metadata(file) {
        Ok(_) => Some(format!("the freeze file {} exists", file.display())),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!(
            "nobody can tell whether the freeze file {} exists, so it counts as there: {error}",
            file.display()
        )),
    }
}
