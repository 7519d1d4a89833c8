//! The keys of `[gate.NAME]` in lastgood.toml.

use crate::{
    config_terms::Length,
    probe::{Pattern, Step},
};
use lastgood_domain::terms::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How old a proof may be where nothing is said.
const MAX_AGE: Length = Length(Span::minutes(24 * 60));
/// How long asking may take where nothing is said.
const TIMEOUT: Length = Length::seconds(60);
/// Least pause between two looks of the daemon: what is recommended is looked at as often.
const WATCH_MIN: Span = Span::seconds(10);
/// Where GitHub answers where nothing is said.
const GITHUB: &str = "https://api.github.com";

/// One gate: something that must say yes before a release is moved. Exactly one of `command`, `probe`, `prometheus`,
/// `report`, `github`, `gitea` and `manifest` is given.
///
/// ```toml
/// [gate.unit]
/// report = { files = ["/var/lib/ci/{commit}/junit.xml"], tests = ["app::login a_wrong_password_is_refused"] }
/// max_age = "7d"
/// owner = "team-api"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// A program that says yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandKeys>,
    /// Steps of a probe against an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeGateKeys>,
    /// A query that gives one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusKeys>,
    /// Reports of tests: JUnit XML, nextest's and pytest's too, or TAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportKeys>,
    /// Check runs of a commit at GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<ForgeKeys>,
    /// Commit statuses at a Gitea or Forgejo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitea: Option<ForgeKeys>,
    /// A manifest of promises, as `lastgood integrity verify` reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestKeys>,
    /// How old a proof may be. Default `24h`. A manifest has its own.
    #[serde(default = "max_age")]
    pub max_age: Length,
    /// How long asking may take; what takes longer is cannot-tell. Default `60s`.
    #[serde(default = "timeout")]
    pub timeout: Length,
    /// How often the daemon asks it about last-good of each service that requires it, at least `10s`; one that fails
    /// recommends an incident. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Length>,
    /// Who owns it: whom to ask when it says no, and who may override it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// A program that says yes: it ends with 0. 1, 100 and 101 are no; any other end is cannot-tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandKeys {
    /// The program and its arguments, started without a shell in the folder of lastgood.toml. `{service}`, `{tag}`,
    /// `{digest}`, `{commit}` and `{release}` (the installation's folder) are those of the release; each is also in its
    /// environment, as `LASTGOOD_TAG`.
    pub argv: Vec<String>,
    /// A pattern that its output must have besides, such as `[1-9][0-9]* passed`: a filter that matches no test ends
    /// with 0 too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Pattern>,
}

/// Steps against an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeGateKeys {
    /// Scheme, host and port, and a path if everything lies below one.
    pub url: String,
    /// The steps, as those of a service's probe; they may use `{tag}`, `{digest}`, `{commit}` and `{service}`.
    pub steps: Vec<Step>,
}

/// A query that gives one number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusKeys {
    /// Base address of a Prometheus.
    pub url: String,
    /// The query; `{tag}`, `{digest}`, `{commit}` and `{service}` are those of the release.
    pub query: String,
    /// The number must not be smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The number must not be larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Reports of tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportKeys {
    /// Files, or patterns of file names within a folder. With `{commit}`, `{digest}` or `{tag}` in its path a report is
    /// about the release that lies there; any other must say so itself. A relative path starts at the folder of this file.
    pub files: Vec<String>,
    /// Tests that must have run and passed, suite first, as the report names them. Any test that failed fails the gate.
    pub tests: Vec<String>,
}

/// Named checks of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgeKeys {
    /// Base address of the API. Default for `github`: `https://api.github.com`. For `gitea`, that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `owner/name`.
    pub repository: String,
    /// The checks that must have succeeded, by name. A skipped or neutral one has not.
    pub checks: Vec<String>,
    /// The secret with a token that may read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A manifest of promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestKeys {
    /// The manifest. A relative path starts at the folder of this file.
    pub file: PathBuf,
    /// Reports in place of those that the manifest names, such as `/var/lib/ci/{commit}/junit.xml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
}

