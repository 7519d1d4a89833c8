//! `lastgood rollback`: one command back, from any state.

mod preview;

use self::preview::{Preview, in_use, preview, says, written_so_far};
pub(super) use self::preview::{pinned, reaches};
use super::{Ended, expect};
use crate::{
    app::{App, quoted},
    drive,
    exit::Exit,
    room,
    screen::Trouble,
};
use clap::Args;
use lastgood_domain::{
    event::{Aim, Back, End},
    failure::Failure,
    operations::cap::Risky,
    service::Service,
    terms::{Digest, InstanceName, ReleaseTag, RunId, ServiceName},
    words,
};
use lastgood_drivers::runtime::session;
use lastgood_engine::{config::FILE_NAME, world::Site};
use lastgood_store::DriverLock;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The reason in the evidence where none is given.
const NO_REASON: &str = "asked on the command line";
/// What a rollback calls itself where it drives.
const ROLLBACK: &str = "lastgood rollback";

/// Roll back to last-good or a named release, with the data.
#[derive(Debug, Clone, Args)]
pub(crate) struct Rollback {
    /// The service [default: the only one].
    service: Option<String>,
    /// The release to roll back to [default: last-good, or the one before where last-good runs].
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseTag>,
    /// Only this instance. Repeatable.
    #[arg(long = "instance", value_name = "NAME")]
    instances: Vec<InstanceName>,
    /// Why; kept in the evidence.
    #[arg(long, default_value = NO_REASON)]
    reason: String,
    /// Accept a named risk: lost-writes:INSTANCE or busy-instance:INSTANCE.
    #[arg(long = "accept-risk", value_name = "RISK")]
    risks: Vec<String>,
    /// Show what would be rolled back; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do only what `--dry-run` showed with this digest; otherwise do nothing and exit 6.
    #[arg(long, value_name = "DIGEST", conflicts_with = "dry_run")]
    expect: Option<String>,
}

