//! The routing table that follows from a service's log: the same log gives the same table, whoever makes it.

use crate::{
    config::{ClosesConfig, DegradedConfig, InstanceConfig, Safe, ServiceConfig, SwitchesConfig},
    switches,
};
use lastgood_domain::{
    failure::Failure,
    service::Service,
    switches::Switches,
    terms::{Digest, ServiceName, Span},
    traffic::{Answering, Closed, Lease, Leaving, Route, RouteSide, Side, Table, Upstream},
};
use lastgood_drivers::traffic::{Routed, Router, RouterError};
use lastgood_store::Reader;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// Tells where an instance listens: as it was started, which may not be what was written since.
pub(crate) type Listens<'a> = &'a dyn Fn(&InstanceConfig) -> (String, u16);

/// Makes the table of `route` at this point of the service's log.
///
/// Its epoch is the number of records it follows from, the service's and the switches', both of which only grow: of two
/// tables the one from the longer logs wins, whichever comes last.
/// Without `switches`, because they can't be read, all that they could close is closed: what may be tripped is not opened.
/// `declared` says what a router closes that hears nothing for the lease; none gives it no lease.
/// Errors: a release of the route has no instance in the configuration any more.
pub fn table(
    name: &ServiceName,
    service: &Service,
    route: &Route,
    config: &ServiceConfig,
    switches: Option<&Switches>,
    declared: Option<&SwitchesConfig>,
    listens: Listens<'_>,
) -> Result<Table, Failure> {
    let side = |one: &RouteSide| side(service, one, config, listens);
    // What is left may have lost all its instances: then nothing of it is carried any more.
    let leaving = route.leaving.iter().filter_map(|one| {
        let side = side(&one.side).ok()?;
        Some(Leaving { side, deadline: Some(one.deadline) })
    });
    Ok(Table {
        v: Table::VERSION,
        service: name.clone(),
        epoch: service.records + switches.map_or(0, |switches| switches.epoch),
        salt: route.salt.clone(),
        last_good: route.last_good.as_ref().map(side).transpose()?,
        candidate: route.candidate.as_ref().map(side).transpose()?,
        share: route.share,
        leaving: leaving.collect(),
        synthetic: config.traffic.as_ref().and_then(|traffic| {
            traffic.guard.synthetic.as_ref()?;
            synthetic(service, route)
        }),
        closed: closed(service, config, switches),
        lease: declared.and_then(|declared| lease(config, declared)),
        fallback: config.traffic.as_ref().and_then(|traffic| traffic.degraded.as_ref()).map(DegradedConfig::fallback),
    })
}

/// Gives what requests of lastgood's own carry; none without a candidate.
///
/// It follows from the log alone, as all of a table does. Nobody outside knows when a run began, to the millisecond; whoever
/// guessed it would be counted apart from people and see the candidate, and no more.
pub(crate) fn synthetic(service: &Service, route: &Route) -> Option<String> {
    let (run, candidate) = (service.run.as_ref()?, route.candidate.as_ref()?);
    let text = format!("lastgood-synthetic 1\n{}\n{}\n{}\n", candidate.release, run.id, run.started.0);
    Some(Digest::of(text.as_bytes()).to_string())
}

fn side(service: &Service, side: &RouteSide, config: &ServiceConfig, listens: Listens<'_>) -> Result<Side, Failure> {
    // One that was taken out of the configuration while it carries is left out; the others carry on, and a way back
    // stays open.
    let configured = side.instances.iter().filter_map(|name| config.instance(name));
    let upstreams: Vec<Upstream> = configured
        .map(|one| {
            let (bind, port) = listens(one);
            Upstream { instance: one.name.clone(), address: address(&bind, port) }
        })
        .collect();
    let tag = service.name_of(Some(&side.release));
    if upstreams.is_empty() {
        return Err(Failure::new(
            "instance-unknown",
            format!("no instance of {tag} is in the configuration any more"),
            Some("put them back into lastgood.toml until that release is left"),
        ));
    }
    Ok(Side { release: side.release, tag, upstreams })
}

/// Gives where an instance is reached from this machine.
fn address(bind: &str, port: u16) -> SocketAddr {
    let ip: IpAddr = bind.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, port)
}

fn closed(service: &Service, config: &ServiceConfig, switches: Option<&Switches>) -> Vec<Closed> {
    let closes = config.traffic.iter().flat_map(|traffic| &traffic.closes);
    let is_tripped = |name: &str| switches.is_none_or(|switches| switches.is_tripped(name));
    let tripped = closes.filter(|closes| is_tripped(closes.switch.as_str())).map(closed_by);
    let stopped = service.traffic.stopped.as_ref().map(|stopped| {
        let all = || "*".parse().map(|route| vec![route]).unwrap_or_default();
        Closed {
            by: "stop-new".into(),
            routes: if stopped.routes.is_empty() { all() } else { stopped.routes.clone() },
            answer: Answering {
                status: 503,
                retry_after: Some(seconds(stopped.retry_after)),
                body: "New entries are stopped for now; please try again later.\n".into(),
            },
        }
    });
    // A switch's own answer comes before the general one.
    tripped.chain(stopped).collect()
}

