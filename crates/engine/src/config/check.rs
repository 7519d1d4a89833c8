//! What no single value shows: names that must be unique, placeholders that must be known.

use super::{Config, ConfigError, RuntimeConfig, ServiceConfig, credentials, preflight, signals, text};
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

pub(super) fn check(config: &Config, written: &str, path: &Path) -> Result<(), ConfigError> {
    let unfit = |place: String, what: String, example: &str| ConfigError::Unfit {
        path: path.to_path_buf(),
        line: None,
        place,
        what,
        example: example.into(),
    };
    if !config.listen.ip().is_loopback() {
        return Err(unfit(
            "listen".into(),
            format!("{} is not a loopback address", config.listen),
            "listen = \"127.0.0.1:9464\"",
        ));
    }
    if let Some((place, what, example)) = super::gates::wrong(config) {
        return Err(unfit(place, what, example));
    }
    for (name, notice) in &config.notice {
        if let Some(missing) = notice.endpoint.secrets().into_iter().find(|secret| !config.secret.contains_key(*secret))
        {
            let what = format!("there is no [secret.{missing}]");
            return Err(unfit(format!("notice.{name}"), what, "[secret.NAME] with file = \"/etc/lastgood/NAME\""));
        }
    }
    let services = config.service.keys().collect();
    let secrets = Known { secrets: config.secret.keys().map(String::as_str).collect(), ..Known::default() };
    if let Some((place, what, example)) = config.runbook.wrong(&services, &config.database, &secrets) {
        return Err(unfit(place, what, example));
    }
    for (name, database) in &config.database {
        if let Some(missing) = database.secret().filter(|secret| !config.secret.contains_key(*secret)) {
            let what = format!("there is no [secret.{missing}]");
            return Err(unfit(format!("database.{name}"), what, "[secret.NAME] with file = \"/etc/lastgood/NAME\""));
        }
    }
    let signals = config.signal.iter().find_map(|(name, signal)| signals::wrong(config, name, signal));
    let mut others = config.credential.iter();
    let wrong = signals.or_else(|| others.find_map(|(name, one)| credentials::wrong(config, name, one)));
    if let Some((place, what, example)) = wrong {
        return Err(unfit(place, what, example));
    }
    let takes_messages = |name: &str| config.notice.get(name).is_some_and(|one| one.endpoint.takes_messages());
    if let Some((place, what, example)) = super::people::wrong_around(config) {
        return Err(unfit(place, what, example));
    }
    if let Some((place, what, example)) = super::people::wrong(&config.person, &config.role, &takes_messages) {
        return Err(unfit(place, what, example));
    }
    if let Some(switches) = &config.switches {
        if let Some((place, what, example)) = switches.wrong() {
            return Err(unfit(place, what, example));
        }
        if let Some(missing) = switches.token.as_ref().filter(|token| !config.secret.contains_key(*token)) {
            let what = format!("there is no [secret.{missing}]");
            return Err(unfit("switches.token".into(), what, "[secret.NAME] with file = \"/etc/lastgood/NAME\""));
        }
    }
    if config.preflight.len() > preflight::CHECKS_MAX {
        let what = format!("{} checks are more than {}", config.preflight.len(), preflight::CHECKS_MAX);
        return Err(unfit("preflight".into(), what, "[preflight.NAME] for what matters"));
    }
    for (name, check) in &config.preflight {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            let what = "a check is named with a-z, 0-9 and -".into();
            return Err(unfit(format!("preflight.{name:?}"), what, "[preflight.free-room]"));
        }
        if doctor::OWN.contains(&name.as_str()) {
            let what = "doctor has a check of its own of this name".into();
            return Err(unfit(format!("preflight.{name}"), what, "[preflight.my-name]"));
        }
        let is_postgres = |name: &str| matches!(config.database.get(name), Some(DatabaseConfig::Postgres { .. }));
        if let Some(missing) = check.database().filter(|name| !is_postgres(name)) {
            let what = format!("there is no [database.{missing}] with postgres");
            return Err(unfit(format!("preflight.{name}"), what, "[database.NAME] with postgres = \"postgresql://…\""));
        }
        if let Some(unknown) = check.named().find(|named| !config.service.keys().any(|known| known.as_str() == *named))
        {
            let what = format!("there is no [service.{unknown}]");
            return Err(unfit(format!("preflight.{name}"), what, "service = \"…\", one of the services of this file"));
        }
    }
    if let Some((place, what, example)) = config.incident.wrong() {
        return Err(unfit(place, what, example));
    }
    if let Some((place, what, example)) = config.wrong_holds() {
        return Err(unfit(place, what, example));
    }
    let mut taken = BTreeSet::new();
    for (name, service) in &config.service {
        check_service(config, name, service, &unfit)?;
        for instance in &service.instance {
            if instance.port == 0 {
                let place = format!("service.{name}.instance {}", instance.name);
                return Err(unfit(place, "port 0 is no port: an instance needs one of its own".into(), "port = 7101"));
            }
            if !taken.insert((service.bind.clone(), instance.port)) {
                return Err(unfit(
                    format!("service.{name}.instance {}", instance.name),
                    format!("port {} is taken by another instance", instance.port),
                    "port = 7102",
                ));
            }
        }
    }
    folders_apart(config, written, path)
}

