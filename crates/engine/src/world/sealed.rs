//! Proves that what a way back leads to can be started, before anything is stopped for it.

use super::{
    Site,
    act::{hindered, not_installed},
};
use lastgood_domain::{
    facts::{Installation, Offer},
    failure::{Coded as _, Failure},
    service::{Known, Service},
    terms::{Digest, InstanceName},
};
use lastgood_drivers::channel::{self, ChannelError};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Oldest look before a stop that is good for the start after it: most stops and restores end within it.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Installations that were verified before a stop; the start after it does not look again.
#[derive(Debug, Default)]
pub(super) struct Sealed(Mutex<BTreeMap<InstanceName, (Digest, Instant)>>);

impl Sealed {
    fn note(&self, instance: &InstanceName, release: Digest) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(instance.clone(), (release, Instant::now()));
    }

    /// Tells whether the stop before has just looked; only the first start after it may rely on that.
    fn take(&self, instance: &InstanceName, release: &Digest) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(instance);
        seen.is_some_and(|(digest, at)| digest == *release && at.elapsed() < AGE_MAX)
    }
}

/// Refuses what can't be started as it was installed; looked at before the stop, and believed at the start.
pub(super) fn before_stop(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    release: &Digest,
) -> Result<(), Failure> {
    let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
    channel::verify_fast(&known.installation).map_err(|error| hindered(&error))?;
    site.sealed.note(instance, *release);
    Ok(())
}

/// Refuses to start what is not as it was installed: a way back that starts something else than what was proven is no way
/// back.
pub(super) fn at_start(
    site: &Site,
    instance: &InstanceName,
    release: &Digest,
    installation: &Installation,
) -> Result<(), Failure> {
    if site.sealed.take(instance, release) {
        return Ok(());
    }
    channel::verify_fast(installation).map(drop).map_err(|error| hindered(&error))
}

impl Site {
    /// Makes sure that a release can be started as it was installed: one whose folder was moved away is installed again.
    ///
    /// Errors: it is damaged, and what to type; or the channel has not the very same bytes any more.
    pub fn stands_ready(&self, service: &Service, release: &Digest) -> Result<(), Failure> {
        let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
        if is_gone(&self.home.found(&known.installation)) {
            self.install_again(known)?;
        }
        self.looks_ready(service, release)
    }

    /// Tells whether a release can be started as it was installed, or would be installed again first; changes nothing.
    ///
    /// Errors: it is damaged, and what to type.
    pub fn looks_ready(&self, service: &Service, release: &Digest) -> Result<(), Failure> {
        let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
        let installation = self.home.found(&known.installation);
        if is_gone(&installation) {
            return Ok(());
        }
        channel::verify_fast(&installation).map(drop).map_err(|error| self.to_be_replaced(&installation, &error))
    }

    fn install_again(&self, known: &Known) -> Result<(), Failure> {
        let Installation { release, tree, path, .. } = &known.installation;
        let (tag, origin, mark) = (release.tag.clone(), release.origin.clone(), known.mark.clone());
        let offer = Offer { tag, origin, mark, published: None };
        let installed = self.config.channel.install(&offer, &self.home.installations(), &self.channel);
        let installed = installed.map_err(|error| hindered(&error))?;
        if (installed.release.digest, installed.tree) == (release.digest, *tree) {
            return Ok(());
        }
        let what = format!("what the channel has as {} is not what ran here", release.tag);
        let hint = format!("put the folder back from a backup: {path}");
        Err(Failure::new("installation-missing", what, Some(&hint)))
    }

    /// Says how a damaged installation is replaced: nothing was stopped, so there is time to.
    fn to_be_replaced(&self, installation: &Installation, error: &ChannelError) -> Failure {
        let mut failure = Failure::of(error);
        if matches!(error.code(), "installation-damaged" | "installation-unsealed") {
            let aside = self.home.root().join("damaged");
            failure.hint = Some(format!(
                "nothing was stopped; move it away and type this again, which installs it again: mkdir -p {0} && mv {1} {0}/",
                aside.display(),
                folder_of(installation).display()
            ));
        }
        failure
    }
}

/// Gives the folder that holds the tree and its seal.
fn folder_of(installation: &Installation) -> &Path {
    let tree = Path::new(&installation.path);
    tree.parent().unwrap_or(tree)
}

fn is_gone(installation: &Installation) -> bool {
    matches!(folder_of(installation).try_exists(), Ok(false))
}
