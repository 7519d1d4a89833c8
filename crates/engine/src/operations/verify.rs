//! The verification of an incident, carried out: each check asks something real, and says what came with numbers.

use super::{
    Record, Scope, chain,
    facts::{gone, services},
};
use crate::{
    config::{Config, InstanceConfig},
    desk::Subject as _,
    fold::Folded,
    letter::rfc3339,
    paths::Home,
    world::{self, Site, now},
};
use lastgood_domain::{
    event::Verdict,
    failure::Failure,
    operations::{
        Event,
        incident::{
            Incident, IncidentEvent,
            unfreeze::Facts,
            verify::{Check, Proof, VerifyEvent},
        },
    },
    service::Service,
    terms::{Digest, GateName, IncidentId, InstanceName, ServiceName},
    words,
};
use lastgood_drivers::{
    gate::{self, Asked, Subject},
    probe::{FailureKind, ProbeConfig, ProbeTarget, Secrets, Step},
};
use lastgood_store::{NoticeState, Reader};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Longest one configured check may take; a gate that runs a test suite has already run it.
const CHECK_MAX: Duration = Duration::from_secs(600);
/// What a command says by its exit status when its proof is missing.
const EXIT_MISSING: &str = "exit status 12 ";

/// Asks everything but the round trip, which has to be written first.
pub fn checks(
    config: &Config,
    home: &Home,
    program: &Path,
    store: Option<&Reader>,
    (id, incident): (IncidentId, &Incident),
    facts: &Facts,
) -> Vec<Check> {
    let mut all: Vec<Check> = gone(config, incident)
        .map(|name| check(format!("release/{name}"), Proof::Missing, format!("there is no [service.{name}]")))
        .collect();
    for name in services(config, incident) {
        let service = record_of(store, name);
        all.push(release(&service, config, name));
        all.extend(instances(config, home, program, name, service.as_ref().ok()));
    }
    // What a service requires before it moves is required of what it runs, whether it is named once more or not.
    let mut gates = config.incident.verify.gates.clone();
    for name in services(config, incident).flat_map(|one| &config.service[one].gates) {
        if !gates.contains(name) {
            gates.push(name.clone());
        }
    }
    all.extend(gates.iter().filter_map(|name| gate(store, config, incident, name)));
    all.extend(config.incident.verify.check.iter().map(|step| configured(config, id, incident, step)));
    if all.is_empty() {
        all.push(check("services".into(), Proof::Missing, "no service and no check is configured"));
    }
    all.push(frozen(incident, facts));
    all
}

/// Adds what is required and not there.
pub fn required(config: &Config, mut checks: Vec<Check>) -> Vec<Check> {
    for name in &config.incident.verify.required {
        if !checks.iter().any(|check| check.name == *name) {
            checks.push(check(name.clone(), Proof::Missing, "no check is called so"));
        }
    }
    checks
}

fn check(name: String, proof: Proof, detail: impl Into<String>) -> Check {
    let detail: String = detail.into();
    Check { name, proof, detail: detail.chars().take(300).collect() }
}

/// Reads the state of a service. Errors: why nobody can.
fn record_of(store: Option<&Reader>, name: &ServiceName) -> Result<Service, String> {
    let store = store.ok_or("there is no record")?;
    Ok(Folded::read(store, name).map_err(|error| format!("its record can't be read: {error}"))?.service)
}

/// Gives the instances that users depend on.
fn serving<'a>(all: &'a [InstanceConfig], service: Option<&Service>) -> Vec<&'a InstanceConfig> {
    all.iter().filter(|one| service.is_none_or(|service| service.serves(&one.name))).collect()
}

/// Tells whether every instance that serves runs last-good.
fn release(service: &Result<Service, String>, config: &Config, name: &ServiceName) -> Check {
    let title = format!("release/{name}");
    let service = match service {
        Ok(service) => service,
        Err(why) => return check(title, Proof::Error, why.as_str()),
    };
    let Some(good) = service.last_good else { return check(title, Proof::Missing, "it has no last-good release") };
    let all = serving(&config.service[name].instance, Some(service));
    let runs = |one: &InstanceName| service.instances.get(one).is_some_and(|state| state.release == Some(good));
    let on = all.iter().filter(|one| runs(&one.name)).count();
    let proof = if on == all.len() { Proof::Pass } else { Proof::Fail };
    let tag = service.name_of(Some(&good));
    check(title, proof, format!("{on} of {} instances run {tag}, {}", all.len(), good.short()))
}