impl Rollback {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(self.service.as_deref())?;
        let _kept_open = (!self.dry_run).then(|| room::make(app));
        let folded = app.look(&service)?.service;
        if folded.records == 0
            && let Some(trouble) = app.renamed_to(&service)
        {
            // Nothing was ever recorded of it: most likely it had another name.
            return Err(trouble);
        }
        let (lost, busy) = self.accepted(&folded)?;
        let unknown = self.instances.iter().find(|name| !folded.instances.contains_key(*name));
        if let Some(unknown) = unknown {
            let known: Vec<InstanceName> = folded.instances.keys().cloned().collect();
            return Err(Trouble::say(
                Exit::Usage,
                "instance-unknown",
                format!("{service} has no instance {unknown}"),
                &format!("one of: {}", words::names(&known)),
            ));
        }
        let aim = self.aim(lost);
        let seen = preview(app, &service, &folded, &aim)?;
        let digest = seen.digest(&service, &folded);
        self.still(app, &service, &aim, &folded)?;
        let Preview { back, traffic } = seen;
        refuse_damaged(app, &service, &folded, &back, Site::looks_ready)?;
        // Nobody reads it where nobody is asked, and a way back waits for no count.
        let is_looked_at = self.dry_run || app.screen.asks();
        let written = match is_looked_at {
            true => written_so_far(app, &service, &folded, &back),
            false => BTreeMap::new(),
        };
        let mut text: Vec<String> =
            back.iter().map(|one| says(app, &service, &folded, one, written.get(&one.instance))).collect();
        text.extend(traffic.clone());
        if traffic.is_none() {
            text.extend(self.stays(&folded, &back));
        }
        if let Some(run) = folded.run.as_ref().filter(|_| back.is_empty() && traffic.is_none()) {
            text.push(format!("{} ends; no instance is touched", run.id));
        }
        if self.dry_run {
            let line = format!(
                "digest {}: this and nothing else is {} --expect {0}",
                digest.short(),
                self.typed(app, &service)
            );
            let shown = format!("{}\n{line}", text.join("\n"));
            app.screen.show("rollback-plan", &json!({ "service": service, "digest": digest, "says": text }), &shown);
            return Ok(Exit::Done);
        }
        // Naming an instance is saying so by name; only those taken along unnamed are asked.
        if self.instances.is_empty() {
            refuse_nothing_before(&service, &back)?;
            refuse_busy(app, &service, &back, &busy)?;
        }
        for line in &text {
            app.screen.tell(line);
        }
        if !app.screen.confirm(&format!("Take {service} back?")) {
            return Err(Trouble::say(
                Exit::Declined,
                "declined",
                "nothing was changed",
                &format!("confirm: {} --yes, or look first: --dry-run", self.typed(app, &service)),
            ));
        }
        refuse_damaged(app, &service, &folded, &back, Site::stands_ready)?;
        let end = self.carry_out(app, &service, aim)?;
        app.count_risky(Risky::Rollback);
        let Some(end) = end else { return Ok(Exit::Pending) };
        let next = match end {
            End::RolledBack { .. } => format!("see it: lastgood status {service}"),
            _ => format!("why: lastgood why {service}"),
        };
        let says = words::end_words(&end);
        app.screen.show(
            "rollback",
            &json!({ "service": service, "end": end, "says": says }),
            &format!("{service}: {says}\n{next}"),
        );
        Ok(Exit::of_rollback(&end))
    }

    /// Refuses to do anything else than what was looked at.
    fn still(&self, app: &App, service: &ServiceName, aim: &Aim, folded: &Service) -> Result<(), Trouble> {
        if self.expect.is_none() {
            return Ok(());
        }
        let is = preview(app, service, folded, aim)?.digest(service, folded);
        let again = Self { expect: None, ..self.clone() };
        expect::check(service, self.expect.as_deref(), &is, &format!("{} --dry-run", again.typed(app, service)))
    }

    fn aim(&self, accept_loss: Vec<InstanceName>) -> Aim {
        let (to, instances, reason) = (self.to.clone(), self.instances.clone(), self.reason.clone());
        Aim::Back { to, instances, accept_loss, reason }
    }

    /// Tells which instances that were asked for stay, because they ran nothing else.
    fn stays(&self, folded: &Service, back: &[Back]) -> Option<String> {
        let ran_nothing_else = |name: &InstanceName| {
            folded
                .instances
                .get(name)
                .is_some_and(|one| one.release.is_some() && one.history.iter().all(|moved| moved.from.is_none()))
        };
        let stay: Vec<InstanceName> = folded
            .instances
            .keys()
            .filter(|name| self.instances.is_empty() || self.instances.contains(name))
            .filter(|name| ran_nothing_else(name) && !back.iter().any(|one| one.instance == **name))
            .cloned()
            .collect();
        (!stay.is_empty()).then(|| format!("{}: ran no other release, stays as it is", words::names(&stay)))
    }

    fn accepted(&self, folded: &Service) -> Result<(Vec<InstanceName>, BTreeSet<InstanceName>), Trouble> {
        let mut lost = Vec::new();
        let mut busy = BTreeSet::new();
        for risk in &self.risks {
            let wrong = || {
                Trouble::say(
                    Exit::Usage,
                    "risk-unknown",
                    format!("{risk:?} is no risk of this rollback"),
                    "write lost-writes:INSTANCE or busy-instance:INSTANCE",
                )
            };
            let (kind, name) = risk.split_once(':').ok_or_else(wrong)?;
            let name = InstanceName::new(name).map_err(|_| wrong())?;
            if !folded.instances.contains_key(&name) {
                return Err(wrong());
            }
            match kind {
                "lost-writes" => lost.push(name),
                "busy-instance" => drop(busy.insert(name)),
                _ => return Err(wrong()),
            }
        }
        Ok((lost, busy))
    }
}

