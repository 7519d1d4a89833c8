//! `lastgood config`: check the file, print its schema.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Screen};
use clap::Subcommand;
use serde_json::json;
use std::path::Path;

/// Check the configuration, or print its JSON Schema.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read the file and say whether it is right.
    Check,
    /// Print the JSON Schema of the file.
    Schema,
}

impl Config {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, path: Option<&Path>) -> Ended {
        match self {
            Self::Check => {
                let app = App::open(screen, path)?;
                let services = app.config.service.len();
                let instances: usize = app.config.service.values().map(|service| service.instance.len()).sum();
                let data = json!({ "file": app.config_path, "services": services, "instances": instances });
                let text = format!(
                    "{} is right: services {services}, instances {instances}\nlook at this machine: lastgood doctor",
                    app.config_path.display()
                );
                screen.show("config-check", &data, &text);
            }
            Self::Schema => {
                let schema = lastgood_engine::config::Config::schema();
                let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
                screen.show("config-schema", &schema, &text);
            }
        }
        Ok(Exit::Done)
    }
}
