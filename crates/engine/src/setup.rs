//! The setup of an instance: all that lastgood.toml says of how its program is started and asked.
//!
//! The setup of each start is kept beside the installations under its digest, and the digest is in the log. A way back
//! starts last-good with what it last ran well with, not with what was edited since. Placeholders are kept as they are
//! written: which data is meant is decided at the start, and of a secret only its name is kept.

use crate::{
    config::{Config, InstanceConfig, ServiceConfig},
    paths::{Home, ServiceHome},
};
use lastgood_domain::{
    failure::Failure,
    service::Service,
    terms::{Digest, InstanceName, ServiceName},
};
use lastgood_drivers::{
    config_terms::Length,
    probe::{ProbeConfig, Step},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Largest setup that is read: one is a part of lastgood.toml.
const BYTES_MAX: u64 = 4 << 20;

/// How one instance is started, and how it is asked whether it works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// How its program is started.
    pub start: Start,
    /// How it is asked.
    pub checks: Checks,
}

/// How one instance's program is started, as it is written in lastgood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The address it listens on.
    pub bind: String,
    /// The port it listens on.
    pub port: u16,
    /// The folder it starts in; none is its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The user it runs as; none is the unit's own, or ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The instance's own values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// Where relative paths start: the folder of lastgood.toml.
    pub folder: PathBuf,
}

/// How one instance is asked whether it works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// The step that tells when it is ready; none is its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Step>,
    /// How long it may take to become ready, and a probe to pass.
    pub ready_timeout: Length,
    /// The check of real behaviour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<Step>,
    /// The instance's own values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
}

impl Setup {
    /// Gives what lastgood.toml says of an instance now; `folder` is the one that the file is in.
    pub fn of(service: &ServiceConfig, instance: &InstanceConfig, folder: &Path) -> Self {
        Self {
            start: Start {
                command: service.command.clone(),
                env: service.env.clone(),
                bind: service.bind.clone(),
                port: instance.port,
                workdir: service.workdir.clone(),
                user: instance.user.clone().or_else(|| service.user.clone()),
                vars: instance.vars.clone(),
                folder: folder.to_path_buf(),
            },
            checks: Checks {
                ready: service.ready.clone(),
                ready_timeout: service.ready_timeout,
                probe: service.probe.clone(),
                vars: instance.vars.clone(),
            },
        }
    }

    /// Names the keys in which it differs from another; never a value.
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let (start, that) = (&self.start, &other.start);
        let mut keys = Vec::new();
        let mut note = |key: &str, differs: bool| keys.extend(differs.then(|| key.to_owned()));
        note("command", start.command != that.command);
        note("bind", start.bind != that.bind);
        note("port", start.port != that.port);
        note("workdir", start.workdir != that.workdir);
        note("user", start.user != that.user);
        note("the folder of lastgood.toml", start.folder != that.folder);
        note("ready", self.checks.ready != other.checks.ready);
        note("ready_timeout", self.checks.ready_timeout != other.checks.ready_timeout);
        note("probe", self.checks.probe != other.checks.probe);
        let maps = [("env", &start.env, &that.env), ("vars", &start.vars, &that.vars)];
        for (key, one, two) in maps {
            let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
            let differing = names.into_iter().filter(|name| one.get(*name) != two.get(*name));
            keys.extend(differing.map(|name| format!("{key}.{name}")));
        }
        keys
    }

    /// Gives its digest; none if it can't be written down.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Some(Digest::of(&serde_json::to_vec(self).ok()?))
    }

    /// Gives the whole probe.
    pub(crate) fn probe(&self) -> ProbeConfig {
        ProbeConfig { steps: self.checks.probe.clone() }
    }

    /// Keeps it, unless it is kept already; gives its digest.
    ///
    /// Errors: the folder can't be written.
    pub fn keep(&self, folder: &Path) -> Result<Digest, Failure> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Failure::new("internal", format!("a setup can't be written: {error}"), None))?;
        let digest = Digest::of(&bytes);
        let path = place(folder, &digest);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(digest);
        }
        let write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            // Instances are started at the same time, often with the same setup but for a port.
            let beside = path.with_extension(format!("{}-{:?}.new", std::process::id(), std::thread::current().id()));
            let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| {
            let what = format!("{} can't be written: {error}", path.display());
            Failure::new("state-dir-unusable", what, Some("check owner, mode and space of the state folder"))
        })?;
        Ok(digest)
    }

    /// Reads a kept one and verifies it by its digest.
    ///
    /// Errors: it is gone, or is not what was kept.
    pub fn read(folder: &Path, digest: &Digest) -> Result<Self, Failure> {
        let path = place(folder, digest);
        let fix = "start from lastgood.toml as it is from now on: lastgood config accept SERVICE --reason …";
        let damaged = |why: &str| Failure::new("setup-damaged", format!("{} {why}", path.display()), Some(fix));
        let bytes = match fs::metadata(&path).map(|facts| facts.len()) {
            Ok(length) if length > BYTES_MAX => return Err(damaged("is larger than any setup")),
            _ => fs::read(&path),
        };
        let bytes = bytes.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let what = format!("the setup that was kept in {} is gone", path.display());
                Failure::new("setup-missing", what, Some(fix))
            }
            _ => damaged(&format!("can't be read: {error}")),
        })?;
        if Digest::of(&bytes) != *digest {
            return Err(damaged("is not what was kept"));
        }
        serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("is no setup: {error}")))
    }
}

