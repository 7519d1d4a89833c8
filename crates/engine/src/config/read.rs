//! Reads lastgood.toml: text, types, then what no single value shows.

use super::{Config, ConfigError, ConfigErrors, check, traffic};
use crate::provenance::Environment;
use lastgood_domain::terms::Digest;
use std::path::Path;

impl Config {
    /// Reads the file.
    ///
    /// Errors: [`ConfigError`] with file, line, column, the nearest known key and an example.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (config, placeholders) = Self::read_unfinished(path).map_err(|refused| *refused.first)?;
        placeholders.into_iter().next().map_or(Ok(config), Err)
    }

    /// Reads a file in which placeholders of `lastgood init` may still stand, and gives those beside it.
    ///
    /// Errors: as [`Config::read`], but for placeholders; all that can be told at once.
    pub fn read_unfinished(path: &Path) -> Result<(Self, Vec<ConfigError>), ConfigErrors> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigErrors::from(ConfigError::Unreadable { path: path.to_path_buf(), source }))?;
        let folder =
            std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_path_buf)).unwrap_or_default();
        let placeholders = check::placeholders(&text, path);
        match Self::parse_all(&text, path, &folder) {
            Ok(config) => Ok((config, placeholders)),
            Err(ConfigErrors { first, mut others }) => {
                others.extend(placeholders);
                Err(ConfigErrors { first, others })
            }
        }
    }

    /// Reads the text of a file that is or would be at `path`.
    ///
    /// Errors: the first of those of [`Config::read_unfinished`].
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        Self::parse_all(text, path, folder).map_err(|refused| *refused.first)
    }

    pub(super) fn parse_all(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigErrors> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| ConfigErrors::from(ConfigError::from_toml(&error, text, path)))?;
        config.folder = folder.to_path_buf();
        let table: Option<toml::Table> = toml::from_str(text).ok();
        config.digest = table.and_then(|table| Some(Digest::of(&serde_json::to_vec(&table).ok()?)));
        config.state_dir = folder.join(&config.state_dir);
        let (state_dir, anchor) = (config.state_dir.clone(), config.anchor());
        for service in config.service.values_mut() {
            service.environment =
                service.policy.passed_in().map(|passed| Environment::of(passed, folder, &state_dir, &anchor));
        }
        if let Some(switches) = &mut config.switches {
            switches.anchor = anchor;
        }
        for service in config.service.values_mut() {
            for instance in &mut service.instance {
                instance.data = folder.join(&instance.data);
            }
        }
        for file in config.runbook.file.values_mut() {
            file.path = folder.join(&file.path);
        }
        let mut wrong = check::check(&config, text, path).into_iter();
        if let Some(first) = wrong.next() {
            return Err(ConfigErrors { first: Box::new(first), others: wrong.collect() });
        }
        config.service.values_mut().for_each(traffic::expand);
        Ok(config)
    }
}