/// Gives what a switch closes while it is tripped.
fn closed_by(closes: &ClosesConfig) -> Closed {
    Closed {
        by: format!("switch {}", closes.switch),
        routes: closes.routes.clone(),
        answer: Answering {
            status: closes.status,
            retry_after: closes.retry_after.map(|length| seconds(length.0)),
            body: closes.body.clone(),
        },
    }
}

/// Gives what a router closes that nobody has told anything for the lease: all that is declared to be tripped when in doubt.
fn lease(config: &ServiceConfig, declared: &SwitchesConfig) -> Option<Lease> {
    let closes = config.traffic.iter().flat_map(|traffic| &traffic.closes);
    let closed: Vec<_> =
        closes.filter(|closes| declared.safe_of(&closes.switch) == Safe::Tripped).map(closed_by).collect();
    (!closed.is_empty()).then_some(Lease { length: declared.lease.0, closed })
}

fn seconds(span: Span) -> u32 {
    u32::try_from(span.0.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Gives the switches of now; none are configured, none are tripped. `None` if they can't be read.
pub fn switches_of(config: Option<&SwitchesConfig>, state_dir: &Path) -> Option<Switches> {
    let Some(config) = config else { return Some(Switches::default()) };
    let reader = Reader::open(state_dir).ok()?;
    switches::read(&reader, state_dir, &switches::Scope::witnessed(config, state_dir)).ok().map(|folded| folded.state)
}

/// Tells a router the newest table of a service, whoever has told it what before.
///
/// Two who read logs of different length may come at once, and a log that was put back, or switches of another
/// environment, give smaller numbers than before: a router that has a larger one is told with a still larger one. What
/// it is told then is `newest`, made from the logs as they are after its refusal: in between somebody may have stopped
/// entries or tripped a switch, and only that must not be undone. None if the log has the traffic go elsewhere by now.
/// Errors: the router's own, [`RouterError::TableOlder`] if the log has moved on; it stands, and whoever moved it tells.
pub fn tell(router: &dyn Router, table: Table, newest: &dyn Fn() -> Option<Table>) -> Result<Routed, RouterError> {
    /// Others who tell at the same time: a driver, a command, the daemon's look.
    const RIVALS: u32 = 5;
    let mut told = router.route(&table);
    for _ in 0..RIVALS {
        let Err(RouterError::TableOlder { has, .. }) = told else { break };
        let Some(newest) = newest() else { break };
        told = router.route(&Table { epoch: newest.epoch.max(has + 1), ..newest });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::{
        terms::{Digest, InstanceName},
        traffic::Share,
    };
    use lastgood_drivers::traffic::Load;
    use std::{sync::Mutex, time::Duration};

    /// A router that somebody else has told something newer.
    struct Told(Mutex<Table>);

    impl Router for Told {
        fn route(&self, table: &Table) -> Result<Routed, RouterError> {
            let mut has = self.0.lock().unwrap();
            if table.epoch <= has.epoch && *table != *has {
                return Err(RouterError::TableOlder { asked: table.epoch, has: has.epoch });
            }
            *has = table.clone();
            Ok(Routed { epoch: table.epoch, share: table.share, took: Duration::ZERO })
        }

        fn slices(&self, _: &ServiceName, _: u64) -> Result<Vec<lastgood_domain::traffic::Slice>, RouterError> {
            Ok(Vec::new())
        }

        fn look(&self, _: &ServiceName) -> Result<Vec<Load>, RouterError> {
            Ok(Vec::new())
        }
    }

    fn table(epoch: u64, stopped: bool) -> Table {
        let upstream = Upstream { instance: InstanceName::new("a").unwrap(), address: ([127, 0, 0, 1], 80).into() };
        let closed = Closed {
            by: "stop-new".into(),
            routes: vec!["*".parse().unwrap()],
            answer: Answering { status: 503, retry_after: None, body: String::new() },
        };
        Table {
            v: Table::VERSION,
            service: ServiceName::new("web").unwrap(),
            epoch,
            salt: String::new(),
            last_good: Some(Side { release: Digest::of(b"1"), tag: "1.0".into(), upstreams: vec![upstream] }),
            candidate: None,
            share: Share::NONE,
            leaving: Vec::new(),
            closed: if stopped { vec![closed] } else { Vec::new() },
            synthetic: None,
            lease: None,
            fallback: None,
        }
    }

    #[test]
    fn a_stop_that_was_told_in_between_is_not_undone_by_who_read_the_log_before_it() {
        let router = Told(Mutex::new(table(8, true)));
        // Read before entries were stopped; what is read after the refusal knows of it.
        tell(&router, table(7, false), &|| Some(table(8, true))).unwrap();
        let has = router.0.lock().unwrap().clone();
        assert_eq!((has.closed.len(), has.epoch), (1, 9));
        let elsewhere = tell(&router, table(7, false), &|| None);
        assert!(matches!(elsewhere, Err(RouterError::TableOlder { .. })));
    }
}
