//! A client's socket: hears its room, comes back after every end, and posts if this client posts here.

use super::tally::Heard;
use super::{AGAIN_FIRST, AGAIN_MAX, LINGER, Person, REQUEST};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = WebSocketStream<TcpStream>;

/// What the service says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Message { seq: i64, id: String, text: String },
    Stored { id: String, seq: i64 },
    Refused { error: String },
}

/// A message that is not acknowledged yet.
struct Pending {
    id: String,
    text: String,
    began: Instant,
}

/// Listens for one client.
pub(super) struct Listener {
    person: Arc<Person>,
    posts: bool,
    all_sent: watch::Receiver<bool>,
    heard: Heard,
    sent: u64,
    pending: Option<Pending>,
    /// When the next message is due; none when this client sends no more.
    due: Option<tokio::time::Instant>,
}

/// How a socket ended.
enum End {
    /// Everything was heard.
    Complete,
    /// With a Close of this code.
    Closed(u16),
    /// Without one.
    Cut,
}

impl Listener {
    pub(super) fn new(person: Arc<Person>, posts: bool, all_sent: watch::Receiver<bool>) -> Self {
        let heard = Heard::of(&person.room);
        let due = posts.then(tokio::time::Instant::now);
        Self { person, posts, all_sent, heard, sent: 0, pending: None, due }
    }

    /// Listens until everything acknowledged was heard, or the time is over.
    pub(super) async fn listen(mut self) -> Heard {
        let mut wait = AGAIN_FIRST;
        let gives_up = self.person.shared.gives_up();
        while Instant::now() < gives_up {
            let opened = tokio::time::timeout(REQUEST, self.open()).await;
            let mut socket = match opened.unwrap_or_else(|_| Err("socket: no handshake in 10 s".into())) {
                Ok(socket) => socket,
                Err(words) => {
                    self.person.shared.tally(|tally| tally.fail(&words));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_MAX);
                    continue;
                }
            };
            wait = AGAIN_FIRST;
            match self.converse(&mut socket, gives_up).await {
                Ok(End::Complete) => {
                    let _other_side_gone = socket.close(None).await;
                    return self.heard;
                }
                Ok(End::Closed(code)) => {
                    self.person.shared.tally(|tally| *tally.closes.entry(code.to_string()).or_default() += 1);
                }
                Ok(End::Cut) | Err(_) => self.person.shared.tally(|tally| tally.cuts += 1),
            }
        }
        if self.posts && self.due.is_some() {
            self.person.shared.one_has_sent_all();
        }
        self.heard
    }

    async fn open(&self) -> Result<Socket, String> {
        let address = self.person.shared.load.address;
        let path = format!("/rooms/{}/socket?after={}", self.person.room, self.heard.last);
        let failed = |error: Error| match error {
            Error::Http(answer) => format!("socket: status {}", answer.status().as_u16()),
            error => format!("socket: {error}"),
        };
        let mut request = format!("ws://{address}{path}").into_client_request().map_err(failed)?;
        if let Some(cookie) = self.person.cookie().and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
            request.headers_mut().insert("cookie", cookie);
        }
        let stream = TcpStream::connect(address).await.map_err(|error| format!("socket: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("socket: {error}"))?;
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.map_err(failed)?;
        self.person.note_answer(response.headers());
        Ok(socket)
    }

    async fn converse(&mut self, socket: &mut Socket, gives_up: Instant) -> Result<End, Error> {
        // What the last connection left unacknowledged goes first.
        if let Some(pending) = &self.pending {
            socket.send(posted(pending)).await?;
        }
        let mut all_sent = self.all_sent.clone();
        let mut is_over = *all_sent.borrow();
        loop {
            if is_over && self.has_all() {
                return self.linger(socket).await;
            }
            tokio::select! {
                heard = socket.next() => match heard {
                    Some(Ok(Message::Text(text))) => self.hear(&text, socket).await?,
                    Some(Ok(Message::Close(frame))) => {
                        let _other_side_gone = socket.flush().await;
                        // The code is what counts; without one it is the standard's "no status".
                        return Ok(End::Closed(frame.map_or(1005, |frame| frame.code.into())));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(cause)) => return Err(cause),
                    None => return Ok(End::Cut),
                },
                () = until(self.due), if self.pending.is_none() && self.due.is_some() => self.post_next(socket).await?,
                _ = all_sent.changed(), if !is_over => is_over = true,
                () = tokio::time::sleep_until(gives_up.into()) => return Ok(End::Complete),
            }
        }
    }

    fn has_all(&self) -> bool {
        self.heard.last >= self.person.shared.tally(|tally| tally.highest(&self.person.room))
    }

    /// Goes on listening for a moment: a message that comes twice comes late.
    async fn linger(&mut self, socket: &mut Socket) -> Result<End, Error> {
        let until = tokio::time::Instant::now() + LINGER;
        while let Ok(Some(Ok(message))) = tokio::time::timeout_at(until, socket.next()).await {
            if let Message::Text(text) = message {
                self.hear(&text, socket).await?;
            }
        }
        Ok(End::Complete)
    }

    async fn post_next(&mut self, socket: &mut Socket) -> Result<(), Error> {
        let shared = Arc::clone(&self.person.shared);
        if !shared.may_send(self.sent) {
            self.due = None;
            shared.one_has_sent_all();
            return Ok(());
        }
        let id = format!("{}-{}-{}", shared.run, self.person.number, self.sent);
        self.sent += 1;
        shared.tally(|tally| tally.sent += 1);
        let pending = self.pending.insert(Pending { id, text: shared.text(), began: Instant::now() });
        socket.send(posted(pending)).await
    }

    async fn hear(&mut self, text: &str, socket: &mut Socket) -> Result<(), Error> {
        let shared = Arc::clone(&self.person.shared);
        match serde_json::from_str(text) {
            Ok(Said::Message { seq, id, text }) => {
                if self.heard.note(seq, id)
                    && let Some(micros) = shared.age(&text)
                {
                    shared.tally(|tally| tally.deliver_micros.push(micros));
                }
            }
            Ok(Said::Stored { id, seq }) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.id == id) {
                    let micros = u32::try_from(pending.began.elapsed().as_micros()).unwrap_or(u32::MAX);
                    shared.tally(|tally| {
                        tally.acknowledge(&self.person.room, &id, seq);
                        tally.acknowledge_micros.push(micros);
                    });
                    self.due = Some(tokio::time::Instant::now() + shared.load.pause);
                }
            }
            Ok(Said::Refused { error }) => {
                shared.tally(|tally| tally.fail(&format!("socket: refused, {error}")));
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Some(pending) = &self.pending {
                    socket.send(posted(pending)).await?;
                }
            }
            Err(_) => shared.tally(|tally| tally.fail("socket: a message that is none")),
        }
        Ok(())
    }
}

fn posted(pending: &Pending) -> Message {
    Message::text(json!({ "type": "post", "id": pending.id, "text": pending.text }).to_string())
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
