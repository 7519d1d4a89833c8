//! lastgood.toml: read once into types; an unknown key or a bad value names file, line and a working example.

mod approvals;
mod check;
mod credentials;
mod degraded;
mod error;
mod gates;
mod holds;
mod incident;
mod listening;
mod people;
mod preflight;
mod read;
mod runbook;
mod service;
mod signals;
mod switches;
mod text;
mod traffic;

pub use approvals::{ApprovalsConfig, TermsConfig};
pub use degraded::DegradedConfig;
pub use error::{ConfigError, ConfigErrors};
pub use gates::Gates;
pub use holds::HoldsConfig;
pub use incident::{
    CREDENTIALS_ROTATED, Declares, EVIDENCE_VERIFIED, IncidentConfig, ItemConfig, MessageConfig, VerifyConfig,
};
pub use people::{EscalationConfig, PersonConfig, RoleConfig, StepConfig as EscalationStepConfig, actor_of};
pub use preflight::{Occasion, PreflightConfig, PreflightKeys, Severity};
pub use runbook::{
    AreaConfig, CheckConfig, EmergencyConfig, FileConfig, NeedConfig, RiskConfig, RiskLevelConfig, RunbookConfig,
    SqlCheck, StepConfig,
};
pub use signals::{Concern, DrainRule, FailuresConfig, GapsConfig, SignalConfig, SpikeConfig, ThresholdConfig};
pub use switches::{FlagConfig, Safe, SwitchesConfig};
pub use traffic::{ClosesConfig, GuardConfig, ShareConfig, SyntheticConfig, TrafficConfig, TurnsOnConfig};

use crate::{log::Route, provenance::Environment};
use lastgood_domain::{
    operations::{cap::Caps, rca::Rca},
    terms::{Digest, GateName, InstanceName, RoleName, ServiceName, SignalName, Span},
};
use lastgood_drivers::{
    channel::{ChannelConfig, PolicyConfig},
    config_terms::Length,
    credential::CredentialConfig,
    enforcer::EnforcerConfig,
    metric::WatchConfig,
    notice::NoticeConfig,
    probe::{BusyConfig, SecretSource, Step},
    runtime::systemd::SystemdConfig,
    sql::DatabaseConfig,
    state::StateConfig,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// The file that commands look for in the working folder when none is named.
pub const FILE_NAME: &str = "lastgood.toml";

/// Everything lastgood is told about the services of this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where lastgood keeps its evidence, installations and snapshots. Needs disk space for several copies of all data.
    /// Default `/var/lib/lastgood`. A relative path starts at the folder of this file.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// A file elsewhere (another disk, a mounted share) that keeps the last signed checkpoint of the evidence, so
    /// that a rewound state folder is detected. Default: `checkpoints` beside the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<PathBuf>,
    /// While this file exists, no release moves: the same as a hold on every service.
    /// Default: `FREEZE` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_file: Option<PathBuf>,
    /// Where `lastgood serve` answers `/metrics` and `/health`. Loopback only. Default `127.0.0.1:9464`.
    #[serde(default = "listen")]
    pub listen: std::net::SocketAddr,
    /// Secrets by name, read from files or systemd credentials; never written here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret: BTreeMap<String, SecretSource>,
    /// Databases by name, for checks and signals. They are only read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub database: BTreeMap<String, DatabaseConfig>,
    /// Signals by name: queries with alert rules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, SignalConfig>")]
    pub signal: BTreeMap<SignalName, SignalConfig>,
    /// Credentials by name that can be revoked and rotated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credential: BTreeMap<String, CredentialConfig>,
    /// Services by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ServiceConfig>")]
    pub service: BTreeMap<ServiceName, ServiceConfig>,
    /// Where notices go, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notice: BTreeMap<String, NoticeConfig>,
    /// Your own steps and checks for an incident's plan.
    #[serde(default, skip_serializing_if = "RunbookConfig::is_empty")]
    pub runbook: RunbookConfig,
    /// Checks of the environment, by name: run by `lastgood preflight` and before rollouts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preflight: BTreeMap<String, PreflightConfig>,
    /// People by the name of their account. Without any, whoever can write to the state folder may do everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub person: BTreeMap<String, PersonConfig>,
    /// Permissions, by role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, RoleConfig>")]
    pub role: BTreeMap<RoleName, RoleConfig>,
    /// Approval requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalsConfig>,
    /// Escalation chains: who is paged in which order. `default` is used where none is named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub escalation: BTreeMap<String, EscalationConfig>,
    /// How often a day (UTC) each person may take a risky action: `rollback`, `trip`, `override`, `exempt`, `waive`,
    /// `accept-risk`, `lower`, `stand-down`.
    /// A way back and a trip are never refused; above their cap people are paged. Default: no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub caps: Caps,
    /// Who owns gates that have no table of their own, such as `preflight = "alice"`: only the owner overrides a gate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, String>,
    /// Kill switches and feature flags; without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<SwitchesConfig>,
    /// Gates by name; a service names those that its releases must pass.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, lastgood_drivers::gate::GateConfig>")]
    pub gate: Gates,
    /// Incidents: checklist, verification, messages, times.
    #[serde(default, skip_serializing_if = "IncidentConfig::is_default")]
    pub incident: IncidentConfig,
    /// Holds over several services.
    #[serde(default)]
    pub holds: HoldsConfig,
    /// External enforcers of holds, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub enforcer: BTreeMap<String, EnforcerConfig>,
    /// The folder of the file this was read from.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Digest of all that the file says, comments and spelling aside.
    #[serde(skip)]
    pub digest: Option<Digest>,
}

