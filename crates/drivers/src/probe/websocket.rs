//! A WebSocket conversation by a script.

use super::{
    answer::{Answer, Lookup, judge_json},
    body,
    config::{Turn, WebSocketKeys},
    http::BODY_BYTES_MAX,
    run::no_value,
    variables::{self, Place},
    wire::{Base, Trouble, Wire},
};
use std::time::{Duration, Instant};
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    client::IntoClientRequest as _,
    http::{HeaderName, HeaderValue},
    protocol::WebSocketConfig,
};

/// Most messages passed over while one is awaited: a busy server tells of other things first.
const MESSAGES_MAX: usize = 100;
/// Time for the other side to confirm the end; it said all that was asked.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Most messages read while the end is awaited.
const CLOSE_MESSAGES_MAX: usize = 100;

/// Opens, speaks and awaits, closes. The answer's body is the last message that was awaited.
pub(crate) fn converse(
    base: &Base,
    keys: &WebSocketKeys,
    path: &str,
    headers: Vec<(String, String)>,
    value: Lookup<'_>,
    until: Instant,
) -> Result<Answer, Trouble> {
    let protocol = keys.protocol.as_deref().map(|text| variables::expand(text, Place::Plain, value)).transpose();
    let protocol = protocol.map_err(no_value)?;
    let mut socket = open(base, path, headers, protocol, until)?;
    let mut last = Vec::new();
    for turn in &keys.script {
        if let Some(message) = speak_or_await(&mut socket, turn, value)? {
            last = message.into_bytes();
        }
    }
    close(&mut socket);
    Ok(Answer { body: last, ..Answer::default() })
}

/// Opens a connection; every read and write on it ends at `until`, which its wire can be given anew.
pub(crate) fn open(
    base: &Base,
    path: &str,
    headers: Vec<(String, String)>,
    protocol: Option<String>,
    until: Instant,
) -> Result<WebSocket<Wire>, Trouble> {
    if base.is_tls {
        return Err(Trouble::config("an https address; WebSocket steps need the instance's own http address"));
    }
    let unfit = |error: &dyn std::fmt::Display| Trouble::config(format!("a request that can't be sent ({error})"));
    let mut request = format!("ws://{}{}{path}", base.authority(), base.prefix)
        .into_client_request()
        .map_err(|error| unfit(&error))?;
    let protocol = protocol.map(|text| ("Sec-WebSocket-Protocol".to_owned(), text));
    for (name, text) in headers.into_iter().chain(protocol) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unfit(&error))?;
        request.headers_mut().insert(name, HeaderValue::from_str(&text).map_err(|error| unfit(&error))?);
    }
    let limits = WebSocketConfig::default().max_message_size(Some(BODY_BYTES_MAX)).max_frame_size(Some(BODY_BYTES_MAX));
    let wire = base.connect(until)?;
    let (socket, _) =
        tungstenite::client::client_with_config(request, wire, Some(limits)).map_err(|error| match error {
            HandshakeError::Failure(error) => trouble(&error, "no WebSocket"),
            HandshakeError::Interrupted(_) => Trouble::timeout("no WebSocket in time"),
        })?;
    Ok(socket)
}

fn speak_or_await(socket: &mut WebSocket<Wire>, turn: &Turn, value: Lookup<'_>) -> Result<Option<String>, Trouble> {
    let text = match (&turn.send, &turn.send_json) {
        (Some(text), _) => Some(variables::expand(text, Place::Plain, value).map_err(no_value)?),
        (None, Some(json)) => Some(body::fill_json(json, value).map_err(no_value)?.to_string()),
        (None, None) => None,
    };
    if let Some(text) = text {
        socket.send(Message::text(text)).map_err(|error| trouble(&error, "nothing"))?;
        return Ok(None);
    }
    let pattern = turn.expect.as_ref().map(|pattern| pattern.regex(value)).transpose().map_err(Trouble::config)?;
    let mut last = String::new();
    for _ in 0..MESSAGES_MAX {
        let so_far = |last: &str| match last {
            "" => "no message".to_owned(),
            last => format!("only {last:?}"),
        };
        let message = match socket.read().map_err(|error| trouble(&error, &so_far(&last)))? {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Message::Close(frame) => {
                let why = frame.map(|frame| format!(" ({} {})", frame.code, frame.reason)).unwrap_or_default();
                return Err(Trouble::failed(format!("{} before the service ended it{why}", so_far(&last))));
            }
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let fits = match (&pattern, &turn.expect_json) {
            (Some(pattern), _) => pattern.is_match(&message),
            (None, Some(expect)) => serde_json::from_str(&message)
                .is_ok_and(|json: serde_json::Value| judge_json(&json, expect, value).is_ok()),
            (None, None) => true,
        };
        if fits {
            return Ok(Some(message));
        }
        last = message;
    }
    Err(Trouble::failed(format!("{MESSAGES_MAX} messages that don't fit, the last {last:?}")))
}

/// Says goodbye and waits a moment for the other side; how that ends is no part of the check.
pub(crate) fn close(socket: &mut WebSocket<Wire>) {
    socket.get_mut().set_until(Instant::now() + CLOSE_TIMEOUT);
    if socket.close(None).is_err() {
        return;
    }
    for _ in 0..CLOSE_MESSAGES_MAX {
        if socket.read().is_err() {
            return;
        }
    }
}

/// Says how a conversation ended; `so_far` says what had come.
pub(crate) fn trouble(error: &Error, so_far: &str) -> Trouble {
    match error {
        Error::Io(io) => Trouble::of_io(io, so_far),
        Error::ConnectionClosed | Error::AlreadyClosed => {
            Trouble::failed(format!("{so_far} before the service ended it"))
        }
        Error::Http(answer) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Trouble::failed(format!("status {} instead of 101 and {}", answer.status().as_u16(), body.trim()))
        }
        other => Trouble::failed(format!("{so_far} ({other})")),
    }
}
