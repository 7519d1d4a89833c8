//! The daemon's side of flags and switches: the board that answers programs, if the configuration has any.

use crate::{app::App, exit::Exit, screen::Trouble, traffic::Nudge};
use lastgood_drivers::probe::Secrets;
use lastgood_engine::{
    deliver::Wake,
    switches::{Beside, Desk, Scope},
    world,
};
use lastgood_server::switches::{RoutersTold, Setting, SwitchServer, serve_switches};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{collections::BTreeMap, sync::Arc};

/// Files that a daemon with many subscribers may have open; each subscriber is one.
const FILES_MAX: u64 = 65_536;

/// Begins to answer programs; none without `[switches]`. `routers` reaches whoever tells the routers, where there are any.
pub(super) fn open(app: &App, delivery: &Arc<Wake>, routers: Option<Nudge>) -> Result<Option<SwitchServer>, Trouble> {
    let Some(config) = &app.config.switches else { return Ok(None) };
    let token = config.token.as_deref().map(|name| secret(app, name)).transpose()?;
    let listener = lastgood_server::bind(config.listen).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    more_files();
    let screen = app.screen;
    let delivery = Arc::clone(delivery);
    let scope = Scope::witnessed(config, app.home.root()).for_people(app.config.people());
    let setting = Setting {
        desk: Desk::new(app.store()?, scope, app.routes()),
        beside: Beside::of(app.home.root(), &config.environment),
        config: config.clone(),
        token,
        now: world::now,
        tell: Box::new(move |failure| screen.trouble(&Trouble { exit: Exit::Failed, failure: failure.clone() })),
        written: Box::new(move || delivery.ring()),
        routers: routers
            .map(|routers| -> Box<dyn Fn(RoutersTold) + Send> { Box::new(move |told| routers.nudge(told)) }),
    };
    let server = serve_switches(listener, setting).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    app.screen.tell(&format!("flags and switches of {} at http://{}", config.environment, server.address()));
    Ok(Some(server))
}

fn secret(app: &App, name: &str) -> Result<String, Trouble> {
    // The configuration was checked for it.
    let source = app.config.secret.get(name).map(|source| (name.to_owned(), source.clone()));
    let only: BTreeMap<_, _> = source.into_iter().collect();
    let secrets = Secrets::load(&only, &app.config.folder).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    Ok(secrets.get(name).unwrap_or_default().to_owned())
}

/// Lets this process have as many files as the system allows it; what can't be had is felt only by late subscribers.
fn more_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES_MAX, |maximum| maximum.min(FILES_MAX));
    if current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}
