//! HTTP/2: each stream becomes a connection of HTTP/1 with one request, so that there is one way through the proxy.
//!
//! A request's head is written out as HTTP/1.1 and read by the same strict reader; what is written back is read again
//! and becomes frames. A WebSocket over HTTP/2 (RFC 8441) is an upgrade then.

use super::{BreaksOff, Buf, Phase, Site, client::Client, now_ms};
use crate::http::{Framing, Response, chunked::Chunked, head_end, rewrite, rewrite::Asker};
use bytes::{Buf as _, Bytes};
use h2::{
    Reason, RecvStream, SendStream,
    ext::Protocol,
    server::{Builder, SendResponse},
};
use http::{HeaderName, HeaderValue, Request, header};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that wait to be sent on one stream.
const SEND_MAX: usize = 64 << 10;
/// Window of a stream and of a connection for what clients send.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How long a client may take to go after it was told to, when nothing is under way and nobody takes over; and what is read
/// and thrown away of it once it was told the last stream.
const LEAVING_MS: u64 = 1_000;
const LINGER_BYTES: usize = 256 << 10;

/// Carries an HTTP/2 connection to its end.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(client: Client<S>) {
    let Client { stream, buf, alarm, site, asker } = client;
    let limits = site.door.serving.limits.clone();
    poll_fn(|cx| {
        alarm.attach(cx);
        Poll::Ready(())
    })
    .await;
    alarm.set(limits.header_seconds);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .max_pending_accept_reset_streams(limits.resets as usize)
        .max_concurrent_reset_streams(limits.resets as usize)
        .max_send_buffer_size(SEND_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_connect_protocol();
    let is_leaving = Arc::new(AtomicBool::new(false));
    let rewound = Rewound { buf, stream, lingers: is_leaving.clone(), shut: None };
    let mut shaking = pin!(builder.handshake::<_, Bytes>(rewound));
    let shaken = poll_fn(|cx| match alarm.poll() {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => shaking.as_mut().poll(cx).map(Result::ok),
    });
    let Some(mut connection) = shaken.await else { return };
    alarm.clear();
    alarm.enter(Phase::Many);
    alarm.set(limits.idle_seconds);
    let open = Arc::new(AtomicU32::new(0));
    let mut leaving_since = None;
    loop {
        let accepted = poll_fn(|cx| {
            if alarm.poll().is_ready() {
                alarm.clear();
                let is_idle = open.load(Ordering::Relaxed) == 0;
                match leaving_since {
                    None if site.door.is_stopping() || is_idle => {
                        leaving_since = Some(now_ms());
                        is_leaving.store(true, Ordering::Relaxed);
                        // First that it shall ask no more, and the last stream once it has heard that: what it sends
                        // meanwhile is answered.
                        connection.graceful_shutdown();
                    }
                    // It was told, and does not go.
                    Some(since) if is_idle && now_ms() >= since + leaving_ms(&site) => return Poll::Ready(None),
                    _ => {}
                }
                alarm.set(if leaving_since.is_some() { 1 } else { limits.idle_seconds });
            }
            connection.poll_accept(cx)
        });
        let Some(Ok((request, respond))) = accepted.await else { return };
        alarm.set(limits.idle_seconds);
        let guard = Open::new(&open);
        let (site, alarm) = (site.clone(), site.alarms.add());
        tokio::spawn(async move {
            let _open = guard;
            answer(request, respond, site, alarm, asker).await;
        });
    }
}

/// Gives how long a client may take to say that it has heard that it shall go.
fn leaving_ms(site: &Site) -> u64 {
    // What it has sent before is on its way for as long; over a take-over there is time.
    let idle = u64::from(site.door.serving.limits.idle_seconds) * 1_000;
    if site.door.is_succeeded() { idle.max(LEAVING_MS) } else { LEAVING_MS }
}

/// A stream that is open.
struct Open(Arc<AtomicU32>);

impl Open {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    site: Arc<Site>,
    alarm: super::Watched,
    asker: Asker,
) {
    let Some((head, is_chunked)) = written_out(&request) else {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    };
    let to_head = request.method() == http::Method::HEAD;
    let is_websocket = request.extensions().get::<Protocol>().is_some();
    let stream = Stream {
        body: request.into_body(),
        piece: Bytes::new(),
        around: Vec::new(),
        is_chunked,
        is_body_over: false,
        respond,
        send: None,
        head: Vec::new(),
        scanned: 0,
        framing: Framing::None,
        to_head,
        is_websocket,
        is_done: false,
    };
    Client { stream, buf: Buf::of(&head), alarm, site, asker }.serve().await;
}

