//! One client of the gate: connects, sends, hears, is cut off and comes back.

use super::{Gate, heard::Heard};
use crate::probe::{
    answer::judge_json,
    run::no_value,
    websocket,
    wire::{Trouble, Wire},
};
use serde_json::Value;
use std::time::{Duration, Instant};
use tungstenite::{Error, Message, WebSocket};

/// A client, with all it remembers over its connections.
pub(super) struct Client<'g> {
    gate: &'g Gate<'g>,
    /// Tells its messages from others'.
    number: u32,
    /// How many it has sent.
    sent: u32,
    socket: Option<WebSocket<Wire>>,
    /// The position of the last delivery, whoever sent it.
    last: Option<String>,
    /// The id of its session, as it was told last.
    session: Option<String>,
    pub(super) heard: Heard,
    /// The last thing heard that was no delivery.
    pub(super) besides: Option<String>,
}

impl<'g> Client<'g> {
    /// Connects a new client to a side.
    pub(super) fn connect(gate: &'g Gate<'g>, number: u32, side: usize) -> Result<Self, Trouble> {
        let heard = Heard::of(&gate.run);
        let mut client = Self { gate, number, sent: 0, socket: None, last: None, session: None, heard, besides: None };
        client.open(&gate.config.keys.path, side)?;
        if gate.config.keys.session.is_some() {
            let until = gate.until();
            while client.session.is_none() {
                if !client.hear(until)? {
                    return Err(Trouble::failed("no session's id in time"));
                }
            }
        }
        Ok(client)
    }

    /// Comes back to a side from the last delivery on.
    pub(super) fn resume(&mut self, side: usize) -> Result<(), Trouble> {
        let keys = &self.gate.config.keys;
        self.open(keys.path_back(), side)?;
        let Some(said) = keys.resume_sent() else { return Ok(()) };
        let text = said.fill(&|name| self.known(side, name)).map_err(no_value)?;
        let until = self.gate.until();
        let sent = self.socket(until)?.send(Message::text(text));
        sent.map_err(|error| websocket::trouble(&error, "what resumes was not taken"))
    }

    /// Gives a variable of a connection.
    fn known(&self, side: usize, name: &str) -> Option<String> {
        match name {
            "run" => Some(self.gate.run.clone()),
            "last" => self.last.clone(),
            "session" => self.session.clone(),
            _ => self.gate.side(side).lookup(name),
        }
    }

    fn open(&mut self, path: &str, side: usize) -> Result<(), Trouble> {
        let keys = &self.gate.config.keys;
        let value = |name: &str| self.known(side, name);
        let until = self.gate.until();
        self.socket =
            Some(self.gate.side(side).socket(path, &keys.headers, keys.protocol.as_deref(), &value, until)?);
        Ok(())
    }

    /// Is cut off: the connection ends without a Close.
    pub(super) fn cut(&mut self) {
        self.socket = None;
    }

    /// Ends properly.
    pub(super) fn close(mut self) {
        if let Some(socket) = &mut self.socket {
            websocket::close(socket);
        }
    }

    /// Sends its next message; gives the id.
    pub(super) fn send(&mut self) -> Result<String, Trouble> {
        self.sent += 1;
        let id = format!("{}-{}-{}", self.gate.run, self.number, self.sent);
        let session = self.gate.side(0);
        let value = |name: &str| match name {
            "run" => Some(self.gate.run.clone()),
            "id" => Some(id.clone()),
            "n" => Some(self.sent.to_string()),
            _ => session.lookup(name),
        };
        let text = self.gate.config.keys.sent().fill(&value).map_err(no_value)?;
        let until = self.gate.until();
        let socket = self.socket(until)?;
        socket.send(Message::text(text)).map_err(|error| websocket::trouble(&error, "a message was not taken"))?;
        Ok(id)
    }

    /// Hears until all of `ids` have come or the time is over.
    ///
    /// Errors: the connection ended. That something is missing is no error here.
    pub(super) fn hear_all(&mut self, ids: &[String]) -> Result<(), Trouble> {
        let until = self.gate.until();
        while !self.heard.has_all(ids) {
            if !self.hear(until)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on hearing for a while: what comes twice comes late.
    pub(super) fn hear_for(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = self.gate.deadline.min(Instant::now() + time);
        while self.hear(until)? {}
        Ok(())
    }

    fn socket(&mut self, until: Instant) -> Result<&mut WebSocket<Wire>, Trouble> {
        let socket = self.socket.as_mut().ok_or_else(|| Trouble::failed("no connection"))?;
        socket.get_mut().set_until(until);
        Ok(socket)
    }

    /// Hears one message; false when the time is over.
    fn hear(&mut self, until: Instant) -> Result<bool, Trouble> {
        let message = match self.socket(until)?.read() {
            Ok(message) => message,
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(false),
            Err(error) => return Err(websocket::trouble(&error, "not all that was awaited")),
        };
        let text = match &message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Message::Close(frame) => {
                let why = frame.as_ref().map(|frame| format!(" ({} {})", frame.code, frame.reason));
                return Err(Trouble::failed(format!("a Close{}", why.unwrap_or_default())));
            }
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(true),
        };
        if !self.is_delivery(&text)? {
            self.besides = Some(text);
        }
        Ok(true)
    }

    /// Counts a message if it is one or several deliveries.
    fn is_delivery(&mut self, text: &str) -> Result<bool, Trouble> {
        let keys = &self.gate.config.keys;
        let session = self.gate.side(0);
        let Ok(json) = serde_json::from_str::<Value>(text) else { return Ok(false) };
        if let Some(told) = keys.session.as_ref().and_then(|path| path.find(&json).into_iter().next_back()) {
            let id = plain(told);
            self.gate.hide(&id);
            self.session = Some(id);
        }
        if judge_json(&json, &keys.when, &|name| session.lookup(name)).is_err() {
            return Ok(false);
        }
        let (ids, positions) = (keys.id.find(&json), keys.position.find(&json));
        if ids.is_empty() {
            return Ok(false);
        }
        if ids.len() != positions.len() {
            let (ids, positions) = (ids.len(), positions.len());
            // Cut when nothing in it is secret any more: a part of an id would no longer be found.
            return Err(Trouble::failed(format!(
                "{ids} values at {} and {positions} at {} in {text}",
                keys.id.as_str(),
                keys.position.as_str()
            )));
        }
        for (id, position) in ids.into_iter().zip(positions) {
            self.heard.note(&plain(id));
            self.last = Some(plain(position));
        }
        Ok(true)
    }
}

/// Gives a text as it is and everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
