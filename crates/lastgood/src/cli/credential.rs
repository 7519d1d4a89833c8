//! `lastgood credential`: revoke what may have leaked, prove it, rotate, prove that consumers work.

use super::{
    Ended,
    signal::{program, setup_trouble},
};
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_drivers::credential::{Credential as Prepared, CredentialError, Done};
use lastgood_engine::credentials;
use serde_json::json;

/// Revoke and rotate credentials that may have leaked.
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// List credentials and their state.
    List,
    /// Revoke the current secret: its users are cut off until it is rotated.
    Revoke {
        /// The credential.
        name: String,
    },
    /// Check that the old secret is refused and, after a rotation, that the new one works.
    Prove {
        /// The credential.
        name: String,
    },
    /// Check that the old secret is refused, create a new one and write it to the secret's file.
    Rotate {
        /// The credential.
        name: String,
    },
}

impl Credential {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List => list(app),
            Self::Revoke { name } => revoke(app, &name),
            Self::Prove { name } => prove(app, &name),
            Self::Rotate { name } => rotate(app, &name),
        }
    }
}

pub(crate) fn prepared(app: &App, name: &str) -> Result<Prepared, Trouble> {
    let found = credentials::credential(&app.config, name, &program()?).map_err(|error| setup_trouble(&error))?;
    found.ok_or_else(|| {
        let known: Vec<&str> = app.config.credential.keys().map(String::as_str).collect();
        let hint = match known.as_slice() {
            [] => "write one: [credential.NAME] with secret and kind".to_owned(),
            known => format!("one of: {}", known.join(", ")),
        };
        Trouble::say(Exit::Usage, "credential-unknown", format!("there is no credential {name:?}"), &hint)
    })
}

pub(super) fn trouble(error: &CredentialError) -> Trouble {
    let exit = if error.cannot_tell() { Exit::CannotTell } else { Exit::Failed };
    Trouble::new(exit, error)
}

fn list(app: &App) -> Ended {
    let (mut text, mut rows) = (String::new(), Vec::new());
    let width = app.config.credential.keys().map(String::len).max().unwrap_or(0);
    for (name, config) in &app.config.credential {
        let standing = prepared(app, name)?.standing().map_err(|error| trouble(&error))?;
        text += &format!("{name:width$}  {standing:8}  {}, secret {}\n", config.kind(), config.secret);
        rows.push(json!({ "credential": name, "standing": standing, "kind": config.kind(), "secret": config.secret }));
    }
    if rows.is_empty() {
        text = format!("{} has no [credential.NAME]\n", app.config_path.display());
    }
    app.screen.show("credentials", &json!({ "credentials": rows }), &text);
    Ok(Exit::Done)
}

fn say(app: &App, kind: &str, name: &str, done: &[Done], next: &str) {
    let text: String = done.iter().map(|one| format!("{name}: {}\n", one.what)).collect();
    app.screen.show(kind, &json!({ "credential": name, "done": done }), &(text + next));
}

fn revoke(app: &App, name: &str) -> Ended {
    let credential = prepared(app, name)?;
    if !app.screen.confirm(&format!("Revoke {name} now? Whoever uses it is cut off until it is rotated.")) {
        let hint = format!("confirm: lastgood --yes credential revoke {name}");
        return Err(Trouble::say(Exit::Declined, "declined", "nothing was revoked", &hint));
    }
    let done = credential.revoke(None).map_err(|error| trouble(&error))?;
    let next = format!("prove it: lastgood credential prove {name}");
    say(app, "credential-revoked", name, &[done], &next);
    Ok(Exit::Done)
}

fn prove(app: &App, name: &str) -> Ended {
    let credential = prepared(app, name)?;
    let mut done = vec![credential.prove_refused().map_err(|error| trouble(&error))?];
    let standing = credential.standing().map_err(|error| trouble(&error))?;
    if standing == "revoked" {
        say(app, "credential-proven", name, &done, &format!("then: lastgood credential rotate {name}"));
        return Ok(Exit::Done);
    }
    done.push(credential.prove_consumers().map_err(|error| trouble(&error))?);
    say(app, "credential-proven", name, &done, "it is in use again");
    Ok(Exit::Done)
}

fn rotate(app: &App, name: &str) -> Ended {
    let credential = prepared(app, name)?;
    // A new secret beside an old one that still works would look like safety.
    let refused = credential.prove_refused().map_err(|error| trouble(&error))?;
    let done = credential.rotate().map_err(|error| trouble(&error))?;
    let next = format!("have consumers read it, then prove it: lastgood credential prove {name}");
    say(app, "credential-rotated", name, &[refused, done], &next);
    Ok(Exit::Done)
}
