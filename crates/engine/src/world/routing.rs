//! Shared traffic's effects: what the router is told, and whether sessions are resumed.

use super::{
    Site,
    act::{not_installed, scrubbed},
};
use crate::{config::InstanceConfig, fold::Folded, traffic};
use lastgood_domain::{
    effect::Answer,
    facts::ResumeFacts,
    failure::Failure,
    service::Service,
    terms::{Digest, OrderId, Span},
    traffic::{Route, Table},
};
use lastgood_drivers::{probe::ResumePart, traffic::RouterError};
use lastgood_store::Reader;
use std::{
    thread,
    time::{Duration, Instant},
};

/// Pause before a router is told again.
pub(super) const ROUTE_AGAIN: Duration = Duration::from_millis(20);
/// Longest time a router may take to confirm: it may have to be started first.
const ROUTE_WAIT: Duration = Duration::from_secs(10);

/// Tells the router, and goes on telling it for a while: a rollback must not fail because the router is being replaced.
pub(super) fn tell_router(site: &Site, service: &Service, route: &Route) -> Result<Answer, Failure> {
    let router = site.router.as_ref().ok_or_else(|| {
        Failure::new("router-unset", "the service has no router", Some("set up service.NAME.traffic in lastgood.toml"))
    })?;
    let begun = Instant::now();
    loop {
        // Made anew each time: entries may be stopped or a switch tripped while the router is waited for.
        let Some(table) = newest_table(site, service, route)? else {
            return Ok(Answer::Routed { took: Span(millis(begun.elapsed())) });
        };
        match traffic::tell(router.as_ref(), table, &|| newest_table(site, service, route).ok().flatten()) {
            Ok(_) => return Ok(Answer::Routed { took: Span(millis(begun.elapsed())) }),
            Err(error) if begun.elapsed() > ROUTE_WAIT => return Err(Failure::of(&error)),
            Err(_) => {
                if let Some(proxy) = &site.proxy {
                    proxy.ensure()?;
                }
                thread::sleep(ROUTE_AGAIN);
            }
        }
    }
}

/// Tells whether the log still asks for an order; one that can't be read asks for nothing new.
pub(super) fn is_ordered(site: &Site, service: &Service, order: OrderId) -> bool {
    let reader = Reader::open(&site.state_dir);
    let folded = reader.ok().and_then(|reader| Folded::read(&reader, &site.name).ok());
    let run = folded.and_then(|folded| folded.service.run);
    let ours = service.run.as_ref().map(|run| run.id);
    run.is_some_and(|run| Some(run.id) == ours && run.orders.contains_key(&order))
}

/// Tries on real sessions whether each release goes on where the other left off. Last-good against itself is the control:
/// where that fails, the gate is broken and not the candidate.
pub(super) fn try_resume(
    site: &Site,
    service: &Service,
    candidate: &Digest,
    last_good: &Digest,
) -> Result<Answer, Failure> {
    let Some(resume) = site.config.traffic.as_ref().and_then(|traffic| traffic.resume.as_ref()) else {
        return nothing_to_resume(site);
    };
    let of = |release: &Digest| {
        let sides = service.instances.iter().filter(|(_, one)| one.release.as_ref() == Some(release));
        let name = sides.map(|(name, _)| name).next().ok_or_else(|| not_installed(service, release))?;
        site.instance(name)
    };
    let (old, new) = (of(last_good)?, of(candidate)?);
    let target = |one: &InstanceConfig| site.target(one, &site.running(one), &one.data);
    let (old, new) = (target(old), target(new));
    let deadline = site.config.ready_timeout.duration() * 2;
    Ok(match resume.run(&old, &new, deadline) {
        Ok(facts) => Answer::ResumePassed { facts },
        Err(failure) if failure.part == ResumePart::LastGood => return Err(scrubbed(site, Failure::of(&failure))),
        Err(failure) => match resume.run(&old, &old, deadline) {
            Ok(_) => Answer::Failed { failure: scrubbed(site, Failure::of(&failure)) },
            Err(control) => return Err(scrubbed(site, Failure::of(&control))),
        },
    })
}

/// Answers for a service that does not say how its sessions are resumed: it passes where the router has seen none.
///
/// Errors: `resume-unset` where there are some; what the router says if it can't be asked.
fn nothing_to_resume(site: &Site) -> Result<Answer, Failure> {
    let passed = Answer::ResumePassed { facts: ResumeFacts::default() };
    let configured = site.config.traffic.as_ref();
    // Taken out of the configuration while the run was under way, or put in.
    let Some(router) = site.router.as_ref().filter(|_| configured.is_some_and(|traffic| traffic.no_resume.is_none()))
    else {
        return Ok(passed);
    };
    let of = |error: RouterError| Failure::of(&error);
    let open: Vec<u64> = router.look(&site.name).map_err(of)?.iter().filter_map(|load| load.tunnels).collect();
    // A router that can't tell tunnels from requests has counted none.
    let opened = match open.is_empty() {
        true => 0,
        false => {
            let slices = router.slices(&site.name, 0).map_err(of)?;
            slices.iter().flat_map(|slice| &slice.counts).map(|(_, counts)| counts.opened).sum::<u64>()
        }
    };
    let open: u64 = open.iter().sum();
    if open + opened == 0 {
        return Ok(passed);
    }
    Err(Failure::new(
        "resume-unset",
        format!("{open} WebSockets are open, {opened} were opened lately, and nothing says how they are resumed"),
        Some(
            "set up service.NAME.traffic.resume; or, if nobody loses anything when one is cut, \
             traffic.no_resume = \"why\"",
        ),
    ))
}

/// Makes the table of `route` from the logs of now, or of when it was ordered if they can't be read. None if the log says
/// something newer: who decided that tells the router, and this is void.
fn newest_table(site: &Site, ordered: &Service, route: &Route) -> Result<Option<Table>, Failure> {
    let reader = Reader::open(&site.state_dir);
    let folded = reader.ok().and_then(|reader| Folded::read(&reader, &site.name).ok());
    let service = folded.as_ref().map_or(ordered, |folded| &folded.service);
    if service.traffic.route.as_ref().is_some_and(|newest| newest != route) {
        return Ok(None);
    }
    let switches = traffic::switches_of(site.switches.as_ref(), &site.state_dir);
    traffic::table(&site.name, service, route, &site.config, switches.as_ref(), site.switches.as_ref(), &|one| {
        site.listens(one)
    })
    .map(Some)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
