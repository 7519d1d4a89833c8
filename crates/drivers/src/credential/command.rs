//! Commands that act on a credential: they get the names of files, never a secret.

use super::{Credential, CredentialError, Tried, value::Value};
use crate::probe::{Scrubber, program::run_plain};
use std::{collections::BTreeMap, path::Path, time::Instant};

/// `EX_NOPERM` of sysexits. Not 1, with which most programs also say that they broke.
const EXIT_REFUSED: i32 = 77;
/// Characters of what a command says in an error.
const SAID_CHARS_MAX: usize = 300;

impl Credential {
    /// Tries the credential in `file`.
    pub(super) fn attempt(&self, argv: &[String], file: &Path, secrets: &[&Value]) -> Result<Tried, CredentialError> {
        let unknown = |why: String| CredentialError::CannotTell { name: self.name.clone(), why };
        let env = self.env(&[("LASTGOOD_CREDENTIAL_FILE", file)]);
        let until = Instant::now() + self.timeout.duration();
        let (status, said) = run_plain(argv, &env, &self.folder, until).map_err(|why| unknown(clean(&why, secrets)))?;
        match status {
            0 => Ok(Tried::Accepted),
            EXIT_REFUSED => Ok(Tried::Refused),
            other => Err(unknown(format!("the attempt ended with {other}{}", quote(&said, secrets)))),
        }
    }

    /// Runs one of the acts.
    pub(super) fn run(
        &self,
        act: &'static str,
        argv: &[String],
        files: &[(&str, &Path)],
        secrets: &[&Value],
    ) -> Result<(), CredentialError> {
        let failed = |why: String| CredentialError::ActFailed { name: self.name.clone(), act, why };
        let until = Instant::now() + self.timeout.duration();
        let (status, said) =
            run_plain(argv, &self.env(files), &self.folder, until).map_err(|why| failed(clean(&why, secrets)))?;
        match status {
            0 => Ok(()),
            other => Err(failed(format!("its command ended with {other}{}", quote(&said, secrets)))),
        }
    }

    pub(super) fn reload(&self, argv: Option<&[String]>, secrets: &[&Value]) -> Result<(), CredentialError> {
        argv.map_or(Ok(()), |argv| self.run("reload", argv, &[], secrets))
    }

    fn env(&self, files: &[(&str, &Path)]) -> BTreeMap<String, String> {
        let named = [("LASTGOOD_CREDENTIAL".to_owned(), self.name.clone())];
        let files = files.iter().map(|(name, path)| ((*name).to_owned(), path.display().to_string()));
        named.into_iter().chain(files).collect()
    }
}

fn quote(said: &str, secrets: &[&Value]) -> String {
    match clean(said, secrets) {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    }
}

fn clean(text: &str, secrets: &[&Value]) -> String {
    let mut scrubber = Scrubber::default();
    secrets.iter().for_each(|secret| scrubber.add_secret(&secret.text));
    scrubber.scrub(text).chars().take(SAID_CHARS_MAX).collect()
}
