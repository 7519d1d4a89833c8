//! Looks whether everything is here: programs, folders, users, ports, secrets, channels. It changes nothing.

use crate::{
    config::{Config, InstanceConfig, RuntimeConfig, ServiceConfig},
    ports::Occupant,
    world::runtime_of,
};
use lastgood_domain::{
    facts::Liveness,
    failure::{Coded, Failure},
    operations::escalation,
    service::{Condition, Service},
    terms::ServiceName,
};
use lastgood_drivers::{
    channel,
    probe::Secrets,
    runtime::{Runtime, RuntimeError},
    state::Owner,
};
use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    path::Path,
    sync::Arc,
};

/// Something that is not as it must be, or should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The service it concerns; `None` for all.
    pub service: Option<ServiceName>,
    /// What is wrong and how to mend it.
    pub failure: Failure,
    fails: bool,
}

impl Finding {
    /// Makes a warning about a service from what its log tells.
    pub const fn warning(service: ServiceName, failure: Failure) -> Self {
        Self { service: Some(service), failure, fails: false }
    }

    /// Makes a failure of a service from what its log tells.
    pub const fn failing(service: ServiceName, failure: Failure) -> Self {
        Self { service: Some(service), failure, fails: true }
    }

    /// Tells a failure from a warning.
    pub const fn is_failure(&self) -> bool {
        self.fails
    }
}

/// Room that must be free where snapshots go, in bytes: below this nothing useful fits.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The folder that is there while systemd runs the machine.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Examines everything the configuration needs; channels only where `online`.
pub fn examine(config: &Config, online: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut all = |failure, fails| findings.push(Finding { service: None, failure, fails });
    if let Some(failure) = state_dir(&config.state_dir) {
        all(failure, true);
    }
    if let Err(error) = Secrets::load(&config.secret, &config.folder) {
        all(Failure::of(&error), true);
    }
    if config.anchor().parent() == Some(config.state_dir.as_path()) {
        let what = format!("the anchor {} shares the state folder's fate", config.anchor().display());
        all(Failure::new("anchor-inside", what, Some("anchor = \"/another/disk/lastgood.checkpoints\"")), false);
    }
    if config.notice.is_empty() {
        let what = "nobody hears of anything: there is no [notice.NAME]";
        all(Failure::new("notice-none", what, Some("see docs/guide/notices.md")), false);
    }
    for chain in escalation::ending_at_nobody(&config.chains(), &config.people()) {
        let what = format!("the chain {chain} ends at nobody who can be reached");
        let hint = "give somebody of its last step a place: [person.NAME] with notice = [\"pager-NAME\"]";
        all(Failure::new("escalation-nobody", what, Some(hint)), true);
    }
    if !rustix::process::getuid().is_root() {
        let what = "not root: rehearsals may be fenced by paths only, and other users' data is out of reach";
        all(Failure::new("not-root", what, Some("run lastgood as root, or all instances as this user")), false);
    }
    for (name, service) in &config.service {
        let mut one = |failure, fails| findings.push(Finding { service: Some(name.clone()), failure, fails });
        examine_service(config, service, online, &mut one);
    }
    findings
}

/// Compares what runs with what should run by the log; `service` is its state of now.
///
/// `program` is lastgood's own path.
pub fn examine_running(config: &Config, name: &ServiceName, service: &Service, program: &Path) -> Vec<Finding> {
    let Some(wanted) = config.service.get(name) else { return Vec::new() };
    let finding = |failure| Finding::failing(name.clone(), failure);
    let runtime = match running(config, wanted, program) {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Failure::of(&error))],
    };
    let mut findings = Vec::new();
    for instance in &wanted.instance {
        let liveness = runtime.as_ref().map(|runtime| runtime.liveness(name, &instance.name)).transpose();
        let down = match liveness {
            Ok(Some(Liveness::Up { .. })) => continue,
            Ok(Some(Liveness::Down { why })) => why,
            Ok(None) => "never started".into(),
            Err(error) => {
                findings.push(finding(Failure::of(&error)));
                continue;
            }
        };
        // systemd may itself hold the socket of its unit.
        if wanted.runtime == (RuntimeConfig::Process {})
            && let Some(occupant) = Occupant::of(&wanted.bind, instance.port)
        {
            findings.push(finding(occupant.in_the_way_of(&instance.name)));
        }
        // Who is on its way may be stopped on purpose.
        let state = service.instances.get(&instance.name);
        let should_run = state.is_some_and(|one| one.release.is_some() && one.condition != Condition::Between);
        if should_run && service.run.is_none() {
            let what = format!("{name}/{} is down: {down}", instance.name);
            let fix = format!("start it again: lastgood run {name}");
            findings.push(finding(Failure::new("instance-died", what, Some(&fix))));
        }
    }
    findings
}

