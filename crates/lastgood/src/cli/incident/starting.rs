//! Starts an instance again with what its release declares, whoever drives its service.

use crate::{app::App, cli::run, drive, exit::Exit, progress::Progress, screen::Trouble, traffic};
use lastgood_domain::{
    facts::Liveness,
    service::Service,
    terms::{InstanceName, ServiceName, Span},
};
use lastgood_engine::world::Site;
use lastgood_store::DriverLock;
use std::{thread, time::Duration};

/// What the step calls itself where it drives.
const PUT_BACK: &str = "lastgood incident run";
/// How often it is looked whether it runs, or the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Stops what runs of an instance, or what was left of it, and starts it as declared: by itself where nobody drives the
/// service, else by its daemon, which starts again whatever ends. Repeated after a kill it comes to the same.
///
/// Errors: a run is under way, somebody else keeps the lock, or it does not run after `within`.
pub(super) fn start_again(
    app: &App,
    service: &ServiceName,
    instance: &InstanceName,
    within: Span,
) -> Result<(), Trouble> {
    let until = app.now().after(within);
    loop {
        let trouble = match drive::lock(app, service, PUT_BACK) {
            Ok(_lock) => return traffic::in_contact(app, service, || here(app, service, instance)),
            Err(trouble) if trouble.exit == Exit::Driven => trouble,
            Err(trouble) => return Err(trouble),
        };
        let holder =
            DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        if holder.is_some_and(|by| by.what == drive::DAEMON) {
            stop(app, service, instance)?;
            while !runs(app, service, instance)? {
                if app.now() >= until {
                    return Err(down(service, instance));
                }
                thread::sleep(LOOK_EVERY);
            }
            return Ok(());
        }
        // A command holds it, and ends.
        if app.now() >= until {
            return Err(trouble);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Does it with the service's lock held.
fn here(app: &App, service: &ServiceName, instance: &InstanceName) -> Result<(), Trouble> {
    stop(app, service, instance)?;
    let folded = app.look(service)?;
    let progress = Progress::new(app.screen, service.clone(), folded.service.clone());
    let home = app.home.service(service);
    let mut driver = drive::open(app, &app.config, service, home, folded, Some(progress.clone()))?;
    drive::to_end(&mut driver, &progress)?;
    let stayed_down = run::revive(&mut driver, &progress, &[])?;
    progress.end();
    drive::settle(app, driver);
    if stayed_down.contains(instance) { Err(down(service, instance)) } else { Ok(()) }
}

/// Stops all of an instance and closes it: only a start by whoever drives its service opens it again.
fn stop(app: &App, service: &ServiceName, instance: &InstanceName) -> Result<(), Trouble> {
    at_rest(&app.look(service)?.service)?;
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let stopped = site.runtime.stop(service, instance, site.config.stop_timeout.0);
    stopped.map(drop).map_err(|error| Trouble::new(Exit::Failed, &error))
}

/// Refuses to touch what a run moves.
fn at_rest(service: &Service) -> Result<(), Trouble> {
    match &service.run {
        Some(run) => Err(drive::drive_trouble(&lastgood_domain::rollout::IllegalStep::RunUnderWay(run.id).into())),
        None => Ok(()),
    }
}

/// Tells whether an instance runs and its service's log says no more that it died.
fn runs(app: &App, service: &ServiceName, instance: &InstanceName) -> Result<bool, Trouble> {
    let folded = app.look(service)?.service;
    let waits = folded.instances.get(instance).is_some_and(|one| one.again_at.is_some());
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    Ok(!waits && matches!(site.runtime.liveness(service, instance), Ok(Liveness::Up { .. })))
}

fn down(service: &ServiceName, instance: &InstanceName) -> Trouble {
    Trouble::say(
        Exit::Failed,
        "drift-down",
        format!("{service}/{instance} was stopped to be started as declared, and does not run"),
        &format!("see why: lastgood log {service}; go back: lastgood rollback {service}"),
    )
}
