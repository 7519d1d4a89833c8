//! Addresses as they are written, and whether they lead off this machine.

use super::Wrong;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

/// Splits `host:port`; IPv6 addresses stand in brackets.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// Tells whether a host is this machine without asking anybody.
pub(super) fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip.is_unspecified())
}

/// Tells whether a URL's host is this machine without asking anybody.
pub(super) fn url_is_here(url: &str) -> bool {
    url.parse::<ureq::http::Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default();
        is_here(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
    })
}

/// Finds the addresses of a host.
///
/// The resolver has its own patience, so the caller must not wait for it.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Wrong> {
    let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let what = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => format!("{host} has no address"),
        Err(error) => format!("{host} has no address: {error}"),
    };
    Err(Wrong::unknown("preflight-host-unknown", what, format!("getent hosts {host}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_question_is_here() {
        for here in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"] {
            assert!(is_here(here), "{here}");
        }
        for there in ["example.com", "10.0.0.1", "localhost.example.com", ""] {
            assert!(!is_here(there), "{there}");
        }
        assert!(url_is_here("https://[::1]:8443/x") && url_is_here("http://localhost/"));
        assert!(!url_is_here("https://example.com/") && !url_is_here("nonsense"));
        assert_eq!(split("[::1]:80"), Some(("::1", 80)));
        assert_eq!(split("db.internal:5432"), Some(("db.internal", 5432)));
        assert_eq!((split("db.internal"), split(":80"), split("a:0")), (None, None, None));
    }
}
