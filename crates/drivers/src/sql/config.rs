//! The keys of `[database.NAME]` in lastgood.toml, checked once into one of two kinds.

use super::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A database that checks and signals ask. Exactly one of `sqlite` and `postgres` is given.
///
/// ```toml
/// [database.app]
/// postgres = "postgresql://lastgood@127.0.0.1:5432/app"
/// secret = "app-database"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseKeys {
    /// A SQLite file. A relative path starts at the folder of lastgood.toml. It is read as the file's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqlite: Option<PathBuf>,
    /// A PostgreSQL server, as `postgresql://USER@HOST:PORT/DATABASE` or as
    /// `host=/run/postgresql user=lastgood dbname=app`. Sockets and loopback addresses only; never with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postgres: Option<String>,
    /// For `postgres`: name of the secret that is the password. Default: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Where a database is. Secrets are named, never held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "DatabaseKeys", into = "DatabaseKeys")]
#[schemars(with = "DatabaseKeys")]
pub enum DatabaseConfig {
    /// A file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A server.
    Postgres {
        /// Where it is, and as whom to ask.
        address: Address,
        /// Name of the secret that is the password.
        secret: Option<String>,
    },
}

impl DatabaseConfig {
    /// Gives the name of the secret it needs.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Postgres { secret, .. } => secret.as_deref(),
            Self::Sqlite { .. } => None,
        }
    }
}

impl TryFrom<DatabaseKeys> for DatabaseConfig {
    type Error = String;

    fn try_from(keys: DatabaseKeys) -> Result<Self, String> {
        match (keys.sqlite, keys.postgres) {
            (Some(_), None) if keys.secret.is_some() => Err("secret goes with postgres only".into()),
            (Some(path), None) if !path.as_os_str().is_empty() => Ok(Self::Sqlite { path }),
            (None, Some(text)) => Ok(Self::Postgres { address: text.parse()?, secret: keys.secret }),
            _ => {
                Err("give one of: sqlite = \"/srv/app/app.db\"; postgres = \"postgresql://USER@HOST/DATABASE\"".into())
            }
        }
    }
}

impl From<DatabaseConfig> for DatabaseKeys {
    fn from(config: DatabaseConfig) -> Self {
        match config {
            DatabaseConfig::Sqlite { path } => Self { sqlite: Some(path), postgres: None, secret: None },
            DatabaseConfig::Postgres { address, secret } => {
                Self { sqlite: None, postgres: Some(address.to_string()), secret }
            }
        }
    }
}
