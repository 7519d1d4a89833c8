//! What a proxy is set up with for its whole life; who gets which traffic comes later, in tables.

use lastgood_domain::{failure::Coded, terms::ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// The settings of one proxy process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder for the control socket and the tables; one proxy has it to itself. Must be on a local disk.
    pub state_dir: PathBuf,
    /// Threads that carry traffic. Default: one for each processor.
    #[serde(default)]
    pub threads: Option<u16>,
    /// What is served, by the service's name.
    #[schemars(with = "BTreeMap<String, Serving>")]
    pub services: BTreeMap<ServiceName, Serving>,
}

/// How one service's traffic is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Addresses to listen at, such as `0.0.0.0:443`. HTTP/1.1, HTTP/2 and WebSocket at each.
    #[schemars(with = "Vec<String>")]
    pub listen: Vec<SocketAddr>,
    /// Certificates; with any, all addresses speak TLS and nothing else. The first is for clients that name no host.
    #[serde(default)]
    pub tls: Vec<Certificate>,
    /// What people are recognised by, so that each stays on one release.
    #[serde(default)]
    pub sticky: Sticky,
    /// What clients may take.
    #[serde(default)]
    pub limits: Limits,
    /// Addresses or networks (`10.0.0.0/8`) of proxies in front: their X-Forwarded-Proto and X-Forwarded-Host are passed
    /// on, and the limit for one address does not hold for them.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
}

/// A certificate and its key, in PEM files that are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate and those it was signed by, the own one first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What people are recognised by.
///
/// Whoever brings neither the cookie nor the header gets a cookie of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sticky {
    /// Header whose value is the id of a person or a session. Comes before the cookie.
    pub header: Option<String>,
    /// Cookie of the service's whose value is the id of a person or a session.
    pub cookie: Option<String>,
    /// Name of the cookie that the proxy sets for those who have no id: 128 random bits, HttpOnly, SameSite=Lax, Secure
    /// under TLS, kept 30 days.
    pub own_cookie: String,
}

impl Default for Sticky {
    fn default() -> Self {
        Self { header: None, cookie: None, own_cookie: "lastgood".into() }
    }
}

/// What clients may take. Beyond a limit the answer is an error, and nobody else notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest head of a request, in bytes, 1,024 to 65,536; beyond: 431.
    pub header_bytes: u32,
    /// The most header lines; beyond: 431.
    pub header_count: u16,
    /// The longest body of a request, in bytes; beyond: 413. Default: no limit.
    pub body_bytes: Option<u64>,
    /// Seconds that a request's head may take from its first byte to its last, and a TLS handshake; beyond: 408.
    pub header_seconds: u32,
    /// Seconds that a connection may wait for its next request.
    pub idle_seconds: u32,
    /// Seconds that a service may take from a request's end to its answer's first byte; beyond: 504.
    pub answer_seconds: u32,
    /// The longest pause within a body, either way, in seconds; beyond: the request ends.
    pub pause_seconds: u32,
    /// Seconds that a connection to an instance may take to come up.
    pub connect_seconds: u32,
    /// Seconds that a connection to an instance is kept for the next request. Must be below what the service keeps it.
    pub reuse_seconds: u32,
    /// The most connections of clients.
    pub connections: u32,
    /// The most connections from one address.
    pub connections_per_address: u32,
    /// The most WebSocket tunnels; beyond: 503.
    pub tunnels: u32,
    /// Seconds without a byte either way after which a tunnel is closed, with 1001.
    pub tunnel_idle_seconds: u32,
    /// The most requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// The most requests on one HTTP/2 connection that a client may have given up before they were seen to; beyond, the
    /// connection is closed.
    pub resets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 16 << 10,
            header_count: 100,
            body_bytes: None,
            header_seconds: 10,
            idle_seconds: 75,
            answer_seconds: 60,
            pause_seconds: 300,
            connect_seconds: 3,
            // Below the five seconds after which many servers (Node's among them) close.
            reuse_seconds: 4,
            connections: 50_000,
            connections_per_address: 20_000,
            tunnels: 25_000,
            // Above the minute at which clients usually ping.
            tunnel_idle_seconds: 600,
            streams: 100,
            resets: 50,
        }
    }
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Tells whether an address is in it; an IPv4 address within IPv6 is that IPv4 address.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                (u32::from(mine) ^ u32::from(other)).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                (u128::from(mine) ^ u128::from(other)).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither an address nor a network like 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let plain = |bits: &str| bits.parse().ok().filter(|number: &u8| number.to_string() == bits).ok_or_else(wrong);
        let bits = bits.map_or(Ok(all), plain)?;
        if bits > all { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}/{}", self.address, self.bits))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("{path} can't be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not as it must be.
    #[error("{path} is wrong: {why}", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        why: String,
    },
    /// A value is out of its range.
    #[error("{0}")]
    Unfit(String),
}

