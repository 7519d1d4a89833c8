//! Makes the plan of an incident from the configuration and the services' logs.

use crate::{
    config::{CheckConfig, Config, FileConfig, RuntimeConfig, StepConfig},
    world,
};
use lastgood_domain::{
    operations::incident::{
        Incident, Level,
        plan::{Act, Area, Plan, Precondition, Risk, RiskLevel, Step, Target, Turn, Undo},
    },
    rollout::keeps_data,
    service::Service,
    terms::{Digest, Reason, ReleaseTag, ServiceName, Span},
    words,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time a service may take to go back: copies of large data take minutes, hours mean that it hangs.
const ROLL_BACK_MAX: Span = Span::minutes(60);
/// Longest time of what only reads or writes the log and files.
const QUICK_MAX: Span = Span::minutes(10);
/// How the risk begins that an instance in use is stopped.
pub(super) const IN_USE: &str = "busy-instance:";

/// Makes the plan for the incident's level.
///
/// `services` are the states of those it is about; `to` names releases other than last-good; `risks` are accepted by
/// name, such as `busy-instance:alice`, by service.
pub fn plan(
    config: &Config,
    incident: &Incident,
    services: &BTreeMap<ServiceName, Service>,
    to: &BTreeMap<ServiceName, ReleaseTag>,
    risks: &BTreeMap<ServiceName, Vec<String>>,
) -> Plan {
    let targets: Vec<Target> =
        services.iter().filter_map(|(name, service)| target(config, name, service, to.get(name))).collect();
    let mut steps = Vec::new();
    for target in &targets {
        let risks = risks.get(&target.service).cloned().unwrap_or_default();
        steps.push(roll_back(config, target, &services[&target.service], risks));
    }
    steps.extend(targets.iter().map(|target| {
        let risks = risks.get(&target.service).into_iter().flatten();
        put_back(config, target, risks.filter(|risk| risk.starts_with(IN_USE)).cloned().collect())
    }));
    let concerns =
        |wanted: &BTreeSet<ServiceName>| wanted.is_empty() || services.keys().any(|one| wanted.contains(one));
    let commands =
        config.runbook.step.iter().filter(|(_, one)| one.level() <= incident.level && concerns(&one.services));
    steps.extend(commands.map(|(name, one)| command(config, name, one)));
    let checks =
        config.runbook.check.iter().filter(|(_, one)| one.level() <= incident.level && concerns(&one.services));
    steps.extend(checks.map(|(name, one)| check(config, name, one)));
    if incident.level >= Level::L3 {
        steps.extend(evidence());
        steps.extend(config.credential.iter().flat_map(|(name, one)| credential(name, one)));
    }
    // Checks after what they check: commands come first within their area, which a stable sort keeps.
    steps.sort_by_key(|step| step.area);
    Plan { level: incident.level, targets, steps }
}

/// Digests a plan's canonical bytes (RFC 8785): what is approved and run.
pub fn hash_of(plan: &Plan) -> Digest {
    digest(plan)
}

/// Gives the digest over what the configuration says of a step now; none if it is no longer there.
pub fn spec_of(config: &Config, act: &Act) -> Option<Digest> {
    Some(match act {
        Act::RollBack { service, .. } => digest(config.service.get(service)?),
        Act::PutBack { service, .. } => digest(&(config.service.get(service)?, files(config, service))),
        Act::Command { name } => commanded(config, config.runbook.step.get(name)?)?,
        Act::Check { name } => asked(config, config.runbook.check.get(name)?)?,
        Act::Preserve | Act::Annotate | Act::VerifyEvidence | Act::CutOver => digest(&()),
        Act::Credential { name, .. } => digest(config.credential.get(name)?),
        Act::ByHand { what } => digest(what),
    })
}

/// Digests a check with the database that it asks: another database is another check.
fn asked(config: &Config, check: &CheckConfig) -> Option<Digest> {
    Some(match &check.sql {
        Some(sql) => digest(&(check, config.database.get(&sql.database)?)),
        None => digest(check),
    })
}

/// Digests a command with the database that its precondition asks.
fn commanded(config: &Config, step: &StepConfig) -> Option<Digest> {
    Some(match step.precondition.as_ref().and_then(|need| need.sql.as_ref()) {
        Some(sql) => digest(&(step, config.database.get(&sql.database)?)),
        None => digest(step),
    })
}

/// Says what may go wrong with a step.
fn risk(level: RiskLevel, what: impl Into<String>) -> Option<Risk> {
    Some(Risk { level, what: what.into() })
}

/// Gives the steps that people do, one after the other, after all that lastgood does.
pub fn by_hand(acts: &[Reason]) -> Vec<Step> {
    let step = |(number, what): (usize, &Reason)| Step {
        id: format!("by-hand/{number}"),
        area: Area::Application,
        says: format!("by hand: {what}"),
        undo: Undo::By { how: "by hand, as it was done".into() },
        precondition: None,
        risk: risk(RiskLevel::Moderate, "nothing of it can be seen from here: people say that it is so"),
        timeout: ROLL_BACK_MAX,
        attempts: 1,
        may_fail: false,
        spec: digest(what),
        act: Act::ByHand { what: what.clone() },
    };
    (1..).zip(acts).map(step).collect()
}

fn digest(of: &impl Serialize) -> Digest {
    // `serde_json` sorts the keys of a value, which is what RFC 8785 asks for as long as keys are ASCII.
    let value = serde_json::to_value(of).expect("configurations and plans have text keys only");
    Digest::of(value.to_string().as_bytes())
}

fn target(config: &Config, name: &ServiceName, service: &Service, to: Option<&ReleaseTag>) -> Option<Target> {
    let (tag, release) = match to {
        Some(tag) => (tag.clone(), *service.tags.get(tag)?),
        None => {
            let release = service.last_good?;
            (service.tag(&release)?.clone(), release)
        }
    };
    let data =
        service.instances.iter().map(|(instance, state)| (instance.to_string(), service.name_of(state.data.as_ref())));
    let configured = config.service.get(name)?;
    let commit = world::subject(name, service, &release, configured.commit.as_deref()).commit;
    let (config, data, position) = (digest(configured), data.collect(), service.records);
    Some(Target { service: name.clone(), tag, release, commit, config, data, position })
}

/// Says whose data a way back to a release does not take back, if there is any.
pub(super) fn kept(service: &Service, release: &Digest) -> Option<String> {
    let kept = keeps_data(service, release);
    let each = kept.iter().map(|(name, left)| format!("{name} (of {})", service.name_of(Some(left))));
    (!kept.is_empty()).then(|| format!("the data of {} stays as it is", each.collect::<Vec<_>>().join(", ")))
}

/// Names the instances whose data would be put back to what it was.
fn restored(service: &Service, release: &Digest) -> Vec<String> {
    let kept = keeps_data(service, release);
    let is_restored = |data: &Option<Digest>| data.is_some_and(|data| data != *release);
    let all = service.instances.iter().filter(|(name, one)| is_restored(&one.data) && !kept.contains_key(*name));
    all.map(|(name, _)| name.to_string()).collect()
}

fn roll_back(config: &Config, target: &Target, state: &Service, risks: Vec<String>) -> Step {
    let Target { service, tag, .. } = target;
    let is_shared = config.service.get(service).is_some_and(|one| one.traffic.is_some());
    let data = match kept(state, &target.release) {
        _ if is_shared => "; its data stays as it is".to_owned(),
        None => ", with the data that belongs to it; newer data is kept aside".to_owned(),
        // Nothing was proved to be wrong with it; where the incident is about it, people take it back.
        Some(kept) => format!("; {kept}"),
    };
    let restored = restored(state, &target.release);
    let risk_back = match (risks.is_empty(), is_shared || restored.is_empty()) {
        (false, _) => risk(RiskLevel::Severe, format!("accepted by name: {}", risks.join(", "))),
        (true, false) => risk(
            RiskLevel::Severe,
            format!("what was written since is no longer there as {}; it is kept aside", restored.join(", ")),
        ),
        (true, true) if is_shared => risk(RiskLevel::Moderate, "users are moved to the other release"),
        (true, true) => risk(RiskLevel::Moderate, "each instance that moves is stopped and started once"),
    };
    let act = Act::RollBack { service: service.clone(), to: tag.clone(), risks };
    Step {
        id: format!("roll-back/{service}"),
        area: Area::Application,
        says: format!("{service} goes back to {tag}{data}"),
        undo: Undo::By { how: format!("let it follow its channel again: lastgood run {service} --now") },
        precondition: Some(Precondition::WayBack { service: service.clone(), to: tag.clone() }),
        risk: risk_back,
        timeout: ROLL_BACK_MAX,
        attempts: 1,
        may_fail: false,
        spec: spec_of(config, &act).unwrap_or(target.config),
        act,
    }
}

fn put_back(config: &Config, target: &Target, risks: Vec<String>) -> Step {
    let service = target.service.clone();
    let files = files(config, &service).len();
    let systemd = config.service.get(&service).is_some_and(|one| matches!(one.runtime, RuntimeConfig::Systemd(_)));
    let mut parts = vec!["installation".to_owned()];
    parts.extend(systemd.then(|| "units (one that may run with another is started again)".to_owned()));
    parts.push("environment".into());
    parts.extend((files > 0).then(|| words::count(files as u64, "file")));
    let parts = if parts.len() == 2 { parts.join(" and ") } else { parts.join(", ") };
    let act = Act::PutBack { service: service.clone(), risks };
    Step {
        id: format!("put-back/{service}"),
        area: Area::Infrastructure,
        says: format!("what {service} runs with is what {} declares: {parts}", target.tag),
        undo: Undo::By { how: "what was replaced is kept beside, as .before-INCIDENT".into() },
        precondition: Some(Precondition::AtRest { service: service.clone(), at: target.tag.clone() }),
        risk: risk(
            RiskLevel::Moderate,
            "edits made by hand are replaced; a program that runs with others is started again",
        ),
        timeout: QUICK_MAX,
        attempts: 1,
        may_fail: false,
        spec: spec_of(config, &act).unwrap_or(target.config),
        act,
    }
}

/// Gives the files that a service's release brings.
pub(super) fn files<'c>(config: &'c Config, service: &ServiceName) -> Vec<(&'c String, &'c FileConfig)> {
    config.runbook.file.iter().filter(|(_, file)| file.service == *service).collect()
}

