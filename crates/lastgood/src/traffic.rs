//! Keeps the router as the log says it should be, whoever drives: the daemon, a command, or nobody.

use crate::{app::App, drive, exit::Exit, screen::Trouble};
use lastgood_domain::{failure::Failure, service::Service, terms::ServiceName};
use lastgood_engine::{
    traffic::{self, ProxyHost},
    world::Site,
};

/// Gives the proxy of this state folder, if any service is carried by it.
pub(crate) fn proxy(app: &App) -> Result<Option<ProxyHost>, Trouble> {
    Ok(ProxyHost::of(&app.config, &drive::program()?))
}

/// Tells a service's router its newest table, as the log has it; nothing for a service that was never routed.
///
/// Errors: `router-…` if it does not confirm; the log stands, and whoever drives tells it again.
pub(crate) fn assert_table(app: &App, name: &ServiceName, service: &Service) -> Result<bool, Trouble> {
    let Some(route) = &service.traffic.route else { return Ok(false) };
    let trouble = |failure: Failure| Trouble { exit: Exit::Failed, failure };
    let site = Site::open(&app.config, name, app.home.service(name), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let Some(router) = &site.router else { return Ok(false) };
    if let Some(proxy) = &site.proxy {
        proxy.ensure().map_err(trouble)?;
    }
    let switches = traffic::switches_of(app.config.switches.as_ref(), app.home.root()).map_err(trouble)?;
    let table = traffic::table(name, service, route, &site.config, &switches).map_err(trouble)?;
    router.route(&table).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    Ok(true)
}

/// Tells the routers of all services in which a kill switch closes something; gives which they are.
pub(crate) fn assert_switches(app: &App) -> Result<Vec<ServiceName>, Trouble> {
    let closes = app
        .config
        .service
        .iter()
        .filter(|(_, service)| service.traffic.as_ref().is_some_and(|traffic| !traffic.closes.is_empty()));
    let mut told = Vec::new();
    for (name, _) in closes {
        if assert_table(app, name, &app.look(name)?.service)? {
            told.push(name.clone());
        }
    }
    Ok(told)
}
