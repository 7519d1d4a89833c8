//! What is never installed: one variant, code and sentence for each kind of hostile or broken release.

use std::io;

/// Tells what is wrong with an archive or a folder of a release.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A name that starts at the root of the file system.
    #[error("{0:?} is an absolute path")]
    AbsolutePath(String),
    /// A name that climbs out with `..`.
    #[error("{0:?} climbs out of the folder")]
    ParentPath(String),
    /// An empty, overlong or non-UTF-8 name, or one with a control character.
    #[error("{0:?} is not a usable file name")]
    BadName(String),
    /// A symbolic or hard link that leads out of the tree.
    #[error("the link {path:?} to {target:?} leads out of the folder")]
    LinkLeaves {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A hard link to something that is not an earlier file.
    #[error("the hard link {path:?} to {target:?} does not name an earlier file")]
    LinkToNothing {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A name below a link or a file, so that it would be written elsewhere.
    #[error("{0:?} lies below a link or a file")]
    ThroughLink(String),
    /// A device, a FIFO, a socket.
    #[error("{path:?} is a {kind}")]
    SpecialFile {
        /// Its name.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A file that would run with another user's rights.
    #[error("{0:?} has the set-user-id or set-group-id bit")]
    SetUserId(String),
    /// The same name twice.
    #[error("{0:?} occurs twice")]
    DuplicateName(String),
    /// More files, folders and links than allowed.
    #[error("it has more than {files_max} files (files_max)")]
    TooManyFiles {
        /// The limit.
        files_max: u64,
    },
    /// More bytes than allowed.
    #[error("it has more than {bytes_max} bytes unpacked (bytes_max)")]
    TooManyBytes {
        /// The limit.
        bytes_max: u64,
    },
    /// It ends too early.
    #[error("it is truncated")]
    Truncated,
    /// It has no files at all.
    #[error("it is empty")]
    Empty,
    /// It is damaged, or its format is not one of ours.
    #[error("it is not a readable archive: {0}")]
    Unreadable(String),
}

impl Refusal {
    /// Tells a cut-off stream from a damaged one.
    pub(crate) fn of_read(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            // The tar reader wraps a short read in its own error.
            _ if error.to_string().contains("failed to read entire block") => Self::Truncated,
            _ => Self::Unreadable(error.to_string().chars().take(200).collect()),
        }
    }

    /// Gives the stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AbsolutePath(_) => "unpack-absolute-path",
            Self::ParentPath(_) => "unpack-parent-path",
            Self::BadName(_) => "unpack-bad-name",
            Self::LinkLeaves { .. } => "unpack-link-leaves",
            Self::LinkToNothing { .. } => "unpack-link-to-nothing",
            Self::ThroughLink(_) => "unpack-through-link",
            Self::SpecialFile { .. } => "unpack-special-file",
            Self::SetUserId(_) => "unpack-set-user-id",
            Self::DuplicateName(_) => "unpack-duplicate-name",
            Self::TooManyFiles { .. } => "unpack-too-many-files",
            Self::TooManyBytes { .. } => "unpack-too-many-bytes",
            Self::Truncated => "unpack-truncated",
            Self::Empty => "unpack-empty",
            Self::Unreadable(_) => "unpack-unreadable",
        }
    }

    /// Gives the next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooManyFiles { .. } => "if the release is meant to be that large, raise files_max of the channel",
            Self::TooManyBytes { .. } => "if the release is meant to be that large, raise bytes_max of the channel",
            Self::Truncated => "publish it again under a name that starts with a dot, and rename it when it is whole",
            Self::Empty => "put the release's files into it, or remove it from the channel",
            Self::Unreadable(_) => "pack it as .tar, .tar.gz or .tgz: tar -czf NAME.tar.gz -C FOLDER .",
            Self::LinkLeaves { .. } | Self::LinkToNothing { .. } | Self::ThroughLink(_) => {
                "pack the files themselves instead of links: tar -czhf NAME.tar.gz -C FOLDER ."
            }
            _ => {
                "do not unpack it by hand as root; ask who built it, and pack it again: tar -czf NAME.tar.gz -C FOLDER ."
            }
        }
    }
}
