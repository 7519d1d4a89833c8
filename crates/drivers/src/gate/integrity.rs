//! Promises against reports, as files: reads the manifest, its reports, and the sources of critical functions.

use super::{
    ask::{Asked, Subject},
    config::ManifestKeys,
    report::{self, About},
};
use lastgood_domain::{
    failure::Coded,
    proof::{self, Critical, Demands, Evidence, Finding, Language, Manifest, Outcome, Source, defines, mentions},
    terms::{Span, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// How old a report may be where the manifest says nothing.
const MAX_AGE: Span = Span::minutes(24 * 60);
/// Largest source file that is looked through, in bytes.
const SOURCE_BYTES_MAX: u64 = 8 << 20;
/// Files of tests that are looked through for one function.
const SOURCES_MAX: usize = 20_000;

/// Why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IntegrityError {
    /// It can't be read.
    #[error("the manifest {} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not in the form of a manifest.
    #[error("the manifest {} is wrong: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Coded for IntegrityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "manifest-unreadable",
            Self::Wrong { .. } => "manifest-wrong",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { path, .. } => format!("look at it: ls -l {}", path.display()),
            Self::Wrong { .. } => {
                "write [B-1] with promise = \"…\" and tests = [\"…\"]; more: lastgood explain manifest-wrong".into()
            }
        })
    }
}

/// What came of holding a manifest against its reports.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What is wrong; nothing means that all is proven.
    pub findings: Vec<Finding>,
    /// Promises.
    pub promises: u64,
    /// Tests they are bound to.
    pub tests: u64,
    /// Critical functions.
    pub critical: u64,
    /// What is said to be unproven yet, by promise.
    pub missing: Vec<(String, String)>,
    /// The reports by name, each with its tests that passed, that were skipped and that failed.
    pub reports: Vec<(String, Option<[u64; 3]>)>,
    /// Tests that passed only when they were tried again.
    pub again: Vec<String>,
    /// Those of them that are bound, each with the promises that it should prove.
    pub retried: BTreeMap<String, Vec<String>>,
}

/// Holds the manifest at `path` against its reports, or against `reports` instead if any are named.
///
/// With `of`, each report must be about one of these commits and digests. Errors: the manifest can't be used; what is
/// wrong with reports, tests and functions is a finding.
pub fn verify(path: &Path, reports: &[PathBuf], of: &[String], now: Timestamp) -> Result<Verified, IntegrityError> {
    let about = About { commit: of.first().map(String::as_str), ..About::default() };
    let read = |written: &String, folder: &Path| report::read(written, folder, about);
    let named: Vec<String> = reports.iter().map(|file| file.display().to_string()).collect();
    hold(path, &named, Path::new(""), &read, Limits { of, now, max_age: None })
}

/// Holds the manifest of a gate against the reports of a release.
pub(super) fn held(
    path: &Path,
    keys: &ManifestKeys,
    subject: &Subject,
    of: &[String],
    asked: &Asked<'_>,
    max_age: Option<Span>,
) -> Result<Verified, IntegrityError> {
    let (digest, tag) = (subject.digest.map(|one| one.to_string()), subject.tag.as_ref().map(ToString::to_string));
    let about = About { commit: subject.commit.as_deref(), digest: digest.as_deref(), tag: tag.as_deref() };
    let read = |written: &String, folder: &Path| report::read(written, folder, about);
    hold(path, &keys.reports, asked.folder, &read, Limits { of, now: asked.now, max_age })
}

/// What reports are held to.
struct Limits<'l> {
    of: &'l [String],
    now: Timestamp,
    /// In place of the manifest's own.
    max_age: Option<Span>,
}

type Reading<'r> = dyn Fn(&String, &Path) -> Vec<Evidence> + 'r;

