//! A TCP connection as a probe step.

use super::{
    expand::Scope,
    expect::{Good, Got},
    http::{connect, read_some},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{io::Write as _, time::Instant};

/// Most bytes read of what a peer sends.
const READ_BYTES_MAX: usize = 64 << 10;

/// A TCP connection: passes when it is accepted, and when what comes back matches `expect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpTalk {
    /// Host and port. Default: the instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Wait for an answer that has this in it. Without it nothing is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for: Option<String>,
}

impl TcpTalk {
    pub(super) fn hold(&self, base: &str, scope: &Scope, until: Instant) -> Result<Got, String> {
        let host = match &self.to {
            Some(to) => scope.fill(to)?,
            None => base.split_once("://").map_or(base, |(_, host)| host).to_owned(),
        };
        let failed = |error: std::io::Error| format!("TCP to {host} failed: {error}");
        let mut stream = connect(&host, until).map_err(failed)?;
        if let Some(send) = &self.send {
            stream.write_all(scope.fill(send)?.as_bytes()).map_err(failed)?;
        }
        let mut body = Vec::new();
        if let Some(wanted) = &self.wait_for {
            let has = |all: &[u8]| all.windows(wanted.len().max(1)).any(|part| part == wanted.as_bytes());
            body = read_some(&mut stream, READ_BYTES_MAX, until, &has).map_err(failed)?;
            if !has(&body) {
                return Err(format!("{host} sent {} bytes without {wanted:?}", body.len()));
            }
        }
        Ok(Got { status: None, headers: Vec::new(), body, good: Good::Anything })
    }
}