fn command(all: &Config, name: &str, config: &StepConfig) -> Step {
    Step {
        id: format!("command/{name}"),
        area: config.area.into(),
        says: match config.verify.is_empty() {
            true => format!("{name} is carried out"),
            false => format!("{name} is carried out, and what it should lead to is seen"),
        },
        undo: config.undone(),
        precondition: config.precondition.as_ref().map(|_| Precondition::Asked { name: name.into() }),
        risk: Some(config.risk()),
        timeout: config.timeout.0,
        attempts: config.attempts,
        may_fail: config.may_fail,
        spec: commanded(all, config).unwrap_or_else(|| digest(config)),
        act: Act::Command { name: name.into() },
    }
}

fn check(config: &Config, name: &str, check: &CheckConfig) -> Step {
    Step {
        id: format!("check/{name}"),
        area: check.area.into(),
        says: format!("{name} holds"),
        undo: Undo::Nothing,
        precondition: None,
        risk: risk(RiskLevel::Low, "it only asks"),
        timeout: check.timeout.0,
        attempts: check.attempts,
        may_fail: false,
        spec: asked(config, check).unwrap_or_else(|| digest(check)),
        act: Act::Check { name: name.into() },
    }
}

fn evidence() -> [Step; 4] {
    let step = |id: &str, act: Act, says: &str, undo| Step {
        id: id.into(),
        area: Area::Evidence,
        precondition: (act == Act::Preserve).then_some(Precondition::Room),
        risk: match act {
            Act::Preserve => risk(RiskLevel::Low, "the copies take room on the state disk"),
            _ => risk(RiskLevel::Low, "it only asks, or adds to the evidence"),
        },
        act,
        says: says.into(),
        undo,
        timeout: QUICK_MAX,
        attempts: 1,
        may_fail: false,
        spec: digest(&()),
    };
    let kept = || Undo::None { why: "evidence is only added to, and harms nobody".into() };
    let removed = || Undo::By { how: "remove the folder that it names, once nobody needs it".into() };
    [
        // First: what is kept apart is what was there before anything is added.
        step(
            "evidence/preserve",
            Act::Preserve,
            "chains and logs are copied apart, and the copies read again",
            removed(),
        ),
        step("evidence/verify", Act::VerifyEvidence, "every chain is what was signed", Undo::Nothing),
        step("evidence/annotate", Act::Annotate, "the chain of each service names the incident", Undo::Nothing),
        step("evidence/cut-over", Act::CutOver, "the position of every chain is signed and written down", kept()),
    ]
}

