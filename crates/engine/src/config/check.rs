//! What no single value shows: names that must be unique, placeholders that must be known.

use super::{Config, ConfigError, RuntimeConfig, ServiceConfig, credentials, listening, preflight, signals, text};
use crate::{doctor, expand, provenance::Environment};
use lastgood_domain::{failure::Coded as _, terms::ServiceName};
use lastgood_drivers::{
    probe::{ConfigProblem, Known, ProbeConfig},
    runtime::systemd::SystemdConfig,
    sql::DatabaseConfig,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Gives the placeholders that `init` wrote and nobody has replaced, each as the error it is.
pub(super) fn placeholders(written: &str, path: &Path) -> Vec<ConfigError> {
    let left = text::left_over(written).into_iter().map(|left| ConfigError::Placeholder {
        path: path.to_path_buf(),
        line: left.line,
        value: left.value,
        example: left.example,
    });
    left.collect()
}

/// What a file is refused for, as far as it was found.
pub(super) struct Found<'p> {
    path: &'p Path,
    all: Vec<ConfigError>,
}

impl Found<'_> {
    pub(super) fn say(&mut self, place: impl Into<String>, what: impl Into<String>, example: impl Into<String>) {
        self.say_at(None, place, what, example);
    }

    fn say_at(
        &mut self,
        line: Option<usize>,
        place: impl Into<String>,
        what: impl Into<String>,
        example: impl Into<String>,
    ) {
        let (path, place, what, example) = (self.path.to_path_buf(), place.into(), what.into(), example.into());
        self.all.push(ConfigError::Unfit { path, line, place, what, example });
    }

    fn also(&mut self, wrong: Option<(String, String, &'static str)>) {
        if let Some((place, what, example)) = wrong {
            self.say(place, what, example);
        }
    }

    /// Says that a table names a secret that is not there.
    fn no_secret(&mut self, place: impl Into<String>, missing: &str) {
        let example = "[secret.NAME] with file = \"/etc/lastgood/NAME\"";
        self.say(place, format!("there is no [secret.{missing}]"), example);
    }
}

/// Finds what does not fit: of each table and each kind of mistake the first, so that one edit mends the file.
pub(super) fn check(config: &Config, written: &str, path: &Path) -> Vec<ConfigError> {
    let mut found = Found { path, all: Vec::new() };
    if !config.listen.ip().is_loopback() {
        let what = format!("{} is not a loopback address", config.listen);
        found.say("listen", what, "listen = \"127.0.0.1:9464\"");
    }
    found.also(super::gates::wrong(config));
    for (name, notice) in &config.notice {
        if let Some(missing) = notice.endpoint.secrets().into_iter().find(|secret| !config.secret.contains_key(*secret))
        {
            found.no_secret(format!("notice.{name}"), missing);
        }
    }
    let services = config.service.keys().collect();
    let secrets = Known { secrets: config.secret.keys().map(String::as_str).collect(), ..Known::default() };
    found.also(config.runbook.wrong(&services, &config.database, &secrets));
    for (name, database) in &config.database {
        if let Some(missing) = database.secret().filter(|secret| !config.secret.contains_key(*secret)) {
            found.no_secret(format!("database.{name}"), missing);
        }
    }
    for (name, signal) in &config.signal {
        found.also(signals::wrong(config, name, signal));
    }
    for (name, credential) in &config.credential {
        found.also(credentials::wrong(config, name, credential));
    }
    let takes_messages = |name: &str| config.notice.get(name).is_some_and(|one| one.endpoint.takes_messages());
    found.also(super::people::wrong_around(config));
    found.also(super::people::wrong(&config.person, &config.role, &takes_messages));
    if let Some(switches) = &config.switches {
        found.also(switches.wrong());
        if let Some(missing) = switches.token.as_ref().filter(|token| !config.secret.contains_key(*token)) {
            found.no_secret("switches.token", missing);
        }
    }
    check_preflight(config, &mut found);
    found.also(config.incident.wrong());
    found.also(config.wrong_holds());
    for (name, service) in &config.service {
        check_service(config, name, service, &mut found);
    }
    listening::apart(config, &mut found);
    folders_apart(config, written, &mut found);
    found.all
}

