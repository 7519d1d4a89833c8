//! Compares what a service has on this machine with what its release declares, and puts files back.

use super::plan::IN_USE;
use crate::{
    config::{Config, FileConfig},
    paths::Home,
    world::Site,
};
use lastgood_domain::{
    facts::{Busyness, Liveness},
    failure::{Coded as _, Failure, REPORT},
    service::Service,
    terms::{Digest, IncidentId, InstanceName, ServiceName},
    words::count,
};
use lastgood_drivers::{channel, replace, runtime::PutBack};
use std::{fs, io, path::Path};

/// Largest file that is put back: configurations, not data.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Mode of a file that was not there before.
const MODE: u32 = 0o644;

/// Verifies the installation that runs, puts files and units back that differ from what is declared, and starts each program
/// again that runs with another environment or other arguments; gives what was seen and done.
///
/// Errors: the installation is not whole, a file or unit can't be put back, or a program that runs otherwise is in use or
/// can't be started.
pub(super) fn put_back(
    config: &Config,
    name: &ServiceName,
    service: &Service,
    files: &[(&String, &FileConfig)],
    again: &Again<'_>,
) -> Result<String, Failure> {
    let incident = again.incident;
    let Some(known) = service.last_good.as_ref().and_then(|last_good| service.installed.get(last_good)) else {
        return Err(Failure::new(
            "release-none",
            format!("{name} has no last-good release"),
            Some(&format!("run it once: lastgood run {name}")),
        ));
    };
    let home = Home::at(&config.state_dir).service(name);
    let installation = home.found(&known.installation);
    channel::verify_full(&installation).map_err(|error| Failure::of(&error))?;
    let mut replaced = Vec::new();
    let declared = files.len();
    for (_, file) in files {
        let from = Path::new(&installation.path).join(&file.from);
        let put = put_file(&from, &file.path, incident).map_err(|source| cannot(&file.path, &source))?;
        replaced.extend(put.then(|| file.path.display().to_string()));
    }
    let program = std::env::current_exe().map_err(|error| Failure::new("internal", error.to_string(), Some(REPORT)))?;
    let site = Site::open(config, name, home, program).map_err(|error| Failure::of(&error))?;
    let units = units(&site, incident, name, service)?;
    let programs = programs(&site, name, service, again)?;
    let files = (!replaced.is_empty()).then(|| replaced.join(", "));
    // What was put back first: evidence is short, and cut at its end.
    let mut seen: Vec<String> =
        files.into_iter().chain(units.differed).map(|what| format!("put back: {what}")).collect();
    if replaced.is_empty() {
        seen.push(format!("{} as declared", count(declared as u64, "file")));
    }
    seen.extend((units.same > 0).then(|| format!("{} as declared", count(units.same, "unit"))));
    seen.extend(programs);
    seen.push("the installation is whole".to_owned());
    Ok(seen.join("; "))
}

fn cannot(path: &Path, source: &io::Error) -> Failure {
    let hint = format!("check owner, mode and space: ls -l {}", path.display());
    Failure::new("drift-file", format!("{} can't be put back: {source}", path.display()), Some(&hint))
}

/// Makes `path` what `from` is, if it is not; what was there is kept beside. Gives whether it was replaced.
fn put_file(from: &Path, path: &Path, incident: IncidentId) -> io::Result<bool> {
    replace::replace(path, &read(from)?, MODE, &beside(incident))
}

/// What follows the name of a file that was replaced.
fn beside(incident: IncidentId) -> String {
    format!(".before-{incident}")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let facts = fs::symlink_metadata(path)?;
    match facts.is_file() && facts.len() <= FILE_BYTES_MAX {
        true => fs::read(path),
        false => {
            Err(io::Error::other(format!("{} is no plain file of at most {FILE_BYTES_MAX} bytes", path.display())))
        }
    }
}

/// What became of a service's units.
struct Units {
    /// What was put back, by unit.
    differed: Vec<String>,
    /// How many were as declared.
    same: u64,
}

/// Compares the unit of each instance with what is declared and was kept, and puts it back.
fn units(site: &Site, incident: IncidentId, name: &ServiceName, service: &Service) -> Result<Units, Failure> {
    let mut units = Units { differed: Vec::new(), same: 0 };
    for instance in &site.config.instance {
        let state = service.instances.get(&instance.name);
        let Some(release) = state.and_then(|state| state.release) else { continue };
        let launch = site.declared(service, &instance.name, &release)?;
        let put = site.runtime.put_back(&launch, &beside(incident)).map_err(|error| {
            let what = format!("{name}/{}: {error}", instance.name);
            Failure::new(error.code(), what, error.hint().as_deref())
        })?;
        let Some(PutBack { unit, mut differed, restarted }) = put else { continue };
        differed.extend(restarted.then(|| "started again".to_owned()));
        match differed.is_empty() {
            true => units.same += 1,
            false => units.differed.push(format!("{unit}: {}", differed.join(", "))),
        }
    }
    Ok(units)
}

