//! `[credential.NAME]`: what stands beside it in the configuration, checked.

use super::Config;
use lastgood_drivers::{credential::CredentialConfig, probe::SecretSource, sql::DatabaseConfig};

/// Finds what is wrong with a credential: where, what, and a line that would work.
pub(super) fn wrong(
    config: &Config,
    name: &str,
    credential: &CredentialConfig,
) -> Option<(String, String, &'static str)> {
    let wrong = |what: String, example| Some((format!("credential.{name}"), what, example));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return wrong("its name is made of letters, digits, '-' and '_'".into(), "[credential.app-database]");
    }
    match config.secret.get(&credential.secret) {
        None => {
            let what = format!("there is no [secret.{}]", credential.secret);
            return wrong(what, "[secret.NAME] with file = \"/etc/lastgood/NAME\"");
        }
        Some(SecretSource::Credential(_)) => {
            let what = "its secret is systemd's, and only one in a file can be rotated".into();
            return wrong(what, "[secret.NAME] with file = \"/etc/lastgood/NAME\"");
        }
        Some(SecretSource::File(_)) => {}
    }
    let Some(database) = &credential.database else { return None };
    match config.database.get(database) {
        Some(DatabaseConfig::Postgres { address, .. }) if Some(address.user()) == credential.role() => wrong(
            format!("database {database} asks as the same role; a role can't revoke itself"),
            "database = \"admin\"",
        ),
        Some(DatabaseConfig::Postgres { secret: Some(secret), .. }) if *secret == credential.secret => {
            wrong(format!("database {database} asks with the same secret"), "database = \"admin\"")
        }
        Some(DatabaseConfig::Postgres { .. }) => None,
        Some(DatabaseConfig::Sqlite { .. }) => {
            wrong(format!("database {database} is a file, which has no roles"), "database = \"admin\"")
        }
        None => {
            wrong(format!("there is no [database.{database}]"), "[database.admin] with postgres = \"postgresql://…\"")
        }
    }
}
