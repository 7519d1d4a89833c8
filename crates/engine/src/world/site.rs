//! What the effects of one service work with: its configuration, folders, runtime and secrets.

use super::{quiet::Looks, sealed::Sealed, sole_holder::SoleHolder, unit};
use crate::{
    config::{Config, Gates, InstanceConfig, RuntimeConfig, ServiceConfig, SwitchesConfig},
    expand,
    log::Route,
    paths::ServiceHome,
    setup::{self, Setup, Start},
    traffic::ProxyHost,
};
use lastgood_domain::{
    facts::{Busyness, Installation},
    failure::{Coded, Failure},
    service::Service,
    terms::{Digest, InstanceName, ServiceName},
    traffic::wire::SYNTHETIC,
};
use lastgood_drivers::{
    channel,
    metric::WatchConfig,
    probe::{ProbeTarget, SecretSource, Secrets},
    runtime::{Groups, Launch, Runtime, RuntimeError, fence::Fence, process::ProcessRuntime, systemd::SystemdRuntime},
    state::{Owner, StatePlace},
    traffic::{Builtin, Haproxy, Router},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// One service as the drivers need it.
pub struct Site {
    /// The service's name.
    pub name: ServiceName,
    /// Its configuration.
    pub config: ServiceConfig,
    /// Its own folder in the state folder.
    pub home: ServiceHome,
    /// The state folder.
    pub state_dir: PathBuf,
    /// What runs its instances.
    pub runtime: Arc<dyn Runtime>,
    /// Its secrets, loaded.
    pub secrets: Secrets,
    /// What is missing that a way back doesn't need and a forward run insists on.
    pub without: Vec<Failure>,
    /// Where they come from, for a worker that loads them itself.
    pub(super) secret_sources: BTreeMap<String, SecretSource>,
    /// The lastgood program, which executes itself for work in other identities and namespaces.
    pub program: PathBuf,
    /// What channels need besides their configuration.
    pub channel: channel::Context,
    /// What carries its traffic, if that is shared.
    pub router: Option<Arc<dyn Router>>,
    /// Kill switches, which may close routes of its traffic.
    pub switches: Option<SwitchesConfig>,
    /// Which endpoint wants which notices.
    pub routes: Vec<Route>,
    /// The built-in proxy, if it carries this service's traffic.
    pub proxy: Option<ProxyHost>,
    /// The gates that the service requires.
    pub gates: Gates,
    /// Other services that run instances of the same template unit.
    pub(super) unit_sharers: Vec<ServiceName>,
    pub(super) sole_holder: SoleHolder,
    pub(super) sealed: Sealed,
    pub(super) looks: Looks,
    /// The users that units themselves name, as far as they were asked for.
    own_users: Mutex<BTreeMap<InstanceName, Option<String>>>,
    fence: OnceLock<Fence>,
}

/// Why a service can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No such service.
    #[error("there is no service {name} in the configuration")]
    UnknownService {
        /// The name asked for.
        name: ServiceName,
    },
    /// A folder can't be made.
    #[error("{} can't be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A driver can't be set up.
    #[error("{0}")]
    Driver(Failure),
}

impl Coded for SiteError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownService { .. } => "service-unknown",
            Self::Folder { .. } => "state-dir-unusable",
            Self::Driver(_) => "driver-unusable",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownService { .. } => Some("see which there are: lastgood status".into()),
            Self::Folder { path, .. } => {
                Some(format!("check owner and space: ls -ld {0}; df -h {0}", path.parent().unwrap_or(path).display()))
            }
            Self::Driver(failure) => failure.hint.clone(),
        }
    }
}

/// Gives what runs a service's instances; makes the state folder if there is none.
///
/// Errors: the folder can't be made, or systemd can't be reached.
pub(crate) fn runtime_of(
    service: &ServiceConfig,
    state_dir: &Path,
    program: &Path,
) -> Result<Arc<dyn Runtime>, RuntimeError> {
    Ok(match &service.runtime {
        RuntimeConfig::Process {} => Arc::new(ProcessRuntime::new(state_dir, program)?),
        RuntimeConfig::Systemd(systemd) => Arc::new(SystemdRuntime::new(systemd.clone(), state_dir)?),
    })
}

impl Site {
    /// Sets up one service of `config`; makes its folders.
    ///
    /// Errors: [`SiteError`] names what is missing.
    pub fn open(config: &Config, name: &ServiceName, home: ServiceHome, program: PathBuf) -> Result<Self, SiteError> {
        let site = Self::open_for_return(config, name, home, program)?;
        match site.without.first() {
            Some(failure) => Err(SiteError::Driver(failure.clone())),
            None => Ok(site),
        }
    }