/// Asks the instances that serve: are they healthy, does their whole probe pass.
fn instances(
    config: &Config,
    home: &Home,
    program: &Path,
    name: &ServiceName,
    service: Option<&Service>,
) -> Vec<Check> {
    let (health, smoke) = (format!("health/{name}"), format!("smoke/{name}"));
    let site = match Site::open(config, name, home.service(name), program.to_path_buf()) {
        Ok(site) => site,
        Err(error) => {
            return [health, smoke].map(|title| check(title, Proof::Error, Failure::of(&error).message)).into();
        }
    };
    let asked = serving(&site.config.instance, service);
    let mut checks = vec![each(&asked, health, &|one| site.health(one).map(|took| format!("{one} in {took}")))];
    checks.push(match site.config.probe.is_empty() {
        true => check(smoke, Proof::Missing, format!("service.{name} has no probe")),
        false => each(&asked, smoke, &|one| {
            let facts = site.smoke(one)?;
            Ok(format!("{one} by {} in {}", words::count(u64::from(facts.requests), "step"), facts.took))
        }),
    });
    checks
}

fn each(all: &[&InstanceConfig], title: String, ask: &dyn Fn(&InstanceName) -> Result<String, Failure>) -> Check {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for instance in all {
        match ask(&instance.name) {
            Ok(text) => good.push(text),
            Err(failure) => bad.push(format!("{}: {}", instance.name, failure.message)),
        }
    }
    let count = format!("{} of {}", good.len(), all.len());
    match bad.first() {
        None => check(title, Proof::Pass, format!("{count}: {}", good.join(", "))),
        Some(first) => check(title, Proof::Fail, format!("{count}; {first}")),
    }
}

/// Asks a gate about what runs: every release that it is about must pass it. None if it is about other services only.
fn gate(store: Option<&Reader>, config: &Config, incident: &Incident, name: &GateName) -> Option<Check> {
    let title = format!("gate/{name}");
    let requiring: Vec<&ServiceName> = config.requiring(name).collect();
    let about: Vec<_> =
        services(config, incident).filter(|one| requiring.is_empty() || requiring.contains(one)).collect();
    let is_about_others = about.is_empty() && services(config, incident).next().is_some();
    if is_about_others && gone(config, incident).next().is_none() {
        return None;
    }
    if about.is_empty() {
        return Some(check(title, Proof::Missing, "there is no service to ask it about"));
    }
    let Some(gate) = config.gate.get(name) else { return Some(check(title, Proof::Missing, "there is no such gate")) };
    let secrets = match Secrets::load(&config.secret, &config.folder) {
        Ok(secrets) => secrets,
        Err(error) => return Some(check(title, Proof::Error, Failure::of(&error).message)),
    };
    let asked = Asked { folder: &config.folder, secrets: &secrets, now: now(), any_age: false };
    let said = about.into_iter().map(|service| match runs(store, config, service) {
        Err(why) => (Proof::Missing, format!("{service}: {why}")),
        Ok(subject) => {
            let (verdict, because) = gate::ask(gate, &subject, &asked);
            let proof = match verdict {
                Verdict::Pass => Proof::Pass,
                Verdict::Fail => Proof::Fail,
                // Skipped, renamed, of another commit, too old: none of these is a proof.
                Verdict::Hold | Verdict::CannotTell => Proof::Missing,
            };
            let tag = subject.tag.as_ref().map_or_else(String::new, |tag| format!(" {tag}"));
            let commit = subject.commit.as_ref().map_or_else(String::new, |commit| format!(" at {commit}"));
            (proof, format!("{service}{tag}{commit}: {}", words::one_line(&because)))
        }
    });
    let said: Vec<(Proof, String)> = said.collect();
    // What fails is said before what is missing.
    let worst = [Proof::Fail, Proof::Missing].into_iter().find(|worst| said.iter().any(|(proof, _)| proof == worst));
    let shown = said.iter().filter(|(proof, _)| worst.is_none_or(|worst| *proof == worst));
    let detail = shown.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    Some(check(title, worst.unwrap_or(Proof::Pass), detail))
}

