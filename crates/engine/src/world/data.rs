//! What happens to an instance's data: copied, counted, put back, laid ready, thrown away.

use super::{Site, act::hindered, sealed};
use crate::{boundary::EachAct, config::InstanceConfig, room::RESERVE_BYTES};
use lastgood_domain::{
    effect::Answer,
    event::Back,
    facts::Loss,
    failure::Failure,
    service::{Phase, Service},
    terms::{Digest, InstanceName, OrderId, SnapshotId},
};
use lastgood_drivers::{
    channel,
    state::{self, Mode, Novelty, RestoreContext, SnapshotContext, StatePlace},
};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

/// Room that must remain beside a snapshot for rehearsals and a restore: both copies of it, once each.
const SPACE_FACTOR: u64 = 3;

pub(super) fn take(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    snapshot: SnapshotId,
    mode: Mode,
    void: &Arc<AtomicBool>,
) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    is_whole(site, instance)?;
    let place = site.place(config, &site.running(config).start, &config.data)?;
    let runs = service.instances.get(instance).and_then(|one| one.release);
    let mut context = SnapshotContext::new(&site.program);
    context.cancelled = Arc::clone(void);
    // An instance that never ran under lastgood may come with its data or without any.
    context.novelty = if runs.is_none() { Novelty::New } else { Novelty::Existing };
    let expected = state::demand(&place).unwrap_or_default();
    context.extra_bytes = expected.saturating_mul(SPACE_FACTOR - 1);
    if let Some(known) = runs.and_then(|release| service.installed.get(&release)) {
        context.about.insert("release".into(), known.installation.release.tag.to_string());
        context.about.insert("digest".into(), known.installation.release.digest.to_string());
    }
    let facts =
        state::snapshot(&place, mode, snapshot, &site.home.shelf(), &context).map_err(|error| hindered(&error))?;
    // What could not go back is found while the instance runs what it ran.
    state::can_restore(&folder_of(site, snapshot), &place, &site.aside(config)).map_err(|error| hindered(&error))?;
    Ok(Answer::Snapshotted { facts })
}

/// Refuses where a restore has taken the data apart and is not finished: whatever reads or starts on it makes it worse.
///
/// Only a way back goes on from there: [`measure`] and [`restore`] finish it first.
pub(super) fn is_whole(site: &Site, instance: &InstanceName) -> Result<(), Failure> {
    state::refuse_begun(&site.home.instance(instance)).map_err(|error| hindered(&error))
}

/// Refuses to stop for a way back that can't be gone: what runs stays up, and the answer says what is in the way.
pub(super) fn can_return(site: &Site, service: &Service, instance: &InstanceName) -> Result<(), Failure> {
    let Some(Phase::Returning { back, .. }) = service.run.as_ref().map(|run| &run.phase) else { return Ok(()) };
    let Some((one, _)) = back.get(instance) else { return Ok(()) };
    let data = one.snapshot.filter(|_| one.with_data);
    if data.is_none() && one.to.is_none() {
        // It is only stopped, which needs no configuration.
        return Ok(());
    }
    let config = site.instance(instance)?;
    if let Some(release) = &one.to {
        sealed::before_stop(site, service, instance, release)?;
    }
    match data {
        // Half-exchanged data looks like nothing in particular: what was begun is finished.
        Some(snapshot) if is_whole(site, instance).is_ok() => {
            let place = place_of(site, service, config, snapshot)?;
            let can = state::can_restore(&folder_of(site, snapshot), &place, &site.aside(config));
            can.map_err(|error| hindered(&error))
        }
        _ => Ok(()),
    }
}

impl Site {
    /// Says why an instance could not go back as `one` says, while it still runs what it runs; changes nothing.
    ///
    /// Errors: what runs it can't be asked; its snapshot is not whole or not of this folder; there is no room for it.
    pub fn can_go_back(&self, service: &Service, one: &Back) -> Result<(), Failure> {
        self.runtime.liveness(&self.name, &one.instance).map_err(|error| Failure::of(&error))?;
        // Where a restore was begun the way back finishes it: nothing of the data is as a snapshot was taken of it.
        let Some(snapshot) = one.snapshot.filter(|_| one.with_data && is_whole(self, &one.instance).is_ok()) else {
            return Ok(());
        };
        let config = self.instance(&one.instance)?;
        let place = place_of(self, service, config, snapshot)?;
        let (folder, aside) = (folder_of(self, snapshot), self.aside(config));
        let can = state::can_restore(&folder, &place, &aside).and_then(|()| state::has_room(&folder, &place, &aside));
        can.map_err(|error| {
            let mut failure = hindered(&error);
            failure.message = format!("{}: {}", one.instance, failure.message);
            failure
        })
    }
}

/// Refuses to start an instance again on an empty folder where it had data: most likely a disk is not mounted, and the
/// program would begin anew on what lies under it.
pub(super) fn still_has_data(site: &Site, service: &Service, instance: &InstanceName) -> Result<(), Failure> {
    let config = site.instance(instance)?;
    let is_empty = std::fs::read_dir(&config.data).is_ok_and(|mut entries| entries.next().is_none());
    let mut moves = service.instances.get(instance).into_iter().flat_map(|one| one.history.iter().rev());
    let had = |folder: PathBuf| state::snapshot_facts(&folder).is_ok_and(|facts| facts.files > 0);
    if !is_empty || !moves.any(|moved| had(folder_of(site, moved.snapshot))) {
        return Ok(());
    }
    let what = format!("{} is empty, and {instance} had data in it", config.data.display());
    let hint = format!("see whether its disk is mounted: findmnt -T {0}; ls -la {0}", config.data.display());
    Err(Failure::new("data-empty", what, Some(&hint)))
}

