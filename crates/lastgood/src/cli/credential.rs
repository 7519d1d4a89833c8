//! `lastgood credential`: revoke what may have leaked, prove it, rotate, prove that consumers work.
//!
//! Each act stands in the operations chain: what begins before it is done, what it came to after it. What a kill left begun is
//! repeated: nobody infers from what is there now that it was done.

use super::{
    Ended,
    signal::{program, setup_trouble},
};
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_domain::{
    failure::Failure,
    operations::{Event, credential::CredentialEvent, incident::plan::Turn, people::Act},
};
use lastgood_drivers::credential::{Credential as Prepared, CredentialError, Done};
use lastgood_engine::{credentials, letter::rfc3339};
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
        /// The credential's name again, instead of typing it when asked.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        /// Show what would be done and stop.
        #[arg(long)]
        dry_run: bool,
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
        /// Show what would be done and stop.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Credential {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List => list(app),
            Self::Revoke { name, confirm, dry_run } => revoke(app, &name, confirm.as_deref(), dry_run),
            Self::Prove { name } => prove(app, &name),
            Self::Rotate { name, dry_run } => rotate(app, &name, dry_run),
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
    let open = app.operations()?.credentials;
    for (name, config) in &app.config.credential {
        let standing = prepared(app, name)?.standing().map_err(|error| trouble(&error))?;
        text += &format!("{name:width$}  {standing:8}  {}, secret {}\n", config.kind(), config.secret);
        let begun = open.get(name).map(Vec::as_slice).unwrap_or_default();
        for one in begun {
            let (turn, by, since) = (one.turn.as_str(), &one.by, rfc3339(one.since));
            let again = ["lastgood", "credential", turn, name.as_str()].join(" ");
            text += &format!("  {turn} NOT ENDED, begun by {by} {since}: {again}\n");
        }
        let acts = begun.iter().map(|one| json!({ "turn": one.turn, "by": one.by, "since": one.since }));
        rows.push(json!({
            "credential": name, "standing": standing, "kind": config.kind(), "secret": config.secret,
            "begun": acts.collect::<Vec<_>>(),
        }));
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

fn write(app: &App, name: &str, event: CredentialEvent) -> Result<(), Trouble> {
    let event = Event::Credential { credential: name.into(), event };
    app.say_operations(&|_| Ok(vec![event.clone()])).map(drop)
}

/// Gives what stands in the evidence of an act's end.
fn ended(turn: Turn, done: &Result<Done, CredentialError>) -> CredentialEvent {
    match done {
        Ok(done) => CredentialEvent::Done { turn, what: done.what.clone() },
        Err(error) => CredentialEvent::Failed { turn, failure: Failure::of(error) },
    }
}

/// Writes what an act came to.
fn turn(app: &App, name: &str, turn: Turn, done: Result<Done, CredentialError>) -> Result<Done, Trouble> {
    // What was done outside is told even where it can't be written; that it can't is trouble.
    let written = write(app, name, ended(turn, &done));
    let done = done.map_err(|error| trouble(&error))?;
    written.map(|()| done)
}

/// Refuses before anything is asked: who may not has nothing to confirm.
fn may(app: &App) -> Result<(), Trouble> {
    app.config.people().check(&app.actor, Act::Credential).map_err(|error| Trouble::new(Exit::NotAllowed, &error))
}

fn dry(app: &App, name: &str, credential: &Prepared, would: &str) -> Ended {
    let standing = credential.standing().map_err(|error| trouble(&error))?;
    let text = format!("{name} is {standing}\n{would}");
    app.screen.show("credential-would", &json!({ "credential": name, "standing": standing, "would": would }), &text);
    Ok(Exit::Done)
}

fn revoke(app: &App, name: &str, confirm: Option<&str>, dry_run: bool) -> Ended {
    let credential = prepared(app, name)?;
    may(app)?;
    if dry_run {
        return dry(
            app,
            name,
            &credential,
            "its secret would be revoked: whoever uses it is cut off until it is rotated",
        );
    }
    let question = format!("Revoke {name} now? Whoever uses it is cut off until it is rotated.");
    if !app.screen.confirm_name(&question, name, confirm) {
        let hint = format!("confirm by its name: lastgood credential revoke {name} --confirm {name}");
        return Err(Trouble::say(Exit::Declined, "declined", "nothing was revoked", &hint));
    }
    // What leaked is cut off whatever becomes of the record: that it can't be written is told, and is no reason to wait.
    if let Err(unwritten) = write(app, name, CredentialEvent::Begun { turn: Turn::Revoke }) {
        app.screen.trouble(&unwritten);
    }
    let done = credential.revoke(None);
    let written = write(app, name, ended(Turn::Revoke, &done));
    match done {
        Ok(done) => {
            let next = format!("prove it: lastgood credential prove {name}");
            say(app, "credential-revoked", name, &[done], &next);
            written.map(|()| Exit::Done)
        }
        Err(error) => {
            if let Err(unwritten) = written {
                app.screen.trouble(&unwritten);
            }
            Err(trouble(&error))
        }
    }
}

/// Proves and writes what it came to. Where nothing was revoked there is nothing to write.
fn refused(app: &App, name: &str, credential: &Prepared) -> Result<Done, Trouble> {
    match credential.prove_refused() {
        Err(error @ CredentialError::NotRevoked { .. }) => Err(trouble(&error)),
        proven => turn(app, name, Turn::ProveRefused, proven),
    }
}

fn prove(app: &App, name: &str) -> Ended {
    let credential = prepared(app, name)?;
    let mut done = vec![refused(app, name, &credential)?];
    let standing = credential.standing().map_err(|error| trouble(&error))?;
    if standing == "revoked" {
        say(app, "credential-proven", name, &done, &format!("then: lastgood credential rotate {name}"));
        return Ok(Exit::Done);
    }
    done.push(turn(app, name, Turn::ProveConsumers, credential.prove_consumers())?);
    say(app, "credential-proven", name, &done, "it is in use again");
    Ok(Exit::Done)
}

fn rotate(app: &App, name: &str, dry_run: bool) -> Ended {
    let credential = prepared(app, name)?;
    may(app)?;
    if dry_run {
        return dry(
            app,
            name,
            &credential,
            "once the old secret is proven refused, a new one would be put into its file",
        );
    }
    // A new secret beside an old one that still works would look like safety.
    let refused = refused(app, name, &credential)?;
    if !app.screen.confirm(&format!("Put a new secret into the file of {name} now?")) {
        let hint = format!("confirm: lastgood --yes credential rotate {name}");
        return Err(Trouble::say(Exit::Declined, "declined", "nothing was rotated", &hint));
    }
    write(app, name, CredentialEvent::Begun { turn: Turn::Rotate })?;
    let done = turn(app, name, Turn::Rotate, credential.rotate())?;
    let next = format!("have consumers read it, then prove it: lastgood credential prove {name}");
    say(app, "credential-rotated", name, &[refused, done], &next);
    Ok(Exit::Done)
}
