//! Asks one gate about one release.

use super::{
    config::{CommandKeys, GateConfig, Kind, ManifestKeys, ProbeGateKeys, PrometheusKeys, ReportKeys},
    forge,
    integrity::{self, held},
    report::{self, About},
};
use crate::{
    metric::query_number,
    notice::{Reach, agent},
    probe::{Call, FailureKind, Outcome, ProbeConfig, ProbeTarget, Secrets, execute},
};
use lastgood_domain::{
    event::Verdict,
    failure::Failure,
    proof::{Demands, Kind as Finding, named},
    terms::{Digest, ReleaseTag, ServiceName, Span, Timestamp},
    words,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Ends of a program that say no: the common one, nextest's and cargo's for a test that failed.
const NO: [i32; 3] = [1, 100, 101];
/// Largest file that names a release's commit, in bytes: the manifest of a package.
const STAMP_BYTES_MAX: u64 = 1 << 20;
/// Shown of what a program wrote.
const SHOWN_CHARS_MAX: usize = 300;

/// What a gate is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The service.
    pub service: Option<ServiceName>,
    /// The release's tag.
    pub tag: Option<ReleaseTag>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// The commit it was made of, if anybody knows.
    pub commit: Option<String>,
    /// Its installation.
    pub installation: Option<PathBuf>,
}

/// With what a gate is asked.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The folder of lastgood.toml.
    pub folder: &'a Path,
    /// Secrets of the configuration.
    pub secrets: &'a Secrets,
    /// The time of now.
    pub now: Timestamp,
    /// How old a proof may be, in place of the gate's own limit: what serves today was proven long ago.
    pub any_age: bool,
}

impl Subject {
    /// Takes what a channel marks a release with for its commit, if it looks like one.
    pub fn commit_of(mark: Option<&str>) -> Option<String> {
        let is_commit = |mark: &&str| matches!(mark.len(), 40 | 64) && mark.chars().all(|c| c.is_ascii_hexdigit());
        mark.filter(is_commit).map(ToOwned::to_owned)
    }

    /// Reads which commit a release was made of from a file that it brings: the only word in it that looks like one.
    pub fn commit_in(file: &Path) -> Option<String> {
        let facts = fs::symlink_metadata(file).ok()?;
        if !facts.is_file() || facts.len() > STAMP_BYTES_MAX {
            return None;
        }
        let text = fs::read_to_string(file).ok()?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let commits: BTreeSet<String> = words.filter_map(|word| Self::commit_of(Some(word))).collect();
        // Of two nobody can tell which one it is.
        commits.first().filter(|_| commits.len() == 1).cloned()
    }

    /// Gives what a proof must be about: the commit and the digest, or the tag of a release that nobody has fetched yet.
    pub(super) fn of(&self) -> Vec<String> {
        let known: Vec<String> =
            self.commit.iter().cloned().chain(self.digest.map(|digest| digest.to_string())).collect();
        match known.is_empty() {
            true => self.tag.iter().map(ToString::to_string).collect(),
            false => known,
        }
    }

