//! Asks a required gate about the candidate, and about last-good if it does not pass: the control.

use super::{Site, now};
use lastgood_domain::{
    effect::Answer,
    event::{GateControl, GateFacts, Verdict},
    failure::Failure,
    service::Service,
    terms::{Digest, GateName, ServiceName, Span},
};
use lastgood_drivers::gate::{self, Asked, Subject};
use std::time::Instant;

/// Gives what a gate is asked about: a release that is installed.
pub fn subject(name: &ServiceName, service: &Service, release: &Digest) -> Subject {
    let known = service.installed.get(release);
    Subject {
        service: Some(name.clone()),
        tag: service.tag(release).cloned(),
        digest: Some(*release),
        commit: Subject::commit_of(known.and_then(|known| known.mark.as_deref())),
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
    let begun = Instant::now();
    let asked = Asked { folder: &site.channel.folder, secrets: &site.secrets, now: now(), any_age: false };
    let (verdict, because) = gate::ask(config, &subject(&site.name, service, release), &asked);
    let control = control.filter(|_| verdict != Verdict::Pass).map(|last_good| {
        let any_age = Asked { any_age: true, ..asked.clone() };
        let (verdict, because) = gate::ask(config, &subject(&site.name, service, last_good), &any_age);
        GateControl { verdict, because: brief(because) }
    });
    let took = Span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(Answer::GateAsked { facts: GateFacts { verdict, because: brief(because), control, took } })
}

/// Cuts what becomes evidence.
fn brief(text: String) -> String {
    text.chars().take(Failure::MESSAGE_CHARS_MAX / 2).collect()
}