/// How instances are started again that run otherwise than declared.
pub(super) struct Again<'a> {
    /// For which incident.
    pub(super) incident: IncidentId,
    /// Risks that were accepted by name.
    pub(super) risks: &'a [String],
    /// Stops what runs of an instance and starts it as declared, whoever drives its service.
    pub(super) start: &'a dyn Fn(&InstanceName) -> Result<(), Failure>,
}

/// Compares environment and arguments of each running program with the declared ones; what runs otherwise, or not at all, is
/// started again and looked at once more. Values are never said.
///
/// Errors: one is in use and nobody accepted that it is stopped; one can't be started, or runs otherwise again.
fn programs(site: &Site, name: &ServiceName, service: &Service, again: &Again<'_>) -> Result<Vec<String>, Failure> {
    let mut same = 0;
    let mut differ = Vec::new();
    for instance in &site.config.instance {
        let state = service.instances.get(&instance.name);
        let Some((state, release)) = state.and_then(|state| Some((state, state.release?))) else { continue };
        // Whoever began to start it may be gone, as where this step was cut off in its middle.
        let half = || state.again_at.is_some().then(|| "was not started to its end".to_owned());
        match found(site, name, service, &instance.name, &release)?.or_else(half) {
            None => same += 1,
            Some(what) => differ.push((&instance.name, release, what)),
        }
    }
    not_in_use(site, name, &differ, again)?;
    let mut seen = Vec::new();
    for (instance, release, what) in differ {
        (again.start)(instance)?;
        if let Some(still) = found(site, name, service, instance, &release)? {
            let what = format!("{name}/{instance} was started again and {still}");
            let hint = format!("see what starts it, and its output: lastgood log {name}");
            return Err(Failure::new("drift-environment", what, Some(&hint)));
        }
        site.answers(service, instance)?;
        seen.push(format!("{instance} {what}, and was started again"));
    }
    seen.push(format!("environment and arguments of {} as declared", count(same, "instance")));
    Ok(seen)
}

/// Says how an instance runs otherwise than declared; none if it runs as declared.
fn found(
    site: &Site,
    name: &ServiceName,
    service: &Service,
    instance: &InstanceName,
    release: &Digest,
) -> Result<Option<String>, Failure> {
    let liveness = site.runtime.liveness(name, instance).map_err(|error| Failure::of(&error))?;
    let Liveness::Up { pid, .. } = liveness else {
        if service.stays_down(instance) {
            let what = format!("{name}/{instance} is not running");
            return Err(Failure::new("drift-down", what, Some(&format!("see why: lastgood why {name}"))));
        }
        return Ok(Some("did not run".into()));
    };
    let differ = site.otherwise(service, instance, release, pid)?;
    Ok((!differ.is_empty()).then(|| format!("ran with another {} than declared", differ.join(", "))))
}

/// Refuses to stop an instance that is in use, unless that was accepted by its name; one that can't tell is stopped, as by
/// a way back.
fn not_in_use(
    site: &Site,
    name: &ServiceName,
    differ: &[(&InstanceName, Digest, String)],
    again: &Again<'_>,
) -> Result<(), Failure> {
    for (instance, _, what) in differ {
        let risk = format!("{IN_USE}{instance}");
        if again.risks.contains(&risk) || !matches!(site.runtime.liveness(name, instance), Ok(Liveness::Up { .. })) {
            continue;
        }
        if let Some(Busyness::Busy(why)) = site.busyness(instance) {
            let why = site.secrets.scrub(&why);
            let incident = again.incident;
            // All that is said of a step that failed is its message.
            let what = format!(
                "{name}/{instance} {what}, and is in use: {why}; wait until it is idle, or accept it by name: \
                 lastgood incident plan {incident} --accept-risk {name}/{risk}"
            );
            let hint = format!("once it is idle: lastgood incident step {incident} put-back/{name} --again --reason …");
            return Err(Failure::new("instance-busy", what, Some(&hint)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_file_that_differs_is_put_back_with_its_owner_and_mode_and_the_old_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("release.conf"), folder.path().join("web.conf"));
        fs::write(&from, "declared").unwrap();
        fs::write(&path, "edited").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(put_file(&from, &path, IncidentId(3)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "declared");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let kept = folder.path().join("web.conf.before-i3");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "edited");
        // Once more changes nothing, and the kept one stays the one from before.
        assert!(!put_file(&from, &path, IncidentId(3)).unwrap());
        fs::write(&path, "edited again").unwrap();
        assert!(put_file(&from, &path, IncidentId(3)).unwrap());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "edited");
    }

    #[test]
    fn a_copy_that_was_cut_off_in_its_middle_is_not_taken_for_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("release.conf"), folder.path().join("web.conf"));
        fs::write(&from, "declared").unwrap();
        fs::write(&path, "edited").unwrap();
        // As a kill in the middle of keeping leaves it.
        let torn = folder.path().join("web.conf.before-i3.new");
        fs::write(&torn, "edi").unwrap();
        assert!(put_file(&from, &path, IncidentId(3)).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("web.conf.before-i3")).unwrap(), "edited");
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (from, other, path) =
            (folder.path().join("release.conf"), folder.path().join("other"), folder.path().join("web.conf"));
        fs::write(&from, "declared").unwrap();
        fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(put_file(&from, &path, IncidentId(0)).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody's");
    }
}
