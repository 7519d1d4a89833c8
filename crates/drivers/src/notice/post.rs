//! One POST: no redirect, no proxy, a limit on time and on what is kept of the answer, and what the answer means.

use super::{
    Delivery,
    config::REQUEST_TIMEOUT,
    guard::{GuardedResolver, OutOfReach, Reach},
    retry_after,
};
use lastgood_domain::terms::Timestamp;
use std::{io::Read as _, time::Duration};
use ureq::{Agent, Error, unversioned::transport::DefaultConnector};

/// Kept of an answer: enough for an error's text, too little to swell memory.
const RESPONSE_BYTES_MAX: u64 = 2 * 1024;
/// Two kilobytes on a slow line.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Shown of an answer: one line.
const EXCERPT_CHARS_MAX: usize = 200;
/// An idle connection is closed before usual servers (5 to 75 s) do it under our hands.
const IDLE_AGE_MAX: Duration = Duration::from_secs(4);

/// Makes an agent that keeps up to `connections` open per receiver.
pub(crate) fn agent(reach: Reach, connections: usize) -> Agent {
    let config = Agent::config_builder()
        // A receiver that moved is to be written into the configuration: a redirect could lead anywhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Through a proxy, the guard would look at the proxy's address.
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_TIMEOUT.duration()))
        // The status has decided by then; a body that dawdles must not hold a thread.
        .timeout_recv_body(Some(BODY_TIMEOUT))
        .max_idle_connections(connections * 4)
        .max_idle_connections_per_host(connections)
        .max_idle_age(IDLE_AGE_MAX)
        .max_response_header_size(16 * 1024)
        .user_agent("lastgood")
        .build();
    Agent::with_parts(config, DefaultConnector::default(), GuardedResolver { reach, names: Default::default() })
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) retry_after: Option<String>,
    /// The beginning of the body, one line, without control characters.
    pub(crate) excerpt: String,
}

/// Posts JSON. Errors: class and text, neither with the address.
pub(crate) fn post(
    agent: &Agent,
    url: &str,
    headers: &[(&str, &str)],
    content_type: &str,
    body: &[u8],
) -> Result<Answer, (&'static str, String)> {
    let mut request = agent.post(url).header("content-type", content_type);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send(body).map_err(|error| in_words(&error))?;
    let code = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    // The status decides; a body that is cut off or hangs changes nothing about it.
    let mut kept = Vec::new();
    let _ = response.into_body().into_reader().take(RESPONSE_BYTES_MAX).read_to_end(&mut kept);
    Ok(Answer { code, retry_after, excerpt: one_line(&kept) })
}

/// Says what went wrong without the library's texts, which may repeat the address.
pub(crate) fn in_words(error: &Error) -> (&'static str, String) {
    match error {
        Error::Timeout(_) => ("timeout", format!("no answer within {REQUEST_TIMEOUT}")),
        Error::HostNotFound => ("name-not-found", "the host's name is not known".into()),
        Error::Io(error) => ("connection-failed", format!("the connection failed: {}", error.kind())),
        Error::ConnectionFailed => ("connection-failed", "nothing accepts a connection there".into()),
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) => ("tls", format!("no trusted connection: {}", tls(error))),
        Error::Other(inner) if inner.is::<OutOfReach>() => ("private-address", inner.to_string()),
        Error::BadUri(_) | Error::Http(_) => ("bad-address", "the address can't be used".into()),
        Error::LargeResponseHeader(..) => ("bad-answer", "the answer's headers are too long".into()),
        _ => ("bad-answer", "the answer is not HTTP".into()),
    }
}

fn tls(error: &Error) -> String {
    match error {
        Error::Rustls(inner) => inner.to_string(),
        _ => "the certificate can't be used".into(),
    }
}

/// Gives the first line's worth of a text that came from outside.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(EXCERPT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Makes a retry of what gave no answer.
pub(crate) fn no_answer((class, why): (&'static str, String)) -> Delivery {
    Delivery::Retry { code: None, after: None, class: class.into(), why }
}

impl Answer {
    /// Says what came: `503 (try later)`.
    pub(crate) fn in_words(&self) -> String {
        let Self { code, excerpt, .. } = self;
        if excerpt.is_empty() { format!("answered {code}") } else { format!("answered {code}: {excerpt}") }
    }

    /// Makes a retry that honours what the receiver asked for.
    pub(crate) fn retry(self, now: Timestamp) -> Delivery {
        let after = self.retry_after.as_deref().and_then(|text| retry_after::parse(text, now));
        Delivery::Retry { code: Some(self.code), after, class: format!("http-{}", self.code), why: self.in_words() }
    }

    /// Makes an end: the same again would get the same answer.
    pub(crate) fn dead(self) -> Delivery {
        Delivery::Dead { code: Some(self.code), class: format!("http-{}", self.code), why: self.in_words() }
    }
}