/// Refuses folders inside each other: a copy of one would take the other along, and a restore would replace it.
fn folders_apart(config: &Config, written: &str, path: &Path) -> Result<(), ConfigError> {
    let mut folders: Vec<(String, &str, &Path, PathBuf)> =
        vec![("state_dir".into(), "state_dir", &config.state_dir, text::real(&config.state_dir))];
    for (name, service) in &config.service {
        let mut seen = BTreeSet::new();
        for instance in &service.instance {
            if !seen.insert(&instance.data) && service.traffic.is_some() {
                continue;
            }
            let place = format!("service.{name}.instance {}: data", instance.name);
            folders.push((place, "data", &instance.data, text::real(&instance.data)));
        }
    }
    for (at, (place, key, folder, real)) in folders.iter().enumerate() {
        let others = folders.iter().enumerate().filter(|(other, _)| *other != at);
        let mut around = others.filter(|(_, (_, _, _, other))| real.starts_with(other)).map(|(_, other)| other);
        if let Some((other, ..)) = around.next() {
            return Err(ConfigError::Unfit {
                path: path.to_path_buf(),
                line: text::line_of(written, key, folder, &config.folder),
                place: place.clone(),
                what: format!("{} lies in the folder of {other}", folder.display()),
                example: format!("{key} = \"…\" must name a folder of its own, outside of all others"),
            });
        }
    }
    Ok(())
}