fn hold(
    path: &Path,
    named: &[String],
    beside: &Path,
    read: &Reading<'_>,
    limits: Limits<'_>,
) -> Result<Verified, IntegrityError> {
    let text =
        fs::read_to_string(path).map_err(|source| IntegrityError::Unreadable { path: path.to_path_buf(), source })?;
    let wrong = |what: String| IntegrityError::Wrong { path: path.to_path_buf(), what };
    let manifest: Manifest = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().into()))?;
    let own = manifest.max_age.as_ref().map(|text| text.parse().map_err(|error| wrong(format!("max_age: {error}"))));
    let max_age = limits.max_age.unwrap_or(own.transpose()?.unwrap_or(MAX_AGE));
    let folder = path.parent().unwrap_or(Path::new(""));
    let evidence: Vec<Evidence> = match named {
        [] => manifest.reports.iter().flat_map(|written| read(written, folder)).collect(),
        named => named.iter().flat_map(|written| read(written, beside)).collect(),
    };
    let sources: BTreeMap<String, Source> =
        manifest.critical.iter().map(|(path, critical)| (path.clone(), look(path, critical, folder))).collect();
    let demands = Demands { of: limits.of, now: limits.now, max_age };
    let tests: BTreeSet<&String> = manifest.promises.values().flat_map(|one| &one.tests).collect();
    let cases = evidence.iter().flat_map(|one| one.report.iter().flat_map(|report| &report.cases));
    let again = cases.filter(|case| case.again && case.outcome == Outcome::Passed);
    Ok(Verified {
        findings: proof::verify(&manifest, &evidence, &sources, &demands),
        promises: manifest.promises.len() as u64,
        tests: tests.len() as u64,
        critical: manifest.critical.len() as u64,
        missing: manifest.promises.iter().filter_map(|(id, one)| Some((id.clone(), one.missing.clone()?))).collect(),
        reports: evidence.iter().map(|one| (one.name.clone(), one.report.as_ref().ok().map(counts))).collect(),
        again: again.map(|case| case.name.clone()).collect(),
        retried: proof::retried(&manifest, &evidence, &demands),
    })
}

fn counts(report: &proof::Report) -> [u64; 3] {
    [Outcome::Passed, Outcome::Skipped, Outcome::Failed].map(|outcome| report.count(outcome))
}

/// Looks for a critical function in its source and in the tests.
fn look(path: &str, critical: &Critical, folder: &Path) -> Source {
    let name = Critical::name(path);
    let defined = text_of(&folder.join(&critical.source)).and_then(|(text, language)| {
        let language = language.ok_or_else(|| format!("{} is in no language that is known", critical.source))?;
        Ok(defines(&text, language, name, critical.definition.as_deref()))
    });
    let mentioned = critical.tests.iter().try_fold(None, |found: Option<String>, place| {
        if found.is_some() {
            return Ok(found);
        }
        let source = folder.join(&critical.source);
        let files = files_of(&folder.join(place))?;
        for file in files.iter().filter(|file| **file != source) {
            let (text, language) = text_of(file)?;
            if language.is_some_and(|language| mentions(&text, language, name)) {
                return Ok(Some(file.display().to_string()));
            }
        }
        Ok(None)
    });
    Source { defined, mentioned }
}

/// Reads a source file; one of no known language, or that is no text, has none.
fn text_of(path: &Path) -> Result<(String, Option<Language>), String> {
    let cannot = |error: std::io::Error| format!("{} can't be read: {error}", path.display());
    let language = path.extension().and_then(|extension| Language::of(&extension.to_string_lossy()));
    if language.is_none() {
        return Ok((String::new(), None));
    }
    let file = fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(SOURCE_BYTES_MAX).read_to_end(&mut bytes).map_err(cannot)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), language))
}

/// Lists a file, or every file of a folder and its folders; symbolic links are not followed.
fn files_of(place: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("{} can't be read: {error}", place.display());
    if !fs::metadata(place).map_err(cannot)?.is_dir() {
        return Ok(vec![place.to_path_buf()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![place.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).map_err(cannot)? {
            let item = item.map_err(cannot)?;
            match item.file_type().map_err(cannot)? {
                kind if kind.is_dir() => folders.push(item.path()),
                kind if kind.is_file() => files.push(item.path()),
                _ => {}
            }
        }
        if files.len() > SOURCES_MAX {
            return Err(format!("{} has more than {SOURCES_MAX} files", place.display()));
        }
    }
    files.sort();
    Ok(files)
}
