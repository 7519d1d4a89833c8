//! What a release of the notebook is: one program plays all of them, told apart by a behaviour file.
//!
//! A real service changes its code between releases; here the code is one binary and the release says which
//! migrations it brings, where its login is, and what is wrong with it. To whoever rolls it out nothing differs.

use crate::NotebookError;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The way to log in that every release of the first series has.
pub const FIRST_LOGIN_PATH: &str = "/account/login";

/// The way to log in since 2.0.0.
pub const SECOND_LOGIN_PATH: &str = "/v2/login";

/// Largest behaviour file that is read; ours are below 1 kB.
const RELEASE_FILE_BYTES_MAX: u64 = 64 * 1024;

/// One release of the notebook, as its `release.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The version, such as `2.0.0`.
    pub version: String,
    /// The numbers of the migrations this release knows, in the order in which it applies them.
    pub migrations: Vec<u32>,
    /// Starts on data that has migrations it doesn't know, if they only added something. Default: refuses.
    #[serde(default)]
    pub tolerant: bool,
    /// Where one can log in; the first is the main way, the others are kept as fallback.
    pub login_paths: Vec<String>,
    /// What is wrong with this release, besides what its migrations do.
    #[serde(default)]
    pub fault: Fault,
}

/// What can be wrong with a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The health page answers 200, every login answers 500.
    LoginAnswers500,
    /// The process dies by itself some time after it began to listen.
    Crash {
        /// Milliseconds from listening to the crash.
        after_ms: u64,
    },
    /// The health page answers 503 for ever.
    NeverReady,
    /// Every page but the health page becomes slow some time after the start.
    Slow {
        /// Milliseconds from listening to the first slow answer.
        after_ms: u64,
        /// Milliseconds that are added to each answer from then on.
        by_ms: u64,
    },
    /// A migration that fails is logged and forgotten: the service starts and answers 200.
    FailedMigrationIgnored,
}

impl Release {
    /// Reads a behaviour file.
    pub fn read(file: &Path) -> Result<Self, NotebookError> {
        let unreadable = |cause| NotebookError::ReleaseUnreadable { file: file.into(), source: cause };
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        if bytes > RELEASE_FILE_BYTES_MAX {
            return Err(NotebookError::ReleaseTooLong { file: file.into(), bytes, bytes_max: RELEASE_FILE_BYTES_MAX });
        }
        let text = std::fs::read(file).map_err(unreadable)?;
        serde_json::from_slice(&text)
            .map_err(|cause| NotebookError::ReleaseMeaningless { file: file.into(), source: cause })
    }

    /// Finds a release of the [`catalogue`] by its version.
    pub fn of_catalogue(version: &str) -> Option<Self> {
        catalogue().into_iter().find(|release| release.version == version)
    }

    /// Tells whether accounts live in two tables (since migration 3) and not in one.
    pub(crate) fn splits_accounts(&self) -> bool {
        self.migrations.contains(&crate::schema::SPLIT_ACCOUNT)
    }
}

/// All releases of the notebook, oldest first. What each does is proved by `tests/releases.rs`.
pub fn catalogue() -> Vec<Release> {
    use crate::schema::{ADD_PINNED, FIRST, FOLD_NAMES, NEVER_ENDS, NOTE_INDEX, SHORTEN_HASHES, SPLIT_ACCOUNT};
    const SECOND_SERIES: [u32; 3] = [FIRST, ADD_PINNED, SPLIT_ACCOUNT];
    let good = |version: &str, migrations: &[u32]| Release {
        version: version.to_owned(),
        migrations: migrations.to_vec(),
        tolerant: false,
        login_paths: match version.as_bytes().first() {
            Some(b'1') => vec![FIRST_LOGIN_PATH.to_owned()],
            Some(b'2') => vec![SECOND_LOGIN_PATH.to_owned(), FIRST_LOGIN_PATH.to_owned()],
            _ => vec![SECOND_LOGIN_PATH.to_owned()],
        },
        fault: Fault::None,
    };
    let second = |version: &str, fault: Fault| Release { fault, ..good(version, &SECOND_SERIES) };
    let migrating = |version: &str, last: u32| good(version, &[&SECOND_SERIES[..], &[last]].concat());
    vec![
        Release { tolerant: true, ..good("1.0.0", &[FIRST]) },
        Release { tolerant: true, ..good("1.1.0", &[FIRST, ADD_PINNED]) },
        second("2.0.0", Fault::None),
        migrating("2.1.0", SHORTEN_HASHES),
        second("2.2.0", Fault::LoginAnswers500),
        migrating("2.3.0", FOLD_NAMES),
        second("2.4.0", Fault::Crash { after_ms: 60_000 }),
        second("2.5.0", Fault::None),
        migrating("3.0.0", NEVER_ENDS),
        second("3.1.0", Fault::NeverReady),
        second("3.2.0", Fault::Slow { after_ms: 5_000, by_ms: 1_800 }),
        Release { fault: Fault::FailedMigrationIgnored, ..migrating("3.3.0", NOTE_INDEX) },
    ]
}