/// Gives what runs the instances; none where nothing ever ran.
fn running(config: &Config, service: &ServiceConfig, program: &Path) -> Result<Option<Arc<dyn Runtime>>, RuntimeError> {
    let systemd_missing = service.runtime != (RuntimeConfig::Process {}) && !Path::new(SYSTEMD_RUNS).exists();
    if systemd_missing || !config.state_dir.is_dir() {
        return Ok(None);
    }
    runtime_of(service, &config.state_dir, program).map(Some)
}

fn examine_service(config: &Config, service: &ServiceConfig, online: bool, found: &mut dyn FnMut(Failure, bool)) {
    for instance in &service.instance {
        if let Some(failure) = data(instance) {
            found(failure, true);
        }
        if let Some(user) = instance.user.as_ref().or(service.user.as_ref())
            && let Err(error) = Owner::named(user)
        {
            found(Failure::of(&error), true);
        }
        if let Some(failure) = address(service, instance) {
            found(failure, true);
        }
    }
    if let Err(error) = service.policy.check_files(&config.folder) {
        found(Failure::of(&error), true);
    }
    // Where traffic is shared nobody is stopped who is in use: what is left drains.
    if service.busy.is_none() && service.traffic.is_none() {
        let what = "there is no busy check: every instance counts as idle";
        found(
            Failure::new("busy-none", what, Some("busy = { command = [\"./is-busy\"] }; see docs/guide/busy.md")),
            false,
        );
    }
    if let RuntimeConfig::Systemd(_) = service.runtime
        && !Path::new(SYSTEMD_RUNS).exists()
    {
        let what = "systemd does not run here, but units are to run the instances";
        found(Failure::new("systemd-missing", what, Some("runtime = { process = {} }")), true);
    }
    if online {
        let context = channel::Context { folder: config.folder.clone(), ..channel::Context::default() };
        if let Err(error) = service.channel.newest(&context) {
            found(Failure::of(&error as &dyn Coded), true);
        }
    }
}

fn state_dir(path: &Path) -> Option<Failure> {
    // The folder may not be there yet: then its nearest parent must allow making it.
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let fix = format!("ls -ld {}; df -h {}", there.display(), there.display());
    if let Err(error) = rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        let what = format!("the state folder {} can't be written: {error}", path.display());
        return Some(Failure::new("state-dir-unusable", what, Some(&fix)));
    }
    let free = rustix::fs::statvfs(there).map(|space| space.f_bavail * space.f_frsize).unwrap_or(0);
    if free < FREE_BYTES_MIN {
        let what = format!("only {} are free for {}", lastgood_domain::words::size(free), path.display());
        return Some(Failure::new("state-dir-full", what, Some(&fix)));
    }
    None
}

fn data(instance: &InstanceConfig) -> Option<Failure> {
    if instance.data.is_dir() {
        return None;
    }
    let what = format!("{} has no data folder {}", instance.name, instance.data.display());
    let fix = format!("mkdir -p {}", instance.data.display());
    Some(Failure::new("data-missing", what, Some(&fix)))
}

/// Tells whether the address can be listened on at all; one that is in use may be by the instance itself.
fn address(service: &ServiceConfig, instance: &InstanceConfig) -> Option<Failure> {
    let resolved: Option<SocketAddr> =
        (service.bind.as_str(), 0).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let what = match resolved {
        None => format!("{} is no address of this machine", service.bind),
        Some(address) => match TcpListener::bind(address) {
            Ok(_) => return None,
            Err(error) => format!("{}: nothing can listen on {}: {error}", instance.name, service.bind),
        },
    };
    Some(Failure::new("bind-unusable", what, Some("bind = \"127.0.0.1\"")))
}
