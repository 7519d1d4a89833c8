//! What a table means for each server of the backend, and what of it is not so yet.

use super::{
    config::{HaproxyConfig, Stick},
    kept::Told,
    runtime::Seen,
    weights::Weights,
};
use crate::traffic::{RouterError, haproxy::closed};
use lastgood_domain::{
    terms::Digest,
    traffic::{Share, Side, Table},
};
use std::{collections::BTreeMap, net::SocketAddr};

/// A table in HAProxy's terms.
#[derive(Debug)]
pub(super) struct Plan {
    epoch: u64,
    backend: String,
    serving: BTreeMap<String, Serving>,
    /// What the map of closed routes must hold.
    pub(super) closed: Vec<(String, String)>,
    /// What the weights give the candidate.
    pub(super) share: Share,
}

#[derive(Debug)]
struct Serving {
    release: Digest,
    address: SocketAddr,
    weight: u16,
}

/// Tells whose each server is that a table names.
///
/// Errors: two instances that need the same server.
pub(super) fn releases(config: &HaproxyConfig, table: &Table) -> Result<BTreeMap<String, Digest>, RouterError> {
    let mut releases = BTreeMap::new();
    for side in table.sides() {
        for upstream in &side.upstreams {
            let server = config.server_of(upstream);
            if releases.contains_key(&server) {
                let why = format!(
                    "two instances need the server {server}; give each a server of its own, by server = \"{{instance}}-{{port}}\""
                );
                return Err(RouterError::TableUnfit { why });
            }
            releases.insert(server, side.release);
        }
    }
    Ok(releases)
}

/// Gives who of a table serves: last-good and the candidate, none of them with nothing.
fn serving(table: &Table) -> (Option<&Side>, Option<&Side>) {
    (
        table.last_good.as_ref().filter(|_| table.share != Share::ALL),
        table.candidate.as_ref().filter(|_| table.share != Share::NONE),
    )
}

/// Chooses the weights for a table, in view of those that were told before; `None` where one side serves alone.
pub(super) fn choose(config: &HaproxyConfig, table: &Table, before: Option<&Told>) -> Option<Weights> {
    let both = |table| match serving(table) {
        (Some(last_good), Some(candidate)) => Some((last_good, candidate)),
        _ => None,
    };
    let now = both(table)?;
    let before = before.filter(|told| config.stick == Stick::Hash && both(&told.table) == Some(now));
    let servers = (now.0.upstreams.len(), now.1.upstreams.len());
    Some(Weights::nearest(table.share, servers, before.and_then(|told| told.weights)))
}

impl Plan {
    /// Makes the plan for a table, given what there is now.
    ///
    /// Errors: what this HAProxy can't do. Nothing has been changed then.
    pub(super) fn new(config: &HaproxyConfig, told: &Told, seen: &Seen) -> Result<Self, RouterError> {
        let table = &told.table;
        let backend = config.backend.0.clone();
        let unfit = |why| RouterError::TableUnfit { why };
        releases(config, table)?;
        let partial = table.share != Share::NONE && table.share != Share::ALL;
        if partial && table.last_good.is_none() {
            return Err(unfit("a candidate with a share, and nobody for the rest".into()));
        }
        if !table.closed.is_empty() && config.closed_map.is_none() {
            return Err(RouterError::NoClosing { backend });
        }
        for upstream in table.sides().flat_map(|side| &side.upstreams) {
            let server = config.server_of(upstream);
            if !seen.servers.contains_key(&server) {
                return Err(RouterError::ServerUnknown { backend, server, instance: upstream.instance.to_string() });
            }
        }
        let (last_good, candidate) = serving(table);
        let (weights, share) = match (told.weights, last_good, candidate) {
            (Some(weights), Some(last_good), Some(candidate)) => {
                (weights, weights.share((last_good.upstreams.len(), candidate.upstreams.len())))
            }
            _ => (Weights { last_good: Weights::ALONE, candidate: Weights::ALONE }, table.share),
        };
        let mut serving = BTreeMap::new();
        for (side, weight) in [(last_good, weights.last_good), (candidate, weights.candidate)] {
            let Some(side) = side else { continue };
            for upstream in &side.upstreams {
                let one = Serving { release: side.release, address: upstream.address, weight };
                serving.insert(config.server_of(upstream), one);
            }
        }
        Ok(Self { epoch: table.epoch, backend, serving, closed: closed::entries(&table.closed).map_err(unfit)?, share })
    }

