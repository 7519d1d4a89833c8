//! The keys of `[service.X.traffic.haproxy]` in lastgood.toml, checked once.

use crate::traffic::exchange::Place;
use lastgood_domain::{terms::InstanceName, traffic::Upstream};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// A HAProxy that carries the service's traffic instead of the built-in proxy.
///
/// ```toml
/// [service.chat.traffic.haproxy]
/// socket = "/run/haproxy/admin.sock"
/// backend = "chat"
/// server = "{instance}"
/// stick = "hash"
/// closed_map = "/etc/haproxy/chat-closed.map"
/// state_file = "/var/lib/haproxy/state/chat"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaproxyConfig {
    /// HAProxy's runtime socket with `level admin`: an absolute path, or an address and port on loopback.
    pub socket: RuntimeSocket,
    /// The backend whose servers are lastgood's alone: one that no table names is put into maintenance. Servers marked
    /// `backup` are left as they are.
    pub backend: Name,
    /// Name of an instance's server: `{instance}` and `{port}` are filled in. Default `{instance}`. With `{port}` an
    /// instance has a server for each port, so that two releases of it can run beside each other.
    #[serde(default = "Template::by_instance")]
    pub server: Template,
    /// Names of servers that are called otherwise, by instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Name>")]
    pub servers: BTreeMap<InstanceName, Name>,
    /// How HAProxy's own configuration keeps a person on one server; what can be promised depends on it.
    pub stick: Stick,
    /// A map that HAProxy refuses requests by, for closed routes; lastgood writes it. Without it nothing can be closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_map: Option<FilePath>,
    /// The backend's server state file; lastgood writes it, so that a reload keeps what was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_file: Option<FilePath>,
}

impl HaproxyConfig {
    /// Gives the name of an instance's server.
    pub(super) fn server_of(&self, upstream: &Upstream) -> String {
        match self.servers.get(&upstream.instance) {
            Some(name) => name.0.clone(),
            None => (self.server.0)
                .replace("{instance}", upstream.instance.as_str())
                .replace("{port}", &upstream.address.port().to_string()),
        }
    }
}

/// What keeps a person on one server, by HAProxy's own configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stick {
    /// `balance hash …` (or `hdr`, `uri`, `url_param`, `source`) of a stable id, with `hash-type consistent`.
    Hash,
    /// `cookie … insert`.
    Cookie,
    /// `stick on …`.
    Table,
    /// Nothing.
    None,
}

impl Stick {
    /// Says what can be promised to people, for plans and doctors.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Hash => {
                "people stay where they are while the share grows, and return as it falls; who has no id may move, and \
                 people may change between instances of one release"
            }
            Self::Cookie | Self::Table => {
                "the share is of people who come new: who is on a release stays there until it gets nothing any more"
            }
            Self::None => "the share is of requests: a person changes between the releases from one to the next",
        }
    }
}

/// HAProxy's runtime socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSocket(pub(super) Place);

impl<'de> Deserialize<'de> for RuntimeSocket {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        if text.starts_with('/') {
            return Ok(Self(Place::Unix(PathBuf::from(text.as_ref()))));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self(Place::Tcp(address))),
            Ok(_) => Err(serde::de::Error::custom("socket is not on loopback: whoever reaches it rules HAProxy")),
            Err(_) => Err(serde::de::Error::custom(
                "socket must be an absolute path or an address with port, like /run/haproxy/admin.sock or 127.0.0.1:9999",
            )),
        }
    }
}

impl Serialize for RuntimeSocket {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// A text with a rule.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $fits:expr, $why:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub(super) String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let fits: fn(&str) -> bool = $fits;
                if fits(&text) { Ok(Self(text)) } else { Err(serde::de::Error::custom(format!("{text:?}: {}", $why))) }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $why })
            }
        }
    };
}

checked_text!(
    /// The name of a backend or a server.
    Name, is_name,
    "HAProxy's names have 1 to 200 of A-Z, a-z, 0-9, '-', '_', '.' and ':'"
);
checked_text!(
    /// How the names of servers are made.
    Template,
    |text| {
        let filled = text.replace("{instance}", "a").replace("{port}", "1");
        filled != text && is_name(&filled)
    },
    "a server's name has {instance} or {port} in it, and else A-Z, a-z, 0-9, '-', '_', '.' and ':'"
);
checked_text!(
    /// The absolute path of a file that HAProxy reads.
    FilePath,
    |text| text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ';' | '\\' | '"' | '\'' | '#')),
    "a path is absolute and has no spaces, quotes, ';', '#' or backslashes"
);

impl Template {
    fn by_instance() -> Self {
        Self("{instance}".into())
    }
}

/// What is sent to HAProxy within a line of commands must not be able to end one.
fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

impl JsonSchema for RuntimeSocket {
    fn schema_name() -> Cow<'static, str> {
        "RuntimeSocket".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "An absolute path such as /run/haproxy/admin.sock, or a loopback address such as 127.0.0.1:9999."
        })
    }
}