/// Writes a request's head as HTTP/1.1; tells whether its body has to be chunked. `None` if there is no such head.
fn written_out(request: &Request<RecvStream>) -> Option<(Vec<u8>, bool)> {
    let protocol = request.extensions().get::<Protocol>();
    let uri = request.uri();
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let headers = request.headers();
    let hosts: Vec<&HeaderValue> = headers.get_all(header::HOST).iter().collect();
    let host = match (authority, &hosts[..]) {
        (Some(authority), []) => authority,
        (Some(authority), [host]) if host.as_bytes().eq_ignore_ascii_case(authority) => authority,
        (None, [host]) => host.as_bytes(),
        _ => return None,
    };
    let target = uri.path_and_query().map_or("*", |target| target.as_str());
    let method = if protocol.is_some() { "GET" } else { request.method().as_str() };
    let mut head = Vec::with_capacity(1_024);
    let line = |head: &mut Vec<u8>, name: &[u8], value: &[u8]| {
        head.extend([name, b": ", value, b"\r\n"].concat());
    };
    head.extend(format!("{method} {target} HTTP/1.1\r\n").bytes());
    line(&mut head, b"Host", host);
    let mut cookies = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).peekable();
    if cookies.peek().is_some() {
        // A browser may send each cookie in a field of its own (RFC 9113, 8.2.3).
        line(&mut head, b"Cookie", &cookies.collect::<Vec<_>>().join(&b"; "[..]));
    }
    for (name, value) in headers {
        if name != header::HOST && name != header::COOKIE {
            line(&mut head, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let mut is_chunked = false;
    match protocol {
        Some(protocol) if protocol.as_str() == "websocket" => {
            let mut key = [0; 16];
            getrandom::fill(&mut key).ok()?;
            let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
            head.extend(format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n").bytes());
        }
        Some(_) => return None,
        None if request.body().is_end_stream() || headers.contains_key(header::CONTENT_LENGTH) => {}
        None => {
            is_chunked = true;
            head.extend(b"Transfer-Encoding: chunked\r\n");
        }
    }
    head.extend(b"\r\n");
    Some((head, is_chunked))
}

/// One stream, as a connection of HTTP/1.
struct Stream {
    body: RecvStream,
    /// What of the body is at hand.
    piece: Bytes,
    /// What stands around pieces that are chunked; it comes before the piece.
    around: Vec<u8>,
    is_chunked: bool,
    is_body_over: bool,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    /// The answer's head as far as it was written.
    head: Vec<u8>,
    scanned: usize,
    framing: Framing,
    to_head: bool,
    is_websocket: bool,
    is_done: bool,
}

fn gone<E: std::error::Error + Send + Sync + 'static>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.around.is_empty() {
                let count = this.around.len().min(out.remaining());
                out.put_slice(&this.around[..count]);
                this.around.drain(..count);
                return Poll::Ready(Ok(()));
            }
            if !this.piece.is_empty() {
                let count = this.piece.len().min(out.remaining());
                out.put_slice(&this.piece[..count]);
                this.piece.advance(count);
                // Only what was passed on makes room for more.
                let _ = this.body.flow_control().release_capacity(count);
                if this.piece.is_empty() && this.is_chunked {
                    this.around.extend(b"\r\n");
                }
                return Poll::Ready(Ok(()));
            }
            if this.is_done {
                return Poll::Ready(Ok(()));
            }
            if this.is_body_over {
                // Nothing more comes; but it is worth knowing that the client gave up.
                let reset = match &mut this.send {
                    Some(send) => send.poll_reset(cx),
                    None => this.respond.poll_reset(cx),
                };
                ready!(reset).map_err(gone)?;
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match ready!(this.body.poll_data(cx)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    if this.is_chunked {
                        this.around.extend(format!("{:x}\r\n", piece.len()).bytes());
                    }
                    this.piece = piece;
                }
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => {
                    if this.is_chunked {
                        let trailers = ready!(this.body.poll_trailers(cx)).map_err(gone)?;
                        this.around.extend(b"0\r\n");
                        for (name, value) in trailers.iter().flatten() {
                            this.around.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
                        }
                        this.around.extend(b"\r\n");
                    }
                    this.is_body_over = true;
                    if this.is_websocket {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_done {
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some(send) = &mut this.send else { return Poll::Ready(this.write_head(bytes)) };
        send.reserve_capacity(bytes.len().min(SEND_MAX));
        let room = match send.capacity() {
            0 => match ready!(send.poll_capacity(cx)) {
                Some(room) => room.map_err(gone)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            },
            room => room,
        };
        let scan = this.framing.scan(&bytes[..bytes.len().min(room)]).map_err(io::Error::other)?;
        let is_over = this.framing.is_over();
        let trailers = match &this.framing {
            Framing::Chunked(chunked) if is_over => trailers(chunked),
            _ => None,
        };
        if scan.pass > 0 || (is_over && trailers.is_none()) {
            let piece = Bytes::copy_from_slice(&bytes[..scan.pass]);
            send.send_data(piece, is_over && trailers.is_none()).map_err(gone)?;
        }
        if let Some(trailers) = trailers {
            send.send_trailers(trailers).map_err(gone)?;
        }
        this.is_done = is_over;
        Poll::Ready(Ok(scan.pass + scan.skip))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.send {
            Some(send) if this.framing == Framing::Close && !this.is_done => {
                this.is_done = true;
                let _ = send.send_data(Bytes::new(), true);
            }
            // The client must not take what it has for the whole.
            _ => this.break_off(),
        }
        Poll::Ready(Ok(()))
    }
}

impl BreaksOff for Stream {
    fn break_off(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            match &mut self.send {
                Some(send) => send.send_reset(Reason::INTERNAL_ERROR),
                None => self.respond.send_reset(Reason::INTERNAL_ERROR),
            }
        }
    }
}

impl Stream {
    /// Takes more of the answer's head; sends it when it is whole.
    fn write_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.head.len();
        self.head.extend(bytes);
        let malformed = |_| io::Error::other("the answer's head is malformed");
        let Some(length) = head_end(&self.head, &mut self.scanned).map_err(|_| malformed(""))? else {
            return Ok(bytes.len());
        };
        self.head.truncate(length);
        let mut fields = Vec::new();
        let response = Response::read(&self.head, self.to_head, 1_000, &mut fields).map_err(|bad| malformed(bad.0))?;
        let is_switch = response.status == 101 && self.is_websocket;
        if response.status >= 200 || is_switch {
            let mut answer = http::Response::new(());
            *answer.status_mut() =
                http::StatusCode::from_u16(if is_switch { 200 } else { response.status }).map_err(gone)?;
            let named = rewrite::names(&self.head, &fields, response.names_fields);
            for field in &fields {
                let is_length = field.known == crate::http::Known::ContentLength;
                let is_proof = field.known == crate::http::Known::WebSocketAccept;
                if (is_length || rewrite::passes(&self.head, field, &named)) && !is_proof {
                    let name = HeaderName::from_bytes(&self.head[field.name.clone()]).map_err(gone)?;
                    let value = HeaderValue::from_bytes(&self.head[field.value.clone()]).map_err(gone)?;
                    answer.headers_mut().append(name, value);
                }
            }
            self.framing = match response.framing {
                _ if is_switch => Framing::Close,
                Framing::Chunked(_) => Framing::Chunked(Chunked::bare()),
                framing => framing,
            };
            self.is_done = self.framing.is_over();
            self.send = Some(self.respond.send_response(answer, self.is_done).map_err(gone)?);
        }
        self.head.clear();
        Ok(length - before)
    }
}

/// Reads the trailers of a body that is over; `None` if there are none.
fn trailers(chunked: &Chunked) -> Option<http::HeaderMap> {
    let mut trailers = http::HeaderMap::new();
    for line in chunked.trailers().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(0));
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii()))
        {
            trailers.append(name, value);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// A stream of which the first bytes were read already.
struct Rewound<S> {
    buf: Buf,
    stream: S,
    /// What the client still sends is read before the end: a connection that is closed with bytes unread is reset, and
    /// the client may never see its last answer.
    lingers: Arc<AtomicBool>,
    /// Since when nothing more is written, and how much may still be read.
    shut: Option<(u64, usize)>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buf.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let count = self.buf.bytes().len().min(out.remaining());
        out.put_slice(&self.buf.bytes()[..count]);
        self.buf.used(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (since, left) = match &mut this.shut {
            Some(shut) => shut,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                this.shut.insert((now_ms(), LINGER_BYTES))
            }
        };
        // Whoever is told to leave has an alarm that rings again and again.
        while this.lingers.load(Ordering::Relaxed) && *left > 0 && now_ms() < *since + LEAVING_MS {
            this.buf.release();
            match ready!(this.buf.poll_fill(cx, &mut this.stream)) {
                Ok(count) if count > 0 => *left = left.saturating_sub(count),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
