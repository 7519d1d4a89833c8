//! The routing table that follows from a service's log: the same log gives the same table, whoever makes it.

use crate::config::ServiceConfig;
use lastgood_domain::{
    failure::Failure,
    service::Service,
    terms::ServiceName,
    traffic::{Answering, Closed, Leaving, Route, RouteSide, Side, Table, Upstream},
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Makes the table of `route` at this point of the service's log.
///
/// Its epoch is the number of records, so that of two tables the one from the longer log wins, whichever comes last.
/// Errors: an instance of the route is not in the configuration any more.
pub fn table(name: &ServiceName, service: &Service, route: &Route, config: &ServiceConfig) -> Result<Table, Failure> {
    let side = |one: &RouteSide| side(service, one, config);
    let leaving = route.leaving.iter().map(|one| {
        let deadline = Some(one.deadline);
        Ok(Leaving { side: side(&one.side)?, deadline })
    });
    Ok(Table {
        v: Table::VERSION,
        service: name.clone(),
        epoch: service.records,
        salt: route.salt.clone(),
        last_good: route.last_good.as_ref().map(side).transpose()?,
        candidate: route.candidate.as_ref().map(side).transpose()?,
        share: route.share,
        leaving: leaving.collect::<Result<_, Failure>>()?,
        closed: closed(service),
    })
}

fn side(service: &Service, side: &RouteSide, config: &ServiceConfig) -> Result<Side, Failure> {
    let upstreams = side.instances.iter().map(|name| {
        let one = config.instance(name).ok_or_else(|| {
            Failure::new(
                "instance-unknown",
                format!("{name} is not in the configuration any more"),
                Some("put it back into lastgood.toml until its release is left"),
            )
        })?;
        Ok(Upstream { instance: name.clone(), address: address(&config.bind, one.port) })
    });
    Ok(Side {
        release: side.release,
        tag: service.name_of(Some(&side.release)),
        upstreams: upstreams.collect::<Result<_, Failure>>()?,
    })
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

fn closed(service: &Service) -> Vec<Closed> {
    let stopped = service.traffic.stopped.as_ref().map(|stopped| {
        let all = || "*".parse().map(|route| vec![route]).unwrap_or_default();
        Closed {
            by: "stop-new".into(),
            routes: if stopped.routes.is_empty() { all() } else { stopped.routes.clone() },
            answer: Answering {
                status: 503,
                retry_after: Some(u32::try_from(stopped.retry_after.0.div_ceil(1_000)).unwrap_or(u32::MAX)),
                body: "New entries are stopped for now; please try again later.\n".into(),
            },
        }
    });
    stopped.into_iter().collect()
}
