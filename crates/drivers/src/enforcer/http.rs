//! A forge's HTTP API: one request, its JSON, and errors without the token.

use super::EnforcerError;
use crate::notice::{Reach, agent, in_words, one_line};
use serde_json::Value;
use std::{fmt, io::Read as _, time::Duration};
use ureq::{Agent, http};

/// More than a hundred rules need.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How the token is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scheme {
    /// `Bearer`, as GitHub has it.
    Bearer,
    /// `token`, as Gitea has it.
    Token,
}

/// A forge with a token for it.
pub(super) struct Api {
    agent: Agent,
    url: String,
    authorization: String,
    timeout: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Api {
    pub(super) fn new(url: &str, scheme: Scheme, token: String, timeout: Duration) -> Self {
        let scheme = match scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Token => "token",
        };
        // A forge may well be in the same house.
        Self { agent: agent(Reach::Private, 1), url: url.into(), authorization: format!("{scheme} {token}"), timeout }
    }

    /// Asks, and gives the status and what came. That there is none is no error.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), EnforcerError> {
        self.ask_unless(method, path, body, &[404])
    }

    /// Asks, and gives the status and what came, which is nothing with one of `nothing`.
    pub(super) fn ask_unless(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        nothing: &[u16],
    ) -> Result<(u16, Value), EnforcerError> {
        let failed = |why: String| EnforcerError::forge(format!("{method} {}{path}: {why}", self.url));
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", &self.authorization)
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|_| failed("the address can't be used".into()))?;
        let request = self.agent.configure_request(request).timeout_global(Some(self.timeout)).build();
        let answer = self.agent.run(request).map_err(|error| failed(in_words(&error).1))?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| failed(format!("the answer broke off: {}", error.kind())))?;
        match (status, bytes.is_empty()) {
            _ if nothing.contains(&status) => Ok((status, Value::Null)),
            (200..=299, true) => Ok((status, Value::Null)),
            (200..=299, false) => {
                let value = serde_json::from_slice(&bytes);
                value.map(|value| (status, value)).map_err(|_| failed("the answer is no JSON".into()))
            }
            _ => Err(failed(format!("answered {status}: {}", one_line(&bytes)))),
        }
    }

    /// Asks for something that must be there.
    pub(super) fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, EnforcerError> {
        match self.ask(method, path, body)? {
            (404, _) => Err(EnforcerError::forge(format!(
                "{method} {}{path}: answered 404: there is none, or the token may not see it",
                self.url
            ))),
            (_, value) => Ok(value),
        }
    }
}
