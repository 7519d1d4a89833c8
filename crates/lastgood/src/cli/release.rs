//! `lastgood pin`, `unpin`, `reject`, `waive`: what people decide about releases.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    event::Event,
    operations::{cap::Risky, people::Act},
    service::Service,
    terms::{Digest, Reason, ReleaseTag},
};
use serde_json::json;

/// Pin a service to one release.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The service.
    service: String,
    /// The release.
    release: ReleaseTag,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

/// Remove a pin and follow the channel again.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// The service [default: the only one].
    service: Option<String>,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

/// Reject a release: it is never tried again.
#[derive(Debug, Args)]
pub(crate) struct Reject {
    /// The service.
    service: String,
    /// The release; it must have been installed here before.
    release: ReleaseTag,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

/// Allow a rejected release to be tried again.
#[derive(Debug, Args)]
pub(crate) struct Waive {
    /// The service.
    service: String,
    /// The release.
    release: ReleaseTag,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

impl Pin {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        app.say(&service, |_| Ok(vec![Event::Pinned { tag: self.release.clone(), reason: self.reason.clone() }]))?;
        app.screen.show(
            "pin",
            &json!({ "service": service, "release": self.release, "reason": self.reason }),
            &format!("{service} is pinned to {}\napply it now: lastgood run {service} --now", self.release),
        );
        Ok(Exit::Done)
    }
}

impl Unpin {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(self.service.as_deref())?;
        app.say(&service, |folded| match folded.pin {
            Some(_) => Ok(vec![Event::Unpinned { reason: self.reason.clone() }]),
            None => Err(Trouble::say(
                Exit::Failed,
                "pin-none",
                format!("{service} is not pinned"),
                &format!("pin it: lastgood pin {service} RELEASE --reason …"),
            )),
        })?;
        app.screen.show(
            "unpin",
            &json!({ "service": service }),
            &format!("{service} follows its channel again\nlook now: lastgood run {service} --now"),
        );
        Ok(Exit::Done)
    }
}

impl Reject {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        app.say(&service, |folded| {
            let release = digest_of(folded, &self.release).ok_or_else(|| {
                Trouble::say(
                    Exit::Failed,
                    "release-unknown",
                    format!("{} was never installed for {service}, so its digest is unknown", self.release),
                    &format!("keep it out with a pin: lastgood pin {service} RELEASE --reason …"),
                )
            })?;
            Ok(vec![Event::Rejected { release, tag: self.release.clone(), reason: self.reason.to_string() }])
        })?;
        app.screen.show(
            "reject",
            &json!({ "service": service, "release": self.release }),
            &format!("{} is never tried again\nif it runs, go back: lastgood rollback {service}", self.release),
        );
        Ok(Exit::Done)
    }
}

impl Waive {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        // Who may not, and what is not there, is not counted.
        let may = app.config.people().check(&app.actor, Act::Waive);
        may.map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
        self.rejected(&app.look(&service)?.service)?;
        // Counted before it is done: a crash in between costs one of the day, never one above the cap.
        if let Some(counted) = app.counted(Risky::Waive) {
            app.say_operations(&|_| Ok(vec![counted.clone()]))?;
        }
        app.say(&service, |folded| {
            let waive = |release| Event::Waived { release, reason: self.reason.clone() };
            Ok(self.rejected(folded)?.into_iter().map(waive).collect())
        })?;
        app.screen.show(
            "waive",
            &json!({ "service": service, "release": self.release }),
            &format!("{} may be tried again\ntry it: lastgood run {service} --now", self.release),
        );
        Ok(Exit::Done)
    }

    /// Gives the digests that are rejected under the release's name.
    fn rejected(&self, service: &Service) -> Result<Vec<Digest>, Trouble> {
        let rejected = service.rejected.iter().filter(|(_, rejection)| rejection.tag == self.release);
        let digests: Vec<Digest> = rejected.map(|(digest, _)| *digest).collect();
        match digests.is_empty() {
            false => Ok(digests),
            true => Err(Trouble::say(
                Exit::Failed,
                "rejection-none",
                format!("{} is not rejected for {}", self.release, self.service),
                &format!("see what is: lastgood why {}", self.service),
            )),
        }
    }
}

fn digest_of(service: &Service, tag: &ReleaseTag) -> Option<Digest> {
    service.tags.get(tag).copied()
}
