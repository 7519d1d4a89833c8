//! Releases from a Python index, through the ordinary pip with the user's own settings.
//!
//! A virtual environment holds its own absolute path in dozens of files, so it can't be made under one name and
//! published under another. Libraries are installed into a plain folder instead, and each program gets a launcher
//! that finds that folder beside itself, wherever the installation lies.

use super::{
    ChannelError, Fetched,
    client::{Call, program, said},
    deadline::Deadline,
    is_in,
    launcher::{forget_download, write_launchers},
    npm::the_only_file,
    order::{Order, Pattern},
    settle::{Readers, settle},
    staging::Staging,
    tree::digest_file,
    unpack::Limits,
};
use lastgood_domain::{facts::Offer, terms::ReleaseTag};
use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    str::FromStr as _,
};

/// Largest metadata file read: it repeats the project's README.
const METADATA_BYTES_MAX: u64 = 16 << 20;
/// Versions asked for in turn while the index calls the newest withdrawn.
const WITHDRAWN_MAX: usize = 10;

#[derive(Debug, Clone)]
pub(crate) struct Pypi {
    project: String,
    choice: Choice,
    python: String,
}

/// Which of the project's versions are followed.
#[derive(Debug, Clone)]
enum Choice {
    All,
    Range { text: String, range: VersionSpecifiers },
    Matching { text: String, pattern: Pattern },
}

/// What pip would install.
#[derive(Deserialize)]
struct Report {
    install: Vec<Planned>,
}

#[derive(Deserialize)]
struct Planned {
    metadata: Metadata,
    download_info: Download,
    #[serde(default)]
    is_yanked: bool,
}

#[derive(Deserialize)]
struct Metadata {
    version: String,
}

#[derive(Deserialize)]
struct Download {
    archive_info: Option<Archive>,
}

#[derive(Deserialize)]
struct Archive {
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

impl Pypi {
    pub(crate) fn new(
        project: &str,
        range: Option<&str>,
        matching: Option<&str>,
        python: Option<&str>,
    ) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !project.starts_with(|c: char| c.is_ascii_alphanumeric()) || !project.chars().all(plain) {
            return Err(format!("pypi = {project:?} is not a project's name, such as \"isso\""));
        }
        let choice = match (range, matching) {
            (None, None) => Choice::All,
            (Some(text), None) => {
                let range = VersionSpecifiers::from_str(text)
                    .map_err(|_| format!("range = {text:?} is not as Python writes them, such as \">=0.12,<1\""))?;
                Choice::Range { text: text.into(), range }
            }
            (None, Some(text)) => Choice::Matching { text: text.into(), pattern: Pattern::new(text)? },
            (Some(_), Some(_)) => return Err("give one of range and matching".into()),
        };
        let python = python.unwrap_or("python3");
        if python.is_empty() || python.contains(['\'', '\n']) {
            return Err(format!("python = {python:?} is not a program"));
        }
        Ok(Self { project: project.into(), choice, python: python.into() })
    }

    pub(crate) fn name(&self) -> String {
        format!("pypi:{}", self.project)
    }

    fn wanted(&self) -> String {
        match &self.choice {
            Choice::All => "any finished version".into(),
            Choice::Range { text, .. } => format!("range {text}"),
            Choice::Matching { text, .. } => format!("matching {text}"),
        }
    }

    pub(crate) fn belongs(&self, tag: &str) -> Result<(), String> {
        let version = Version::from_str(tag).map_err(|_| format!("{tag} is not a version as Python writes it"))?;
        let fits = match &self.choice {
            Choice::All => !version.any_prerelease(),
            Choice::Range { range, .. } => {
                let named = range.iter().any(pep440_rs::VersionSpecifier::any_prerelease);
                range.contains(&version) && (named || !version.any_prerelease())
            }
            Choice::Matching { pattern, .. } => pattern.fits(tag, Order::Pep440),
        };
        if fits { Ok(()) } else { Err(format!("{tag} is not in {}", self.wanted())) }
    }