    /// Sets up one service for a way back: a secret that can't be read stands in [`Site::without`], and only what needs it
    /// fails.
    ///
    /// Errors: [`SiteError`] names what is missing.
    pub fn open_for_return(
        config: &Config,
        name: &ServiceName,
        home: ServiceHome,
        program: PathBuf,
    ) -> Result<Self, SiteError> {
        let service = config.service.get(name).ok_or_else(|| SiteError::UnknownService { name: name.clone() })?.clone();
        let driver = |error: &dyn Coded| SiteError::Driver(Failure::of(error));
        let mut folders = vec![home.installations(), home.shelf(), home.root().join("traffic")];
        folders.extend(service.instance.iter().map(|instance| home.instance(&instance.name)));
        for path in folders {
            std::fs::create_dir_all(&path).map_err(|source| SiteError::Folder { path, source })?;
        }
        let runtime = runtime_of(&service, &config.state_dir, &program).map_err(|error| driver(&error))?;
        let sole_holder = SoleHolder::of(service.instance.iter().map(|instance| instance.data.clone()).collect());
        let (secrets, unread) = Secrets::load_usable(&config.secret, &config.folder);
        let without = unread.iter().map(|error| Failure::of(error)).collect();
        let proxy = ProxyHost::of(config, &program)
            .filter(|_| service.traffic.as_ref().is_some_and(|traffic| traffic.proxy.is_some()));
        let haproxy = service.traffic.as_ref().and_then(|traffic| traffic.haproxy.clone());
        let router: Option<Arc<dyn Router>> = match (&proxy, haproxy) {
            (Some(proxy), _) => Some(Arc::new(Builtin::new(proxy.folder()))),
            (None, Some(haproxy)) => Some(Arc::new(Haproxy::new(name.clone(), haproxy, &home.root().join("traffic")))),
            (None, None) => None,
        };
        Ok(Self {
            name: name.clone(),
            config: service,
            home,
            state_dir: config.state_dir.clone(),
            runtime,
            secrets,
            without,
            secret_sources: config.secret.clone(),
            program,
            channel: channel::Context { folder: config.folder.clone(), ..channel::Context::default() },
            router,
            switches: config.switches.clone(),
            routes: config.routes(),
            proxy,
            gates: config.gate.clone(),
            unit_sharers: unit::sharers(config, name),
            sole_holder,
            sealed: Sealed::default(),
            looks: Looks::default(),
            own_users: Mutex::default(),
            fence: OnceLock::new(),
        })
    }

    /// Gives an instance's configuration.
    ///
    /// Errors: the instance was taken out of the configuration while it was on its way.
    pub(super) fn instance(&self, name: &InstanceName) -> Result<&InstanceConfig, Failure> {
        self.config.instance(name).ok_or_else(|| {
            Failure::new(
                "instance-unknown",
                format!("{name} is not in the lastgood.toml that this process has read"),
                Some(
                    "put it back until it is rolled back or stopped; where it stands there, restart the daemon: it reads \
                     the file at its start",
                ),
            )
        })
    }

    /// Gives the logs in which users' outcomes are counted, one for each instance.
    pub fn watched_logs(&self, watch: &WatchConfig) -> Vec<PathBuf> {
        let Some(log) = watch.log() else { return Vec::new() };
        let fill = |instance: &InstanceConfig| {
            let start = self.running(instance).start;
            expand::expand(log, &self.values(instance, &start, &instance.vars, &instance.data)).ok()
        };
        self.config.instance.iter().filter_map(fill).map(PathBuf::from).collect()
    }

    /// Tells how rehearsals are fenced on this machine; tried once.
    pub(super) fn fence(&self) -> &Fence {
        self.fence.get_or_init(|| match self.config.rehearsal.network {
            true => Fence::Paths("the configuration allows the network".into()),
            false => Fence::available(),
        })
    }

    /// Asks whether an instance is in use; `None` if it has no check or is unknown.
    pub fn busyness(&self, name: &InstanceName) -> Option<Busyness> {
        let (busy, instance) = (self.config.busy.as_ref()?, self.config.instance(name)?);
        Some(busy.ask(&self.target(instance, &self.running(instance), &instance.data)))
    }

    /// Gives what lastgood.toml says of an instance now.
    pub(super) fn todays(&self, instance: &InstanceConfig) -> Setup {
        Setup::of(&self.config, instance, &self.channel.folder)
    }

    /// Gives what an instance was started with last, asked as lastgood.toml says now; all of it where nothing was kept.
    pub(super) fn running(&self, instance: &InstanceConfig) -> Setup {
        let now = self.todays(instance);
        let digest = setup::running_digest(&self.home, &instance.name);
        match digest.and_then(|digest| Setup::read(&self.home.setups(), &digest).ok()) {
            Some(kept) => Setup { start: kept.start, ..now },
            None => now,
        }
    }

