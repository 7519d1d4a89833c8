//! Who listens where an instance is to listen: a stranger there would answer its probes.

use lastgood_domain::{failure::Failure, terms::InstanceName};
use lastgood_drivers::runtime;
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// Longest wait for a listener's kernel to take a connection: it is this machine's own.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// The state of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// Somebody who listens on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    address: SocketAddr,
    /// Process id and name, where /proc tells us.
    process: Option<(u32, String)>,
}

impl Occupant {
    /// Finds who listens on a port of an address; none if it is free, or no address of this machine.
    pub fn of(bind: &str, port: u16) -> Option<Self> {
        let address = (bind, port).to_socket_addrs().ok()?.next()?;
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => return None,
        }
        let process = listener(address);
        // Connections of a service that ended may keep its port for a while: nobody answers there.
        if process.is_none() && TcpStream::connect_timeout(&address, CONNECT_WAIT).is_err() {
            return None;
        }
        Some(Self { address, process })
    }

    /// Says that it has the port of an instance that is not it.
    pub fn in_the_way_of(&self, instance: &InstanceName) -> Failure {
        let who = match &self.process {
            Some((pid, name)) => format!("{name} (process {pid})"),
            None => "a process of another user".into(),
        };
        let port = self.address.port();
        if let Some(other) = self.process.as_ref().and_then(|(pid, _)| runtime::instance_of(*pid))
            && !other.ends_with(&format!("/{instance}"))
        {
            let what =
                format!("{instance}: {} is in use by {who}, which is lastgood's own instance {other}", self.address);
            let fix = format!("call {instance} by that name again in lastgood.toml, or give it another port");
            return Failure::new("instance-port-in-use", what, Some(&fix));
        }
        let what = format!("{instance}: {} is in use by {who}, which is not the instance", self.address);
        let fix = format!("see who it is: ss -ltnp 'sport = :{port}'; end it, or give {instance} another port");
        Failure::new("instance-port-in-use", what, Some(&fix))
    }
}

/// Finds the process that listens there; none if /proc keeps it from us.
fn listener(address: SocketAddr) -> Option<(u32, String)> {
    let mut links = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let inodes = text.lines().skip(1).filter_map(|line| inode(line, address));
        links.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids {
        let pid: u32 = pid;
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        if targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str())) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// Gives the inode of a line's socket if it listens on this address, or on all.
fn inode(line: &str, address: SocketAddr) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let same_port = u16::from_str_radix(port, 16) == Ok(address.port());
    // The kernel writes the four bytes as one number in the machine's order; those of IPv6 are told by port alone.
    let here = match (ip.len(), address.ip()) {
        (8, IpAddr::V4(wanted)) => {
            let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
            ip == wanted || ip.is_unspecified() || wanted.is_unspecified()
        }
        _ => true,
    };
    (*state == LISTEN && same_port && here).then_some(*inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_and_a_free_port_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = Occupant::of("127.0.0.1", port).unwrap();
        let failure = found.in_the_way_of(&InstanceName::new("alice").unwrap());
        assert_eq!(failure.code, "instance-port-in-use");
        assert!(failure.message.contains(&format!("(process {})", std::process::id())), "{failure}");
        assert!(failure.hint.unwrap().contains(&format!("sport = :{port}")));
        drop(listener);
        assert_eq!(Occupant::of("127.0.0.1", port), None);
        assert_eq!(Occupant::of("no such host", port), None);
    }

    #[test]
    fn who_listens_on_all_addresses_is_in_the_way_of_each() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(Occupant::of("127.0.0.1", port).is_some());
    }
}
