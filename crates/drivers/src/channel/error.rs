//! How a channel fails: one variant for each act, with the path, limit or value that a person needs.

use super::Refusal;
use lastgood_domain::{
    failure::Coded,
    terms::{ReleaseTag, Span},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Tells why a channel could not answer or install.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The ordinary client of this channel is not on this machine.
    #[error("{client} can't be started: it is not installed or not in PATH")]
    ClientMissing {
        /// The program looked for.
        client: String,
        /// The Debian package that brings it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A client or a configured command could not be started for another reason.
    #[error("{what} can't be started")]
    ClientNotStarted {
        /// The act, with the program's name.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The time for the act ran out; its processes were ended.
    #[error("{what} took longer than {limit}{}", said(.output))]
    TimedOut {
        /// The act.
        what: String,
        /// The configured limit.
        limit: Span,
        /// The last lines it wrote, scrubbed.
        output: String,
    },
    /// The engine asked for an end; nothing was published.
    #[error("{what} was cancelled")]
    Cancelled {
        /// The act.
        what: String,
    },
    /// A client or a command ended with a failure.
    #[error("{what} ended with {status}{}", said(.output))]
    ClientFailed {
        /// The act.
        what: String,
        /// Such as `exit status 1`.
        status: String,
        /// The last lines it wrote, scrubbed.
        output: String,
    },
    /// A client or a command wrote more than it may.
    #[error("{what} wrote more than {limit_bytes} bytes and was ended")]
    OutputTooLong {
        /// The act.
        what: String,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The answer is not of the form asked for.
    #[error("the answer of {what} can't be used: {why}{}", said(.began))]
    AnswerUnreadable {
        /// The act.
        what: String,
        /// What is wrong with it.
        why: String,
        /// How the answer began, scrubbed.
        began: String,
    },
    /// No release of the channel fits what the configuration asks for.
    #[error("{channel} offers no release that fits {wanted}")]
    NothingOffered {
        /// The channel.
        channel: String,
        /// The tag, range or pattern.
        wanted: String,
    },
    /// The channel has no such release, or has it no longer.
    #[error("{channel} has no release {tag}")]
    ReleaseGone {
        /// The channel.
        channel: String,
        /// The release asked for.
        tag: ReleaseTag,
    },
    /// Two offers can't be ordered, so the newest is unknown.
    #[error("{channel} offers {first} and {second}, and neither is newer by the version order")]
    Unordered {
        /// The channel.
        channel: String,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A file or folder could not be read, written or removed.
    #[error("can't {act} {}", .path.display())]
    Io {
        /// The act, as a verb.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk or the quota is full; what was written of the release is removed again.
    #[error("no space left for the installation in {}", .path.display())]
    NoSpace {
        /// The installations folder.
        path: PathBuf,
    },
    /// What was fetched is not what the channel announced.
    #[error("{tag} from {channel} is not what was announced: {announced} announced, {fetched} fetched")]
    DigestMismatch {
        /// The channel.
        channel: String,
        /// The release.
        tag: ReleaseTag,
        /// The channel's mark.
        announced: String,
        /// What the fetched bytes give.
        fetched: String,
    },
    /// The file of allowed keys can't be used.
    #[error("the keys in {} can't be used: {why}", .path.display())]
    SignersUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The installed program states another version than the one asked for.
    #[error("{tag} was asked for, but what was installed says it is {found:?}")]
    VersionMismatch {
        /// The release asked for.
        tag: ReleaseTag,
        /// What the program states.
        found: String,
    },
    /// The file that should state the installed version can't be used.
    #[error("the version of the installed {tag} can't be read from {file}: {why}")]
    VersionUnreadable {
        /// The release.
        tag: ReleaseTag,
        /// The file within the installation.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The release holds something that is never installed.
    #[error("{what} is refused")]
    Refused {
        /// The archive or folder.
        what: String,
        /// What is wrong with it.
        source: Refusal,
    },
    /// Another process installs into the same folder.
    #[error("another process installs into {}; waited {waited}", .path.display())]
    Busy {
        /// The installations folder.
        path: PathBuf,
        /// How long the lock was waited for.
        waited: Span,
    },
    /// An installed tree is not what was sealed.
    #[error("{} is not as it was installed: {count} differences: {}", .path.display(), .changes.join(", "))]
    Damaged {
        /// The tree.
        path: PathBuf,
        /// The first differences, such as `changed: lib/a.js`.
        changes: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// An installation has no readable seal.
    #[error("{} has no readable seal: {why}", .path.display())]
    Unsealed {
        /// The published folder.
        path: PathBuf,
        /// What is wrong with the seal.
        why: String,
    },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it said: {output}") }
}

impl ChannelError {
    /// Wraps a system error, telling a full disk from all others.
    pub(crate) fn io(act: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path: path.into() },
            _ => Self::Io { act, path: path.into(), source },
        }
    }
}

impl Coded for ChannelError {
    fn code(&self) -> &'static str {
        match self {
            Self::ClientMissing { .. } => "channel-client-missing",
            Self::ClientNotStarted { .. } => "channel-client-not-started",
            Self::TimedOut { .. } => "channel-timed-out",
            Self::Cancelled { .. } => "channel-cancelled",
            Self::ClientFailed { .. } => "channel-client-failed",
            Self::OutputTooLong { .. } => "channel-output-too-long",
            Self::AnswerUnreadable { .. } => "channel-answer-unreadable",
            Self::NothingOffered { .. } => "channel-nothing-offered",
            Self::ReleaseGone { .. } => "channel-release-gone",
            Self::Unordered { .. } => "channel-unordered",
            Self::Io { .. } => "channel-io",
            Self::NoSpace { .. } => "install-no-space",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::SignersUnusable { .. } => "signers-unusable",
            Self::VersionMismatch { .. } => "version-mismatch",
            Self::VersionUnreadable { .. } => "version-unreadable",
            Self::Refused { source, .. } => source.code(),
            Self::Busy { .. } => "install-busy",
            Self::Damaged { .. } => "installation-damaged",
            Self::Unsealed { .. } => "installation-unsealed",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ClientMissing { package, .. } => format!("install it: apt install {package}"),
            Self::ClientNotStarted { .. } => "check the path and the execute permission: ls -l PROGRAM".into(),
            Self::TimedOut { .. } => {
                "run the same client by hand to see where it hangs, or raise timeout or install_timeout of the \
                 channel in lastgood.toml"
                    .into()
            }
            Self::Cancelled { .. } => "nothing was changed; run it again when you like".into(),
            Self::ClientFailed { .. } => {
                "run the same client by hand as the same user: its settings and credentials are the ones used".into()
            }
            Self::OutputTooLong { .. } => "let the command write its answer only: one line or one JSON object".into(),
            Self::AnswerUnreadable { .. } => {
                "run it by hand and compare: a command channel answers a bare tag or {\"tag\": \"1.2.3\"}".into()
            }
            Self::NothingOffered { .. } => "loosen range or matching of the channel, or publish a release".into(),
            Self::ReleaseGone { tag, .. } => {
                format!("check that {tag} is written as the channel writes it and was not withdrawn")
            }
            Self::Unordered { .. } => {
                "narrow it with matching (or tags for git), or name the current one in a file called LATEST".into()
            }
            Self::Io { path, .. } => format!("look at it: ls -la {}", path.display()),
            Self::NoSpace { path } => format!("see what is left: df -h {}", path.display()),
            Self::DigestMismatch { .. } => {
                "do not install it: someone replaced a published release, or the download was changed on its way".into()
            }
            Self::SignersUnusable { .. } => "ssh takes lines like `alice@example.org ssh-ed25519 \
                 AAAA…`, openpgp what `gpg --export KEY` writes"
                .into(),
            Self::VersionMismatch { .. } => {
                "the channel's tag points to another build: ask who publishes it, or correct version_file".into()
            }
            Self::VersionUnreadable { .. } => "correct version_file of the channel, or leave it out".into(),
            Self::Refused { source, .. } => source.hint().into(),
            Self::Busy { .. } => "wait for the other run to end: lastgood status".into(),
            Self::Damaged { .. } => {
                "find who writes there; remove the folder when no instance runs from it, then install again".into()
            }
            Self::Unsealed { path, .. } => {
                format!("remove it when no instance runs from it, then install again: ls -la {}", path.display())
            }
        })
    }
}
