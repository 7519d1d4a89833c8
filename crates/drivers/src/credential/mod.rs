//! Credentials that may have leaked: revoke → prove the old one refused → rotate → prove that consumers work.
//!
//! Each act may be repeated after a kill at any instant, and one goes on at a time. That the old one is refused is proven by an attempt with it, never
//! by what a system says of itself. No secret is in an error, a log or an argument of a command.

mod command;
mod config;
mod error;
mod postgres;
mod shelf;
mod value;

pub use config::{CredentialConfig, CredentialKeys};
pub use error::CredentialError;

use crate::sql::Database;
use config::Kind;
use lastgood_domain::terms::Span;
use shelf::{Phase, Shelf};
use std::path::{Path, PathBuf};

/// What an act has come to, in one sentence without its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Such as `role app has a password that nobody knows; sessions of it that were ended: 3`.
    pub what: String,
}

impl Done {
    fn say(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// What a credential was tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    Accepted,
    Refused,
}

/// One credential, ready to be acted on. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Credential {
    name: String,
    kind: Kind,
    /// The secret's file.
    file: PathBuf,
    shelf: PathBuf,
    /// The folder of lastgood.toml, in which commands run.
    folder: PathBuf,
    timeout: Span,
    server: Option<Database>,
}

impl Credential {
    /// Makes the credential `name` ready.
    ///
    /// `file` is the file of its secret, `shelf` a folder of its own in the state folder, `folder` that of lastgood.toml;
    /// `server` is the database that a PostgreSQL role is changed in. Nothing is touched yet.
    pub fn new(
        name: &str,
        config: &CredentialConfig,
        file: &Path,
        shelf: &Path,
        folder: &Path,
        server: Option<Database>,
    ) -> Self {
        Self {
            name: name.into(),
            kind: config.kind.clone(),
            file: file.into(),
            shelf: shelf.into(),
            folder: folder.into(),
            timeout: config.timeout.0,
            server,
        }
    }

    /// Makes the present secret worthless. A copy is kept for the proof, until consumers were proven to work.
    ///
    /// `on_behalf` names who may find it done already, such as an incident; a person who types it means what is in the file
    /// now, and gives none. Repeated, it does the same again; after the rotation it does nothing if that was for the same one
    /// and its secret is still in the file. Otherwise what lies there is another secret, and is revoked from the beginning.
    /// Errors: it may or may not have been revoked; repeat it.
    pub fn revoke(&self, on_behalf: Option<&str>) -> Result<Done, CredentialError> {
        let shelf = self.open()?;
        let present = value::read(&self.name, &self.file)?;
        let mut phase = shelf.phase()?;
        if phase == Phase::Rotated && shelf.is_rotated_to(&present)? && shelf.is_for(on_behalf)? {
            return Ok(Done::say("it was revoked and rotated before; consumers are not proven yet"));
        }
        if phase == Phase::Rotated || (phase == Phase::Revoked && !shelf.knows(&present)?) {
            shelf.clear()?;
            phase = Phase::Clear;
        }
        if phase == Phase::Clear {
            shelf.note_for(on_behalf)?;
            // The copy first: without it nothing could be proven.
            shelf.keep_old(&present)?;
        }
        let old = shelf.old()?;
        let done = match &self.kind {
            Kind::Postgres { role, .. } => postgres::revoke(self, role)?,
            Kind::Command { revoke, .. } => {
                self.run("revoke", revoke, &[("LASTGOOD_OLD_FILE", &shelf.old_file())], &[&old])?;
                Done::say("the command that revokes has ended well")
            }
            Kind::File { reload, .. } => {
                value::replace(&self.name, &self.file, &shelf.nobodys(|| value::fresh(&old))?)?;
                self.reload(reload.as_deref(), &[&old])?;
                Done::say("its file holds a secret that nobody knows")
            }
        };
        shelf.reach(Phase::Revoked)?;
        Ok(done)
    }

