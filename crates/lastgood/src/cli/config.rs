//! `lastgood config`: check the file, print its schema.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Screen};
use clap::Subcommand;
use lastgood_domain::words;
use serde_json::json;
use std::path::Path;

/// Check the configuration or print its JSON Schema.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check the file.
    Check,
    /// Print the file's JSON Schema.
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
                    "{}: OK, {} with {}\ncheck this machine: lastgood doctor",
                    app.config_path.display(),
                    words::count(services as u64, "service"),
                    words::count(instances as u64, "instance"),
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
