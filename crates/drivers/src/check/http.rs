//! Pages that say how something does: status, and values in their JSON.
#![expect(clippy::mutable_key_type, reason = "a path is compared by its text, which never changes")]

use super::{Sight, Wrong, host};
use crate::probe::{JsonExpectation, JsonPath, Secrets, StatusSet, answer::judge_json, variables};
use lastgood_domain::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// Most bytes of a page that are read: it is to say how it does, not to tell its life.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// A page that says how something does.
///
/// ```toml
/// [preflight.search]
/// http = { url = "http://127.0.0.1:9200/_cluster/health", json = { "$.status" = "green" } }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The page: `http://` or `https://`. Redirects are not followed.
    pub url: String,
    /// A status, a class or a list: `200`, `"2xx"`, `[200, 204]`. Default `"2xx"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSet>,
    /// For each path what one of the values there has to be: a plain value, `{ matches = "..." }` or
    /// `{ exists = true }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<JsonPath, JsonExpectation>,
    /// Headers to send; values take `{secret:NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Certificates (PEM) to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl HttpCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        url_problem(&self.url)
    }

    pub(super) fn needs_network(&self) -> bool {
        !host::url_is_here(&self.url)
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let url = &self.url;
        let answer = get(url, self.ca.as_deref(), &self.headers, sight)?;
        let wanted = self.status.clone().unwrap_or_else(StatusSet::success);
        if !wanted.has(answer.status) {
            let what = format!("{url} answers with status {}, not {wanted}", answer.status);
            return Err(Wrong::fails("preflight-http-status", what, format!("curl -si {url}")));
        }
        if !self.json.is_empty() {
            self.judge(&answer.body, sight)?;
        }
        Ok(format!("{url} answers with status {}", answer.status))
    }
}

impl HttpCheck {
    fn judge(&self, body: &[u8], sight: &Sight) -> Result<(), Wrong> {
        let url = &self.url;
        let wrong = |what: String| {
            let what = sight.secrets.scrub(&words::one_line(&format!("{url}: {what}")));
            Wrong::fails("preflight-http-json", what, format!("curl -s {url}"))
        };
        let json =
            serde_json::from_slice(body).map_err(|error| wrong(format!("what it answers is not JSON: {error}")))?;
        judge_json(&json, &self.json, &|_| None).map_err(|mismatch| {
            let found = mismatch.found.unwrap_or_else(|| "something else".into());
            wrong(format!("{} wanted, {found}", mismatch.expected))
        })
    }
}

/// Puts secrets into a text.
fn filled(text: &str, secrets: &Secrets) -> Result<String, String> {
    let value = |name: &str| name.strip_prefix("secret:").and_then(|name| secrets.get(name)).map(str::to_owned);
    variables::expand(text, variables::Place::Plain, &value)
        .map_err(|unknown| format!("`{{{}}}` has no value", unknown.name))
}

/// What a page answered.
pub(super) struct Page {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Page {
    /// Gives a header by its name in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Tells what is wrong with the address of a page.
pub(super) fn url_problem(url: &str) -> Option<String> {
    let uri = url.parse::<ureq::http::Uri>().ok();
    let fits = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    (!fits).then(|| format!("{url:?} is no address of a page, such as https://example.com/health"))
}

/// Asks for a page.
///
/// Errors: there was no answer; that says nothing about what the page would say.
pub(super) fn get(
    url: &str,
    ca: Option<&Path>,
    headers: &BTreeMap<String, String>,
    sight: &Sight,
) -> Result<Page, Wrong> {
    let unknown = |what: String| {
        let what = sight.secrets.scrub(&format!("{url} gives no answer: {what}"));
        Wrong::unknown("preflight-http-unreachable", what, format!("curl -si {url}"))
    };
    let mut builder = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("lastgood-preflight")
        .timeout_global(Some(sight.left()));
    if let Some(ca) = ca {
        builder = builder.tls_config(TlsConfig::builder().root_certs(roots(&sight.folder.join(ca))?).build());
    }
    let agent: ureq::Agent = builder.build().new_agent();
    let mut request = agent.get(url);
    for (name, value) in headers {
        let value = filled(value, &sight.secrets).map_err(|why| unknown(format!("the header {name}: {why}")))?;
        request = request.header(name, value);
    }
    let mut answer = request.call().map_err(|error| unknown(error.to_string()))?;
    let status = answer.status().as_u16();
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(BODY_BYTES_MAX + 1).read_to_end(&mut body);
    read.map_err(|error| unknown(format!("status {status} and only a part of the page ({error})")))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        return Err(unknown(format!("a page of more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(Page { status, headers, body })
}

fn roots(file: &Path) -> Result<RootCerts, Wrong> {
    let shown = file.display();
    let unknown = |what: String| {
        Wrong::unknown("preflight-http-unreachable", what, format!("openssl x509 -noout -subject -in {shown}"))
    };
    let pem = std::fs::read(file).map_err(|error| unknown(format!("{shown} can't be read: {error}")))?;
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(unknown(format!("{shown} holds no certificate"))),
        false => Ok(RootCerts::Specific(Arc::new(certificates))),
    }
}
