//! `lastgood run`: one pass over a service, or all of them.

use super::{Ended, expect, plan, rollback};
use crate::{adopt, app::App, drive, exit::Exit, leftovers, progress::Progress, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    event::{Aim, Cause, End, Expected, Settings},
    facts::Liveness,
    failure::Failure,
    rollout::IllegalStep,
    service::Condition,
    terms::{InstanceName, ServiceName},
    words,
};
use lastgood_engine::{
    drive::Happening,
    fold::Folded,
    paths::Home,
    preflight::{self, Asker},
};
use lastgood_store::DriverLock;
use serde_json::json;
use std::io;

/// Check for a new release, rehearse it and roll it out, once.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The service [default: all].
    service: Option<String>,
    /// Evaluate all gates and rehearse in a temporary directory; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Have the daemon run now, outside its schedule; without a daemon this flag has no effect.
    #[arg(long, conflicts_with = "dry_run")]
    now: bool,
    /// Do only what `lastgood plan` showed with this digest; otherwise do nothing and exit 6.
    #[arg(long, value_name = "DIGEST", conflicts_with = "dry_run")]
    expect: Option<String>,
}

impl Run {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let services = match self.expect {
            // A digest is that of one plan.
            Some(_) => vec![app.service(self.service.as_deref())?],
            None => app.services(self.service.as_deref())?,
        };
        if services.is_empty() {
            app.service(None)?;
        }
        let mut worst = Exit::Done;
        for service in &services {
            let ended = if self.dry_run { dry(app, service) } else { self.one(app, service) };
            let exit = match ended {
                // One service's trouble is no reason to leave the others unlooked at.
                Err(mut trouble) if services.len() > 1 => {
                    trouble.failure.message = format!("{service}: {}", trouble.failure.message);
                    app.screen.trouble(&trouble);
                    trouble.exit
                }
                ended => ended?,
            };
            if worst == Exit::Done {
                worst = exit;
            }
        }
        Ok(worst)
    }

    fn one(&self, app: &App, service: &ServiceName) -> Ended {
        let driven =
            DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        if self.now && driven.is_some() {
            let expects = self.expect.as_deref().map(|seen| expected(app, service, seen)).transpose()?;
            let (run, end) = drive::ask(app, service, &Aim::Track, expects, &|_| Ok(()))?;
            let end = match end {
                Some(end) => Some(end),
                None => drive::take_over(app, service, run, drive::RUN)?,
            };
            return Ok(conclude(app, service, end.as_ref()));
        }
        pass(app, service, self.expect.as_deref()).map(|end| conclude(app, service, end.as_ref()))
    }
}

/// Gives the release that a plan is about which somebody has looked at.
///
/// Errors: exit 6 if it is no longer what would happen, 10 while a run is under way.
fn expected(app: &App, service: &ServiceName, seen: &str) -> Result<Expected, Trouble> {
    if let Some(run) = app.look(service)?.service.run {
        return Err(drive::drive_trouble(&IllegalStep::RunUnderWay(run.id).into()));
    }
    let plan = plan::plan(app, service)?;
    expect::check(service, Some(seen), &plan.digest, &format!("lastgood plan {service}"))?;
    Ok(plan.expected)
}

/// Does one pass over a service that nobody else drives; only what the plan says that somebody has `seen`, if that is given.
pub(crate) fn pass(app: &App, service: &ServiceName, seen: Option<&str>) -> Result<Option<End>, Trouble> {
    let _lock = drive::lock(app, service, drive::RUN)?;
    let expects = seen.map(|seen| expected(app, service, seen)).transpose()?;
    crate::traffic::in_contact(app, service, || driven_pass(app, service, expects))
}

