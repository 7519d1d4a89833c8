//! Whether a release could be started where it is to be, looked at while the instance still runs what it ran: an
//! instance that is stopped for what can't be started is down for nothing.

use super::{
    Site,
    act::{choose, gone, not_installed, stranger},
};
use crate::{
    config::{InstanceConfig, RuntimeConfig},
    ports::Occupant,
};
use lastgood_domain::{
    event::Aim,
    facts::{Liveness, Offer},
    failure::Failure,
    service::{Phase, Service},
    terms::{Digest, InstanceName},
};
use lastgood_drivers::state::Owner;

/// Refuses to install what no instance could be started on; those that run it already are not looked at.
///
/// Those left behind follow one by one: what is in the way of one of them holds up no other.
pub(super) fn before_install(site: &Site, service: &Service, offer: &Offer) -> Result<(), Failure> {
    let aim = service.run.as_ref().map(|run| &run.aim);
    // A dry run starts nothing there.
    if aim == Some(&Aim::DryRun) {
        return Ok(());
    }
    let offered = service.tags.get(&offer.tag);
    let runs = |config: &&InstanceConfig| {
        let known = service.instances.get(&config.name).and_then(|one| one.release.as_ref());
        known.is_some() && known == offered
    };
    let found: Vec<Option<Failure>> =
        site.config.instance.iter().filter(|config| !runs(config)).map(|config| site.in_the_way_of(config)).collect();
    if aim == Some(&Aim::Drain) && found.iter().any(Option::is_none) {
        return Ok(());
    }
    found.into_iter().flatten().next().map_or(Ok(()), Err)
}

/// Says why an instance is not stopped to be moved: the candidate could not be started there. Of one that is down already
/// nothing is asked: a driver that was killed may have stopped it, and what follows brings it up again.
pub(super) fn before_stop(site: &Site, service: &Service, instance: &InstanceName) -> Option<Failure> {
    let Some(Phase::Moving { release, .. }) = service.run.as_ref().map(|run| &run.phase) else { return None };
    if !matches!(site.runtime.liveness(&site.name, instance), Ok(Liveness::Up { .. })) {
        return None;
    }
    could_start(site, service, instance, release).err()
}

fn could_start(site: &Site, service: &Service, instance: &InstanceName, release: &Digest) -> Result<(), Failure> {
    let config = site.instance(instance)?;
    let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
    site.in_the_way_of(config).map_or(Ok(()), Err)?;
    let chosen = choose(site, service, config, release, &known.installation)?;
    gone(&chosen.launch).map_or(Ok(()), |(code, path)| {
        let what = format!("{} is to be started in or from {}, which is not there", instance, path.display());
        Err(Failure::new(code, what, Some(&format!("see what became of it: ls -ld {}", path.display()))))
    })
}

impl Site {
    /// Says what keeps an instance from being started as lastgood.toml says, whatever the release: a user that does not
    /// exist, or a stranger on its port.
    pub fn cannot_start(&self, instance: &InstanceName) -> Option<Failure> {
        self.in_the_way_of(self.config.instance(instance)?)
    }

    fn in_the_way_of(&self, config: &InstanceConfig) -> Option<Failure> {
        let start = self.todays(config).start;
        if let Some(error) = start.user.as_deref().and_then(|user| Owner::named(user).err()) {
            let mut failure = Failure::of(&error);
            failure.message = format!("{}: {}", config.name, failure.message);
            return Some(failure);
        }
        // Traffic takes a new port with its next table, and systemd may itself hold the socket of its unit.
        if self.config.traffic.is_some() || self.config.runtime != (RuntimeConfig::Process {}) {
            return None;
        }
        let is_up = matches!(self.runtime.liveness(&self.name, &config.name), Ok(Liveness::Up { .. }));
        match is_up {
            true if self.listens(config) == (start.bind.clone(), start.port) => None,
            // It listens elsewhere: whoever is there is not the instance.
            true => Occupant::of(&start.bind, start.port).map(|found| found.in_the_way_of(&config.name)),
            false => stranger(self, config, &start),
        }
    }
}