    /// Gives where an instance listens, as it was started.
    pub fn listens(&self, instance: &InstanceConfig) -> (String, u16) {
        let Start { bind, port, .. } = self.running(instance).start;
        (bind, port)
    }

    /// Gives what an instance is to be started with as a release: what is kept for it, or what lastgood.toml says now.
    ///
    /// Errors: what is kept is damaged or gone, and lastgood.toml says something else.
    pub(super) fn setup_for(
        &self,
        service: &Service,
        instance: &InstanceConfig,
        release: &Digest,
    ) -> Result<Setup, Failure> {
        let now = self.todays(instance);
        let Some(digest) = service.setup_for(&instance.name, release) else { return Ok(now) };
        match Setup::read(&self.setups_of(service, release), &digest) {
            Err(_) if now.digest() == Some(digest) => Ok(now),
            kept => kept,
        }
    }

    /// Gives the folder of the setups: beside the installation, which a dry run does not have in its own place.
    fn setups_of(&self, service: &Service, release: &Digest) -> PathBuf {
        let installation = service.installed.get(release).map(|known| self.home.found(&known.installation));
        let name = self.home.installations().file_name().map(ToOwned::to_owned);
        let all = installation
            .as_ref()
            .map(|known| Path::new(&known.path))
            .and_then(|path| path.ancestors().find(|folder| folder.file_name() == name.as_deref()));
        all.map_or_else(|| self.home.setups(), |all| all.with_file_name("setups"))
    }

    /// Gives the user an instance runs as by its setup: the one it names, or its unit's own; none is ours.
    pub(super) fn user(&self, instance: &InstanceConfig, start: &Start) -> Result<Option<String>, Failure> {
        if let Some(user) = &start.user {
            return Ok(Some(user.clone()));
        }
        let mut known = self.own_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = known.get(&instance.name) {
            return Ok(user.clone());
        }
        let user = self.runtime.own_user(&self.name, &instance.name).map_err(|error| Failure::of(&error))?;
        known.insert(instance.name.clone(), user.clone());
        Ok(user)
    }

    /// Gives where an instance's data is, or where a copy of it would be if its folder were `data`; `start` says whose it is.
    pub(super) fn place(&self, instance: &InstanceConfig, start: &Start, data: &Path) -> Result<StatePlace, Failure> {
        let values = self.values(instance, start, &instance.vars, data);
        let owner = self.user(instance, start)?.map(|user| Owner::named(&user)).transpose();
        let owner = owner.map_err(|error| Failure::of(&error))?;
        self.config.state.place(owner, |text| expand::expand(text, &values).map(PathBuf::from)).map_err(|what| {
            Failure::new(
                "config-unfit",
                format!("service.{}.state: {what}", self.name),
                Some("correct it, then: lastgood config check"),
            )
        })
    }

    /// Gives the folder that takes data which a restore puts aside: beside the data, on its file system.
    pub(super) fn aside(&self, instance: &InstanceConfig) -> PathBuf {
        aside_of(&instance.data)
    }

    fn values(
        &self,
        instance: &InstanceConfig,
        start: &Start,
        vars: &BTreeMap<String, String>,
        data: &Path,
    ) -> BTreeMap<String, String> {
        let mut values = vars.clone();
        values.extend([
            ("data".to_owned(), data.display().to_string()),
            ("port".to_owned(), start.port.to_string()),
            ("bind".to_owned(), start.bind.clone()),
            ("host".to_owned(), start.bind.clone()),
            ("instance".to_owned(), instance.name.to_string()),
            ("service".to_owned(), self.name.to_string()),
        ]);
        values
    }

    /// Fills in how an instance is started; rehearsals differ in `data` and the setup's port only.
    pub(super) fn launch(
        &self,
        instance: &InstanceConfig,
        start: &Start,
        installation: &Installation,
        data: &Path,
        log: PathBuf,
    ) -> Result<Launch, Failure> {
        let mut values = self.values(instance, start, &start.vars, data);
        values.insert("release".to_owned(), installation.path.clone());
        for name in self.secret_sources.keys() {
            if let Some(secret) = self.secrets.get(name) {
                values.insert(format!("secret:{name}"), secret.to_owned());
            }
        }
        let fill = |text: &str| {
            expand::expand(text, &values).map_err(|what| {
                let unread =
                    |name: &&String| self.secrets.get(name).is_none() && text.contains(&format!("{{secret:{name}}}"));
                match self.secret_sources.keys().find(unread).and(self.without.first()) {
                    Some(failure) => failure.clone(),
                    None => Failure::new(
                        "config-unfit",
                        format!("service.{}: {what}", self.name),
                        Some("correct it, then: lastgood config check"),
                    ),
                }
            })
        };
        let mut argv = start.command.iter().map(|part| fill(part)).collect::<Result<Vec<_>, _>>()?;
        // A relative program starts at the configuration's folder; a bare name is looked up in PATH.
        if let Some(program) = argv.first_mut() {
            let found = match program.contains('/') {
                true => Some(start.folder.join(&*program)),
                false => in_path(program),
            };
            *program = found.map_or(program.clone(), |path| path.display().to_string());
        }
        let env = start
            .env
            .iter()
            .map(|(name, value)| Ok((name.clone(), fill(value)?)))
            .collect::<Result<BTreeMap<_, _>, Failure>>()?;
        let env = without_bytecode(env);
        let workdir = match &start.workdir {
            Some(workdir) => start.folder.join(fill(workdir)?),
            None => data.to_path_buf(),
        };
        Ok(Launch {
            service: self.name.clone(),
            instance: instance.name.clone(),
            release: installation.release.clone(),
            installation: PathBuf::from(&installation.path),
            argv,
            env,
            workdir,
            user: start.user.clone(),
            groups: Groups::default(),
            log,
        })
    }