/// Takes all of a service back to a release without asking anybody, as part of a plan that was agreed to.
///
/// Gives how it ended; none while somebody else still drives it. Errors: what was not accepted by name, as the command.
pub(crate) fn take_back(
    app: &App,
    service: &ServiceName,
    to: &ReleaseTag,
    risks: &[String],
    reason: &str,
) -> Result<Option<End>, Trouble> {
    let rollback = Rollback {
        service: Some(service.to_string()),
        to: Some(to.clone()),
        instances: Vec::new(),
        reason: reason.into(),
        risks: risks.to_vec(),
        dry_run: false,
        expect: None,
    };
    let folded = app.look(service)?.service;
    let (lost, busy) = rollback.accepted(&folded)?;
    let aim = rollback.aim(lost);
    let Preview { back, .. } = preview(app, service, &folded, &aim)?;
    refuse_damaged(app, service, &folded, &back, Site::stands_ready)?;
    refuse_nothing_before(service, &back)?;
    refuse_busy(app, service, &back, &busy)?;
    rollback.carry_out(app, service, aim)
}

/// Asks whether all of a service could go back as [`take_back`] would take it; moves nothing.
///
/// Gives what was seen. Errors: what is in the way of it, or was not accepted by name.
pub(crate) fn way_back(app: &App, service: &ServiceName, to: &ReleaseTag, risks: &[String]) -> Result<String, Trouble> {
    let rollback = Rollback {
        service: Some(service.to_string()),
        to: Some(to.clone()),
        instances: Vec::new(),
        reason: NO_REASON.into(),
        risks: risks.to_vec(),
        dry_run: false,
        expect: None,
    };
    let folded = app.look(service)?.service;
    let (lost, busy) = rollback.accepted(&folded)?;
    let Preview { back, traffic } = preview(app, service, &folded, &rollback.aim(lost))?;
    refuse_damaged(app, service, &folded, &back, Site::stands_ready)?;
    refuse_nothing_before(service, &back)?;
    refuse_busy(app, service, &back, &busy)?;
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    for one in &back {
        site.can_go_back(&folded, one).map_err(|failure| Trouble { exit: Exit::Refused, failure })?;
    }
    // Nobody is shut out for driving it: whoever does is asked, and goes back.
    let driven = DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let driven = if driven.is_some() { "whoever drives it is asked" } else { "nobody drives it" };
    Ok(match traffic {
        None => format!("{} of {service} can go back; {driven}", words::count(back.len() as u64, "instance")),
        // What is asked of shared traffic is what the record says of it.
        Some(_) => {
            format!("by its record traffic of {service} can go back; instances and router were not asked; {driven}")
        }
    })
}

/// Refuses to go back to nothing unless it is said by name: before the first release there is only a stopped service.
fn refuse_nothing_before(service: &ServiceName, back: &[Back]) -> Result<(), Trouble> {
    let nothing: Vec<InstanceName> =
        back.iter().filter(|one| one.to.is_none()).map(|one| one.instance.clone()).collect();
    if nothing.is_empty() {
        return Ok(());
    }
    let flags: Vec<String> = nothing.iter().map(|name| format!("--instance {name}")).collect();
    Err(Trouble::say(
        Exit::Refused,
        "no-way-back",
        format!("no earlier release ran as {}: going back would leave it stopped", words::names(&nothing)),
        &format!("to do it all the same: lastgood rollback {service} {}", flags.join(" ")),
    ))
}

/// Refuses to stop anything for a release that can't be started as it was installed; one that was moved away is installed
/// again.
fn refuse_damaged(
    app: &App,
    service: &ServiceName,
    folded: &Service,
    back: &[Back],
    ready: fn(&Site, &Service, &Digest) -> Result<(), Failure>,
) -> Result<(), Trouble> {
    let to: BTreeSet<Digest> = back.iter().filter_map(|one| one.to).collect();
    if to.is_empty() {
        return Ok(());
    }
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let mut checked = to.iter().map(|release| ready(&site, folded, release));
    checked.find_map(Result::err).map_or(Ok(()), |failure| Err(Trouble { exit: Exit::Refused, failure }))
}

