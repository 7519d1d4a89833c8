//! Ports that must be free for somebody who will listen, or must answer because somebody needs them.

use super::{Sight, Wrong, host};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpStream};

/// A TCP port.
///
/// ```toml
/// [preflight.database-answers]
/// port = { address = "127.0.0.1:5432" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortCheck {
    /// Host and port, such as `127.0.0.1:5432`.
    pub address: String,
    /// `answers` (a connection is taken) or `free` (nobody listens, and it could be listened on). Default `answers`.
    #[serde(default)]
    pub rule: PortRule,
}

/// What is asked of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortRule {
    /// A connection is taken.
    #[default]
    Answers,
    /// Nobody has it, and we could.
    Free,
}

impl PortCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        let known = host::split(&self.address).is_some();
        (!known).then(|| format!("{:?} is not host and port, such as 127.0.0.1:5432", self.address))
    }

    pub(super) fn needs_network(&self) -> bool {
        self.rule == PortRule::Answers && !host::split(&self.address).is_some_and(|(name, _)| host::is_here(name))
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let (name, port) = host::split(&self.address).unwrap_or((&self.address, 0));
        let addresses = host::resolve(name, port)?;
        match self.rule {
            PortRule::Answers => self.answers(&addresses, sight),
            PortRule::Free => self.is_free(&addresses),
        }
    }

    fn answers(&self, addresses: &[SocketAddr], sight: &Sight) -> Result<String, Wrong> {
        let mut why = String::new();
        for address in addresses {
            match TcpStream::connect_timeout(address, sight.left()) {
                Ok(_) => return Ok(format!("{} answers", self.address)),
                Err(error) => why = error.to_string(),
            }
        }
        let (_, port) = host::split(&self.address).unwrap_or_default();
        let what = format!("nobody answers at {}: {why}", self.address);
        Err(Wrong::fails("preflight-port-silent", what, format!("ss -ltnp 'sport = :{port}'")))
    }

    /// Binds without listening: nobody can connect by mistake, and who is about to listen is not disturbed.
    fn is_free(&self, addresses: &[SocketAddr]) -> Result<String, Wrong> {
        use rustix::io::Errno;
        for address in addresses {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let bound =
                rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).and_then(|socket| {
                    // As listeners do: connections of a service that ended don't keep its port.
                    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
                    rustix::net::bind(&socket, address)
                });
            let port = address.port();
            let fix = format!("see who has it: ss -ltnp 'sport = :{port}'");
            match bound {
                Ok(()) => {}
                Err(Errno::ADDRINUSE) => {
                    return Err(Wrong::fails("preflight-port-taken", format!("{} is in use", self.address), fix));
                }
                Err(error) => {
                    let what = format!("nothing can listen on {}: {error}", self.address);
                    return Err(Wrong::fails("preflight-port-unusable", what, "ip -brief address"));
                }
            }
        }
        Ok(format!("{} is free", self.address))
    }
}
