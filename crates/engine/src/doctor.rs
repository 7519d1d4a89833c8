//! Looks whether everything is here: programs, folders, users, ports, secrets, channels. It changes nothing.

use crate::{
    config::{Config, InstanceConfig, RuntimeConfig, ServiceConfig, Severity},
    doubt,
    operations::message,
    paths::Home,
    ports::Occupant,
    preflight::{self, Answer, Asker, Choice, Question, Report, State},
    setup, switches, traffic,
    world::{Site, aside_of, runtime_of, who_else_writes},
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
    state::{self, Owner},
};
use lastgood_store::{EVIDENCE_FILE, Reader, StoreError};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// Names of doctor's own checks, as `--only` and `--skip` take them.
pub const OWN: [&str; 17] = [
    "address",
    "anchor",
    "busy",
    "channel",
    "config",
    "data",
    "escalation",
    "incident",
    "instances",
    "notices",
    "policy",
    "runs",
    "secrets",
    "state-dir",
    "switches",
    "systemd",
    "user",
];

/// Time for one of doctor's own checks.
const OWN_MAX: Duration = Duration::from_secs(2);
/// Time for a channel: a package client takes a second to start alone.
const CHANNEL_MAX: Duration = Duration::from_secs(4);

/// Something that is not as it must be, or should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check that found it.
    pub check: String,
    /// The service it concerns; `None` for all.
    pub service: Option<ServiceName>,
    /// What is wrong and how to mend it.
    pub failure: Failure,
    /// Whether it fails or warns.
    pub severity: Severity,
    /// Whether nobody could tell.
    pub is_unknown: bool,
}

impl Finding {
    /// Makes a finding of one of doctor's own checks about a service.
    fn own(check: &str, service: Option<&ServiceName>, failure: Failure, severity: Severity) -> Self {
        Self { check: check.into(), service: service.cloned(), failure, severity, is_unknown: false }
    }

    /// Makes a warning about a service's run from what its log tells.
    pub fn warning(service: &ServiceName, failure: Failure) -> Self {
        Self::own("runs", Some(service), failure, Severity::Recommended)
    }

    /// Makes a failure of the configuration.
    pub fn config(failure: Failure) -> Self {
        Self::own("config", None, failure, Severity::Required)
    }

    /// Makes a warning from what speaks for an incident.
    pub fn incident(failure: Failure) -> Self {
        Self::own("incident", None, failure, Severity::Recommended)
    }

    /// Makes a failure of a service's log.
    pub fn failing(service: &ServiceName, failure: Failure) -> Self {
        Self::own("runs", Some(service), failure, Severity::Required)
    }

    /// Tells a failure from a warning.
    pub fn is_failure(&self) -> bool {
        self.severity == Severity::Required
    }

    /// Makes a finding of a check that does not pass.
    fn of(report: Report) -> Option<Self> {
        let Report { name, severity, state, failure, .. } = report;
        let failure = failure?;
        Some(Self { check: name, service: None, failure, severity, is_unknown: state == State::CannotTell })
    }
}

/// Room that must be free where snapshots go, in bytes: below this nothing useful fits.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The folder that is there while systemd runs the machine.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// A look of doctor's own; it gets the instant at which nobody waits for it any more.
type Look = Box<dyn FnOnce(&Config, Instant) -> Vec<Finding> + Send>;

/// What one question of doctor came to.
enum Part {
    Own(Vec<Finding>),
    Preflight(Report),
}

