//! The keys of `[credential.NAME]` in lastgood.toml, checked once into one of three kinds.

use crate::{config_terms::Length, sql::Address};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Time for one act.
const TIMEOUT: Length = Length::seconds(30);

/// A credential that can be revoked and rotated. `kind` says how.
///
/// ```toml
/// [credential.app-database]
/// secret = "app-database"
/// kind = "postgres"
/// database = "admin"
/// role = "app"
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialKeys {
    /// Name of the secret whose file holds it. The new secret is written there.
    secret: String,
    /// `postgres`: the password of a role. `file`: a file that a service reads. `command`: four commands.
    kind: String,
    /// For `postgres`: the `[database.NAME]` whose role may change passwords and end sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// For `postgres`: the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// For `postgres`: where the role logs in; the old password is tried at each. Default: as `database`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    doors: Vec<String>,
    /// For `file` and `command`: a command that tries the credential in the file `$LASTGOOD_CREDENTIAL_FILE`. It ends with
    /// 0 if it was accepted and with 77 if it was refused; every other end means that nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempt: Vec<String>,
    /// For `file`: a command that has the service read the file again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reload: Vec<String>,
    /// For `command`: makes the credential in `$LASTGOOD_OLD_FILE` worthless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoke: Vec<String>,
    /// For `command`: has the credential in `$LASTGOOD_NEW_FILE` accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rotate: Vec<String>,
    /// A command that ends with 0 if consumers work with the new secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    consumers: Vec<String>,
    /// Time for one act. Default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Length>,
}

/// A credential that can be revoked and rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "CredentialKeys", into = "CredentialKeys")]
#[schemars(with = "CredentialKeys")]
pub struct CredentialConfig {
    /// Name of the secret.
    pub secret: String,
    /// Name of the database, for a PostgreSQL role.
    pub database: Option<String>,
    pub(super) kind: Kind,
    pub(super) timeout: Length,
    keys: CredentialKeys,
}

impl CredentialConfig {
    /// Gives the word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Postgres { .. } => "postgres",
            Kind::File { .. } => "file",
            Kind::Command { .. } => "command",
        }
    }

    /// Gives the role whose password it is, for PostgreSQL.
    pub fn role(&self) -> Option<&str> {
        match &self.kind {
            Kind::Postgres { role, .. } => Some(role),
            Kind::File { .. } | Kind::Command { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres { role: String, doors: Doors },
    File { attempt: Vec<String>, reload: Option<Vec<String>>, consumers: Option<Vec<String>> },
    Command { revoke: Vec<String>, attempt: Vec<String>, rotate: Vec<String>, consumers: Option<Vec<String>> },
}

/// Where a role logs in, and who else is asked whether it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doors {
    pub(super) addresses: Vec<Address>,
    pub(super) consumers: Option<Vec<String>>,
}

impl Kind {
    pub(super) fn consumers(&self) -> Option<&[String]> {
        match self {
            Self::Postgres { doors, .. } => doors.consumers.as_deref(),
            Self::File { consumers, .. } | Self::Command { consumers, .. } => consumers.as_deref(),
        }
    }
}

impl TryFrom<CredentialKeys> for CredentialConfig {
    type Error = String;

    fn try_from(keys: CredentialKeys) -> Result<Self, String> {
        let kept = keys.clone();
        let (secret, timeout) = (keys.secret, keys.timeout.unwrap_or(TIMEOUT));
        let given = |argv: Vec<String>| (!argv.is_empty()).then_some(argv);
        let wanted = |key: &str, argv: Vec<String>| given(argv).ok_or_else(|| format!("{key} is missing"));
        let strange = |list: &[(&str, bool)]| match list.iter().find(|(_, there)| *there) {
            Some((key, _)) => Err(format!("{key} does not go with kind = \"{}\"", kept.kind)),
            None => Ok(()),
        };
        let server =
            [("database", kept.database.is_some()), ("role", kept.role.is_some()), ("doors", !kept.doors.is_empty())];
        let acts = [("revoke", !kept.revoke.is_empty()), ("rotate", !kept.rotate.is_empty())];
        let (reload, attempt) = (("reload", !kept.reload.is_empty()), ("attempt", !kept.attempt.is_empty()));
        let consumers = given(keys.consumers);
        let kind = match kept.kind.as_str() {
            "postgres" => {
                strange(&[acts[0], acts[1], reload, attempt])?;
                if kept.database.is_none() {
                    return Err("database is missing: the [database.NAME] that may change the role".into());
                }
                let role =
                    keys.role.filter(|role| !role.is_empty()).ok_or("role is missing, such as role = \"app\"")?;
                let addresses = keys.doors.iter().map(|door| door.parse()).collect::<Result<Vec<Address>, String>>()?;
                if let Some(other) = addresses.iter().find(|door| door.user() != role) {
                    return Err(format!("a door is for {}, the role is {role}", other.user()));
                }
                Kind::Postgres { role, doors: Doors { addresses, consumers } }
            }
            "file" => {
                strange(&[server[0], server[1], server[2], acts[0], acts[1]])?;
                Kind::File { attempt: wanted("attempt", keys.attempt)?, reload: given(keys.reload), consumers }
            }
            "command" => {
                strange(&[server[0], server[1], server[2], reload])?;
                Kind::Command {
                    revoke: wanted("revoke", keys.revoke)?,
                    attempt: wanted("attempt", keys.attempt)?,
                    rotate: wanted("rotate", keys.rotate)?,
                    consumers,
                }
            }
            _ => return Err("kind is one of postgres, file and command".into()),
        };
        Ok(Self { secret, database: kept.database.clone(), kind, timeout, keys: kept })
    }
}

impl From<CredentialConfig> for CredentialKeys {
    fn from(config: CredentialConfig) -> Self {
        config.keys
    }
}
