//! Where an instance's data is, and whose it is.
//!
//! Both kinds of state become the same thing for the code that copies: a list of roots, each a folder and the
//! part of it that belongs to the state.

use super::error::{Cause, StateError};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

/// One or several paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One path.
    One(String),
    /// Several paths.
    Several(Vec<String>),
}

/// The data of an instance that a release may change: it is snapshotted before a bump and put back by a rollback.
///
/// Name either `sqlite` or `directory`:
/// `state = { sqlite = "{data}/db.sqlite" }`, or `state = { directory = "{data}", exclude = ["cache/**"] }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawState", into = "RawState")]
#[schemars(with = "RawState")]
pub enum StateConfig {
    /// SQLite files, each alone.
    Sqlite(Vec<String>),
    /// A folder and everything in it that is not excluded.
    Directory {
        /// The folder.
        path: String,
        /// Patterns of what is left alone.
        exclude: Vec<String>,
    },
}

/// The data of an instance: name either `sqlite` or `directory`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawState {
    /// One SQLite file, or a list of them. `{data}` stands for the instance's data folder.
    /// Example: `sqlite = "{data}/db.sqlite"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqlite: Option<Paths>,
    /// A folder. SQLite files in it are found by themselves and copied consistently; other files are copied as they
    /// are. Example: `directory = "{data}"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    /// What in `directory` is neither snapshotted nor touched by a restore: patterns relative to the folder; `*` stays
    /// within one folder level, `**` crosses levels; a pattern that matches a folder covers all in it. Default: none.
    /// Example: `exclude = ["cache/**", "*.log"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
}

impl TryFrom<RawState> for StateConfig {
    type Error = String;

    fn try_from(raw: RawState) -> Result<Self, String> {
        match (raw.sqlite, raw.directory) {
            (Some(_), None) if !raw.exclude.is_empty() => {
                Err("`exclude` goes with `directory`, not with `sqlite`".into())
            }
            (Some(Paths::One(path)), None) => Ok(Self::Sqlite(vec![path])),
            (Some(Paths::Several(paths)), None) if !paths.is_empty() => Ok(Self::Sqlite(paths)),
            (None, Some(path)) => {
                globs(&raw.exclude).map_err(|error| error.to_string())?;
                Ok(Self::Directory { path, exclude: raw.exclude })
            }
            _ => Err("name either `sqlite` (a file or a list) or `directory` (a folder)".into()),
        }
    }
}

impl From<StateConfig> for RawState {
    fn from(config: StateConfig) -> Self {
        match config {
            StateConfig::Sqlite(mut paths) if paths.len() == 1 => {
                Self { sqlite: paths.pop().map(Paths::One), ..Self::default() }
            }
            StateConfig::Sqlite(paths) => Self { sqlite: Some(Paths::Several(paths)), ..Self::default() },
            StateConfig::Directory { path, exclude } => Self { directory: Some(path), exclude, ..Self::default() },
        }
    }
}

impl StateConfig {
    /// Gives the place for one instance, with every placeholder replaced by `expand`.
    pub fn place<E>(&self, owner: Option<Owner>, expand: impl Fn(&str) -> Result<PathBuf, E>) -> Result<StatePlace, E> {
        let data = match self {
            Self::Sqlite(paths) => Data::Sqlite(paths.iter().map(|path| expand(path)).collect::<Result<_, _>>()?),
            Self::Directory { path, exclude } => Data::Directory { path: expand(path)?, exclude: exclude.clone() },
        };
        Ok(StatePlace { data, owner })
    }
}

/// Who owns the data: what the copying runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    #[serde(default)]
    pub groups: Vec<u32>,
}

impl Owner {
    /// Makes an owner without further groups.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: Vec::new() }
    }

    /// Finds the user `name` of this machine, with all groups.
    ///
    /// Reads /etc/passwd and /etc/group; users that only a directory service knows are given by number.
    pub fn named(name: &str) -> Result<Self, StateError> {
        let users = read_text("/etc/passwd")?;
        let unknown = || StateError::OwnerUnknown { name: name.into() };
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name) && fields.len() >= 4)
            .ok_or_else(unknown)?;
        let uid = fields[2].parse().map_err(|_| unknown())?;
        let gid = fields[3].parse().map_err(|_| unknown())?;
        let groups = read_text("/etc/group")?
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let member = fields.get(3)?.split(',').any(|member| member == name);
                member.then(|| fields[2].parse().ok()).flatten()
            })
            .collect();
        Ok(Self { uid, gid, groups })
    }
}

fn read_text(path: &str) -> Result<String, StateError> {
    fs::read_to_string(path).map_err(|error| StateError::io("read", Path::new(path), error))
}

/// What the data is, with real paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// SQLite files.
    Sqlite(Vec<PathBuf>),
    /// A folder.
    Directory {
        /// The folder.
        path: PathBuf,
        /// Patterns of what is left alone.
        exclude: Vec<String>,
    },
}

/// Where one instance's data is, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePlace {
    /// The data.
    pub data: Data,
    /// Its owner; none means that it belongs to who runs lastgood.
    pub owner: Option<Owner>,
}

impl StatePlace {
    /// Makes a place of SQLite files.
    pub fn sqlite(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { data: Data::Sqlite(paths.into_iter().map(Into::into).collect()), owner: None }
    }

    /// Makes a place of one folder.
    pub fn directory(path: impl Into<PathBuf>, exclude: &[&str]) -> Self {
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        Self { data: Data::Directory { path: path.into(), exclude }, owner: None }
    }