fn driven_pass(app: &App, service: &ServiceName, expects: Option<Expected>) -> Result<Option<End>, Trouble> {
    leftovers::sweep(app);
    let folded = app.look(service)?;
    // Without a daemon nobody else starts the proxy again after a restart of the machine, or tells it new settings.
    if let Err(trouble) = crate::traffic::assert_table(app, service) {
        app.screen.trouble(&trouble);
    }
    let progress = Progress::new(app.screen, service.clone(), folded.service.clone());
    let home = app.home.service(service);
    let mut driver = drive::open(app, &app.config, service, home, folded, Some(progress.clone()))?;
    // What an earlier driver left undone comes first.
    drive::to_end(&mut driver, &progress)?;
    drive::refuse_forward(&driver)?;
    let foreign = adopt::foreign(&mut driver)?;
    let down = revive(&mut driver, &progress, &foreign)?;
    let running = running(&driver).into_iter().filter(|name| !foreign.contains(name));
    driver.world.watch(running);
    if driver.service().traffic.cools_at().is_some_and(|at| at <= app.now()) {
        driver.begin(Aim::Cool, None, None, &app.actor).map_err(|error| drive::drive_trouble(&error))?;
        drive::to_end(&mut driver, &progress)?;
    }
    let checked = preflight::before_deploy(&app.config, service, &Asker::default());
    let stopped = app.stopped(service, driver.service());
    let settings = driver.world.site().config.settings();
    driver.configure(Settings { expects, ..settings });
    driver.begin(Aim::Track, stopped, checked, &app.actor).map_err(|error| drive::drive_trouble(&error))?;
    let end = drive::to_end(&mut driver, &progress)?;
    progress.end();
    let still_down = down.into_iter().find(|name| why_down(&driver, name).is_some());
    drive::settle(app, driver);
    // A guard may have tripped what closes something of other services, and no daemon is there to tell their routers.
    if let Some(End::RolledBack { cause: Cause::Guard { .. } }) = &end
        && let Err(trouble) = crate::traffic::assert_switches(app)
    {
        app.screen.trouble(&trouble);
    }
    match still_down {
        Some(name) if end.as_ref().is_some_and(|end| Exit::of(end) == Exit::Done) => Err(Trouble::say(
            Exit::Failed,
            "instance-died",
            format!("{service}/{name} is down and could not be started again"),
            &format!("see why: lastgood log {service}; go back: lastgood rollback {service}"),
        )),
        _ => Ok(end),
    }
}

/// Starts every instance again that should run and does not, as the daemon does; gives those that stayed down.
pub(super) fn revive(
    driver: &mut drive::RealDriver,
    progress: &Progress,
    foreign: &[InstanceName],
) -> Result<Vec<InstanceName>, Trouble> {
    let mut down = Vec::new();
    for name in running(driver).into_iter().filter(|name| !foreign.contains(name)) {
        let Some(why) = why_down(driver, &name) else { continue };
        let turn = |driver: &mut drive::RealDriver| driver.turn(None).map_err(|error| drive::drive_trouble(&error));
        // The daemon may have noticed before it was stopped.
        if driver.service().instances[&name].again_at.is_none() {
            tell(driver, Happening::Died { instance: name.clone(), why });
            turn(driver)?;
            // One death too many of a young release goes back by itself, and that starts what is wanted now.
            drive::to_end(driver, progress)?;
        }
        if why_down(driver, &name).is_none() {
            continue;
        }
        let before = driver.service().records;
        let service = driver.service().clone();
        driver.world.revive(&service, name.clone());
        while driver.service().records == before {
            turn(driver)?;
        }
        drive::to_end(driver, progress)?;
        if why_down(driver, &name).is_some() {
            down.push(name);
        }
    }
    Ok(down)
}

fn tell(driver: &drive::RealDriver, happening: Happening) {
    // The driver holds the receiver.
    let _ = driver.world.reporter().send(happening);
}