/// Remembers what an instance is about to be started with, for whoever asks where it listens.
///
/// It is no evidence, and nothing depends on it but probes: without it lastgood.toml is believed.
pub(crate) fn note_running(home: &ServiceHome, instance: &InstanceName, setup: &Digest) {
    let path = home.instance(instance).join(RUNNING);
    let beside = path.with_extension("new");
    let _ = fs::write(&beside, setup.to_string()).and_then(|()| fs::rename(&beside, &path));
}

/// Gives the digest of what an instance was started with last, if that was remembered.
pub(crate) fn running_digest(home: &ServiceHome, instance: &InstanceName) -> Option<Digest> {
    fs::read_to_string(home.instance(instance).join(RUNNING)).ok()?.trim().parse().ok()
}

/// The file that says what an instance was started with last.
const RUNNING: &str = "setup";

fn place(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(format!("{}.json", digest.to_string().replace("sha256:", "")))
}

/// What an instance is started with next, where that is not what lastgood.toml says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Apart {
    /// Which.
    pub instance: InstanceName,
    /// What it is started as.
    pub release: String,
    /// The keys in which lastgood.toml differs; empty if that can't be told.
    pub keys: Vec<String>,
    /// Why the kept setup can't be used, if so: lastgood.toml is taken instead.
    pub unusable: Option<Failure>,
}

/// Finds the instances that are started, as what they run or as last-good, with something else than lastgood.toml says.
pub fn apart(config: &Config, name: &ServiceName, home: &ServiceHome, service: &Service) -> Vec<Apart> {
    let instances = config.service.get(name).map(|one| one.instance.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for instance in instances {
        let Some(runs) = service.instances.get(&instance.name).and_then(|one| one.release) else { continue };
        let releases: BTreeSet<Digest> = service.last_good.into_iter().chain([runs]).collect();
        let apart = |release| apart_as(config, name, home, service, &instance.name, release);
        found.extend(releases.iter().filter_map(apart));
    }
    found
}

/// Tells whether an instance is started as a release with something else than lastgood.toml says.
pub fn apart_as(
    config: &Config,
    name: &ServiceName,
    home: &ServiceHome,
    service: &Service,
    instance: &InstanceName,
    release: &Digest,
) -> Option<Apart> {
    let wanted = config.service.get(name)?;
    let now = Setup::of(wanted, wanted.instance(instance)?, &config.folder);
    let digest = service.setup_for(instance, release)?;
    let (keys, unusable) = match Setup::read(&home.setups(), &digest) {
        Ok(kept) => (kept.differs(&now), None),
        Err(_) if now.digest() == Some(digest) => return None,
        Err(failure) => (Vec::new(), Some(failure)),
    };
    let release = service.name_of(Some(release));
    (!keys.is_empty() || unusable.is_some()).then(|| Apart { instance: instance.clone(), release, keys, unusable })
}

/// Tells where an instance is started to listen next, if a start of it is kept.
pub(crate) fn listens(
    config: &Config,
    name: &ServiceName,
    service: &Service,
    instance: &InstanceName,
) -> Option<(String, u16)> {
    let release = service.instances.get(instance)?.release?;
    let home = Home::at(&config.state_dir).service(name);
    let kept = Setup::read(&home.setups(), &service.setup_for(instance, &release)?).ok()?;
    Some((kept.start.bind, kept.start.port))
}

impl Apart {
    /// Says it in one line.
    pub fn says(&self) -> String {
        let Self { instance, release, keys, .. } = self;
        match &self.unusable {
            None => format!(
                "{instance} starts as {release} with the setup of its last good run; lastgood.toml differs in {}",
                keys.join(", ")
            ),
            Some(failure) => {
                format!("{instance} would start as {release} with lastgood.toml as it is: {}", failure.message)
            }
        }
    }
}