    pub(crate) fn newest(&self, except: &[ReleaseTag], deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let nothing = || ChannelError::NothingOffered { channel: self.name(), wanted: self.wanted() };
        let requirement = match &self.choice {
            Choice::All => without(&self.project, "", except),
            Choice::Range { text, .. } => without(&self.project, text, except),
            Choice::Matching { .. } => return self.newest_matching(except, deadline),
        };
        let planned = self
            .plan(&requirement, deadline)
            .map_err(|error| if is_missing(&error) { nothing() } else { error })?
            .ok_or_else(nothing)?;
        // pip takes a pre-release where nothing else fits; a channel must name it.
        self.belongs(&planned.metadata.version).map_err(|_| nothing())?;
        self.offer(&planned)
    }

    fn newest_matching(&self, except: &[ReleaseTag], deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let nothing = || ChannelError::NothingOffered { channel: self.name(), wanted: self.wanted() };
        let answer = self
            .pip("index", &deadline.context().folder, deadline)
            .args(["index", "versions", "--pre", "--disable-pip-version-check", &self.project])
            .run()
            .map_err(|error| if is_missing(&error) { nothing() } else { error })?;
        let text = String::from_utf8_lossy(&answer);
        let listed = text.lines().find_map(|line| line.strip_prefix("Available versions:")).ok_or_else(|| {
            self.unreadable("pip index versions", "it has no line that begins with Available versions".into(), &answer)
        })?;
        let mut fitting: Vec<(Version, &str)> = listed
            .split(',')
            .map(str::trim)
            .filter(|version| !is_in(except, version) && self.belongs(version).is_ok())
            .filter_map(|version| Some((Version::from_str(version).ok()?, version)))
            .collect();
        fitting.sort();
        for (_, version) in fitting.iter().rev().take(WITHDRAWN_MAX) {
            match self.plan(&format!("{}=={version}", self.project), deadline)? {
                Some(planned) if !planned.is_yanked => return self.offer(&planned),
                _ => {}
            }
        }
        Err(nothing())
    }

    pub(crate) fn offer_of(&self, tag: &ReleaseTag, deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let gone = || ChannelError::ReleaseGone { channel: self.name(), tag: tag.clone() };
        let asked = Version::from_str(tag.as_str()).map_err(|_| gone())?;
        let planned = self
            .plan(&format!("{}=={tag}", self.project), deadline)
            .map_err(|error| if is_missing(&error) { gone() } else { error })?
            .ok_or_else(gone)?;
        if Version::from_str(&planned.metadata.version) != Ok(asked) {
            return Err(gone());
        }
        let offer = self.offer(&planned)?;
        Ok(Offer { tag: tag.clone(), ..offer })
    }

    /// Asks pip what it would install, without installing anything.
    fn plan(&self, requirement: &str, deadline: &Deadline<'_>) -> Result<Option<Planned>, ChannelError> {
        let answer = self
            .pip("install --dry-run", &deadline.context().folder, deadline)
            .args(["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"])
            .args(["--no-input", "--disable-pip-version-check", requirement])
            .run()?;
        let report: Report = serde_json::from_slice(&answer)
            .map_err(|error| self.unreadable("pip install --dry-run --report", error.to_string(), &answer))?;
        Ok(report.install.into_iter().next())
    }

    fn offer(&self, planned: &Planned) -> Result<Offer, ChannelError> {
        let version = &planned.metadata.version;
        let tag = ReleaseTag::new(version)
            .map_err(|error| self.unreadable("pip install --dry-run", error.to_string(), version.as_bytes()))?;
        let hash = planned.download_info.archive_info.as_ref().and_then(|archive| archive.hashes.sha256.as_ref());
        Ok(Offer { tag, origin: self.name(), mark: hash.map(|hash| format!("sha256:{hash}")), published: None })
    }

    fn unreadable(&self, what: &str, why: String, answer: &[u8]) -> ChannelError {
        let began = said(&answer[..answer.len().min(200)]);
        ChannelError::AnswerUnreadable { what: format!("{what} {}", self.project), why, began }
    }

