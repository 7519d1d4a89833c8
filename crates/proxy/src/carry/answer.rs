//! Answers that the proxy gives by itself.

use lastgood_domain::traffic::Answering;

/// Seconds after which a client may come again when the service is closed or too full.
pub(crate) const AGAIN_SECONDS: u32 = 5;

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self { status, retry_after: (status == 503).then_some(AGAIN_SECONDS), body: format!("{body}\n") }
    }

    /// Gives the whole answer; `closes` says that the connection is closed after it.
    pub(crate) fn http1(&self, to_head: bool, closes: bool) -> Vec<u8> {
        let retry = self.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let close = if closes { "Connection: close\r\n" } else { "" };
        let text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
             Content-Length: {}\r\n{retry}{close}\r\n{}",
            self.status,
            reason(self.status),
            self.body.len(),
            if to_head { "" } else { &self.body },
        );
        text.into_bytes()
    }
}

impl From<&Answering> for Answer {
    fn from(answering: &Answering) -> Self {
        Self { status: answering.status, retry_after: answering.retry_after, body: answering.body.clone() }
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused")
}
