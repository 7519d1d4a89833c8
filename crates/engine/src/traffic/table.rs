//! The routing table that follows from a service's log: the same log gives the same table, whoever makes it.

use crate::{
    config::{ServiceConfig, SwitchesConfig},
    switches::Folded,
};
use lastgood_domain::{
    failure::Failure,
    service::Service,
    switches::Switches,
    terms::{ServiceName, Span},
    traffic::{Answering, Closed, Leaving, Route, RouteSide, Side, Table, Upstream},
};
use lastgood_store::Reader;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// Makes the table of `route` at this point of the service's log.
///
/// Its epoch is the number of records it follows from, the service's and the switches', both of which only grow: of two
/// tables the one from the longer logs wins, whichever comes last.
/// Errors: an instance of the route is not in the configuration any more.
pub fn table(
    name: &ServiceName,
    service: &Service,
    route: &Route,
    config: &ServiceConfig,
    switches: &Switches,
) -> Result<Table, Failure> {
    let side = |one: &RouteSide| side(service, one, config);
    let leaving = route.leaving.iter().map(|one| {
        let deadline = Some(one.deadline);
        Ok(Leaving { side: side(&one.side)?, deadline })
    });
    Ok(Table {
        v: Table::VERSION,
        service: name.clone(),
        epoch: service.records + switches.epoch,
        salt: route.salt.clone(),
        last_good: route.last_good.as_ref().map(side).transpose()?,
        candidate: route.candidate.as_ref().map(side).transpose()?,
        share: route.share,
        leaving: leaving.collect::<Result<_, Failure>>()?,
        closed: closed(service, config, switches),
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

fn closed(service: &Service, config: &ServiceConfig, switches: &Switches) -> Vec<Closed> {
    let closes = config.traffic.iter().flat_map(|traffic| &traffic.closes);
    let tripped = closes.filter(|closes| switches.is_tripped(closes.switch.as_str())).map(|closes| Closed {
        by: format!("switch {}", closes.switch),
        routes: closes.routes.clone(),
        answer: Answering {
            status: closes.status,
            retry_after: closes.retry_after.map(|length| seconds(length.0)),
            body: closes.body.clone(),
        },
    });
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

fn seconds(span: Span) -> u32 {
    u32::try_from(span.0.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Gives the switches of now; none are configured, none are tripped.
///
/// Errors: `switches-unreadable`: what may be tripped must not be opened, so the table that stands stays.
pub fn switches_of(config: Option<&SwitchesConfig>, state_dir: &Path) -> Result<Switches, Failure> {
    let Some(config) = config else { return Ok(Switches::default()) };
    let read = Reader::open(state_dir).and_then(|reader| Folded::read(&reader, &config.environment));
    read.map(|folded| folded.switches).map_err(|error| {
        Failure::new(
            "switches-unreadable",
            format!("the switches can't be read, so no table can be made: {error}"),
            Some("find out where the evidence is damaged: lastgood evidence verify"),
        )
    })
}