    pub(crate) fn fetch(
        &self,
        offer: &Offer,
        staging: &Staging<'_>,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Fetched, ChannelError> {
        let gone = || ChannelError::ReleaseGone { channel: self.name(), tag: offer.tag.clone() };
        Version::from_str(offer.tag.as_str()).map_err(|_| gone())?;
        let (fetched, tree) = (staging.fetched(), staging.tree());
        self.pip("download", &fetched, deadline)
            .making(staging.folder())
            .args(["download", "--no-deps", "--quiet", "--no-input", "--disable-pip-version-check", "--dest", "."])
            .args([&format!("{}=={}", self.project, offer.tag)])
            .run()
            .map_err(|error| if is_missing(&error) { gone() } else { error })?;
        let artefact = the_only_file(&fetched, "pip download")?;
        let (_, digest) = digest_file(&artefact, limits.bytes_max, Some(deadline))?;
        if let Some(announced) = offer.mark.as_ref().filter(|announced| **announced != digest.to_string()) {
            return Err(ChannelError::DigestMismatch {
                channel: self.name(),
                tag: offer.tag.clone(),
                announced: announced.clone(),
                fetched: digest.to_string(),
            });
        }
        self.pip("install", &tree, deadline)
            .making(staging.folder())
            // No byte code yet: pip's holds the times of the files, and ours must be valid wherever it lies.
            .args(["install", "--target", "lib", "--no-user", "--no-compile", "--quiet", "--no-input"])
            .args(["--no-warn-script-location", "--disable-pip-version-check"])
            .arg(&artefact)
            .run()?;
        self.make_movable(staging, deadline)?;
        settle(&tree, staging.folder(), Readers::Everyone, limits, deadline)?;
        Ok(Fetched { artefact: Some(digest), version: Some(self.installed_version(offer, &tree.join("lib"))?) })
    }

    /// Compiles, forgets the temporary folder, and writes the launchers.
    fn make_movable(&self, staging: &Staging<'_>, deadline: &Deadline<'_>) -> Result<(), ChannelError> {
        let tree = staging.tree();
        forget_download(&tree.join("lib"))?;
        let python = self.real_python(deadline)?;
        let call = |what: &str| {
            Call::new(&python, &tree, format!("{python} {what}"), deadline).making(staging.folder()).args([
                "-m",
                "compileall",
                "-q",
                "--invalidation-mode",
                "unchecked-hash",
                "lib",
            ])
        };
        match call("-m compileall").run() {
            // Some packages ship templates or old syntax that never compiles; they are left as they are.
            Ok(_) | Err(ChannelError::ClientFailed { .. }) => {}
            Err(error) => return Err(error),
        }
        write_launchers(&tree, &python)
    }

    /// Finds the interpreter itself: what is called python3 may be a chooser that chooses otherwise tomorrow.
    fn real_python(&self, deadline: &Deadline<'_>) -> Result<String, ChannelError> {
        let what = format!("{} -c", self.python);
        let answer = self
            .python(what.clone(), &deadline.context().folder, deadline)
            .args(["-c", "import sys; print(sys.executable)"])
            .run()?;
        let path = String::from_utf8_lossy(&answer).trim().to_owned();
        if path.starts_with('/') && !path.contains(['\'', '\n']) {
            return Ok(path);
        }
        Err(self.unreadable(&what, "it does not tell its own path".into(), &answer))
    }