/// One service: a channel, instances, their state, checks, and how to move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Where releases come from.
    pub channel: ChannelConfig,
    /// What a release must prove of where it comes from. Default: nothing.
    #[serde(default, skip_serializing_if = "PolicyConfig::is_empty")]
    pub policy: PolicyConfig,
    /// `required`: after a rollback, automatic or by hand, nothing moves forward before its analysis is accepted. `off`: only
    /// an incident owes one. Default: `required` with `traffic`, where a release is yours to mend before the next; else `off`:
    /// what follows somebody else's releases instance by instance never tries a rejected one again, and takes the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub rca: Option<Rca>,
    /// Words that holds over several services choose by, such as `tier = "api"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Gates of this file that a release must pass before anything is copied or moved. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub gates: Vec<GateName>,
    /// A file of the installation that names the commit the release was made of, where the channel does not: the only word
    /// in it of 40 or 64 hexadecimal digits, such as in a file `COMMIT`, or `gitHead` in npm's package.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<PathBuf>,
    /// Where the environment is that a release must have passed in, found when the file was read.
    #[serde(skip)]
    pub environment: Option<Environment>,
    /// When `lastgood serve` looks for a new release. Without it only `lastgood run` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The program and its arguments. `{release}` is the installation's folder, `{data}`, `{port}`, `{bind}`,
    /// `{instance}` and `{service}` are the instance's own. Rehearsals run exactly this with another port and a
    /// copy of the data.
    pub command: Vec<String>,
    /// The program's environment; nothing else is passed on but `PATH`, `HOME`, `LANG` and `TZ`. Values take the
    /// same `{…}` as `command`, and `{secret:NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The address instances listen on. Default `127.0.0.1`.
    #[serde(default = "bind")]
    pub bind: String,
    /// The folder the program starts in; takes the same `{…}`. Default: the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The user the program runs as and that owns the data. Default: whoever runs lastgood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What runs the instances. Default: lastgood itself starts and watches processes.
    #[serde(default)]
    pub runtime: RuntimeConfig,
    /// The data a release may migrate.
    pub state: StateConfig,
    /// How long a stopping instance may take before it is killed. Default `10s`.
    #[serde(default = "stop_timeout")]
    pub stop_timeout: Length,
    /// How long a starting instance may take to become ready, migration included. Default `60s`.
    #[serde(default = "ready_timeout")]
    pub ready_timeout: Length,
    /// The step that tells when an instance is ready. Default: its port accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Step>,
    /// The check of real behaviour, step by step: a log-in, not a health page.
    #[serde(default)]
    pub probe: Vec<Step>,
    /// Whether an instance is in use. Without it every instance counts as idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyConfig>,
    /// How a rehearsal is done.
    #[serde(default)]
    pub rehearsal: RehearsalConfig,
    /// How instances move.
    #[serde(default)]
    pub rollout: RolloutConfig,
    /// What a restore may drop without asking.
    #[serde(default)]
    pub restore: RestoreConfig,
    /// Moves the service by share of its traffic instead of instance by instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficConfig>,
    /// Users' outcomes after a bump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchConfig>,
    /// The running copies, at least one.
    pub instance: Vec<InstanceConfig>,
}

/// One running copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceConfig {
    /// Its name: 1 to 63 of a-z, 0-9, '-', '_' and '.'.
    #[schemars(with = "String")]
    pub name: InstanceName,
    /// The port it listens on.
    pub port: u16,
    /// With `traffic`: the port of its other place, so that two releases of it can run beside each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_port: Option<u16>,
    /// Its data folder. A relative path starts at the folder of this file.
    pub data: PathBuf,
    /// The address of its front door, if users reach it through another one than `bind` and `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_door: Option<String>,
    /// The user it runs as, if not the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Values of its own for commands, environments and probes: `vars = { account = "probe" }` is `{account}` there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
}

/// When to look for a new release: `at` a time of day, or `every` so often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// A time of day in the machine's time zone, such as `05:30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// A length of time between runs, at least `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Length>,
    /// Up to this much later, chosen by chance for each run, so that machines don't come all at once. Default `0s`.
    #[serde(default = "no_time")]
    pub jitter: Length,
}