fn check_preflight(config: &Config, found: &mut Found<'_>) {
    if config.preflight.len() > preflight::CHECKS_MAX {
        let what = format!("{} checks are more than {}", config.preflight.len(), preflight::CHECKS_MAX);
        found.say("preflight", what, "[preflight.NAME] for what matters");
    }
    for (name, check) in &config.preflight {
        let place = format!("preflight.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            let what = "a check is named with a-z, 0-9 and -";
            found.say(format!("preflight.{name:?}"), what, "[preflight.free-room]");
        }
        if doctor::OWN.contains(&name.as_str()) {
            found.say(&place, "doctor has a check of its own of this name", "[preflight.my-name]");
        }
        let is_postgres = |name: &str| matches!(config.database.get(name), Some(DatabaseConfig::Postgres { .. }));
        if let Some(missing) = check.database().filter(|name| !is_postgres(name)) {
            let what = format!("there is no [database.{missing}] with postgres");
            found.say(&place, what, "[database.NAME] with postgres = \"postgresql://…\"");
        }
        if let Some(unknown) = check.named().find(|named| !config.service.keys().any(|known| known.as_str() == *named))
        {
            let what = format!("there is no [service.{unknown}]");
            found.say(&place, what, "service = \"…\", one of the services of this file");
        }
    }
}

/// Refuses folders inside each other: a copy of one would take the other along, and a restore would replace it.
fn folders_apart(config: &Config, written: &str, found: &mut Found<'_>) {
    let mut folders: Vec<(String, &str, &Path, PathBuf)> =
        vec![("state_dir".into(), "state_dir", &config.state_dir, text::real(&config.state_dir))];
    for (name, service) in &config.service {
        let mut seen = BTreeSet::new();
        for instance in &service.instance {
            // Within a service the same folder is told, or allowed, where its instances are looked at.
            if !seen.insert(&instance.data) {
                continue;
            }
            let place = format!("service.{name}.instance {}: data", instance.name);
            folders.push((place, "data", &instance.data, text::real(&instance.data)));
        }
    }
    for (at, (place, key, folder, real)) in folders.iter().enumerate() {
        let others = folders.iter().enumerate().filter(|(other, _)| *other != at);
        // Of two that are the same, one is told.
        let around = |other: &PathBuf, later: usize| real.starts_with(other) && (real != other || later < at);
        let mut around = others.filter(|(later, (_, _, _, other))| around(other, *later)).map(|(_, other)| other);
        if let Some((other, ..)) = around.next() {
            let line = text::line_of(written, key, folder, &config.folder);
            let what = format!("{} lies in the folder of {other}", folder.display());
            let example = format!("{key} = \"…\" must name a folder of its own, outside of all others");
            found.say_at(line, place, what, example);
        }
    }
}

fn check_service(config: &Config, name: &ServiceName, service: &ServiceConfig, found: &mut Found<'_>) {
    let place = |key: &str| format!("service.{name}.{key}");
    if service.instance.is_empty() {
        let example = "[[service.NAME.instance]] with name, port and data";
        found.say(place("instance"), "a service needs at least one instance", example);
    }
    check_instances(name, service, found);
    if let Some(traffic) = &service.traffic {
        let named = [("rollout.canary", &service.rollout.canary), ("rehearsal.on", &service.rehearsal.on)];
        for (key, _) in named.into_iter().filter(|(_, name)| name.is_some()) {
            found.say(place(key), "with shared traffic nobody is moved by name", "leave it out");
        }
        if let Some((key, what, example)) = traffic.problem(&service.instance) {
            found.say(place(key), what, example);
        }
    }
    if service.command.is_empty() {
        found.say(place("command"), "there is no program", "command = [\"{release}/server\"]");
    }
    let vars: Vec<BTreeSet<&str>> =
        service.instance.iter().map(|one| one.vars.keys().map(String::as_str).collect()).collect();
    let everywhere = |name: &&str| vars.iter().all(|one| one.contains(*name));
    let known = Known {
        secrets: config.secret.keys().map(String::as_str).collect(),
        vars: vars.first().into_iter().flatten().copied().filter(everywhere).collect(),
    };
    let mut problem = |key: &str, checked: Result<(), ConfigProblem>| {
        if let Err(problem) = checked {
            found.say(place(key), problem.to_string(), problem.hint().unwrap_or_default());
        }
    };
    if !service.probe.is_empty() {
        problem("probe", ProbeConfig { steps: service.probe.clone() }.check(&known));
    }
    if let Some(resume) = service.traffic.as_ref().and_then(|traffic| traffic.resume.as_ref()) {
        problem("traffic.resume", resume.check(&known));
    }
    if let Some(ready) = &service.ready {
        problem("ready", ready.check(&known));
    }
    if let Some(busy) = &service.busy {
        problem("busy", busy.check(&known));
    }
    if service.probe.is_empty() {
        let what = "a service without a probe of real behaviour can't be proven to work";
        found.say(place("probe"), what, "[[service.NAME.probe]] with name, http and expect");
    }
    check_switching(config, name, service, found);
    let mut names: BTreeSet<String> = expand::NAMES.iter().chain(&known.vars).map(|name| (*name).to_owned()).collect();
    names.extend(known.secrets.iter().map(|name| format!("secret:{name}")));
    let texts = service.command.iter().chain(service.env.values()).chain(&service.workdir);
    for what in texts.filter_map(|text| expand::check(text, &names).err()) {
        found.say(place("command"), what, "{release}, {data}, {port}");
    }
    if let Err(wrong) = service.policy.check(&service.channel) {
        found.say(place(&format!("policy.{}", wrong.key)), wrong.what, wrong.example);
    }
    if let Some(environment) = &service.environment
        && let Err(what) = passed_in(config, name, environment)
    {
        found.say(place("policy.passed_in"), what, "passed_in = \"staging\"");
    }
    if let Some(Err(what)) = service.schedule.as_ref().map(crate::schedule::check) {
        found.say(place("schedule"), what, "schedule = { at = \"05:30\", jitter = \"20m\" }");
    }
    if let Err(what) = crate::schedule::check_window(&service.rollout.drain) {
        found.say(place("rollout.drain"), what, "drain = { from = \"22:00\", to = \"06:00\" }");
    }
    if let RuntimeConfig::Systemd(SystemdConfig { unit, .. }) = &service.runtime
        && !(unit.contains("{instance}") && unit.ends_with(".service"))
    {
        let what = format!("{unit} does not name a unit for each instance");
        found.say(place("runtime"), what, "runtime = { systemd = { unit = \"app@{instance}.service\" } }");
    }
    let named = [&service.rollout.canary, &service.rehearsal.on];
    if let Some(missing) = named.into_iter().flatten().find(|name| service.instance(name).is_none()) {
        found.say(place("instance"), format!("there is no instance {missing}"), "name one of the service's instances");
    }
}

