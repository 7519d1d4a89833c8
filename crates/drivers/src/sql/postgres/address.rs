//! Where a PostgreSQL server is and as whom it is asked, in the two forms that its own clients read.

use std::{fmt, path::PathBuf, str::FromStr};

/// The port of a server that says none.
const PORT: u16 = 5432;

/// A server, a role and a database; never a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where the server listens.
    pub(crate) host: Host,
    /// Its port; with a socket it is part of the socket's name.
    pub(crate) port: u16,
    /// The role.
    pub(crate) user: String,
    /// The database.
    pub(crate) database: String,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A folder with a socket in it.
    Socket(PathBuf),
    /// A name or an address.
    Net(String),
}

impl Address {
    /// Gives the same server and database for another role.
    pub fn with_user(&self, user: &str) -> Self {
        Self { user: user.into(), ..self.clone() }
    }

    /// Gives the role.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.host {
            Host::Socket(folder) => folder.display().to_string(),
            Host::Net(name) => name.clone(),
        };
        write!(f, "host={host} port={} user={} dbname={}", self.port, self.user, self.database)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(rest) => url(rest)?,
            None => words(text)?,
        };
        parts.whole()
    }
}

/// What was given so far.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    database: Option<String>,
}

impl Parts {
    /// Takes one setting. The value of a refused one is not repeated: it may be a password.
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        let place = match key {
            "host" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "dbname" => &mut self.database,
            "password" => return Err("postgres must not hold a password; put it into secret = \"NAME\"".into()),
            _ => return Err(format!("postgres has {key}, but takes only host, port, user and dbname")),
        };
        *place = Some(value);
        Ok(())
    }

    fn whole(self) -> Result<Address, String> {
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let host = given(self.host).ok_or("postgres names no host, such as host=/run/postgresql")?;
        let user = given(self.user).ok_or("postgres names no user, such as user=lastgood")?;
        let port = match given(self.port) {
            Some(port) => port.parse().map_err(|_| "postgres has a port that is no number".to_owned())?,
            None => PORT,
        };
        let host = if host.starts_with('/') { Host::Socket(host.into()) } else { Host::Net(host) };
        if let Some(bad) = [&user].into_iter().chain(&self.database).find(|text| text.contains('\0')) {
            return Err(format!("postgres has a zero byte in {bad:?}"));
        }
        Ok(Address { host, port, database: given(self.database).unwrap_or_else(|| user.clone()), user })
    }
}

fn words(text: &str) -> Result<Parts, String> {
    let mut parts = Parts::default();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or(
            "postgres is postgresql://USER@HOST/DATABASE, or words such as host=/run/postgresql user=lastgood dbname=app",
        )?;
        parts.set(key, value.into())?;
    }
    Ok(parts)
}

fn url(rest: &str) -> Result<Parts, String> {
    let mut parts = Parts::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err("postgres must not hold a password; put it into secret = \"NAME\"".into());
    }
    // `[::1]:5432` has colons in its host.
    let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    for (key, value) in [("user", user), ("host", host), ("port", port), ("dbname", path)] {
        if !value.is_empty() {
            parts.set(key, unescaped(value)?)?;
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        parts.set(key, unescaped(value)?)?;
    }
    Ok(parts)
}

fn unescaped(text: &str) -> Result<String, String> {
    let wrong = || "postgres has a wrong escape (% and two hexadecimal digits)".to_owned();
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_the_same_server() {
        let socket: Address = "host=/run/postgresql user=lastgood dbname=app".parse().unwrap();
        assert_eq!(socket.to_string(), "host=/run/postgresql port=5432 user=lastgood dbname=app");
        assert_eq!("postgresql://lastgood@/app?host=/run/postgresql".parse(), Ok(socket.clone()));
        assert_eq!("postgres://lastgood@%2Frun%2Fpostgresql/app".parse(), Ok(socket));
        let net: Address = "postgresql://lastgood@[::1]:5433".parse().unwrap();
        assert_eq!(net.to_string(), "host=::1 port=5433 user=lastgood dbname=lastgood");
    }

    #[test]
    fn a_password_and_unknown_settings_are_refused_without_being_repeated() {
        for text in [
            "postgresql://u:hunter2@h/d",
            "host=h user=u password=hunter2",
            "postgresql://u@h/d?sslpassword=hunter2",
            "postgresql://u@h/d?password=hunter2",
            "hunter2",
            "user=u",
            "host=h",
            "host=h user=u port=hunter2",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