    /// Gives how an instance that runs a release would be started now.
    ///
    /// Errors: the instance is not configured, the release not installed, or its setup not there any more.
    pub fn declared(&self, service: &Service, name: &InstanceName, release: &Digest) -> Result<Launch, Failure> {
        let config = self.instance(name)?;
        let known = service.installed.get(release).ok_or_else(|| {
            Failure::new(
                "installation-missing",
                format!("what {name} runs is not installed any more"),
                Some("install it again: lastgood pin SERVICE RELEASE --reason reinstall; then: lastgood run"),
            )
        })?;
        let setup = self.setup_for(service, config, release)?;
        let installation = self.home.found(&known.installation);
        self.launch(config, &setup.start, &installation, &config.data, self.home.log(name))
    }

    /// Names the declared variables that a running program has otherwise or not at all; never a value.
    ///
    /// Errors: it can't be told what is declared, or the program has ended.
    pub fn undeclared(
        &self,
        service: &Service,
        name: &InstanceName,
        release: &Digest,
        pid: u32,
    ) -> Result<Vec<String>, Failure> {
        let launch = self.declared(service, name, release)?;
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).map_err(|error| {
            Failure::new(
                "drift-environment",
                format!("what {name} runs with can't be read: {error}"),
                Some("run lastgood as root, or as the user that the instance runs as"),
            )
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let has: BTreeMap<&str, &str> = text.split('\0').filter_map(|one| one.split_once('=')).collect();
        let declared = self.runtime.environment(&launch).into_iter();
        let differ = declared.filter(|(name, value)| has.get(name.as_str()) != Some(&value.as_str()));
        // What lastgood adds by itself is nothing that anybody declared.
        let differ = differ.filter(|(name, _)| name != NO_BYTECODE || self.config.env.contains_key(NO_BYTECODE));
        Ok(differ.map(|(name, _)| name).collect())
    }

    /// Gives what probes of an instance talk to: its front door if it has one, or the address it was started on.
    pub(super) fn target(&self, instance: &InstanceConfig, setup: &Setup, data: &Path) -> ProbeTarget {
        let target = self.direct_target(instance, setup, data);
        let base = instance.front_door.clone().unwrap_or(target.base);
        ProbeTarget { base, ..target }
    }

    /// Gives what probes of an instance talk to that go to the address it was started on.
    pub(super) fn direct_target(&self, instance: &InstanceConfig, setup: &Setup, data: &Path) -> ProbeTarget {
        let Setup { start, checks } = setup;
        let vars = self.values(instance, start, &checks.vars, data);
        let base = format!("http://{}:{}", start.bind, start.port);
        let (secrets, folder) = (self.secrets.clone(), self.channel.folder.clone());
        ProbeTarget { base, vars, secrets, folder, headers: Vec::new() }
    }

    /// Gives what probes of lastgood's own talk to: the candidate, through the proxy.
    pub(super) fn candidates_seat(&self, instance: &InstanceConfig, front: String, own: &str) -> ProbeTarget {
        let headers = vec![(SYNTHETIC.to_owned(), own.to_owned())];
        ProbeTarget { base: front, headers, ..self.target(instance, &self.running(instance), &instance.data) }
    }
}

/// Keeps Python from writing compiled modules beside those of its release.
const NO_BYTECODE: &str = "PYTHONDONTWRITEBYTECODE";

/// Adds what keeps a program of root from changing its own installation by merely running: no release would be what was
/// installed, and no way back would lead to it.
fn without_bytecode(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    env.entry(NO_BYTECODE.to_owned()).or_insert_with(|| "1".to_owned());
    env
}

/// Gives the folder that takes what a restore moves out of the data folder `data`.
pub(crate) fn aside_of(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_os_string();
    name.push(".lastgood-aside");
    data.with_file_name(name)
}

/// Finds a program by its bare name in `PATH`, as a shell does.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|found| found.is_absolute() && found.is_file())
}