fn check_instances(name: &ServiceName, service: &ServiceConfig, found: &mut Found<'_>) {
    let place = format!("service.{name}.instance");
    let (mut names, mut folders) = (BTreeSet::new(), BTreeSet::new());
    for instance in &service.instance {
        if !names.insert(&instance.name) {
            found.say(&place, format!("{} is there twice", instance.name), "name = \"bob\"");
        }
        // Copies of one service with shared traffic may work on the same data.
        if !folders.insert(&instance.data) && service.traffic.is_none() {
            let what = format!("{} has the data folder of another instance", instance.name);
            found.say(&place, what, "data = \"data/bob\"");
        }
        if instance.front_door.is_some() && service.traffic.is_some() {
            let what = format!("{} has a front door of its own; with shared traffic the router is it", instance.name);
            found.say(&place, what, "leave front_door out");
        }
        if instance.other_port.is_some() && service.traffic.is_none() {
            let what = format!("{} has an other_port, which only shared traffic uses", instance.name);
            found.say(&place, what, "leave it out, or set up service.NAME.traffic");
        }
    }
}

/// Looks whether the flags and switches that shared traffic names are declared.
fn check_switching(config: &Config, name: &ServiceName, service: &ServiceConfig, found: &mut Found<'_>) {
    let Some(traffic) = &service.traffic else { return };
    let place = |key: &str| format!("service.{name}.traffic.{key}");
    let declared = config.switches.as_ref().map(|switches| switches.declared()).unwrap_or_default();
    if let Some(one) = traffic.turns_on.iter().find(|one| !declared.flags.contains_key(&one.flag)) {
        let what = format!("flag {} is not declared", one.flag);
        found.say(place("turns_on"), what, "[switches.flag.NAME] with type = \"boolean\"");
    }
    let sticky = traffic.proxy.iter().map(|proxy| &proxy.sticky);
    let mut names = sticky.flat_map(|sticky| sticky.header.iter().chain(&sticky.cookie).chain([&sticky.own_cookie]));
    if let Some(name) = names.find(|name| !is_token(name)) {
        let what = format!("{name:?} is no name of a header or cookie");
        found.say(place("proxy.sticky"), what, "sticky = { cookie = \"session\" }");
    }
    let example = "[switches] with subsystems = [\"auth\"]";
    if let Some(name) = traffic.guard.trips.iter().find(|name| !declared.knows(name)) {
        found.say(place("guard.trips"), format!("there is no switch {name}"), example);
    }
    if let Some(closes) = traffic.closes.iter().find(|closes| !declared.knows(&closes.switch)) {
        found.say(place("closes"), format!("there is no switch {}", closes.switch), example);
    }
}

/// Tells whether it is what HTTP calls a token.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c))
}

/// Refuses an environment that can't have anything to say: the service itself, or one that is not there.
fn passed_in(config: &Config, name: &ServiceName, environment: &Environment) -> Result<(), String> {
    if environment.state_dir != config.state_dir {
        return Ok(());
    }
    match &environment.service {
        own if own == name => Err("a service can't wait for itself".into()),
        other if config.service.contains_key(other) => Ok(()),
        other => Err(format!("there is no service {other}")),
    }
}