/// What a gate asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind<'c> {
    /// A program.
    Command(&'c CommandKeys),
    /// An address.
    Probe(&'c ProbeGateKeys),
    /// A Prometheus.
    Prometheus(&'c PrometheusKeys),
    /// Reports.
    Report(&'c ReportKeys),
    /// GitHub.
    Github(&'c ForgeKeys),
    /// Gitea.
    Gitea(&'c ForgeKeys),
    /// A manifest.
    Manifest(&'c ManifestKeys),
}

impl Kind<'_> {
    /// Gives its key.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Probe(_) => "probe",
            Self::Prometheus(_) => "prometheus",
            Self::Report(_) => "report",
            Self::Github(_) => "github",
            Self::Gitea(_) => "gitea",
            Self::Manifest(_) => "manifest",
        }
    }
}

impl GateConfig {
    /// Gives what it asks; none unless exactly one thing is given.
    pub fn kind(&self) -> Option<Kind<'_>> {
        let all = [
            self.command.as_ref().map(Kind::Command),
            self.probe.as_ref().map(Kind::Probe),
            self.prometheus.as_ref().map(Kind::Prometheus),
            self.report.as_ref().map(Kind::Report),
            self.github.as_ref().map(Kind::Github),
            self.gitea.as_ref().map(Kind::Gitea),
            self.manifest.as_ref().map(Kind::Manifest),
        ];
        let mut given = all.into_iter().flatten();
        given.next().filter(|_| given.next().is_none())
    }

    /// Gives the secret that it needs, by name.
    pub fn secret(&self) -> Option<&str> {
        self.github.as_ref().or(self.gitea.as_ref()).and_then(|forge| forge.token.as_deref())
    }

    /// Finds what is wrong: the key, what, and a line that would work.
    pub fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let Some(kind) = self.kind() else {
            let what = "a gate asks exactly one thing: command, probe, prometheus, report, github, gitea or manifest";
            return Some(("", what.into(), "command = { argv = [\"./load-test\", \"{tag}\"] }"));
        };
        let wrong = |key, what: &str, example| Some((key, what.to_owned(), example));
        if self.watch.is_some_and(|every| every.0 < WATCH_MIN) {
            return wrong("watch", "it is asked every 10 s at most", "watch = \"10m\"");
        }
        match kind {
            Kind::Command(keys) if keys.argv.is_empty() => {
                wrong("command", "there is no program", "command = { argv = [\"./load-test\", \"{tag}\"] }")
            }
            Kind::Probe(keys) if keys.steps.is_empty() => {
                wrong("probe", "there is no step", "steps = [{ name = \"version\", http = { path = \"/version\" } }]")
            }
            Kind::Prometheus(keys) if keys.min.is_none() && keys.max.is_none() => {
                wrong("prometheus", "any number would do", "max = 0.02")
            }
            Kind::Report(keys) if keys.files.is_empty() || keys.tests.is_empty() => wrong(
                "report",
                "without a file and a named test nothing is proven",
                "report = { files = [\"ci/{commit}/junit.xml\"], tests = [\"suite test\"] }",
            ),
            Kind::Github(keys) | Kind::Gitea(keys) if keys.checks.is_empty() => {
                wrong(kind.word(), "without a named check nothing is proven", "checks = [\"build\", \"test\"]")
            }
            Kind::Github(keys) | Kind::Gitea(keys) if !is_repository(&keys.repository) => {
                wrong(kind.word(), "the repository is not owner/name", "repository = \"acme/app\"")
            }
            Kind::Gitea(keys) if keys.url.is_none() => {
                wrong("gitea", "there is no address", "url = \"https://git.example.org\"")
            }
            _ => self.bad_url(kind),
        }
    }

    fn bad_url(&self, kind: Kind<'_>) -> Option<(&'static str, String, &'static str)> {
        let url = match kind {
            Kind::Prometheus(keys) => Some(&keys.url),
            Kind::Github(keys) | Kind::Gitea(keys) => keys.url.as_ref(),
            _ => None,
        }?;
        let fits = |uri: ureq::http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        };
        let what = "url must be an http:// or https:// address without user and password";
        (!url.parse().is_ok_and(fits)).then(|| (kind.word(), what.to_owned(), "url = \"https://git.example.org\""))
    }
}

impl ForgeKeys {
    /// Gives the base address of the API.
    pub(super) fn base(&self) -> &str {
        self.url.as_deref().unwrap_or(GITHUB).trim_end_matches('/')
    }
}

fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

const fn max_age() -> Length {
    MAX_AGE
}
const fn timeout() -> Length {
    TIMEOUT
}