/// Examines everything the configuration needs and declares, beside each other; it is back within
/// [`preflight::ALL_MAX`].
///
/// `services` are the states of now, `program` is lastgood's own path.
pub fn examine(
    config: &Config,
    services: &BTreeMap<ServiceName, Service>,
    program: &Path,
    choice: &Choice,
    asker: &Asker,
) -> Vec<Finding> {
    let shared = Arc::new(config.clone());
    let mut questions: Vec<Question<Part>> = Vec::new();
    let mut own = |name: String, timeout: Duration, ask: Look| {
        let config = Arc::clone(&shared);
        questions.push(Question { name, timeout, ask: Box::new(move |until| Part::Own(ask(&config, until))) });
    };
    own("state-dir".into(), OWN_MAX, Box::new(|config, _| whole(config)));
    for name in config.service.keys() {
        let service = name.clone();
        own(format!("service {name}"), OWN_MAX, Box::new(move |config, _| one(config, &service)));
        if !choice.offline && choice.names("channel") {
            let service = name.clone();
            let ask = move |config: &Config, until| channel_answers(config, &service, until);
            own(format!("channel of {name}"), CHANNEL_MAX, Box::new(ask));
        }
        if let Some(state) = services.get(name).filter(|_| choice.names("instances")) {
            let (service, state, program) = (name.clone(), state.clone(), program.to_path_buf());
            let ask = move |config: &Config, _| examine_running(config, &service, &state, &program);
            own(format!("instances of {name}"), OWN_MAX, Box::new(ask));
        }
    }
    questions.extend(preflight::questions(config, choice).into_iter().map(|question| {
        let Question { name, timeout, ask } = question;
        Question { name, timeout, ask: Box::new(move |until| Part::Preflight(ask(until))) }
    }));
    let names: Vec<String> = questions.iter().map(|question| question.name.clone()).collect();
    let mut findings = Vec::new();
    for (name, (answer, took)) in names.iter().zip(asker.ask(questions, preflight::ALL_MAX)) {
        let unanswered = match answer {
            Answer::Told(Part::Own(found)) => {
                findings.extend(found.into_iter().filter(|finding| choice.names(&finding.check)));
                continue;
            }
            Answer::Told(Part::Preflight(report)) => Answer::Told(report),
            Answer::Late { waited } => Answer::Late { waited },
            Answer::Hangs => Answer::Hangs,
        };
        findings.extend(Finding::of(preflight::report(config, name, unanswered, took)));
    }
    findings
}

/// Looks at what all services share.
fn whole(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut all = |check, failure, severity| findings.push(Finding::own(check, None, failure, severity));
    if let Some(failure) = state_dir(&config.state_dir) {
        all("state-dir", failure, Severity::Required);
    }
    if let Err(error) = Secrets::load(&config.secret, &config.folder) {
        all("secrets", Failure::of(&error), Severity::Required);
    }
    if let Some(failure) = switches_in_doubt(config) {
        all("switches", failure, Severity::Required);
    }
    for failure in message::unreadable(config) {
        all("incident", failure, Severity::Required);
    }
    if config.anchor().parent() == Some(config.state_dir.as_path()) {
        let what = format!("the anchor {} is on the same disk as the state folder", config.anchor().display());
        let fix = "anchor = \"/another/disk/lastgood.checkpoints\"";
        all("anchor", Failure::new("anchor-inside", what, Some(fix)), Severity::Recommended);
    }
    match in_doubt(config) {
        Ok(found) => found.into_iter().for_each(|failure| all("anchor", failure, Severity::Required)),
        Err(error) => all("anchor", Failure::of(&error), Severity::Required),
    }
    if config.notice.is_empty() {
        let what = "no notice endpoint is configured: there is no [notice.NAME]";
        all(
            "notices",
            Failure::new(
                "notice-none",
                what,
                Some("add one: [notice.ops] with webhook = \"https://…\" and secret = \"NAME\""),
            ),
            Severity::Recommended,
        );
    }
    for chain in escalation::ending_at_nobody(&config.chains(), &config.people()) {
        let what = format!("the chain {chain} ends at nobody who can be reached");
        let hint = "give somebody of its last step a place: [person.NAME] with notice = [\"pager-NAME\"]";
        all("escalation", Failure::new("escalation-nobody", what, Some(hint)), Severity::Required);
    }
    if !rustix::process::getuid().is_root() {
        let what = "not root: rehearsals may be fenced by paths only, and other users' data is out of reach";
        let fix = "run lastgood as root, or all instances as this user";
        all("user", Failure::new("not-root", what, Some(fix)), Severity::Recommended);
    }
    findings
}

/// Says what is wrong between the evidence and its anchor: each refuses the next run.
fn in_doubt(config: &Config) -> Result<Vec<Failure>, StoreError> {
    if !config.state_dir.join(EVIDENCE_FILE).exists() {
        return Ok(Vec::new());
    }
    doubt::all(&Reader::open(&config.state_dir)?, &config.state_dir, &config.anchor())
}