    pub(super) fn values(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("service", self.service.as_ref().map(ToString::to_string)),
            ("tag", self.tag.as_ref().map(ToString::to_string)),
            ("digest", self.digest.map(|digest| digest.to_string())),
            ("commit", self.commit.clone()),
            ("release", self.installation.as_ref().map(|path| path.display().to_string())),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Asks a gate: what it says, and the numbers behind it, without secrets.
///
/// Takes at most the gate's time-out and what its last answer takes to be read. Never fails: what can't be asked is
/// cannot-tell.
pub fn ask(config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let Some(kind) = config.kind() else { return cannot_tell("it asks nothing, or more than one thing") };
    let (verdict, because) = match kind {
        Kind::Command(keys) => command(keys, config, subject, asked),
        Kind::Probe(keys) => probe(keys, config, subject, asked),
        Kind::Prometheus(keys) => prometheus(keys, subject),
        Kind::Report(keys) => reports(keys, config, subject, asked),
        Kind::Github(keys) => forge::github(keys, config, subject, asked),
        Kind::Gitea(keys) => forge::gitea(keys, config, subject, asked),
        Kind::Manifest(keys) => manifest(keys, subject, asked),
    };
    (verdict, asked.secrets.scrub(&because))
}

pub(super) fn cannot_tell(because: impl Into<String>) -> (Verdict, String) {
    (Verdict::CannotTell, because.into())
}

pub(super) fn max_age(config: &GateConfig, asked: &Asked<'_>) -> Span {
    if asked.any_age { Span(u64::MAX) } else { config.max_age.0 }
}

fn command(keys: &CommandKeys, config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let (values, env) = (subject.values(), BTreeMap::new());
    let call = Call { argv: &keys.argv, env: &env, shared: &values, folder: asked.folder };
    let lookup = |name: &str| values.get(name).cloned();
    let answer = match execute(&call, &lookup, Instant::now() + config.timeout.duration()) {
        Ok(answer) => answer,
        Err(trouble) => return cannot_tell(format!("{}: {}", keys.argv.join(" "), trouble.got)),
    };
    let output = String::from_utf8_lossy(&answer.body);
    let last: String = words::one_line(&output).chars().rev().take(SHOWN_CHARS_MAX).collect();
    let shown: String = last.chars().rev().collect();
    let said = if shown.is_empty() { "it wrote nothing".to_owned() } else { format!("it wrote: {shown}") };
    match answer.outcome {
        Outcome::Exit(0) => match &keys.expect {
            None => (Verdict::Pass, format!("exit status 0; {said}")),
            Some(pattern) => match pattern.regex(&lookup) {
                Ok(regex) if regex.is_match(&output) => (Verdict::Pass, format!("exit status 0; {said}")),
                Ok(_) => cannot_tell(format!("exit status 0, but nothing fits {:?}; {said}", pattern.as_str())),
                Err(why) => cannot_tell(why),
            },
        },
        Outcome::Exit(exit) if NO.contains(&exit) => (Verdict::Fail, format!("exit status {exit}; {said}")),
        Outcome::Exit(exit) => cannot_tell(format!("exit status {exit}, which is neither yes nor no; {said}")),
        Outcome::Done | Outcome::Status(_) => cannot_tell("it has no exit status"),
    }
}

fn probe(keys: &ProbeGateKeys, config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let target = ProbeTarget {
        base: keys.url.clone(),
        vars: subject.values(),
        secrets: asked.secrets.clone(),
        folder: asked.folder.to_path_buf(),
        ..ProbeTarget::default()
    };
    match (ProbeConfig { steps: keys.steps.clone() }).run(&target, config.timeout.duration()) {
        Ok(facts) => (
            Verdict::Pass,
            format!("{} at {} in {}", words::count(keys.steps.len() as u64, "step"), keys.url, facts.took),
        ),
        Err(failure) if failure.kind == FailureKind::Failed => (Verdict::Fail, failure.to_string()),
        Err(failure) => cannot_tell(failure.to_string()),
    }
}

fn prometheus(keys: &PrometheusKeys, subject: &Subject) -> (Verdict, String) {
    let mut query = keys.query.clone();
    for (name, value) in subject.values() {
        let place = format!("{{{name}}}");
        if query.contains(&place) && value.contains(['"', '\'', '`', '\\']) {
            return cannot_tell(format!("the {name} {value} can't stand in a query"));
        }
        query = query.replace(&place, &value);
    }
    let missing =
        ["service", "tag", "digest", "commit"].into_iter().find(|name| query.contains(&format!("{{{name}}}")));
    if let Some(name) = missing {
        return cannot_tell(format!("nobody knows the {name} that its query asks about"));
    }
    let number = match query_number(&agent(Reach::Private, 1), keys.url.trim_end_matches('/'), "query", &query, None) {
        Ok(Some(number)) if number.is_finite() => number,
        Ok(Some(number)) => return cannot_tell(format!("its query gives {number}")),
        Ok(None) => return cannot_tell("its query has no data"),
        Err(error) => return cannot_tell(Failure::of(&error).message),
    };
    match (keys.min, keys.max) {
        (Some(min), _) if number < min => (Verdict::Fail, format!("{number} is less than {min}")),
        (_, Some(max)) if number > max => (Verdict::Fail, format!("{number} is more than {max}")),
        (None, Some(max)) => (Verdict::Pass, format!("{number}, at most {max}")),
        (Some(min), None) => (Verdict::Pass, format!("{number}, at least {min}")),
        (Some(min), Some(max)) => (Verdict::Pass, format!("{number}, between {min} and {max}")),
        (None, None) => cannot_tell(format!("{number}, and there is no limit")),
    }
}

fn reports(keys: &ReportKeys, config: &GateConfig, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let of = subject.of();
    if of.is_empty() {
        return cannot_tell("nobody said which commit or release it is about");
    }
    let demands = Demands { of: &of, now: asked.now, max_age: max_age(config, asked) };
    let (digest, tag) =
        (subject.digest.map(|digest| digest.to_string()), subject.tag.as_ref().map(ToString::to_string));
    let about = About { commit: subject.commit.as_deref(), digest: digest.as_deref(), tag: tag.as_deref() };
    let evidence: Vec<_> = keys.files.iter().flat_map(|file| report::read(file, asked.folder, about)).collect();
    named(&keys.tests, &evidence, &demands)
}

fn manifest(keys: &ManifestKeys, subject: &Subject, asked: &Asked<'_>) -> (Verdict, String) {
    let of = subject.of();
    if of.is_empty() {
        return cannot_tell("nobody said which commit or release it is about");
    }
    let limit = asked.any_age.then_some(Span(u64::MAX));
    let verified = match held(&asked.folder.join(&keys.file), keys, subject, &of, asked, limit) {
        Ok(verified) => verified,
        Err(error) => return cannot_tell(Failure::of(&error).message),
    };
    integrity_verdict(&verified)
}

fn integrity_verdict(verified: &integrity::Verified) -> (Verdict, String) {
    let rest = |found: usize| if found > 1 { format!("; and {} more", found - 1) } else { String::new() };
    match verified.findings.first() {
        None => {
            let (promises, tests) = (words::count(verified.promises, "promise"), words::count(verified.tests, "test"));
            (Verdict::Pass, format!("{promises} proven by {tests}"))
        }
        Some(first) => {
            let because = format!("{}{}", words::one_line(&first.because), rest(verified.findings.len()));
            match first.kind {
                Finding::Failed => (Verdict::Fail, because),
                _ => cannot_tell(because),
            }
        }
    }
}
