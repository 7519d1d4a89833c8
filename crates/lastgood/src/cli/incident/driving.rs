//! What driving a plan needs of the program as a whole: to be alone, and hands.

use super::starting;
use crate::{
    app::App,
    cli::{credential, evidence, rollback},
    exit::Exit,
    preserve,
    screen::Trouble,
};
use lastgood_domain::{
    event::{self, End},
    failure::Failure,
    operations::{Operations, incident::plan::Turn},
    terms::{IncidentId, InstanceName, ReleaseTag, ServiceName, Span},
    words,
};
use lastgood_drivers::probe;
use lastgood_engine::{
    config::Config,
    incident::{Door, Hands, carried_out},
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long what an earlier driver left running is waited for before a person is told.
const LEFT_OVER_WAIT: Duration = Duration::from_secs(30);

/// Takes the plan's lock, which only whoever drives it holds. What a driver that was killed in the middle of a step left
/// running is waited for.
pub(super) fn alone(app: &App, id: IncidentId) -> Result<File, Trouble> {
    app.store()?;
    let path = app.home.root().join(format!("incident-{id}.lock"));
    let lock = held(id, &path, FlockOperation::NonBlockingLockExclusive)?;
    // As it is now that nobody else drives it.
    if cut_off(&app.operations()?, id) {
        held(id, &commands_file(app, id), FlockOperation::NonBlockingLockExclusive)?;
    }
    Ok(lock)
}

/// The file whose lock commands of steps inherit: none is begun again while one of a driver that was killed lives. It is
/// apart from the driver's, so that what a step starts for good, such as an instance or a daemon, keeps nobody out.
fn commands_file(app: &App, id: IncidentId) -> PathBuf {
    app.home.root().join(format!("incident-{id}-commands.lock"))
}

/// Tells whether a step was begun and nobody knows how it ended.
fn cut_off(operations: &Operations, id: IncidentId) -> bool {
    let planned = operations.incidents.all.get(&id).and_then(|incident| incident.planned.as_ref());
    planned.is_some_and(|planned| planned.steps.values().any(|progress| progress.ended.is_none()))
}

/// Locks a file, and waits for what is about to end.
fn held(id: IncidentId, path: &Path, how: FlockOperation) -> Result<File, Trouble> {
    let failed = |error: std::io::Error| {
        let what = format!("{} can't be used: {error}", path.display());
        Trouble::say(Exit::Failed, "incident-lock", what, "check owner and free space of the state folder")
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    let begun = Instant::now();
    while flock(&file, how).is_err() {
        if begun.elapsed() >= LEFT_OVER_WAIT {
            return Err(Trouble::say(
                Exit::Driven,
                "incident-driven",
                format!("somebody runs the plan of incident {id}, or a command of it is still running"),
                &format!("see who: fuser -v {}", path.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(file)
}

/// What steps need of the program as a whole.
pub(super) struct OurHands<'a> {
    pub(super) app: &'a App,
    pub(super) incident: IncidentId,
}

impl OurHands<'_> {
    /// Gives a lock that the commands of one step inherit: one that outlives us keeps the next driver from beginning it
    /// again. Shared, because what a step left in the background is no reason not to do the next.
    fn inherited(&self) -> Result<File, Failure> {
        let path = commands_file(self.app, self.incident);
        let how = FlockOperation::NonBlockingLockShared;
        let file = held(self.incident, &path, how).map_err(|trouble| trouble.failure)?;
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).map_err(|error| {
            Failure::new(
                "incident-lock",
                format!("{} can't be used: {error}", path.display()),
                Some("check owner and free space of the state folder"),
            )
        })?;
        Ok(file)
    }
}

impl Hands for OurHands<'_> {
    fn roll_back(
        &self,
        service: &ServiceName,
        to: &ReleaseTag,
        risks: &[String],
        reason: &str,
        within: Span,
    ) -> Result<String, Failure> {
        let until = self.app.now().after(within);
        let end = rollback::take_back(self.app, service, to, risks, reason).map_err(|trouble| trouble.failure)?;
        // Whoever drives it goes on; the log tells.
        while end.is_none() && self.app.now() < until {
            let now = self.app.look(service).map_err(|trouble| trouble.failure)?.service;
            if now.run.is_none() {
                return Ok(now.last_end.map_or_else(String::new, |(_, _, end)| words::end_words(&end)));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        match end {
            Some(end @ (End::RolledBack { .. } | End::UpToDate)) => Ok(words::end_words(&end)),
            Some(end) => Err(Failure::new(
                "rollback-not-done",
                format!("{service}: {}", words::end_words(&end)),
                Some(&format!("see why: lastgood why {service}")),
            )),
            None => Err(Failure::new(
                "rollback-timeout",
                format!("{service} is not back after {within}"),
                Some(&format!("watch it: lastgood watch {service}; then run the plan again")),
            )),
        }
    }

    fn way_back(&self, service: &ServiceName, to: &ReleaseTag, risks: &[String]) -> Result<String, Failure> {
        rollback::way_back(self.app, service, to, risks).map_err(|trouble| trouble.failure)
    }

    fn preserve(&self, incident: IncidentId) -> Result<String, Failure> {
        preserve::for_incident(self.app, incident, self.app.now())
    }

    fn room(&self) -> Result<String, Failure> {
        preserve::room(self.app, self.incident)
    }

    fn annotate(&self, incident: IncidentId, services: &[ServiceName]) -> Result<String, Failure> {
        for service in services {
            let said = self.app.say(service, |folded| {
                Ok(match folded.incidents.contains(&incident) {
                    true => Vec::new(),
                    false => vec![event::Event::Annotated { incident }],
                })
            });
            said.map_err(|trouble| trouble.failure)?;
        }
        Ok(format!("{} named the incident", words::count(services.len() as u64, "chain")))
    }

    fn start_again(&self, service: &ServiceName, instance: &InstanceName, within: Span) -> Result<(), Failure> {
        starting::start_again(self.app, service, instance, within).map_err(|trouble| trouble.failure)
    }

    fn verify_evidence(&self) -> Result<String, Failure> {
        let run = evidence::verified(self.app).map_err(|trouble| trouble.failure)?;
        match run.findings.first() {
            None => Ok(format!("{} verified", words::count(run.records, "record"))),
            Some(finding) => {
                let hint = Some("see all: lastgood evidence verify");
                Err(Failure::new("evidence-broken", evidence::says(finding), hint))
            }
        }
    }

    fn cut_over(&self) -> Result<String, Failure> {
        let sign = || {
            let (signer, anchor) = evidence::signer(self.app)?;
            evidence::sign_all(&mut self.app.store()?, &signer, &anchor, self.app)
        };
        let signed = sign().map_err(|trouble: Trouble| trouble.failure)?;
        let positions: Vec<String> = signed.iter().map(|(chain, size)| format!("{chain} {size}")).collect();
        Ok(format!("signed at {}", positions.join(", ")))
    }

    fn credential(&self, incident: IncidentId, name: &str, turn: Turn) -> Result<String, Failure> {
        let credential = credential::prepared(self.app, name).map_err(|trouble| trouble.failure)?;
        let _inherited = self.inherited()?;
        let done = match turn {
            Turn::Revoke => credential.revoke(Some(&format!("incident {incident}"))),
            Turn::ProveRefused => credential.prove_refused(),
            Turn::Rotate => credential.rotate(),
            Turn::ProveConsumers => credential.prove_consumers(),
        };
        done.map(|done| done.what).map_err(|error| Failure::of(&error))
    }

    fn probe(&self, config: &Config, steps: &[probe::Step], door: Door, within: Span) -> Result<String, Failure> {
        let _inherited = self.inherited()?;
        carried_out(config, steps, door, within)
    }
}
