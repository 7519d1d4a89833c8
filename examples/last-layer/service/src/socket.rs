//! One WebSocket: posts come in, the room goes out, from one place in it on.

use crate::rooms::{Room, said};
use crate::service::{BODY_BYTES_MAX, Service, Wanted, after_of, error, is_name};
use crate::store::Posted;
use crate::{Fault, report};
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Posts of one socket that are not acknowledged yet; more are left unread.
const IN_FLIGHT_MAX: usize = 64;
/// A subscriber that takes nothing for this long is cut off; it comes back with `after`.
const SEND: Duration = Duration::from_secs(10);
/// Time for the other side to confirm a Close.
const FAREWELL: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<Upgraded>>;
/// Why a socket ends.
type Ends = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Post(Wanted),
}

/// Answers the request that opens a socket, and goes on with it.
pub(crate) async fn open(
    State(service): State<Arc<Service>>,
    Path(room): Path<String>,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Response {
    let Some(key) = key_of(request.headers()) else {
        return error(StatusCode::UPGRADE_REQUIRED, "here is a WebSocket (version 13) only");
    };
    if service.release.fault == Fault::RefusesHandshake || *service.stopping.borrow() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "no new sockets");
    }
    if !is_name(&room) {
        return error(StatusCode::NOT_FOUND, "there is no such room");
    }
    let Ok(after) = after_of(query.as_deref()) else {
        return error(StatusCode::BAD_REQUEST, "after is a number");
    };
    // The place is settled before the client knows that it listens: what it sees others post from then on comes.
    let Ok(last) = service.store.last(&room).await else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "it could not be read; the log says why");
    };
    let (room, head) = service.rooms.enter(&room, last);
    let place = match (&service.release.fault, after) {
        (Fault::ForgetsResume, _) | (_, None) => last,
        (Fault::DoublesOnReplay, Some(after)) => (after - 1).max(0),
        (_, Some(after)) => after,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let is_open = service.open_sockets.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let limits =
            WebSocketConfig::default().max_message_size(Some(BODY_BYTES_MAX)).max_frame_size(Some(BODY_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
        let (acknowledge, acknowledged) = mpsc::unbounded_channel();
        let mut conversation = Conversation { service, socket, room, place, in_flight: 0, acknowledge, acknowledged };
        // A client that is gone is everyday; it comes back with `after`.
        let _over = conversation.hold(head, after.is_some()).await;
        drop(is_open);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(Body::empty())
        .unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "no answer can be made"))
}

/// Gives the key of a request that asks for a WebSocket.
fn key_of(headers: &HeaderMap) -> Option<String> {
    let has = |name: header::HeaderName, token: &str| {
        let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let asks = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    asks.then(|| headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok().map(ToOwned::to_owned)).flatten()
}

/// Waits until the process is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _gone = stopping.wait_for(|stop| *stop).await;
}

struct Conversation {
    service: Arc<Service>,
    socket: Socket,
    room: Arc<Room>,
    /// The number of the last message that was sent.
    place: i64,
    /// Posts that are not acknowledged yet.
    in_flight: usize,
    acknowledge: mpsc::UnboundedSender<(String, Posted)>,
    acknowledged: mpsc::UnboundedReceiver<(String, Posted)>,
}

impl Conversation {
    async fn hold(&mut self, mut head: watch::Receiver<i64>, is_resumed: bool) -> Ends {
        self.replay().await?;
        if let Fault::LosesAtSeam { open_ms } = self.service.release.fault
            && is_resumed
        {
            tokio::time::sleep(Duration::from_millis(open_ms)).await;
            self.place = self.service.store.last(&self.room.name).await?;
        }
        let mut stopping = self.service.stopping.clone();
        loop {
            let newest = *head.borrow_and_update();
            self.send_news(newest).await?;
            tokio::select! {
                heard = self.socket.next(), if self.in_flight < IN_FLIGHT_MAX => match heard {
                    Some(Ok(Message::Text(text))) => self.hear(&text).await?,
                    // The library answers a ping and a Close by itself, and ends after it.
                    Some(Ok(_)) => {}
                    Some(Err(cause)) => return Err(cause.into()),
                    None => return Ok(()),
                },
                Some((id, posted)) = self.acknowledged.recv() => self.answer(&id, posted).await?,
                changed = head.changed() => changed?,
                () = told(&mut stopping) => return self.say_farewell().await,
            }
        }
    }