    fn installed_version(&self, offer: &Offer, lib: &Path) -> Result<String, ChannelError> {
        let unreadable = |file: &str, why: String| ChannelError::VersionUnreadable {
            tag: offer.tag.clone(),
            file: file.into(),
            why,
        };
        let names = fs::read_dir(lib).map_err(|error| unreadable("lib", error.to_string()))?;
        let wanted = normalised(&self.project);
        let folder = names
            .flatten()
            .filter_map(|item| item.file_name().into_string().ok())
            .find(|name| {
                name.strip_suffix(".dist-info")
                    .and_then(|name| name.rsplit_once('-'))
                    .is_some_and(|(name, _)| normalised(name) == wanted)
            })
            .ok_or_else(|| unreadable("lib", format!("it has no metadata of {}", self.project)))?;
        let file = format!("lib/{folder}/METADATA");
        let mut text = Vec::new();
        File::open(lib.join(&folder).join("METADATA"))
            .and_then(|open| open.take(METADATA_BYTES_MAX).read_to_end(&mut text))
            .map_err(|error| unreadable(&file, error.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        let stated = text
            .lines()
            .take_while(|line| !line.is_empty())
            .find_map(|line| line.strip_prefix("Version:"))
            .map(str::trim)
            .ok_or_else(|| unreadable(&file, "it has no line that begins with Version".into()))?;
        // 1.0 and 1.0.0 are one version in Python.
        let same = Version::from_str(stated).ok() == Version::from_str(offer.tag.as_str()).ok();
        Ok(if same { offer.tag.to_string() } else { stated.into() })
    }

    fn pip<'a>(&self, act: &str, folder: &Path, deadline: &'a Deadline<'a>) -> Call<'a> {
        self.python(format!("pip {act} {}", self.project), folder, deadline)
            .args(["-m", "pip"])
            .module("pip", "python3-pip")
    }

    fn python<'a>(&self, what: String, folder: &Path, deadline: &'a Deadline<'a>) -> Call<'a> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Call::new(program(&self.python, &deadline.context().folder), folder, what, deadline)
            .debian_package("python3")
            .registry_answer()
            // A folder of the project must not stand in for pip's own modules.
            .env("PYTHONSAFEPATH", "1")
    }
}

/// Writes a requirement that leaves versions out; pip itself then finds the newest of the others.
fn without(project: &str, range: &str, except: &[ReleaseTag]) -> String {
    let versions = except.iter().filter_map(|tag| Version::from_str(tag.as_str()).ok());
    let clauses: Vec<String> = versions.map(|version| format!("!={version}")).collect();
    let range = (!range.is_empty()).then(|| range.to_owned());
    let all: Vec<String> = range.into_iter().chain(clauses).collect();
    format!("{project}{}", all.join(","))
}

fn is_missing(error: &ChannelError) -> bool {
    matches!(error, ChannelError::ClientFailed { output, .. } if output.contains("No matching distribution found"))
}

/// Writes a project's name the one way that PEP 503 compares.
fn normalised(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_patterns_take_pre_releases_only_by_name() {
        let range = |text: &str| Pypi::new("isso", Some(text), None, None).unwrap();
        assert_eq!(range(">=0.12").belongs("0.13.0"), Ok(()));
        assert!(range(">=0.12").belongs("0.14rc1").is_err());
        assert_eq!(range(">=0.14rc0").belongs("0.14rc1"), Ok(()));
        assert!(range(">=0.12,<0.13").belongs("0.13").is_err());
        let matching = Pypi::new("isso", None, Some("0.1*"), None).unwrap();
        assert_eq!(matching.belongs("0.13.0"), Ok(()));
        assert!(matching.belongs("0.14rc1").is_err());
        assert!(Pypi::new("isso", None, None, None).unwrap().belongs("0.14.dev1").is_err());
    }

    #[test]
    fn names_that_pip_would_read_as_something_else_are_refused() {
        for bad in ["", "-r", "./x", "a b", "a==1", "a[b]", "git+https://x"] {
            assert!(Pypi::new(bad, None, None, None).is_err(), "{bad:?} was accepted");
        }
        assert!(Pypi::new("a", Some("^1"), None, None).is_err());
        assert!(Pypi::new("a", Some(">=1; python_version<'3'"), None, None).is_err());
    }

    #[test]
    fn project_names_are_compared_as_the_index_does() {
        assert_eq!(normalised("Ruamel.YAML__clib"), "ruamel-yaml-clib");
    }
}