/// What runs the instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RuntimeConfig {
    /// lastgood starts, watches and stops processes; they outlive it.
    Process {},
    /// systemd does, by a unit for each instance.
    Systemd(SystemdConfig),
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self::Process {}
    }
}

/// How a rehearsal is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RehearsalConfig {
    /// The instance whose data is used. Default: the one with the most data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub on: Option<InstanceName>,
    /// Whether the rehearsed program may reach the network. Default `false`: it has a loopback of its own.
    #[serde(default)]
    pub network: bool,
    /// A line of its output that matches one of these patterns fails the rehearsal, in addition to the built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail_on_log: Vec<String>,
    /// Time for one of the four tries, on top of `ready_timeout`. Default `60s`.
    #[serde(default = "minute")]
    pub timeout: Length,
}

impl Default for RehearsalConfig {
    fn default() -> Self {
        Self { on: None, network: false, fail_on_log: Vec::new(), timeout: minute() }
    }
}

/// How instances move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// The instance that goes first. Default: the first idle one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub canary: Option<InstanceName>,
    /// How many move at once after the canary. Default 1.
    #[serde(default = "one")]
    pub wave_size: u32,
    /// How long a wave is watched after it answers, before it is probed again and the next one goes. Default `10s`.
    #[serde(default = "soak")]
    pub soak: Length,
    /// How long after the last wave a late failure goes back by itself. Default `1h`.
    #[serde(default = "watch")]
    pub watch: Length,
    /// Whether broken outcomes of users (see `watch`) go back by themselves. Default `true`.
    #[serde(default = "yes")]
    pub back_when_broken: bool,
    /// When instances that were left for later may move: asked every minute, moved one by one when idle.
    /// Default: at any time.
    #[serde(default)]
    pub drain: DrainConfig,
    /// How long no release may be accepted before that is an alarm itself. Default `7d`.
    #[serde(default = "stale_after")]
    pub stale_after: Length,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            canary: None,
            wave_size: one(),
            soak: soak(),
            watch: watch(),
            back_when_broken: yes(),
            drain: DrainConfig::default(),
            stale_after: stale_after(),
        }
    }
}

/// When late instances may move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainConfig {
    /// From this time of day, such as `22:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Until this time of day, such as `06:00`; may be on the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What a restore may drop without asking. The abandoned data is kept aside in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreConfig {
    /// Rows of one instance written since the snapshot. Default 1000.
    #[serde(default = "rows_max")]
    pub rows_max: u64,
    /// Files of one instance written since. Default 100.
    #[serde(default = "files_max")]
    pub files_max: u64,
    /// Age of what was written since. Default `1h`.
    #[serde(default = "age_max")]
    pub age_max: Length,
}

impl Default for RestoreConfig {
    fn default() -> Self {
        Self { rows_max: rows_max(), files_max: files_max(), age_max: age_max() }
    }
}

impl Config {
    /// Gives the JSON Schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Config).to_value()
    }

    /// Gives the place of the last checkpoint outside the state folder.
    pub fn anchor(&self) -> PathBuf {
        match &self.anchor {
            Some(anchor) => self.folder.join(anchor),
            None => self.state_dir.with_extension("checkpoints"),
        }
    }

    /// Gives which endpoint wants which notices.
    pub fn routes(&self) -> Vec<Route> {
        let notices = self.notice.iter().filter(|(_, config)| config.endpoint.takes_messages());
        notices.map(|(endpoint, config)| Route { endpoint: endpoint.clone(), kinds: config.kinds.clone() }).collect()
    }

    /// Gives the freeze file.
    pub fn freeze_file(&self) -> PathBuf {
        match &self.freeze_file {
            Some(file) => self.folder.join(file),
            None => self.state_dir.join("FREEZE"),
        }
    }
}

fn state_dir() -> PathBuf {
    "/var/lib/lastgood".into()
}
fn listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 9464))
}
fn bind() -> String {
    "127.0.0.1".into()
}
const fn stop_timeout() -> Length {
    Length::seconds(10)
}
const fn ready_timeout() -> Length {
    Length::seconds(60)
}
const fn no_time() -> Length {
    Length(Span::ZERO)
}
const fn minute() -> Length {
    Length::seconds(60)
}
const fn one() -> u32 {
    1
}
const fn yes() -> bool {
    true
}
const fn soak() -> Length {
    Length::seconds(10)
}
const fn watch() -> Length {
    Length::seconds(3_600)
}
const fn stale_after() -> Length {
    Length::seconds(7 * 86_400)
}
const fn rows_max() -> u64 {
    1_000
}
const fn files_max() -> u64 {
    100
}
const fn age_max() -> Length {
    Length::seconds(3_600)
}