impl Coded for SettingsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "proxy-settings-unreadable",
            Self::Wrong { .. } | Self::Unfit(_) => "proxy-settings-wrong",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "name a file that this user can read: lastgood proxy --settings FILE".into(),
            Self::Wrong { .. } | Self::Unfit(_) => "correct the settings and start again".into(),
        })
    }
}

impl Settings {
    /// Reads settings from a JSON file.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let settings: Self = serde_json::from_str(&text)
            .map_err(|error| SettingsError::Wrong { path: path.to_owned(), why: error.to_string() })?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks that all values are in their ranges.
    pub fn check(&self) -> Result<(), SettingsError> {
        let unfit = |text: String| Err(SettingsError::Unfit(text));
        if self.threads == Some(0) || self.threads.is_some_and(|threads| threads > 256) {
            return unfit("threads must be 1 to 256".into());
        }
        for (service, serving) in &self.services {
            if serving.listen.is_empty() {
                return unfit(format!("{service} listens nowhere: name an address in listen"));
            }
            if !(1_024..=65_536).contains(&serving.limits.header_bytes) {
                return unfit(format!("{service}: header_bytes must be 1024 to 65536"));
            }
            let sticky = &serving.sticky;
            let names = sticky.header.iter().chain(&sticky.cookie).chain([&sticky.own_cookie]);
            for name in names {
                if !crate::http::field::is_token(name.as_bytes()) {
                    return unfit(format!("{service}: {name:?} is no name of a header or cookie"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let has = |network: &str, address: &str| network.parse::<Network>().unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.1.2.3") && has("10.0.0.0/8", "::ffff:10.1.2.3") && has("::1", "::1"));
        assert!(has("0.0.0.0/0", "9.9.9.9") && has("fd00::/8", "fd12::1"));
        assert!(!has("10.0.0.0/8", "11.1.2.3") && !has("127.0.0.1", "127.0.0.2") && !has("fd00::/8", "::1"));
        for text in ["10.0.0.0/33", "x", "10.0.0.0/+8", "10.0.0.0/08"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        let read = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("proxy.json");
            std::fs::write(&path, text).unwrap();
            Settings::read(&path)
        };
        let good = r#"{"state_dir": "/s", "services": {"chat": {"listen": ["127.0.0.1:80"]}}}"#;
        assert_eq!(read(good).unwrap().services.len(), 1);
        for (broken, code) in [
            (good.replace("listen", "lisen"), "proxy-settings-wrong"),
            (good.replace("[\"127.0.0.1:80\"]", "[]"), "proxy-settings-wrong"),
            (good.replace("]}", "], \"limits\": {\"header_bytes\": 5}}"), "proxy-settings-wrong"),
            (good.replace("]}", "], \"sticky\": {\"own_cookie\": \"a b\"}}"), "proxy-settings-wrong"),
        ] {
            assert_eq!(read(&broken).unwrap_err().code(), code, "{broken}");
        }
        assert_eq!(Settings::read(Path::new("/none")).unwrap_err().code(), "proxy-settings-unreadable");
    }
}
