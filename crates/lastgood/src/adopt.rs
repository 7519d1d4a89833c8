//! Compares what runs with what the log says, before anything is built on it: after evidence was put back they may differ.

use crate::{
    drive::{RealDriver, drive_trouble},
    screen::Trouble,
};
use lastgood_domain::{
    event::Event,
    facts::Liveness,
    operations::hold::InFlight,
    rollout::Input,
    service::Condition,
    terms::{Actor, Digest, HoldId, InstanceName, Reason},
};
use lastgood_drivers::channel::ChannelConfig;
use lastgood_engine::{drive::World as _, world::Site};
use std::{collections::BTreeMap, path::Path};

/// Most instances named in the reason of the hold, which is one line.
const NAMED_MAX: usize = 3;

/// Releases of one instance that should be one, by name.
struct Differing {
    runs: String,
    logged: String,
}

/// Finds the instances that run, or ran last, another release than the log says, and holds the service for them: their data
/// belongs to what ran. They are to be left alone; gives their names.
pub(crate) fn foreign(driver: &mut RealDriver) -> Result<Vec<InstanceName>, Trouble> {
    // What is under way is made so by its orders.
    if driver.service().run.is_some() {
        return Ok(Vec::new());
    }
    let found = differing(driver);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let says = |(instance, one): (&InstanceName, &Differing)| {
        format!("{instance} runs {}, the log says {}", one.runs, one.logged)
    };
    let mut each: Vec<String> = found.iter().take(NAMED_MAX).map(says).collect();
    if found.len() > NAMED_MAX {
        each.push(format!("and {} more", found.len() - NAMED_MAX));
    }
    let reason = Reason::new(&format!("[instance-runs-other-release] {}", each.join("; ")));
    if let Ok(reason) = reason
        && !driver.service().standing_holds(driver.world.now()).any(|(_, hold)| hold.reason == reason)
    {
        let (hold, in_flight) = (HoldId(0), InFlight::default());
        let input = Input::Say(Event::HoldSet { hold, reason, until: None, origin: None, in_flight });
        let by = Actor::new("lastgood:engine").expect("a fixed valid name");
        driver.put(input, &by).map_err(|error| drive_trouble(&error))?;
    }
    Ok(found.into_keys().collect())
}

fn differing(driver: &RealDriver) -> BTreeMap<InstanceName, Differing> {
    let site = driver.world.site();
    let names = releases(site);
    let name_of = |digest: &Digest| names.get(digest).cloned().unwrap_or_else(|| digest.short());
    let mut found = BTreeMap::new();
    for (name, state) in &driver.service().instances {
        let Some(logged) = state.release else { continue };
        if state.condition == Condition::Between || site.config.instance(name).is_none() {
            continue;
        }
        let (runs, is_up) = match site.runtime.liveness(&site.name, name) {
            Ok(Liveness::Up { release, .. }) => (release, true),
            // It ended by itself: what it was is known all the same.
            Ok(Liveness::Down { .. }) => (site.runtime.started_last(&site.name, name).unwrap_or_default(), false),
            Err(_) => (None, false),
        };
        let runs = match runs.filter(|runs| *runs != logged) {
            Some(runs) => Some(name_of(&runs)),
            // The record of what runs may have been put back together with the log.
            None if !is_up => unrecorded(driver, name, &logged),
            None => None,
        };
        if let Some(runs) = runs {
            found.insert(name.clone(), Differing { runs, logged: name_of(&logged) });
        }
    }
    found
}

/// Finds what lives of an instance, unknown to its record, and runs from another installation than the log's.
fn unrecorded(driver: &RealDriver, instance: &InstanceName, logged: &Digest) -> Option<String> {
    let site = driver.world.site();
    let known = driver.service().installed.get(logged)?;
    let folder = Path::new(&known.installation.path).parent()?.file_name()?.to_str()?;
    let runs = site.runtime.runs_from(&site.name, instance).unwrap_or_default();
    let other = runs.into_iter().find(|name| name != folder)?;
    // A folder is called by its tag and the start of its digest.
    Some(other.rsplit_once('-').map_or(other.clone(), |(tag, _)| tag.to_owned()))
}

/// Gives the tags of what is installed; a log that was put back doesn't know all of it.
fn releases(site: &Site) -> BTreeMap<Digest, String> {
    let installed = ChannelConfig::installed(&site.home.installations()).unwrap_or_default();
    installed.into_iter().map(|one| (one.release.digest, one.release.tag.to_string())).collect()
}
