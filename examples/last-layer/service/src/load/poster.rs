//! A client's posts over HTTP, one connection kept from post to post.

use super::{AGAIN_FIRST, AGAIN_MAX, Person, REQUEST};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;

/// Posts the messages of one client.
pub(super) struct Poster {
    person: Arc<Person>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Poster {
    pub(super) fn new(person: Arc<Person>) -> Self {
        Self { person, connection: None }
    }

    /// Posts one message after the other until the load says that it is enough.
    pub(super) async fn post_all(mut self) {
        let shared = Arc::clone(&self.person.shared);
        let mut sent = 0;
        while shared.may_send(sent) {
            let id = format!("{}-{}-{sent}", shared.run, self.person.number);
            sent += 1;
            shared.tally(|tally| tally.sent += 1);
            if !self.post_until_acknowledged(&id).await {
                break;
            }
            tokio::time::sleep(shared.load.pause).await;
        }
        shared.one_has_sent_all();
    }

    async fn post_until_acknowledged(&mut self, id: &str) -> bool {
        let shared = Arc::clone(&self.person.shared);
        let body = json!({ "id": id, "text": shared.text() }).to_string();
        let (began, mut wait) = (Instant::now(), AGAIN_FIRST);
        loop {
            let tried = tokio::time::timeout(REQUEST, self.post(&body)).await;
            match tried.unwrap_or_else(|_| Err("post: no answer in 10 s".into())) {
                Ok(seq) => {
                    let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                    shared.tally(|tally| {
                        tally.acknowledge(&self.person.room, id, seq);
                        tally.acknowledge_micros.push(micros);
                    });
                    return true;
                }
                Err(words) => {
                    self.connection = None;
                    shared.tally(|tally| tally.fail(&words));
                }
            }
            if Instant::now() > shared.gives_up() {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// Posts once; gives the number under which it was stored.
    async fn post(&mut self, body: &str) -> Result<i64, String> {
        let address = self.person.shared.load.address;
        // A connection that the server has closed while nothing was under way is nobody's failure.
        if let Some(kept) = &mut self.connection
            && kept.ready().await.is_err()
        {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(kept) => kept,
            none => none.insert(connect(address).await.map_err(|error| format!("post: {error}"))?),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/rooms/{}/messages", self.person.room))
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = self.person.cookie() {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Full::from(body.to_owned())).map_err(|error| format!("post: {error}"))?;
        let response = connection.send_request(request).await.map_err(|error| format!("post: {error}"))?;
        let status = response.status();
        self.person.note_answer(response.headers());
        let body = response.into_body().collect().await.map_err(|error| format!("post: {error}"))?.to_bytes();
        let seq = serde_json::from_slice::<Value>(&body).ok().and_then(|body| body["seq"].as_i64());
        seq.filter(|_| status.is_success()).ok_or_else(|| format!("post: status {}", status.as_u16()))
    }
}

async fn connect(address: std::net::SocketAddr) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
