//! The daemon's pages of metrics and health, and what they tell that no evidence has.

use super::{Pulses, answers, readiness::Readiness, signals};
use crate::{app::App, exit::Exit, outside::frozen_by, screen::Trouble};
use lastgood_domain::{
    failure::Coded,
    terms::{ServiceName, Span},
};
use lastgood_engine::{
    links::LINK_PATH,
    traffic::{ProxyHost, switches_of},
    world,
};
use lastgood_server::{DriverState, Lookout, Pages, Server, Snapshot, SwitchesView, switches::SwitchServer};
use lastgood_store::Reader;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// A driver that has not looked for this long is dead: it looks every 5 s at least.
const PULSE_AGE_MAX: Span = Span::seconds(30);

/// Tells how things stand, folding only what is new since it was asked last.
pub(super) fn pages(
    app: &App,
    services: &[ServiceName],
    pulses: &Pulses,
    readiness: &Readiness,
    states: &signals::States,
    proxy: Option<&ProxyHost>,
    switches: Option<&SwitchServer>,
) -> Pages {
    let endpoints: Vec<String> = app.routes().into_iter().map(|route| route.endpoint).collect();
    let lookout = Mutex::new(Lookout::new(services, &endpoints).enforced_by(app.config.enforcer.keys()));
    let (state_dir, freeze_file) = (app.home.root().to_path_buf(), app.config.freeze_file());
    let (services, pulses) = (services.to_vec(), Arc::clone(pulses));
    let (readiness, states) = (readiness.clone(), Arc::clone(states));
    let meter = proxy.map(|proxy| Mutex::new(proxy.meter(world::now())));
    let told = switches.zip(app.config.switches.clone()).map(|(server, config)| (server.followers(), config));
    Arc::new(move || {
        let now = world::now();
        let mut lookout = lookout.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = match Reader::open(&state_dir) {
            Ok(reader) => lookout.look(&reader, now).unwrap_or_else(|error| Snapshot::failed(&error, now)),
            Err(error) => Snapshot::failed(&error, now),
        };
        snapshot.freeze_file = frozen_by(&freeze_file).is_some();
        snapshot.readiness = readiness.seen();
        snapshot.signals = states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(meter) = &meter {
            snapshot.proxied = meter.lock().unwrap_or_else(PoisonError::into_inner).read(now);
        }
        if let Some((followers, config)) = &told {
            // Where they can't be read nothing is told: old numbers would pass for new ones.
            let folded = switches_of(Some(config), &state_dir);
            snapshot.switches = folded.map(|switches| {
                let (environment, known) = (config.environment.clone(), config.declared().switches());
                SwitchesView::new(environment, known, &switches, followers.count())
            });
        }
        let pulses = pulses.lock().unwrap_or_else(PoisonError::into_inner);
        for service in &services {
            let last_look = pulses.get(service).copied();
            let alive = last_look.is_some_and(|at| now.since(at) < PULSE_AGE_MAX);
            snapshot.drivers.insert(service.clone(), DriverState { alive, last_look });
        }
        snapshot
    })
}

/// Answers metrics and health until it is dropped; gives the address too.
pub(super) fn answer(app: &App, pages: &Pages) -> Result<(Server, SocketAddr), Trouble> {
    let failed = |error: &dyn Coded| Trouble::new(Exit::Failed, error);
    let listener = lastgood_server::bind(app.config.listen).map_err(|error| failed(&error))?;
    // A port of 0 is one that the system chose.
    let address = listener.local_addr().unwrap_or(app.config.listen);
    let answers = answers::open(app).map(|answers| (LINK_PATH, answers));
    let server = lastgood_server::serve_with(listener, Arc::clone(pages), answers).map_err(|error| failed(&error))?;
    Ok((server, address))
}
