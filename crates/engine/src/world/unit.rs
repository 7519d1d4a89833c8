//! What else a way back puts back besides program and data: the files of the unit that last-good ran with.

use super::{Site, act::scrubbed, deaths::Deaths};
use crate::drive::Happening;
use lastgood_domain::{
    failure::Failure,
    service::{Phase, Service},
    terms::{Digest, InstanceName},
};
use lastgood_drivers::runtime::Launch;

/// Makes the unit of an instance that goes back what it was with that release; gives what was put back.
///
/// A way back is not stranded by a file: what could not be put back is reported, and the start goes on without.
pub(super) fn put_back(
    site: &Site,
    deaths: &Deaths,
    service: &Service,
    instance: &InstanceName,
    release: &Digest,
    launch: &Launch,
) -> Vec<String> {
    let Some(run) = &service.run else { return Vec::new() };
    let Phase::Returning { back, .. } = &run.phase else { return Vec::new() };
    if back.get(instance).is_none_or(|(one, _)| one.to.as_ref() != Some(release)) {
        return Vec::new();
    }
    // Who stays on the newer release runs with the newer unit; a template is everybody's.
    let stays = service
        .instances
        .iter()
        .find(|(name, one)| !back.contains_key(*name) && one.release.is_some_and(|runs| runs != *release));
    let beside = format!(".before-{}", run.id);
    let report = |failure| deaths.report(Happening::WentOnWithout { failure: scrubbed(site, failure) });
    match site.runtime.put_files_back(launch, &beside, stays.is_none()) {
        Ok(done) => {
            if let Some((other, _)) = stays.filter(|_| !done.left.is_empty()) {
                let what = format!(
                    "{} is not what {instance} ran with, and was left: {other} stays on a newer release and shares it",
                    done.left.join(", ")
                );
                let hint = "roll all instances back, or compare it yourself: systemctl cat";
                report(Failure::new("unit-shared", what, Some(hint)));
            }
            done.put_back
        }
        Err(error) => {
            report(Failure::of(&error));
            Vec::new()
        }
    }
}