/// Tells whether switches count as tripped only because a record of theirs can't be read.
fn switches_in_doubt(config: &Config) -> Option<Failure> {
    let known = config.switches.as_ref()?.declared().switches();
    if !config.state_dir.join(lastgood_store::EVIDENCE_FILE).exists() {
        return None;
    }
    let Some(state) = traffic::switches_of(config.switches.as_ref(), &config.state_dir) else {
        let what = "the switches can't be read: all that they close is closed";
        return Some(Failure::new("switches-unread", what, Some("see what is wrong: lastgood evidence verify")));
    };
    let what = switches::doubt(&state, &known)?;
    Some(Failure::new("switches-damaged", what, Some("lastgood switch list; then reset each by its name")))
}

/// Compares what runs with what should run by the log; `service` is its state of now.
///
/// `program` is lastgood's own path.
pub fn examine_running(config: &Config, name: &ServiceName, service: &Service, program: &Path) -> Vec<Finding> {
    let Some(wanted) = config.service.get(name) else { return Vec::new() };
    let finding = |failure| Finding::own("instances", Some(name), failure, Severity::Required);
    let runtime = match running(config, wanted, program) {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Failure::of(&error))],
    };
    let (mut findings, mut up) = (Vec::new(), Vec::new());
    for instance in &wanted.instance {
        let liveness = runtime.as_ref().map(|runtime| runtime.liveness(name, &instance.name)).transpose();
        let down = match liveness {
            Ok(Some(Liveness::Up { .. })) => {
                up.push(&instance.name);
                continue;
            }
            Ok(Some(Liveness::Down { why })) => why,
            Ok(None) => "never started".into(),
            Err(error) => {
                findings.push(finding(Failure::of(&error)));
                continue;
            }
        };
        // systemd may itself hold the socket of its unit.
        let (bind, port) = setup::listens(config, name, service, &instance.name)
            .unwrap_or_else(|| (wanted.bind.clone(), instance.port));
        if wanted.runtime == (RuntimeConfig::Process {})
            && let Some(occupant) = Occupant::of(&bind, port)
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
    findings.extend(who_else_writes(wanted, name, runtime.as_deref(), service).map(&finding));
    findings.extend(
        removed(name, service, wanted, runtime.as_deref())
            .map(|failure| Finding::own("instances", Some(name), failure, Severity::Recommended)),
    );
    // Where nothing ever ran there is nothing to compare, and no folder is made for it.
    let ran = service.instances.values().any(|one| one.release.is_some());
    let home = Home::at(&config.state_dir).service(name);
    if ran
        && home.root().is_dir()
        && let Ok(site) = Site::open_for_return(config, name, home, program.to_path_buf())
    {
        let in_the_way = up.into_iter().filter_map(|name| site.cannot_start(name));
        findings.extend(in_the_way.filter(|failure| failure.code == "instance-port-in-use").map(finding));
        let found = site.stands_against(service).into_iter();
        findings.extend(found.map(|(failure, severity)| Finding::own("instances", Some(name), failure, severity)));
    }
    findings
}

/// Finds the instances that were taken out of lastgood.toml, or renamed there, and still run.
fn removed<'s>(
    name: &'s ServiceName,
    service: &'s Service,
    wanted: &'s ServiceConfig,
    runtime: Option<&'s dyn Runtime>,
) -> impl Iterator<Item = Failure> + 's {
    let gone = service.instances.keys().filter(|one| wanted.instance(one).is_none());
    gone.filter_map(move |instance| {
        let Ok(Liveness::Up { pid, .. }) = runtime?.liveness(name, instance) else { return None };
        let what = format!(
            "{name}/{instance} (process {pid}) is not in lastgood.toml any more and still runs: nobody watches it, moves \
             it or takes it back"
        );
        let fix = format!("put it back into lastgood.toml, or end it: kill {pid}");
        Some(Failure::new("instance-removed", what, Some(&fix)))
    })
}

/// Gives what runs the instances; none where nothing ever ran.
fn running(config: &Config, service: &ServiceConfig, program: &Path) -> Result<Option<Arc<dyn Runtime>>, RuntimeError> {
    let systemd_missing = service.runtime != (RuntimeConfig::Process {}) && !Path::new(SYSTEMD_RUNS).exists();
    if systemd_missing || !config.state_dir.is_dir() {
        return Ok(None);
    }
    runtime_of(service, &config.state_dir, program).map(Some)
}

