//! Configured credentials, made ready for their acts.

use crate::{
    config::Config,
    signals::{SetupError, database},
};
use lastgood_drivers::{credential::Credential, probe::SecretSource};
use std::path::Path;

/// Makes the credential `name` ready; only the secret of its server is read.
///
/// Errors: that secret can't be used. `None` if it is not configured.
pub fn credential(config: &Config, name: &str, program: &Path) -> Result<Option<Credential>, SetupError> {
    let Some(credential) = config.credential.get(name) else { return Ok(None) };
    let server = credential.database.as_deref().map(|name| database(config, name, program)).transpose()?.flatten();
    // The configuration was checked for it.
    let Some(SecretSource::File(file)) = config.secret.get(&credential.secret) else { return Ok(None) };
    let shelf = config.state_dir.join("credentials").join(name);
    let file = config.folder.join(file);
    Ok(Some(Credential::new(name, credential, &file, &shelf, &config.folder, server)))
}