    /// Refuses to give a server another address while somebody is on it: what it has would count for another release.
    pub(super) fn check_busy(&self, seen: &Seen) -> Result<(), RouterError> {
        for (name, wanted) in &self.serving {
            if let Some(server) = seen.servers.get(name)
                && server.address != Some(wanted.address)
                && server.sessions > 0
            {
                return Err(RouterError::ServerBusy {
                    server: self.full(name),
                    sessions: server.sessions,
                    from: shown(server.address),
                    to: wanted.address.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Gives the commands that bring up who serves. Nobody is taken away by them, so that at each instant somebody serves;
    /// the shares in between lie between the old ones and the new.
    pub(super) fn bring_up(&self, seen: &Seen) -> Vec<String> {
        let (mut prepare, mut open) = (Vec::new(), Vec::new());
        for (name, wanted) in &self.serving {
            let Some(server) = seen.servers.get(name) else { continue };
            let full = self.full(name);
            let moves = server.address != Some(wanted.address);
            if moves {
                let (ip, port) = (wanted.address.ip(), wanted.address.port());
                // Not to the old address with one request more.
                prepare.push(format!("set server {full} state maint"));
                prepare.push(format!("set server {full} addr {ip} port {port}"));
            }
            if server.weight != wanted.weight {
                prepare.push(format!("set server {full} weight {}", wanted.weight));
            }
            if moves || !server.is_ready() {
                open.push(format!("set server {full} state ready"));
            }
        }
        prepare.extend(open);
        prepare
    }

    /// Gives the commands that take away who does not serve.
    ///
    /// By maintenance, not by `drain`: that still lets in who sticks by a cookie or a table. What is open goes on in both.
    pub(super) fn take_down(&self, seen: &Seen) -> Vec<String> {
        let others = seen.servers.iter().filter(|(name, server)| !server.backup && !self.serving.contains_key(*name));
        let open = others.filter(|(_, server)| !server.rests());
        open.map(|(name, _)| format!("set server {} state maint", self.full(name))).collect()
    }

    /// Lists the servers that serve by the table, but are held for down.
    pub(super) fn down(&self, seen: &Seen) -> Vec<String> {
        let is_down = |name: &str| seen.servers.get(name).is_some_and(|server| server.is_ready() && !server.up);
        self.serving.keys().filter(|name| is_down(name)).map(|name| self.full(name)).collect()
    }

    /// Tells whether each release that is to serve has a server that is up.
    pub(super) fn can_serve(&self, seen: &Seen) -> bool {
        let mut up = BTreeMap::new();
        for (name, wanted) in &self.serving {
            *up.entry(wanted.release).or_insert(false) |= seen.servers.get(name).is_some_and(|server| server.up);
        }
        up.values().all(|up| *up)
    }

    /// Lists what is not as the table says.
    pub(super) fn differences(&self, seen: &Seen) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, server) in seen.servers.iter().filter(|(_, server)| !server.backup) {
            let full = self.full(name);
            let Some(wanted) = self.serving.get(name) else {
                if !server.rests() {
                    differences.push(format!("{full} takes requests"));
                }
                continue;
            };
            if !server.is_ready() {
                differences.push(format!("{full} takes no requests"));
            }
            if server.address != Some(wanted.address) {
                differences.push(format!("{full} is {} instead of {}", shown(server.address), wanted.address));
            }
            if server.weight != wanted.weight {
                differences.push(format!("{full} has weight {} instead of {}", server.weight, wanted.weight));
            }
        }
        if seen.closed.as_ref().is_some_and(|closed| *closed != self.closed) {
            differences.push("other routes are closed".into());
        }
        differences
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    fn full(&self, server: &str) -> String {
        format!("{}/{server}", self.backend)
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "no address".into(), |address| address.to_string())
}
