//! Asks a required gate about the candidate, and about last-good if it does not pass: the control.

use super::{Site, now};
use crate::operations;
use lastgood_domain::{
    effect::Answer,
    event::{GateControl, GateFacts, Verdict},
    failure::Failure,
    operations::overrule,
    service::Service,
    terms::{Actor, Digest, GateName, Reason, ServiceName, Span},
};
use lastgood_drivers::gate::{self, Asked, Subject};
use lastgood_store::Reader;
use std::{path::Path, time::Instant};

/// Gives what a gate is asked about: a release that is installed. `stamp` is the file of it that names its commit, where
/// the channel does not.
pub fn subject(name: &ServiceName, service: &Service, release: &Digest, stamp: Option<&Path>) -> Subject {
    let known = service.installed.get(release);
    let commit = Subject::commit_of(known.and_then(|known| known.mark.as_deref()));
    let stamped = || Subject::commit_in(&Path::new(&known?.installation.path).join(stamp?));
    Subject {
        service: Some(name.clone()),
        tag: service.tag(release).cloned(),
        digest: Some(*release),
        commit: commit.or_else(stamped),
        installation: known.map(|known| known.installation.path.clone().into()),
    }
}

pub(super) fn ask(
    site: &Site,
    service: &Service,
    name: &GateName,
    release: &Digest,
    control: Option<&Digest>,
) -> Result<Answer, Failure> {
    let config = site.gates.get(name).ok_or_else(|| {
        Failure::new(
            "gate-unknown",
            format!("there is no gate {name} in the configuration any more"),
            Some("put it back into lastgood.toml, or take it out of the service's gates"),
        )
    })?;
    let about = |release| subject(&site.name, service, release, site.config.commit.as_deref());
    let begun = Instant::now();
    let asked = Asked { folder: &site.channel.folder, secrets: &site.secrets, now: now(), any_age: false };
    let (verdict, because) = gate::ask(config, &about(release), &asked);
    let overridden = (verdict != Verdict::Pass).then(|| overridden(site, service, name, release)).flatten();
    if let Some((by, reason)) = overridden {
        let because = brief(format!("overridden by {by}: {reason}; it says: {because}"));
        let took = Span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        return Ok(Answer::GateAsked { facts: GateFacts { verdict: Verdict::Pass, because, control: None, took } });
    }
    let control = control.filter(|_| verdict != Verdict::Pass).map(|last_good| {
        let any_age = Asked { any_age: true, ..asked.clone() };
        let (verdict, because) = gate::ask(config, &about(last_good), &any_age);
        GateControl { verdict, because: brief(because) }
    });
    let took = Span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(Answer::GateAsked { facts: GateFacts { verdict, because: brief(because), control, took } })
}

/// Gives who lets the release pass the gate all the same, and why. What can't be read lets nothing pass.
fn overridden(site: &Site, service: &Service, gate: &GateName, release: &Digest) -> Option<(Actor, Reason)> {
    let tag = service.tag(release)?;
    let reader = Reader::open(&site.state_dir).ok()?;
    let operations = operations::Folded::read(&reader, &operations::Scope::default()).ok()?.state;
    let given = overrule::stands(&operations, gate.as_str(), &site.name, tag, Some(release), now())?;
    Some((given.by.clone(), given.overrule.reason.clone()))
}

/// Cuts what becomes evidence.
fn brief(text: String) -> String {
    text.chars().take(Failure::MESSAGE_CHARS_MAX / 2).collect()
}
