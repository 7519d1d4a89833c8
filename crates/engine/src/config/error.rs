//! What is wrong with lastgood.toml: file, line, the nearest known key, an example.

use lastgood_domain::failure::Coded;
use std::path::{Path, PathBuf};

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or value is not what it must be.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
        /// The nearest known key, if a key is unknown.
        nearest: Option<String>,
    },
    /// A placeholder that `lastgood init` wrote.
    #[error("{}:{line}: {value:?}: the placeholder CHANGE has not been filled in", path.display())]
    Placeholder {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The whole value.
        value: String,
        /// What to write instead.
        example: String,
    },
    /// Values that don't fit each other.
    #[error("{}{}: {place}: {what}", path.display(), at(*.line))]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where one line is to blame.
        line: Option<usize>,
        /// The key, such as `service.notebook.probe`.
        place: String,
        /// What is wrong.
        what: String,
        /// A line that would work.
        example: String,
    },
}

/// A file that was refused: all that could be told at once.
#[derive(Debug)]
pub struct ConfigErrors {
    /// What comes first.
    pub first: Box<ConfigError>,
    /// The rest.
    pub others: Vec<ConfigError>,
}

impl From<ConfigError> for ConfigErrors {
    fn from(first: ConfigError) -> Self {
        Self { first: Box::new(first), others: Vec::new() }
    }
}

impl Coded for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config-unreadable",
            Self::Wrong { nearest: Some(_), .. } => "config-unknown-key",
            Self::Wrong { .. } => "config-wrong",
            Self::Placeholder { .. } | Self::Unfit { .. } => "config-unfit",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "write one: lastgood init npm:PACKAGE, or name yours: --config FILE".into(),
            Self::Wrong { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Wrong { .. } => "see every key: lastgood config schema; then: lastgood config check".into(),
            Self::Placeholder { example, .. } => format!("write {example} instead"),
            Self::Unfit { example, .. } => example.clone(),
        })
    }
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(":{line}"))
}

impl ConfigError {
    /// Makes the error of a text that TOML or our types refuse.
    pub(super) fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text[..text.floor_char_boundary(at)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let what = error.message().trim().replace('\n', " ");
        let nearest = nearest_key(&what);
        Self::Wrong { path: path.to_path_buf(), line, column, what, nearest }
    }
}

/// Finds the known key that an unknown one is most like, from the message that lists both in backquotes.
fn nearest_key(message: &str) -> Option<String> {
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let likeness = |known: &&str| (strsim::jaro_winkler(unknown, known) * 1_000.0).round() as i64;
    quoted.max_by_key(likeness).map(ToOwned::to_owned)
}
