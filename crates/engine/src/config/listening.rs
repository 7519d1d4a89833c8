//! Who listens where: two that want one address, and the second to start gets none.

use super::{Config, check::Found};
use std::net::{IpAddr, Ipv4Addr};

/// Somebody that listens.
struct Listener {
    /// The key that says where.
    place: String,
    /// The service whose instance it is; none of what is no instance.
    instance_of: Option<(String, bool)>,
    /// The address as it is written, where it is no IP address.
    host: Result<IpAddr, String>,
    port: u16,
}

/// Refuses two that listen at the same address and port, and instances without a port.
pub(super) fn apart(config: &Config, found: &mut Found<'_>) {
    let mut all: Vec<Listener> = Vec::new();
    let mut own = |place: String, address: std::net::SocketAddr| {
        all.push(Listener { place, instance_of: None, host: Ok(address.ip()), port: address.port() });
    };
    own("listen".into(), config.listen);
    if let Some(switches) = &config.switches {
        own("switches.listen".into(), switches.listen);
    }
    for (name, service) in &config.service {
        let proxy = service.traffic.iter().flat_map(|traffic| &traffic.proxy);
        for address in proxy.flat_map(|proxy| &proxy.listen) {
            own(format!("service.{name}.traffic.proxy"), *address);
        }
    }
    for (name, service) in &config.service {
        for instance in &service.instance {
            let place = format!("service.{name}.instance {}", instance.name);
            for port in [Some(instance.port), instance.other_port].into_iter().flatten() {
                if port == 0 {
                    found.say(&place, "port 0 is no port: an instance needs one of its own", "port = 7101");
                    continue;
                }
                let instance_of = Some((name.to_string(), service.traffic.is_some()));
                all.push(Listener { place: place.clone(), instance_of, host: host(&service.bind), port });
            }
        }
    }
    // Port 0 of a listener is any that is free.
    for (at, one) in all.iter().enumerate().filter(|(_, one)| one.port != 0) {
        let Some(other) = all[..at].iter().find(|other| meets(one, other)) else { continue };
        let (what, example) = match (&one.instance_of, &other.instance_of) {
            (Some(_), Some(_)) => {
                (format!("port {} is taken by another instance, {}", one.port, other.place), "port = 7102")
            }
            (Some(_), None) => (format!("port {} is taken by {}", one.port, other.place), "port = 7102"),
            (None, _) => (format!("port {} is taken by {}", one.port, other.place), "listen at another port"),
        };
        found.say(&one.place, what, example);
    }
}

fn host(bind: &str) -> Result<IpAddr, String> {
    match bind {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        other => other.parse().map_err(|_| other.to_owned()),
    }
}

/// Tells whether two can't both listen. Two places of one service with shared traffic are told apart elsewhere.
fn meets(one: &Listener, other: &Listener) -> bool {
    if one.port != other.port || one.instance_of == other.instance_of && matches!(one.instance_of, Some((_, true))) {
        return false;
    }
    match (&one.host, &other.host) {
        // An address of version 6 that is all of them takes those of version 4 along on Linux.
        (Ok(one), Ok(other)) => one == other || is_all(one, other) || is_all(other, one),
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}

fn is_all(one: &IpAddr, other: &IpAddr) -> bool {
    one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, ConfigErrors};
    use std::path::Path;

    /// Two services with shared traffic, and one without.
    const WELL: &str = r#"
state_dir = "/state"
listen = "127.0.0.1:9464"

[switches]
listen = "127.0.0.1:9465"

[service.chat]
channel = { directory = "/releases" }
command = ["{release}/chat"]
state = { sqlite = "chat.db" }
probe = [{ name = "page", http = { path = "/" }, expect = { status = 200 } }]
traffic = { proxy = { listen = ["0.0.0.0:8080"] } }
instance = [{ name = "a", port = 7101, other_port = 7102, data = "/data/chat" }]

[service.mail]
channel = { directory = "/releases" }
command = ["{release}/mail"]
state = { sqlite = "mail.db" }
probe = [{ name = "page", http = { path = "/" }, expect = { status = 200 } }]
traffic = { proxy = { listen = ["127.0.0.1:8081"] } }
instance = [{ name = "a", port = 7201, other_port = 7202, data = "/data/mail" }]

[service.notes]
channel = { directory = "/releases" }
command = ["{release}/notes"]
state = { sqlite = "notes.db" }
probe = [{ name = "page", http = { path = "/" }, expect = { status = 200 } }]
instance = [{ name = "alice", port = 7301, data = "/data/alice" }, { name = "bob", port = 7302, data = "/data/bob" }]
"#;

    fn wrong(text: &str) -> Vec<String> {
        match Config::parse_all(text, Path::new("/lastgood.toml"), Path::new("/")) {
            Ok(_) => Vec::new(),
            Err(ConfigErrors { first, others }) => {
                [*first].iter().chain(&others).map(|error: &ConfigError| error.to_string()).collect()
            }
        }
    }

    #[test]
    fn two_that_listen_at_one_address_are_refused() {
        assert_eq!(wrong(WELL), Vec::<String>::new());
        for (written, instead, expected) in [
            (
                "127.0.0.1:8081",
                "127.0.0.1:8080",
                "service.mail.traffic.proxy: port 8080 is taken by service.chat.traffic.proxy",
            ),
            (
                "other_port = 7202",
                "other_port = 8080",
                "service.mail.instance a: port 8080 is taken by service.chat.traffic.proxy",
            ),
            ("127.0.0.1:9465", "127.0.0.1:9464", "switches.listen: port 9464 is taken by listen"),
            ("0.0.0.0:8080", "[::]:9464", "service.chat.traffic.proxy: port 9464 is taken by listen"),
            ("port = 7302", "port = 9465", "service.notes.instance bob: port 9465 is taken by switches.listen"),
            (
                "port = 7302",
                "port = 7102",
                "service.notes.instance bob: port 7102 is taken by another instance, service.chat.instance a",
            ),
            ("other_port = 7202", "other_port = 7201", "service.mail.instance: a port of a is there twice"),
        ] {
            let text = WELL.replace(written, instead);
            assert_ne!(text, WELL);
            assert_eq!(wrong(&text), [format!("/lastgood.toml: {expected}")], "{instead}");
        }
        for (written, instead) in [("0.0.0.0:8080", "127.0.0.2:9464"), ("127.0.0.1:8081", "127.0.0.1:0")] {
            assert_eq!(wrong(&WELL.replace(written, instead)), Vec::<String>::new(), "{instead}");
        }
    }

    #[test]
    fn all_mistakes_that_can_be_told_are_told_at_once() {
        let mut text = WELL.replace("{release}/mail", "{relaese}/mail").replace("port = 7301", "port = 0");
        text = text
            .replace("/data/bob", "/data/alice/b")
            .replace("listen = \"127.0.0.1:9464\"", "listen = \"10.0.0.1:9464\"");
        text += "[notice.phone]\nslack = \"phone\"\n";
        let said = wrong(&text);
        for expected in ["10.0.0.1", "{relaese}", "port 0", "/data/alice/b", "[secret.phone]"] {
            assert!(said.iter().any(|one| one.contains(expected)), "{expected}: {said:#?}");
        }
        assert_eq!(said.len(), 5, "{said:#?}");
    }
}