/// Gives the folder of a snapshot on the shelf.
pub(super) fn folder_of(site: &Site, snapshot: SnapshotId) -> PathBuf {
    state::snapshot_folder(&site.home.shelf(), snapshot)
}

/// Gives where a snapshot is put back: it belongs to whoever the release runs as that it is put back for.
fn place_of(
    site: &Site,
    service: &Service,
    config: &InstanceConfig,
    snapshot: SnapshotId,
) -> Result<StatePlace, Failure> {
    let history = service.instances.get(&config.name).map(|one| one.history.as_slice()).unwrap_or_default();
    let from = history.iter().find(|moved| moved.snapshot == snapshot).and_then(|moved| moved.from);
    // Data is put back without a kept setup as well: who owns it is what lastgood.toml says.
    let kept = from.and_then(|release| site.setup_for(service, config, &release).ok());
    let setup = kept.unwrap_or_else(|| site.todays(config));
    site.place(config, &setup.start, &config.data)
}

pub(super) fn measure(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    snapshot: SnapshotId,
) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let place = place_of(site, service, config, snapshot)?;
    if is_whole(site, instance).is_err() {
        // It was decided, with what it drops: nothing is counted on half of the data.
        let context = restore_context(site, config)?;
        state::finish_begun(&site.home.instance(instance), &context).map_err(|error| hindered(&error))?;
    }
    let loss = thread::scope(|scope| {
        // What follows is a restore, and it has to know who else has the data open.
        let looking = thread::Builder::new().spawn_scoped(scope, || site.sole_holder.look_ahead(&config.data));
        let loss = state::loss(&place, &folder_of(site, snapshot));
        // Without a thread the restore looks itself.
        drop(looking);
        loss
    });
    let loss = loss.map_err(|error| hindered(&error))?;
    Ok(Answer::Measured { loss })
}

impl Site {
    /// Counts what was written to a running instance's data since a snapshot, up to now: read-only, and within `limit`.
    ///
    /// Errors: what kept it from counting; nothing has changed then.
    pub fn written_since(
        &self,
        service: &Service,
        instance: &InstanceName,
        snapshot: SnapshotId,
        limit: Duration,
    ) -> Result<Loss, Failure> {
        let config = self.instance(instance)?;
        is_whole(self, instance)?;
        // Read as it runs, compared as it would be put back.
        let mut place = place_of(self, service, config, snapshot)?;
        place.owner = self.place(config, &self.running(config).start, &config.data)?.owner;
        let mut context = SnapshotContext::new(&self.program);
        context.limit = limit;
        // What a snapshot and a restore need after it stays free.
        let expected = state::demand(&place).unwrap_or_default();
        context.extra_bytes = expected.saturating_mul(SPACE_FACTOR - 1).saturating_add(RESERVE_BYTES);
        state::loss_so_far(&place, &folder_of(self, snapshot), &self.home.shelf(), context)
            .map_err(|error| hindered(&error))
    }
}

/// Looks who has the data open.
fn restore_context(site: &Site, config: &InstanceConfig) -> Result<RestoreContext<'static>, Failure> {
    let holders = site.sole_holder.holders_of(&config.data).map_err(|why| {
        Failure::new(
            "holders-unknown",
            format!("nobody can tell who has {} open: {why}", config.data.display()),
            Some("run lastgood as root, or as the user that the instances run as"),
        )
    })?;
    let still_held = holders.iter().map(|holder| state::Holder { pid: holder.pid, path: holder.path.clone() });
    Ok(RestoreContext { still_held: still_held.collect(), steps: &EachAct })
}

pub(super) fn restore(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    snapshot: SnapshotId,
    order: OrderId,
) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let place = place_of(site, service, config, snapshot)?;
    let context = restore_context(site, config)?;
    let aside = site.aside(config);
    let journal = state::restore_journal(&site.home.instance(instance), order);
    let facts = state::restore(&folder_of(site, snapshot), &place, &aside, &journal, &context)
        .map_err(|error| hindered(&error))?;
    Ok(Answer::Restored { facts })
}

pub(super) fn lay_ready(
    site: &Site,
    service: &Service,
    instance: &InstanceName,
    snapshot: SnapshotId,
) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let place = place_of(site, service, config, snapshot)?;
    let bytes = state::lay_ready(&folder_of(site, snapshot), &place, &site.aside(config));
    bytes.map(|bytes| Answer::LaidReady { bytes }).map_err(|error| hindered(&error))
}

pub(super) fn prune(
    site: &Site,
    order: OrderId,
    snapshots: &[SnapshotId],
    releases: &[Digest],
) -> Result<Answer, Failure> {
    for instance in &site.config.instance {
        // What was ordered before this has been answered: where newer data is kept stands in the log.
        state::forget_done(&site.home.instance(&instance.name), order).map_err(|error| hindered(&error))?;
        state::discard_ready(&site.aside(instance), snapshots).map_err(|error| hindered(&error))?;
    }
    state::prune(&site.home.shelf(), snapshots).map_err(|error| hindered(&error))?;
    let installed = channel::ChannelConfig::installed(&site.home.installations()).map_err(|error| hindered(&error))?;
    for installation in installed.iter().filter(|one| !releases.contains(&one.release.digest)) {
        channel::discard(installation).map_err(|error| hindered(&error))?;
    }
    Ok(Answer::Cleared)
}
