//! Compares what a service has on this machine with what its release declares, and puts files back.

use crate::{
    config::{Config, FileConfig},
    paths::Home,
    world::Site,
};
use lastgood_domain::{
    facts::Liveness,
    failure::Failure,
    service::Service,
    terms::{IncidentId, ServiceName},
    words::count,
};
use lastgood_drivers::channel;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Largest file that is put back: configurations, not data.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Mode of a file that was not there before.
const MODE: u32 = 0o644;

/// Verifies the installation that runs, puts files back that differ from it, and compares the environment of each
/// running program with the declared one; gives what was seen and done.
///
/// Errors: the installation is not whole, a file can't be put back, or a program runs with another environment, which
/// only a restart mends.
pub(super) fn put_back(
    config: &Config,
    incident: IncidentId,
    name: &ServiceName,
    service: &Service,
    files: &[(&String, &FileConfig)],
) -> Result<String, Failure> {
    let Some(known) = service.last_good.as_ref().and_then(|last_good| service.installed.get(last_good)) else {
        return Err(Failure::new("release-none", format!("{name} has no last-good release"), None));
    };
    channel::verify_full(&known.installation).map_err(|error| Failure::of(&error))?;
    let mut seen = vec!["the installation is whole".to_owned()];
    let mut replaced = Vec::new();
    for (_, file) in files {
        let from = Path::new(&known.installation.path).join(&file.from);
        let put = replace(&from, &file.path, incident).map_err(|source| cannot(&file.path, &source))?;
        replaced.extend(put.then(|| file.path.display().to_string()));
    }
    seen.push(match replaced.is_empty() {
        true => format!("{} as declared", count(files.len() as u64, "file")),
        false => format!("put back: {}", replaced.join(", ")),
    });
    seen.push(environment(config, name, service)?);
    Ok(seen.join("; "))
}

fn cannot(path: &Path, source: &io::Error) -> Failure {
    let hint = format!("check owner, mode and space: ls -l {}", path.display());
    Failure::new("drift-file", format!("{} can't be put back: {source}", path.display()), Some(&hint))
}

/// Makes `path` what `from` is, if it is not; what was there is kept beside. Gives whether it was replaced.
fn replace(from: &Path, path: &Path, incident: IncidentId) -> io::Result<bool> {
    let wanted = read(from)?;
    let was = match fs::symlink_metadata(path) {
        // Whatever a link leads to belongs to somebody else.
        Ok(facts) if !facts.is_file() => return Err(io::Error::other("it is no plain file")),
        Ok(facts) => Some((facts, read(path)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if was.as_ref().is_some_and(|(_, bytes)| *bytes == wanted) {
        return Ok(false);
    }
    let beside = |suffix: String| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        path.with_file_name(name)
    };
    let new = beside(format!(".lastgood-{incident}"));
    write(&new, &wanted, was.as_ref().map(|(facts, _)| facts))?;
    if let Some((facts, bytes)) = &was {
        let kept = beside(format!(".before-{incident}"));
        // Repeated after a kill it must not keep what it has put back itself.
        if !kept.exists() {
            // Whole or not at all: half of it would be taken for what was there before.
            let aside = beside(format!(".before-{incident}.new"));
            write(&aside, bytes, Some(facts))?;
            fs::rename(&aside, &kept)?;
        }
    }
    fs::rename(&new, path)?;
    let folder: PathBuf = path.parent().unwrap_or(Path::new("/")).into();
    fs::File::open(folder)?.sync_all()?;
    Ok(true)
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

fn write(path: &Path, bytes: &[u8], like: Option<&fs::Metadata>) -> io::Result<()> {
    // Never through what somebody may have put there: a new file, or none.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    if let Some(facts) = like {
        std::os::unix::fs::fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
    }
    let mode = like.map_or(MODE, |facts| facts.mode() & 0o7777);
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Compares the environment of each running program with the declared one. Values are never said.
fn environment(config: &Config, name: &ServiceName, service: &Service) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::new("internal", error.to_string(), None))?;
    let home = Home::at(&config.state_dir).service(name);
    let site = Site::open(config, name, home, program).map_err(|error| Failure::of(&error))?;
    let mut same = 0;
    for instance in &site.config.instance {
        let state = service.instances.get(&instance.name);
        let Some(release) = state.and_then(|state| state.release) else { continue };
        let liveness = site.runtime.liveness(name, &instance.name).map_err(|error| Failure::of(&error))?;
        let Liveness::Up { pid, .. } = liveness else {
            let what = format!("{name}/{} is not running", instance.name);
            return Err(Failure::new("drift-down", what, Some("start it: lastgood run, or lastgood serve")));
        };
        let differ = site.undeclared(service, &instance.name, &release, pid)?;
        if !differ.is_empty() {
            let what = format!("{name}/{} runs with another {} than declared", instance.name, differ.join(", "));
            let hint = format!("end it, and it is started as declared: kill {pid}; then lastgood incident run {name}");
            return Err(Failure::new("drift-environment", what, Some(&hint)));
        }
        same += 1;
    }
    Ok(format!("environment of {} as declared", count(same, "instance")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_is_put_back_with_its_owner_and_mode_and_the_old_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("release.conf"), folder.path().join("web.conf"));
        fs::write(&from, "declared").unwrap();
        fs::write(&path, "edited").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(replace(&from, &path, IncidentId(3)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "declared");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let kept = folder.path().join("web.conf.before-i3");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "edited");
        // Once more changes nothing, and the kept one stays the one from before.
        assert!(!replace(&from, &path, IncidentId(3)).unwrap());
        fs::write(&path, "edited again").unwrap();
        assert!(replace(&from, &path, IncidentId(3)).unwrap());
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
        assert!(replace(&from, &path, IncidentId(3)).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("web.conf.before-i3")).unwrap(), "edited");
        assert!(!torn.exists());
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (from, other, path) =
            (folder.path().join("release.conf"), folder.path().join("other"), folder.path().join("web.conf"));
        fs::write(&from, "declared").unwrap();
        fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(replace(&from, &path, IncidentId(0)).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody's");
    }
}