    /// Gives the same place with an owner.
    #[must_use]
    pub fn owned_by(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    pub(super) fn roots(&self) -> Result<Vec<Root>, StateError> {
        self.data.roots()
    }
}

impl Data {
    pub(super) fn roots(&self) -> Result<Vec<Root>, StateError> {
        match self {
            Self::Sqlite(paths) => paths
                .iter()
                .map(|path| {
                    let bad = || StateError::BadPath { path: path.clone() };
                    let name = is_plain(path).then(|| path.file_name()).flatten().ok_or_else(bad)?;
                    let base = path.parent().ok_or_else(bad)?.to_path_buf();
                    Ok(Root { base, scope: Scope::Only(name.to_owned()) })
                })
                .collect(),
            Self::Directory { path, exclude } => {
                if !is_plain(path) || path.parent().is_none() {
                    return Err(StateError::BadPath { path: path.clone() });
                }
                Ok(vec![Root { base: path.clone(), scope: Scope::AllBut(globs(exclude)?) }])
            }
        }
    }
}

impl Data {
    /// Gives what a restore of a snapshot that was taken of `kept` puts back, with the paths of today.
    ///
    /// What the snapshot left out is left alone, and nothing else: what is left out only today is in the snapshot, and
    /// what is no longer left out is not. Errors: it is of another kind, or of other databases.
    pub(super) fn as_kept(&self, kept: &Self) -> Result<Self, StateError> {
        let other = || StateError::OtherShape { kept: kept.to_string(), now: self.to_string() };
        match (self, kept) {
            (Self::Directory { path, .. }, Self::Directory { exclude, .. }) => {
                Ok(Self::Directory { path: path.clone(), exclude: exclude.clone() })
            }
            (Self::Sqlite(now), Self::Sqlite(kept)) => {
                let sorted = |paths: &[PathBuf]| paths.iter().cloned().collect::<BTreeSet<_>>();
                let names = |paths: &[PathBuf]| paths.iter().map(|path| path.file_name().map(OsString::from)).collect();
                let (now_names, kept_names): (Vec<_>, Vec<_>) = (names(now), names(kept));
                if now.len() == kept.len() && sorted(now) == sorted(kept) {
                    // Listed in another order today, or in the same.
                    Ok(Self::Sqlite(kept.clone()))
                } else if now_names == kept_names {
                    // The folder has moved.
                    Ok(self.clone())
                } else {
                    Err(other())
                }
            }
            _ => Err(other()),
        }
    }
}

impl Data {
    /// Refuses what was taken of another folder that is still there: one instance's data must not become another's. A
    /// folder that has moved is the same.
    pub(super) fn is_where_taken(&self, kept: &Self) -> Result<(), StateError> {
        match (self, kept) {
            (Self::Directory { path: now, .. }, Self::Directory { path: was, .. }) => is_same_or_moved(was, now),
            (Self::Sqlite(now), Self::Sqlite(kept)) => {
                let folders = kept.iter().zip(now).filter_map(|(was, now)| was.parent().zip(now.parent()));
                folders.into_iter().try_for_each(|(was, now)| is_same_or_moved(was, now))
            }
            // Another kind is refused as such.
            _ => Ok(()),
        }
    }
}

/// Refuses a folder `now` beside which the folder `was` that a snapshot was taken of is still there, as another.
fn is_same_or_moved(was: &Path, now: &Path) -> Result<(), StateError> {
    let identity = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    match identity(was) {
        Some(old) if was != now && Some(old) != identity(now) => {
            Err(StateError::OtherFolder { kept: was.into(), now: now.into() })
        }
        _ => Ok(()),
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, .. } => write!(f, "the folder {}", path.display()),
            Self::Sqlite(paths) => {
                let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(f, "the databases {}", names.join(", "))
            }
        }
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| matches!(part, Component::ParentDir))
}

/// A folder and the part of it that belongs to a state.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) base: PathBuf,
    pub(super) scope: Scope,
}

/// Which names in a root's folder belong to the state.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// One database, and its side files.
    Only(OsString),
    /// All but what the patterns match.
    AllBut(GlobSet),
}

/// Names of our own in a data folder begin with it; they are never part of the data.
pub(super) const OURS: &str = ".lastgood-";

impl Scope {
    /// Says whether `path`, relative to the root, is left alone.
    pub(super) fn leaves_out(&self, path: &Path) -> bool {
        let ours = path.as_os_str().as_encoded_bytes().starts_with(OURS.as_bytes());
        match self {
            Self::Only(name) => ours || path != Path::new(name),
            Self::AllBut(excluded) => ours || excluded.is_match(path),
        }
    }

    /// Says whether something deep in a folder may be left out although the folder is not.
    pub(super) fn may_leave_out_inside(&self) -> bool {
        match self {
            Self::Only(_) => false,
            Self::AllBut(excluded) => !excluded.is_empty(),
        }
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, StateError> {
    let bad = |pattern: &str, error: &globset::Error| StateError::BadExclude {
        pattern: pattern.into(),
        source: Cause::of(error),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let trimmed = pattern.trim_start_matches("./").trim_end_matches('/');
        let glob = GlobBuilder::new(trimmed).literal_separator(true).build();
        set.add(glob.map_err(|error| bad(pattern, &error))?);
    }
    set.build().map_err(|error| bad("", &error))
}
