//! What credentials promise: the old one is tried before it is said to be refused, the new one is whole or not there, every
//! act may be repeated, and no secret is said.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod files;
#[path = "../postgres_kit/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod postgres_kit;
mod roles;

use lastgood_drivers::{
    credential::{Credential, CredentialConfig},
    sql::Database,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
};

pub(crate) const OLD: &str = "0ld-s3cret-that-leaked";

/// A folder with a secret in `secret`, which belongs to a user.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(world.path("secret"), format!("{OLD}\n")).unwrap();
        fs::set_permissions(world.path("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        chown(world.path("secret"), Some(1234), Some(1235)).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn secret(&self) -> String {
        fs::read_to_string(self.path("secret")).unwrap().trim_end().to_owned()
    }

    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name).display().to_string()
    }

    pub(crate) fn credential(&self, toml: &str, server: Option<Database>) -> Credential {
        let config: CredentialConfig = toml::from_str(&format!("secret = \"it\"\n{toml}")).unwrap();
        let folder = self.folder.path();
        Credential::new("app", &config, &self.path("secret"), &self.path("shelf"), folder, server)
    }

    /// The file is as it must be: whole, the same owner, no more rights than before; and nothing lies beside it.
    #[track_caller]
    pub(crate) fn file_is_as_it_was_but_new(&self) {
        let facts = fs::metadata(self.path("secret")).unwrap();
        assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o777), (1234, 1235, 0o640));
        let text = fs::read_to_string(self.path("secret")).unwrap();
        assert!(text.ends_with('\n') && text.trim_end().len() == 43 && !text.contains(OLD), "{} bytes", text.len());
        assert!(!self.path(".secret.lastgood").exists());
    }

    /// Nothing of it is left on the shelf.
    #[track_caller]
    pub(crate) fn shelf_is_empty(&self) {
        assert_eq!(fs::read_dir(self.path("shelf")).unwrap().count(), 0);
    }
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    for (toml, wanted) in [
        ("kind = \"magic\"", "kind is one of"),
        ("kind = \"postgres\"\nrole = \"app\"", "database is missing"),
        ("kind = \"postgres\"\ndatabase = \"a\"", "role is missing"),
        ("kind = \"postgres\"\ndatabase = \"a\"\nrole = \"app\"\nreload = [\"x\"]", "reload does not go with"),
        (
            "kind = \"postgres\"\ndatabase = \"a\"\nrole = \"app\"\ndoors = [\"host=/s user=other\"]",
            "a door is for other",
        ),
        ("kind = \"file\"", "attempt is missing"),
        ("kind = \"command\"\nattempt = [\"x\"]\nrevoke = [\"x\"]", "rotate is missing"),
    ] {
        let error = toml::from_str::<CredentialConfig>(&format!("secret = \"it\"\n{toml}")).unwrap_err();
        assert!(error.message().contains(wanted), "{toml}: {}", error.message());
    }
}