fn check_service(
    config: &Config,
    name: &ServiceName,
    service: &ServiceConfig,
    unfit: &dyn Fn(String, String, &str) -> ConfigError,
) -> Result<(), ConfigError> {
    let place = |key: &str| format!("service.{name}.{key}");
    if service.instance.is_empty() {
        return Err(unfit(
            place("instance"),
            "a service needs at least one instance".into(),
            "[[service.NAME.instance]] with name, port and data",
        ));
    }
    let mut names = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for instance in &service.instance {
        if !names.insert(&instance.name) {
            return Err(unfit(place("instance"), format!("{} is there twice", instance.name), "name = \"bob\""));
        }
        // Copies of one service with shared traffic may work on the same data.
        if !folders.insert(&instance.data) && service.traffic.is_none() {
            let what = format!("{} has the data folder of another instance", instance.name);
            return Err(unfit(place("instance"), what, "data = \"data/bob\""));
        }
    }
    match &service.traffic {
        Some(traffic) => {
            if let Some((key, what, example)) = traffic.problem(&service.instance) {
                return Err(unfit(place(key), what, example));
            }
            if let Some(one) = service.instance.iter().find(|one| one.front_door.is_some()) {
                let what = format!("{} has a front door of its own; with shared traffic the router is it", one.name);
                return Err(unfit(place("instance"), what, "leave front_door out"));
            }
            let named = [("rollout.canary", &service.rollout.canary), ("rehearsal.on", &service.rehearsal.on)];
            if let Some((key, _)) = named.into_iter().find(|(_, name)| name.is_some()) {
                let what = "with shared traffic nobody is moved by name".into();
                return Err(unfit(place(key), what, "leave it out"));
            }
        }
        None => {
            if let Some(one) = service.instance.iter().find(|one| one.other_port.is_some()) {
                let what = format!("{} has an other_port, which only shared traffic uses", one.name);
                return Err(unfit(place("instance"), what, "leave it out, or set up service.NAME.traffic"));
            }
        }
    }
    if service.command.is_empty() {
        return Err(unfit(place("command"), "there is no program".into(), "command = [\"{release}/server\"]"));
    }
    if service.probe.is_empty() {
        return Err(unfit(
            place("probe"),
            "a service without a probe of real behaviour can't be proven to work".into(),
            "[[service.NAME.probe]] with name, http and expect",
        ));
    }
    let vars: Vec<BTreeSet<&str>> =
        service.instance.iter().map(|one| one.vars.keys().map(String::as_str).collect()).collect();
    let everywhere = |name: &&str| vars.iter().all(|one| one.contains(*name));
    let known = Known {
        secrets: config.secret.keys().map(String::as_str).collect(),
        vars: vars.first().into_iter().flatten().copied().filter(everywhere).collect(),
    };
    let mut names: BTreeSet<String> = expand::NAMES.iter().chain(&known.vars).map(|name| (*name).to_owned()).collect();
    names.extend(known.secrets.iter().map(|name| format!("secret:{name}")));
    let problem =
        |key: &str, problem: ConfigProblem| unfit(place(key), problem.to_string(), &problem.hint().unwrap_or_default());
    ProbeConfig { steps: service.probe.clone() }.check(&known).map_err(|wrong| problem("probe", wrong))?;
    let declared = config.switches.as_ref().map(|switches| switches.declared()).unwrap_or_default();
    let turns_on = service.traffic.iter().flat_map(|traffic| &traffic.turns_on);
    if let Some(one) = turns_on.into_iter().find(|one| !declared.flags.contains_key(&one.flag)) {
        let what = format!("flag {} is not declared", one.flag);
        return Err(unfit(place("traffic.turns_on"), what, "[switches.flag.NAME] with type = \"boolean\""));
    }
    let trips = service.traffic.iter().flat_map(|traffic| &traffic.guard.trips);
    if let Some(name) = trips.into_iter().find(|name| !declared.knows(name)) {
        let what = format!("there is no switch {name}");
        return Err(unfit(place("traffic.guard.trips"), what, "[switches] with subsystems = [\"auth\"]"));
    }
    let closes = service.traffic.iter().flat_map(|traffic| &traffic.closes);
    if let Some(closes) = closes.into_iter().find(|closes| !declared.knows(&closes.switch)) {
        let what = format!("there is no switch {}", closes.switch);
        return Err(unfit(place("traffic.closes"), what, "[switches] with subsystems = [\"auth\"]"));
    }
    if let Some(resume) = service.traffic.as_ref().and_then(|traffic| traffic.resume.as_ref()) {
        resume.check(&known).map_err(|wrong| problem("traffic.resume", wrong))?;
    }
    if let Some(ready) = &service.ready {
        ready.check(&known).map_err(|wrong| problem("ready", wrong))?;
    }
    if let Some(busy) = &service.busy {
        busy.check(&known).map_err(|wrong| problem("busy", wrong))?;
    }
    for text in service.command.iter().chain(service.env.values()).chain(&service.workdir) {
        expand::check(text, &names).map_err(|what| unfit(place("command"), what, "{release}, {data}, {port}"))?;
    }
    service
        .policy
        .check(&service.channel)
        .map_err(|wrong| unfit(place(&format!("policy.{}", wrong.key)), wrong.what, wrong.example))?;
    if let Some(environment) = &service.environment
        && let Err(what) = passed_in(config, name, environment)
    {
        return Err(unfit(place("policy.passed_in"), what, "passed_in = \"staging\""));
    }
    if let Some(schedule) = &service.schedule {
        crate::schedule::check(schedule)
            .map_err(|what| unfit(place("schedule"), what, "schedule = { at = \"05:30\", jitter = \"20m\" }"))?;
    }
    crate::schedule::check_window(&service.rollout.drain)
        .map_err(|what| unfit(place("rollout.drain"), what, "drain = { from = \"22:00\", to = \"06:00\" }"))?;
    if let RuntimeConfig::Systemd(SystemdConfig { unit, .. }) = &service.runtime
        && !(unit.contains("{instance}") && unit.ends_with(".service"))
    {
        let what = format!("{unit} does not name a unit for each instance");
        return Err(unfit(place("runtime"), what, "runtime = { systemd = { unit = \"app@{instance}.service\" } }"));
    }
    let named = [&service.rollout.canary, &service.rehearsal.on];
    if let Some(missing) = named.into_iter().flatten().find(|name| service.instance(name).is_none()) {
        let what = format!("there is no instance {missing}");
        return Err(unfit(place("instance"), what, "name one of the service's instances"));
    }
    Ok(())
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