/// Gives the release that a service runs, as gates ask about it.
fn runs(store: Option<&Reader>, config: &Config, name: &ServiceName) -> Result<Subject, String> {
    let service = record_of(store, name)?;
    let good = service.last_good.ok_or("it has no last-good release")?;
    Ok(world::subject(name, &service, &good, config.service[name].commit.as_deref()))
}

/// Does one configured step.
fn configured(config: &Config, id: IncidentId, incident: &Incident, step: &Step) -> Check {
    let title = format!("check/{}", step.name());
    let secrets = match Secrets::load(&config.secret, &config.folder) {
        Ok(secrets) => secrets,
        Err(error) => return check(title, Proof::Error, Failure::of(&error).message),
    };
    let vars = [("incident", id.to_string()), ("level", incident.level.as_str().to_owned())];
    let target = ProbeTarget {
        base: config.incident.verify.base.clone(),
        vars: vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        secrets: secrets.clone(),
        folder: config.folder.clone(),
        ..ProbeTarget::default()
    };
    let probe = ProbeConfig { steps: vec![step.clone()] };
    match probe.run(&target, CHECK_MAX) {
        Ok(facts) => check(
            title,
            Proof::Pass,
            format!("{} passed in {}", words::count(u64::from(facts.requests), "step"), facts.took),
        ),
        Err(failure) => {
            let proof = match failure.kind {
                _ if failure.got().starts_with(EXIT_MISSING) => Proof::Missing,
                // What can't even be begun proves nothing: a program that was renamed, a variable without a value.
                FailureKind::Config => Proof::Missing,
                FailureKind::Failed => Proof::Fail,
                FailureKind::Unreachable | FailureKind::Timeout => Proof::Error,
            };
            check(title, proof, secrets.scrub(&failure.to_string()))
        }
    }
}

fn frozen(incident: &Incident, facts: &Facts) -> Check {
    let title = "freeze".to_owned();
    match facts.unconfirmed.as_slice() {
        _ if incident.drill => check(title, Proof::Pass, "drill: nothing is held"),
        [] => check(title, Proof::Pass, format!("read back in {}", words::count(facts.target.len() as u64, "service"))),
        bad => check(title, Proof::Fail, bad.join(", ")),
    }
}

/// Reads a marker back by a connection of its own: the record itself, and each notice that it caused.
///
/// `endpoints` are those that must have got one.
pub fn round_trip(state_dir: &Path, incident: IncidentId, marker: Digest, endpoints: &[String]) -> Check {
    let title = "round-trip".to_owned();
    let read = Reader::open(state_dir).and_then(|reader| {
        let head = reader.head(&chain())?;
        // Others may have written since.
        let from = head.size.saturating_sub(256);
        let records = reader.read(&chain(), from, 256)?;
        let ours = records.iter().find(|record| is_marker(&record.bytes, incident, marker));
        Ok(match ours {
            None => None,
            Some(record) => Some((record.seq, record.at, reader.notices_of(&chain(), record.seq)?)),
        })
    });
    match read {
        Err(error) => check(title, Proof::Error, error.to_string()),
        Ok(None) => check(title, Proof::Fail, format!("marker {} is not in the record", marker.short())),
        Ok(Some((seq, at, notices))) => {
            let on_its_way = |endpoint: &String| {
                let is_alive = |state: &NoticeState| !matches!(state, NoticeState::Failed | NoticeState::Parked);
                notices.iter().any(|(to, state)| to == endpoint && is_alive(state))
            };
            let lost: Vec<&str> = endpoints.iter().filter(|one| !on_its_way(one)).map(String::as_str).collect();
            if !lost.is_empty() {
                return check(title, Proof::Fail, format!("event {seq} has no notice to {}", lost.join(", ")));
            }
            let delivered = notices.iter().filter(|(_, state)| *state == NoticeState::Delivered).count();
            let queued = notices.len() - delivered;
            let text = format!("event {seq} of {}, {delivered} notices delivered, {queued} queued", rfc3339(at));
            check(title, Proof::Pass, text)
        }
    }
}

fn is_marker(bytes: &[u8], incident: IncidentId, marker: Digest) -> bool {
    let looked_for = Event::Incident { incident, event: IncidentEvent::Verify(VerifyEvent::Marked { marker }) };
    Scope::parse(bytes).is_ok_and(|Record { event, .. }| event == looked_for)
}
