//! How a release can be left again.

use serde::{Deserialize, Serialize};

/// How a release can be left again, as its rehearsal showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayBack {
    /// Last-good works on the migrated data: every write is kept.
    CodeOnly,
    /// Last-good can't read the migrated data: the snapshot goes back too.
    Restore,
    /// There is no last-good yet; going back means stopped, with the data as it was.
    Empty,
}

impl WayBack {
    /// Says it as plans and screens do.
    pub const fn says(self) -> &'static str {
        match self {
            Self::CodeOnly => "code-only",
            Self::Restore => "restore",
            Self::Empty => "empty",
        }
    }
}
