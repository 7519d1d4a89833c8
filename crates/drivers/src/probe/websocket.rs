//! A WebSocket conversation as a probe step: open, send, expect, close.

use super::{
    expand::Scope,
    expect::{Good, Got},
    http::connect,
};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::TcpStream,
    time::{Duration, Instant},
};
use tungstenite::{
    Message, WebSocket,
    client::IntoClientRequest as _,
    http::{HeaderName, HeaderValue},
};

/// Most messages skipped while one is awaited: a chatty service sends some, an endless stream is a failure.
const SKIPPED_MAX: usize = 1_000;

/// A WebSocket conversation; only unencrypted, to the instance itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSocketTalk {
    /// The path with its query: `/ws`.
    pub path: String,
    /// Headers of the handshake by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The subprotocol asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What is sent and awaited, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Line>,
}

/// One line of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// Send this text.
    Send(String),
    /// Wait for a message that matches this regular expression; others are skipped.
    Await(String),
}

impl WebSocketTalk {
    /// Holds the conversation; the last awaited message is the body.
    pub(super) fn hold(&self, base: &str, scope: &Scope, until: Instant) -> Result<Got, String> {
        let host = base.strip_prefix("http://").ok_or("a WebSocket step needs an http:// address")?;
        let mut socket = self.open(host, scope, until)?;
        let mut body = Vec::new();
        for line in &self.script {
            match line {
                Line::Send(text) => {
                    let text = scope.fill(text)?;
                    socket.send(Message::text(text)).map_err(|error| format!("sending failed: {error}"))?;
                }
                Line::Await(pattern) => body = wait_for(&mut socket, &scope.fill(pattern)?, until)?.into_bytes(),
            }
        }
        // A peer that does not close in return has still said what it was asked for.
        let _ = socket.close(None);
        let _ = socket.flush();
        Ok(Got { status: None, headers: Vec::new(), body, good: Good::Anything })
    }

    fn open(&self, host: &str, scope: &Scope, until: Instant) -> Result<WebSocket<TcpStream>, String> {
        let url = format!("ws://{host}{}", scope.fill(&self.path)?);
        let mut request = url.into_client_request().map_err(|error| format!("no WebSocket request: {error}"))?;
        let mut headers = self.headers.clone();
        headers.extend(self.protocol.iter().map(|protocol| ("Sec-WebSocket-Protocol".to_owned(), protocol.clone())));
        for (name, value) in &headers {
            let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
            let value: HeaderValue =
                scope.fill(value)?.parse().map_err(|_| format!("the value of {name} is no header value"))?;
            request.headers_mut().insert(name, value);
        }
        let stream = connect(host, until).map_err(|error| format!("TCP to {host} failed: {error}"))?;
        limit(&stream, until)?;
        let (socket, _) = tungstenite::client(request, stream)
            .map_err(|error| format!("the WebSocket handshake failed: {error}"))?;
        Ok(socket)
    }
}

fn limit(stream: &TcpStream, until: Instant) -> Result<(), String> {
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream
        .set_read_timeout(Some(left))
        .and_then(|()| stream.set_write_timeout(Some(left)))
        .map_err(|error| format!("no time-out can be set: {error}"))
}

fn wait_for(socket: &mut WebSocket<TcpStream>, pattern: &str, until: Instant) -> Result<String, String> {
    let wanted = Regex::new(pattern).map_err(|error| format!("{pattern:?} is no regular expression: {error}"))?;
    for _ in 0..SKIPPED_MAX {
        if Instant::now() >= until {
            break;
        }
        limit(socket.get_ref(), until)?;
        match socket.read().map_err(|error| format!("nothing that matches {pattern:?} came: {error}"))? {
            Message::Text(text) if wanted.is_match(&text) => return Ok(text.to_string()),
            Message::Close(_) => return Err(format!("the peer closed before anything matched {pattern:?}")),
            _ => {}
        }
    }
    Err(format!("nothing that matches {pattern:?} came in time"))
}
