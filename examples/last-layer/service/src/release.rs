//! What a release is: one program plays all of them, told apart by a behaviour file.

use crate::LastLayerError;
use crate::schema::{ADD_STORED_AT, FIRST, SEAL_TEXT};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One release, as its `release.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The version, such as `1.1.0`.
    pub version: String,
    /// The numbers of the migrations this release knows, in the order in which it applies them.
    pub migrations: Vec<u32>,
    /// What is wrong with it.
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
    /// A share of all requests is answered with 500; never the health page.
    Errors {
        /// Of a hundred requests.
        percent: u32,
    },
    /// A share of all requests gets no answer: the connection ends; never the health page.
    Breaks {
        /// Of a hundred requests.
        percent: u32,
    },
    /// A share of all readings is answered from a copy, with 203: that is its fallback.
    FallsBack {
        /// Of a hundred readings.
        percent: u32,
    },
    /// A share of all requests takes longer; never the health page.
    Slow {
        /// Of a hundred requests.
        percent: u32,
        /// Milliseconds longer.
        by_ms: u64,
    },
    /// Who comes back gets only what is new.
    ForgetsResume,
    /// Who comes back gets the message it had last once more.
    DoublesOnReplay,
    /// What is stored between the end of a replay and the beginning of live is lost to who comes back.
    LosesAtSeam {
        /// Milliseconds between the two.
        open_ms: u64,
    },
    /// Every WebSocket is refused with 503.
    RefusesHandshake,
    /// A share of messages is acknowledged and not stored.
    ForgetsToStore {
        /// Of a hundred messages.
        percent: u32,
    },
    /// Every request is answered with 500 once so many rooms were asked about, what a short look never does; never the
    /// health page.
    FullOfRooms {
        /// Different rooms since the start.
        rooms: usize,
    },
    /// The process dies by itself.
    Crash {
        /// Milliseconds from listening to the crash.
        after_ms: u64,
    },
}

impl Release {
    /// Reads a behaviour file.
    pub fn read(file: &Path) -> Result<Self, LastLayerError> {
        let text =
            std::fs::read(file).map_err(|source| LastLayerError::ReleaseUnreadable { file: file.into(), source })?;
        serde_json::from_slice(&text).map_err(|source| LastLayerError::ReleaseMeaningless { file: file.into(), source })
    }

    /// Finds a release of the [`catalogue`] by its version.
    pub fn of_catalogue(version: &str) -> Option<Self> {
        catalogue().into_iter().find(|release| release.version == version)
    }

    /// Gives the column that holds the text: migration 3 renames it.
    pub(crate) fn text_column(&self) -> &'static str {
        if self.migrations.contains(&SEAL_TEXT) { "sealed" } else { "text" }
    }

    /// Tells whether it writes when a message was stored.
    pub(crate) fn notes_time(&self) -> bool {
        self.migrations.contains(&ADD_STORED_AT)
    }
}

/// All releases, oldest first. What each does is proved by the tests of this crate.
pub fn catalogue() -> Vec<Release> {
    let release = |version: &str, fault: Fault| Release {
        version: version.to_owned(),
        migrations: vec![FIRST, ADD_STORED_AT],
        fault,
    };
    vec![
        Release { migrations: vec![FIRST], ..release("1.0.0", Fault::None) },
        release("1.1.0", Fault::None),
        release("1.2.0", Fault::Errors { percent: 20 }),
        release("1.2.1", Fault::Errors { percent: 5 }),
        release("1.2.2", Fault::Slow { percent: 10, by_ms: 2_000 }),
        release("1.2.3", Fault::Errors { percent: 100 }),
        release("1.2.4", Fault::Breaks { percent: 20 }),
        release("1.2.5", Fault::FallsBack { percent: 60 }),
        release("1.3.0", Fault::ForgetsResume),
        release("1.3.1", Fault::DoublesOnReplay),
        release("1.3.2", Fault::LosesAtSeam { open_ms: 30 }),
        release("1.3.3", Fault::RefusesHandshake),
        release("1.3.4", Fault::ForgetsToStore { percent: 10 }),
        release("1.4.0", Fault::Crash { after_ms: 20_000 }),
        release("1.4.1", Fault::FullOfRooms { rooms: 40 }),
        release("1.5.0", Fault::None),
        Release { migrations: vec![FIRST, ADD_STORED_AT, SEAL_TEXT], ..release("2.0.0", Fault::None) },
    ]
}

/// Throws a die: true for `percent` of a hundred.
pub(crate) fn befalls(percent: u32) -> bool {
    // Without chance nothing would ever go wrong, which is the safe side.
    getrandom::u32().is_ok_and(|chance| chance % 100 < percent)
}
