//! The doors by which answers come in.

use serde::{Deserialize, Serialize};

/// By which door an answer came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// A command on this machine: who it is, is whose account it is.
    #[default]
    Command,
    /// A link of the person's own: who it is, is who gets what is sent to them.
    Link,
}

impl Door {
    pub(super) const fn is_command(&self) -> bool {
        matches!(self, Self::Command)
    }

    /// Says it behind what was answered; nothing for a command.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Command => "",
            Self::Link => " by a link",
        }
    }
}
