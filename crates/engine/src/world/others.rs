//! Finds who else writes an instance's data before it is moved forward: a copy of the service from before, or an instance
//! of ours under another name. A release that migrates would migrate it under them.

use super::Site;
use crate::config::{InstanceConfig, ServiceConfig};
use lastgood_domain::{event::Aim, facts::Liveness, failure::Failure, service::Service, terms::ServiceName};
use lastgood_drivers::runtime::{
    Runtime,
    holders::{self, Holder},
};
use std::path::Path;

/// Refuses where somebody else has the data of an instance open to write.
///
/// Who only reads is no hindrance: a backup, or what ships logs. Where nobody can tell, a way back still asks.
pub(super) fn have_nothing_open(site: &Site, service: &Service) -> Result<(), Failure> {
    let is_dry = service.run.as_ref().is_some_and(|run| run.aim == Aim::DryRun);
    if is_dry {
        return Ok(());
    }
    who_else_writes(&site.config, &site.name, Some(&*site.runtime), service).map_or(Ok(()), Err)
}

/// Finds who has the data of an instance open to write and is not that instance; `runtime` runs the instances, if any of
/// them ever ran.
pub fn who_else_writes(
    config: &ServiceConfig,
    name: &ServiceName,
    runtime: Option<&dyn Runtime>,
    service: &Service,
) -> Option<Failure> {
    // Where traffic is shared, both sides have the same data.
    if config.traffic.is_some() {
        return None;
    }
    let paths: Vec<&Path> = config.instance.iter().map(|one| one.data.as_path()).collect();
    let found = holders::holders(&paths).ok()?;
    let ours = std::process::id();
    found.holders.iter().filter(|holder| holder.pid != ours).find_map(|holder| {
        let instance = config.instance.get(holder.below)?;
        // What lives beside an instance of ours since it runs has lived beside every move so far.
        let never_ran = service.instances.get(&instance.name).is_none_or(|known| known.release.is_none());
        in_the_way((name, runtime), instance, never_ran, holder)
    })
}

/// Says who is in the way, if that one is: another instance of ours that writes, or, where ours never ran, a stranger
/// that does.
fn in_the_way(
    (name, runtime): (&ServiceName, Option<&dyn Runtime>),
    instance: &InstanceConfig,
    never_ran: bool,
    holder: &Holder,
) -> Option<Failure> {
    let seat = format!("{name}/{}", instance.name);
    let marked = holders::instance_of(holder.pid);
    if marked.as_deref() == Some(seat.as_str()) || marked.is_none() && !never_ran || !holders::writes(holder) {
        return None;
    }
    let main = match runtime.map(|runtime| runtime.liveness(name, &instance.name)) {
        Some(Ok(Liveness::Up { pid, .. })) => Some(pid),
        None | Some(Ok(Liveness::Down { .. }) | Err(_)) => None,
    };
    let is_part = main.is_some_and(|main| holders::descends(holder.pid, main) || holders::share_unit(main, holder.pid));
    if is_part {
        return None;
    }
    let who = match &marked {
        Some(other) => format!("process {} of {other}", holder.pid),
        None => format!("{} (process {})", holder.program, holder.pid),
    };
    let what = format!("{who} has {} open, which is data of {}", holder.path.display(), instance.name);
    let hint = format!("see what it is, and end it or give each its own data: ps -fp {}", holder.pid);
    Some(Failure::new("data-open-elsewhere", what, Some(&hint)))
}
