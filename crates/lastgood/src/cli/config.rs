//! `lastgood config`: check the file, print its schema.

use super::Ended;
use crate::{
    app::App,
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::{Args, Subcommand};
use lastgood_domain::{
    event::Event,
    failure::Failure,
    service::Service,
    terms::{InstanceName, Reason},
    words,
};
use lastgood_engine::{
    config::{self as engine, ConfigError, ConfigErrors, FILE_NAME},
    setup::{self, Setup},
};
use serde_json::json;
use std::{cell::RefCell, path::Path};

/// Check the configuration, print its JSON Schema, or start from it without a release.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check the file.
    Check,
    /// Print the file's JSON Schema.
    Schema,
    /// From now on start what runs with the file as it is; nothing has rehearsed that.
    Accept(Accept),
}

/// From now on start what runs with the file as it is; nothing has rehearsed that.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The service.
    service: String,
    /// Only these instances.
    #[arg(long)]
    instance: Vec<InstanceName>,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

impl Config {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, path: Option<&Path>) -> Ended {
        match self {
            Self::Accept(accept) => return accept.run(&App::open(screen, path)?),
            Self::Check => {
                if let Some((first, also)) = wrong(path) {
                    screen.troubles(&Trouble::new(Exit::Usage, &first), &also);
                    return Ok(Exit::Usage);
                }
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
                let schema = engine::Config::schema();
                let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
                screen.show("config-schema", &schema, &text);
            }
        }
        Ok(Exit::Done)
    }
}

/// Finds all that is wrong with the file, as far as it can be told at once.
fn wrong(path: Option<&Path>) -> Option<(ConfigError, Vec<Failure>)> {
    let path = path.unwrap_or_else(|| Path::new(FILE_NAME));
    let (first, others) = match engine::Config::read_unfinished(path) {
        Err(ConfigErrors { first, others }) => (*first, others),
        Ok((_, placeholders)) => {
            let mut left = placeholders.into_iter();
            (left.next()?, left.collect())
        }
    };
    Some((first, others.iter().map(|error| Failure::of(error)).collect()))
}

impl Accept {
    /// Runs the command.
    fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        let home = app.home.service(&service);
        let config = &app.config.service[&service];
        if let Some(unknown) = self.instance.iter().find(|name| config.instance(name).is_none()) {
            let what = format!("{service} has no instance {unknown}");
            return Err(Trouble::say(Exit::Usage, "instance-unknown", what, "see which there are: lastgood status"));
        }
        let failed = |failure| Trouble { exit: Exit::Failed, failure };
        let said = RefCell::new(Vec::new());
        let decide = |folded: &Service| {
            let (mut events, mut lines) = (Vec::new(), Vec::new());
            let asked = |name| self.instance.is_empty() || self.instance.contains(name);
            for instance in config.instance.iter().filter(|one| asked(&one.name)) {
                let name = &instance.name;
                let Some(release) = folded.instances.get(name).and_then(|one| one.release) else { continue };
                let Some(apart) = setup::apart_as(&app.config, &service, &home, folded, name, &release) else {
                    continue;
                };
                // Written before it is in the log, so that what the log names is there.
                let setup = Setup::of(config, instance, &app.config.folder).keep(&home.setups()).map_err(failed)?;
                let reason = self.reason.clone();
                events.push(Event::SetupAccepted { instance: name.clone(), release, setup, reason });
                lines.push(apart);
            }
            *said.borrow_mut() = lines;
            Ok(events)
        };
        app.say(&service, decide)?;
        let said = said.into_inner();
        let mut text = String::new();
        for one in &said {
            let keys = if one.keys.is_empty() { "what it says".to_owned() } else { one.keys.join(", ") };
            text +=
                &format!("{} takes {keys} of lastgood.toml when it is next started as {}\n", one.instance, one.release);
        }
        text += &match said.is_empty() {
            true => format!("{service} starts with lastgood.toml as it is already\nsee it: lastgood status {service}"),
            false => format!(
                "nothing has rehearsed that; end the process, and lastgood serve or lastgood run starts it again\n\
                 see it: lastgood status {service}"
            ),
        };
        app.screen.show("config-accept", &json!({ "service": service, "taken": said }), &text);
        Ok(Exit::Done)
    }
}