/// Looks at what one service needs.
fn one(config: &Config, name: &ServiceName) -> Vec<Finding> {
    let Some(service) = config.service.get(name) else { return Vec::new() };
    let mut findings = Vec::new();
    let mut found = |check, failure, severity| findings.push(Finding::own(check, Some(name), failure, severity));
    for instance in &service.instance {
        if let Some(failure) = data(instance).or_else(|| takes_back(instance)) {
            found("data", failure, Severity::Required);
        }
        if let Some(failure) = user_unknown(service, instance) {
            found("user", failure, Severity::Required);
        }
        if let Some(failure) = address(service, instance) {
            found("address", failure, Severity::Required);
        }
    }
    if let Err(error) = service.policy.check_files(&config.folder) {
        found("policy", Failure::of(&error), Severity::Required);
    }
    // Where traffic is shared nobody is stopped who is in use: what is left drains.
    if service.busy.is_none() && service.traffic.is_none() {
        let what = "there is no busy check: every instance counts as idle";
        let fix = "busy = { command = [\"./is-busy\"] }";
        found("busy", Failure::new("busy-none", what, Some(fix)), Severity::Recommended);
    }
    if let RuntimeConfig::Systemd(_) = service.runtime
        && !Path::new(SYSTEMD_RUNS).exists()
    {
        let what = "systemd does not run here, but units are to run the instances";
        found("systemd", Failure::new("systemd-missing", what, Some("runtime = { process = {} }")), Severity::Required);
    }
    findings
}

/// Says that the user an instance is to run as does not exist.
pub fn user_unknown(service: &ServiceConfig, instance: &InstanceConfig) -> Option<Failure> {
    let user = instance.user.as_ref().or(service.user.as_ref())?;
    Owner::named(user).err().map(|error| Failure::of(&error))
}

/// Asks a channel for its newest release; what it started is ended when nobody waits any more.
fn channel_answers(config: &Config, name: &ServiceName, until: Instant) -> Vec<Finding> {
    let Some(service) = config.service.get(name) else { return Vec::new() };
    let context = channel::Context { folder: config.folder.clone(), ..channel::Context::default() };
    let cancelled = Arc::clone(&context.cancelled);
    thread::spawn(move || {
        thread::sleep(until.saturating_duration_since(Instant::now()));
        cancelled.store(true, Ordering::SeqCst);
    });
    let Err(error) = service.channel.newest(&context) else { return Vec::new() };
    let failure = Failure::of(&error as &dyn Coded);
    let mut finding = Finding::own("channel", Some(name), failure, Severity::Required);
    // It is we who wait no longer: that says nothing of the channel, and a run waits for it.
    if finding.failure.code == "channel-cancelled" {
        let seconds = CHANNEL_MAX.as_secs();
        let what = format!("the channel of {name} has said nothing after {seconds} s; a run waits for it longer");
        let fix = format!("ask it without that limit: lastgood plan {name}");
        finding.failure = Failure::new("channel-late", what, Some(&fix));
        finding.is_unknown = true;
    }
    vec![finding]
}

fn state_dir(path: &Path) -> Option<Failure> {
    // The folder may not be there yet: then its nearest parent must allow making it.
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    if let Err(error) = rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        let what = format!("the state folder {} can't be written: {error}", path.display());
        let fix = format!(
            "state_dir = \"state\" in lastgood.toml, or: sudo install -d -o \"$USER\" -m 711 {}",
            path.display()
        );
        return Some(Failure::new("state-dir-unusable", what, Some(&fix)));
    }
    let free = rustix::fs::statvfs(there).map(|space| space.f_bavail * space.f_frsize).unwrap_or(0);
    if free < FREE_BYTES_MIN {
        let what = format!("only {} are free for {}", lastgood_domain::words::size(free), path.display());
        return Some(Failure::new(
            "state-dir-full",
            what,
            Some("free space there, or set state_dir in lastgood.toml to a folder on a larger disk"),
        ));
    }
    None
}

/// Says that an instance's data folder is not there.
pub(crate) fn data(instance: &InstanceConfig) -> Option<Failure> {
    if instance.data.is_dir() {
        return None;
    }
    let what = format!("{} has no data folder {}", instance.name, instance.data.display());
    let fix = format!("mkdir -p {}", for_shell(&instance.data));
    Some(Failure::new("data-missing", what, Some(&fix)))
}

/// Writes a path as a shell takes it for one word.
fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Tells why nothing could be put back into an instance's data: every run would be refused.
fn takes_back(instance: &InstanceConfig) -> Option<Failure> {
    state::can_keep_aside(&instance.data, &aside_of(&instance.data)).err().map(|error| Failure::of(&error))
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