fn credential(name: &str, config: &impl Serialize) -> Vec<Step> {
    let spec = digest(config);
    let step = |turn: Turn| {
        let precondition = (turn == Turn::Rotate).then(|| Precondition::OldRefused { name: name.into() });
        let risk = match turn {
            Turn::Revoke => risk(RiskLevel::Severe, format!("who uses {name} is cut off until the new one is there")),
            Turn::Rotate => risk(RiskLevel::Moderate, "who does not read the new one stays cut off"),
            Turn::ProveRefused | Turn::ProveConsumers => risk(RiskLevel::Low, "it only asks"),
        };
        let (says, undo) = match turn {
            Turn::Revoke => (
                format!("the credential {name} is taken back: who uses it is cut off until the new one is there"),
                Undo::None { why: "what was revoked may be in other hands and never comes back".into() },
            ),
            Turn::ProveRefused => (format!("the old {name} is tried and refused"), Undo::Nothing),
            Turn::Rotate => (
                format!("a new {name} is made and put where it is read"),
                Undo::None { why: "the old one is revoked".into() },
            ),
            Turn::ProveConsumers => (format!("those who need {name} work with the new one"), Undo::Nothing),
        };
        let act = Act::Credential { name: name.into(), turn };
        let (id, area) = (format!("credential/{name}/{}", turn.as_str()), Area::Credentials);
        let (timeout, attempts, may_fail) = (QUICK_MAX, 1, false);
        Step { id, area, act, says, undo, precondition, risk, timeout, attempts, may_fail, spec }
    };
    Turn::ALL.map(step).into()
}