    /// Sends what is stored behind the place.
    async fn replay(&mut self) -> Ends {
        loop {
            let page = self.service.store.page(&self.room.name, self.place).await?;
            let Some(last) = page.last().map(|message| message.seq) else { return Ok(()) };
            self.send_all(page.iter().map(said).collect()).await?;
            self.place = last;
        }
    }

    /// Sends what is new up to `head`.
    async fn send_news(&mut self, head: i64) -> Ends {
        while self.place < head {
            let Some(recent) = self.room.recent(self.place) else {
                self.replay().await?;
                continue;
            };
            let Some(last) = recent.last().map(|(seq, _)| *seq) else { return Ok(()) };
            self.send_all(recent.into_iter().map(|(_, text)| text).collect()).await?;
            self.place = last;
        }
        Ok(())
    }

    async fn send_all(&mut self, texts: Vec<Utf8Bytes>) -> Ends {
        let sent = async {
            for text in texts {
                self.socket.feed(Message::Text(text)).await?;
            }
            self.socket.flush().await
        };
        Ok(tokio::time::timeout(SEND, sent).await??)
    }

    async fn hear(&mut self, text: &str) -> Ends {
        let post = match serde_json::from_str::<Said>(text) {
            Ok(Said::Post(wanted)) => {
                let id = wanted.id.clone();
                wanted.post(&self.room.name).map_err(|why| (id, why))
            }
            Err(_) => Err((String::new(), "say {\"type\":\"post\",\"id\":\"...\",\"text\":\"...\"}")),
        };
        let post = match post {
            Ok(post) => post,
            Err((id, why)) => return self.refuse(&id, why).await,
        };
        if let Fault::Errors { percent } = self.service.release.fault
            && crate::release::befalls(percent)
        {
            return self.refuse(&post.id, "something failed here").await;
        }
        self.in_flight += 1;
        let (id, acknowledge) = (post.id.clone(), self.acknowledge.clone());
        self.service.store.post(
            post,
            Box::new(move |posted| {
                // Who is gone asks again under the same id.
                let _gone = acknowledge.send((id, posted));
            }),
        );
        Ok(())
    }

    async fn answer(&mut self, id: &str, posted: Posted) -> Ends {
        self.in_flight -= 1;
        match posted {
            Posted::New(seq) | Posted::Before(seq) => {
                self.say(&json!({ "type": "stored", "id": id, "seq": seq })).await
            }
            Posted::Conflict => self.refuse(id, "another text has this id").await,
            Posted::Failed => self.refuse(id, "it could not be stored; the log says why").await,
        }
    }

    async fn refuse(&mut self, id: &str, why: &str) -> Ends {
        self.say(&json!({ "type": "refused", "id": id, "error": why })).await
    }

    async fn say(&mut self, what: &Value) -> Ends {
        self.send_all(vec![what.to_string().into()]).await
    }

    /// Acknowledges what was heard, sends Close 1001 and waits for its confirmation.
    async fn say_farewell(&mut self) -> Ends {
        while self.in_flight > 0 {
            let Some((id, posted)) = self.acknowledged.recv().await else { break };
            self.answer(&id, posted).await?;
        }
        let away = CloseFrame { code: CloseCode::Away, reason: "this process stops".into() };
        self.socket.close(Some(away)).await?;
        // What comes until then was not acknowledged and is sent again elsewhere.
        let confirmed = async { while let Some(Ok(_)) = self.socket.next().await {} };
        if tokio::time::timeout(FAREWELL, confirmed).await.is_err() {
            report("a client did not confirm its Close");
        }
        Ok(())
    }
}