/// Refuses if an instance that nobody named is in use; one that can't tell does not block a way back.
fn refuse_busy(
    app: &App,
    service: &ServiceName,
    back: &[Back],
    accepted: &BTreeSet<InstanceName>,
) -> Result<(), Trouble> {
    let names = back.iter().map(|one| &one.instance).filter(|name| !accepted.contains(*name));
    let risks = in_use(app, service, names)?.unwrap_or_default();
    if risks.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = risks.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    let flags: Vec<String> = risks.iter().map(|(name, _)| format!("--accept-risk busy-instance:{name}")).collect();
    Err(Trouble::say(
        Exit::Refused,
        "instance-busy",
        format!("in use: {}", list.join(", ")),
        &format!("add to the command: {}", flags.join(" ")),
    ))
}

impl Rollback {
    /// Gives this very order as arguments: what is typed again must not reach further than what was typed first.
    fn arguments(&self, service: &ServiceName) -> Vec<String> {
        let mut all = vec!["rollback".to_owned(), service.to_string()];
        all.extend(self.to.iter().flat_map(|to| ["--to".to_owned(), to.to_string()]));
        all.extend(self.instances.iter().flat_map(|name| ["--instance".to_owned(), name.to_string()]));
        if self.reason != NO_REASON {
            all.extend(["--reason".to_owned(), self.reason.clone()]);
        }
        all.extend(self.risks.iter().flat_map(|risk| ["--accept-risk".to_owned(), risk.clone()]));
        all.extend(self.expect.iter().flat_map(|seen| ["--expect".to_owned(), seen.clone()]));
        all
    }

    /// Gives this very order as a line for a shell.
    fn typed(&self, app: &App, service: &ServiceName) -> String {
        let mut all = vec!["lastgood".to_owned()];
        if app.config_path != Path::new(FILE_NAME) {
            all.extend(["--config".to_owned(), app.config_path.display().to_string()]);
        }
        all.extend(self.arguments(service));
        all.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn carry_out(&self, app: &App, service: &ServiceName, aim: Aim) -> Result<Option<End>, Trouble> {
        let driven =
            DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        // A rollback typed in a session that the service itself hosts must outlive that session.
        let host = session::host();
        if driven.is_none() {
            if let Some(host) = &host {
                return self.go_outside(app, service, host);
            }
            match drive::lock(app, service, ROLLBACK) {
                Ok(_lock) => return self.here(app, service, &aim),
                // A daemon begins just now.
                Err(trouble) if trouble.exit == Exit::Driven => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let (run, end) = drive::ask(app, service, &aim, None, &|now| self.still(app, service, &aim, now))?;
        match (end, host) {
            (Some(end), _) => Ok(Some(end)),
            // Whoever drove has ended; what was asked for stands in the log.
            (None, None) => drive::take_over(app, service, run, ROLLBACK),
            (None, Some(host)) => self.go_outside(app, service, &host),
        }
    }

    fn go_outside(&self, app: &App, service: &ServiceName, host: &str) -> Result<Option<End>, Trouble> {
        app.screen.tell(&format!("this session runs inside {host}: the rollback goes on without it"));
        let folded = app.look(service)?;
        let program = drive::program()?;
        let config = std::path::absolute(&app.config_path).unwrap_or_else(|_| app.config_path.clone());
        let mut argv =
            vec![program.display().to_string(), "--config".into(), config.display().to_string(), "--yes".into()];
        argv.extend(self.arguments(service));
        let log = app.home.root().join("rollback.log");
        let by = session::detach(&program, &argv, &log, None).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let end = drive::follow(app, service, RunId(folded.service.next.run), folded, Some(&by))?;
        end.map(Some).ok_or_else(|| {
            Trouble::say(
                Exit::Failed,
                "run-undriven",
                format!("the process that took {service} back has ended before its time"),
                &format!("read what it said: {}; go on: {}", log.display(), self.typed(app, service)),
            )
        })
    }

    fn here(&self, app: &App, service: &ServiceName, aim: &Aim) -> Result<Option<End>, Trouble> {
        // A run that was killed half-way is taken over, not finished first: the way back is open from any state.
        let (mut driver, progress) = drive::open_over(app, service, aim, &|now| self.still(app, service, aim, now))?;
        let end = drive::to_end(&mut driver, &progress)?;
        progress.end();
        drive::settle(app, driver);
        Ok(end)
    }
}