/// Says why an instance that should run does not; none if it runs, is meant to be stopped, or nobody knows.
fn why_down(driver: &drive::RealDriver, name: &InstanceName) -> Option<String> {
    let state = driver.service().instances.get(name)?;
    if state.release.is_none() || state.condition == Condition::Between || driver.service().stays_down(name) {
        return None;
    }
    let site = driver.world.site();
    match site.runtime.liveness(&site.name, name) {
        Ok(Liveness::Down { why }) if site.config.instance(name).is_some() => Some(why),
        _ => None,
    }
}

fn running(driver: &drive::RealDriver) -> Vec<InstanceName> {
    let instances = driver.service().instances.iter();
    instances.filter(|(_, one)| one.release.is_some()).map(|(name, _)| name.clone()).collect()
}

/// Rehearses in a temporary place beside the real one, on the same disk; the log there is thrown away.
fn dry(app: &App, service: &ServiceName) -> Ended {
    app.store()?;
    leftovers::sweep(app);
    let unusable =
        |error: io::Error| Trouble::say(Exit::Failed, "state-dir-unusable", error.to_string(), "check space and owner");
    let temporary =
        tempfile::Builder::new().prefix(leftovers::DRY_RUN).tempdir_in(app.home.root()).map_err(unusable)?;
    let _alive = leftovers::claim(temporary.path()).map_err(unusable)?;
    let service_now = app.look(service)?.service;
    if let Some(run) = &service_now.run {
        return Err(drive::drive_trouble(&IllegalStep::RunUnderWay(run.id).into()));
    }
    // Nothing is rehearsed on the way to a release that ran here: its way back is the one that was.
    if let Some(back) = rollback::pinned(app, service, &service_now) {
        let text =
            format!("{}\n{service}: the pin takes them back, all at once; nothing is rehearsed\n", back.join("\n"));
        app.screen.show("dry-run", &json!({ "service": service, "back": back }), &text);
        return Ok(Exit::Done);
    }
    let mut config = app.config.clone();
    config.state_dir = temporary.path().to_path_buf();
    config.anchor = Some(temporary.path().join("checkpoints"));
    config.notice.clear();
    let inner = App {
        screen: app.screen,
        config_path: app.config_path.clone(),
        home: Home::at(temporary.path()),
        actor: app.actor.clone(),
        config,
    };
    let progress = Progress::new(app.screen, service.clone(), service_now.clone());
    // The state of now, at the beginning of a chain of its own.
    let folded = Folded { service: service_now, ..Folded::default() };
    let home = inner.home.service(service);
    let mut driver = drive::open(&inner, &inner.config, service, home, folded, Some(progress.clone()))?;
    driver.begin(Aim::DryRun, None, None, &app.actor).map_err(|error| drive::drive_trouble(&error))?;
    let end = drive::to_end(&mut driver, &progress)?;
    progress.end();
    Ok(conclude(app, service, end.as_ref()))
}

/// Tells whether an analysis stands in the way of every forward move.
pub(crate) fn owes(app: &App, service: &ServiceName) -> bool {
    app.look(service).is_ok_and(|folded| folded.service.analysis.is_some_and(|owed| owed.blocks_all(app.now())))
}

/// Says how a run ended and what to type next.
pub(crate) fn conclude(app: &App, service: &ServiceName, end: Option<&End>) -> Exit {
    let Some(end) = end else { return Exit::Pending };
    let next = match end {
        End::UpToDate | End::Promoted => format!("see it: lastgood status {service}"),
        End::Rehearsed { .. } => match owes(app, service) {
            true => format!("an analysis is owed before it may move: lastgood rca list {service}"),
            false => format!("do it: lastgood run {service} --now"),
        },
        End::RollbackHeld { .. } => format!("decide: lastgood why {service}"),
        End::Stopped { failure: Failure { hint: Some(hint), .. } } => {
            format!("fix: {hint}\nwhy: lastgood why {service}")
        }
        _ => format!("why: lastgood why {service}"),
    };
    let text = format!("{service}: {}\n{next}", words::end_words(end));
    app.screen.show("run", &json!({ "service": service, "end": end, "says": words::end_words(end) }), &text);
    Exit::of(end)
}