    /// Tries the old secret and sees it refused.
    ///
    /// Errors: [`CredentialError::StillAccepted`]; whoever tried could not tell; nothing was revoked.
    pub fn prove_refused(&self) -> Result<Done, CredentialError> {
        let shelf = self.open()?;
        if shelf.phase()? == Phase::Clear {
            return Err(CredentialError::NotRevoked { name: self.name.clone() });
        }
        let old = shelf.old()?;
        let (tried, how) = match &self.kind {
            Kind::Postgres { role, doors } => postgres::try_old(self, role, doors, &old)?,
            Kind::Command { attempt, .. } | Kind::File { attempt, .. } => {
                (self.attempt(attempt, &shelf.old_file(), &[&old])?, "by an attempt with it".to_owned())
            }
        };
        match tried {
            Tried::Refused => Ok(Done::say(format!("the old one is refused, {how}"))),
            Tried::Accepted => Err(CredentialError::StillAccepted { name: self.name.clone(), how }),
        }
    }

    /// Makes a new secret, has it accepted, and puts it into the secret's file.
    ///
    /// It lies aside, on the disk, before anything accepts it; repeated after a kill, the same one is taken.
    /// Errors: nothing was revoked; the new one is not in the file, or not accepted yet: repeat it.
    pub fn rotate(&self) -> Result<Done, CredentialError> {
        let shelf = self.open()?;
        let done = || Done::say(format!("{} holds the new secret", self.file.display()));
        match shelf.phase()? {
            Phase::Clear => return Err(CredentialError::NotRevoked { name: self.name.clone() }),
            // Changed since: what lies there was never revoked.
            Phase::Rotated if !shelf.is_rotated_to(&value::read(&self.name, &self.file)?)? => {
                return Err(CredentialError::NotRevoked { name: self.name.clone() });
            }
            Phase::Rotated => return Ok(done()),
            Phase::Revoked => {}
        }
        let old = shelf.old()?;
        let new = shelf.staged(|| value::fresh(&old))?;
        match &self.kind {
            Kind::Postgres { role, .. } => postgres::set(self, role, &new)?,
            Kind::Command { rotate, .. } => {
                self.run("rotate", rotate, &[("LASTGOOD_NEW_FILE", &shelf.staged_file())], &[&old, &new])?;
            }
            Kind::File { .. } => {}
        }
        value::replace(&self.name, &self.file, &new)?;
        if let Kind::File { reload, .. } = &self.kind {
            self.reload(reload.as_deref(), &[&old, &new])?;
        }
        shelf.reach(Phase::Rotated)?;
        Ok(done())
    }

    /// Sees that the new secret is accepted and that consumers work; then the copies are removed.
    ///
    /// Errors: it is not; nothing was rotated.
    pub fn prove_consumers(&self) -> Result<Done, CredentialError> {
        let shelf = self.open()?;
        if shelf.phase()? == Phase::Revoked {
            return Err(CredentialError::NotRotated { name: self.name.clone() });
        }
        let present = value::read(&self.name, &self.file)?;
        let (tried, how) = match &self.kind {
            Kind::Postgres { role, doors } => postgres::try_new(self, role, doors, &present)?,
            Kind::Command { attempt, .. } | Kind::File { attempt, .. } => {
                (self.attempt(attempt, &self.file, &[&present])?, "by an attempt with it".to_owned())
            }
        };
        if tried == Tried::Refused {
            return Err(CredentialError::NewRefused { name: self.name.clone(), how });
        }
        let mut said = format!("the new one is accepted, {how}");
        if let Some(consumers) = self.kind.consumers() {
            self.run("consumers", consumers, &[], &[&present])?;
            said += ", and the command that asks consumers has ended well";
        }
        shelf.clear()?;
        Ok(Done::say(said))
    }

    /// Gives how far it is: `in use`, `revoked` or `rotated`.
    pub fn standing(&self) -> Result<&'static str, CredentialError> {
        Ok(match Shelf::look(&self.name, &self.shelf)? {
            Phase::Clear => "in use",
            Phase::Revoked => "revoked",
            Phase::Rotated => "rotated",
        })
    }

    fn open(&self) -> Result<Shelf, CredentialError> {
        // An act is at most a command and a reload.
        let patience = Span(self.timeout.0.saturating_mul(2)).duration();
        Shelf::open(&self.name, &self.shelf, patience)
    }
}
