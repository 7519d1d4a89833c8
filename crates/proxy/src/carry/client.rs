//! One client's HTTP/1 connection: request after request, until one of the two has enough.

use super::{
    BreaksOff, Buf, Phase, Site, Watched,
    answer::Answer,
    buf,
    exchange::{Sent, Way},
    now_seconds, tunnel,
    upload::{Stuck, Upload},
};
use crate::{
    http::{Field, Framing, Refusal, Request, head_end, request::Upgrade, rewrite, rewrite::Asker},
    observe::Flight,
    route::{Choice, Identity, fingerprint, steady},
};
use lastgood_domain::traffic::wire::SYNTHETIC;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// The first bytes of HTTP/2, by which a client without TLS says that it speaks it.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read and thrown away of a client that was refused, so that it sees the answer before the connection's end.
const LINGER_BYTES: usize = 256 << 10;
/// How long that may take, in seconds.
const LINGER_SECONDS: u32 = 2;

/// What is needed for one request, lent from request to request.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) fields: Vec<Field>,
    pub(crate) answer_fields: Vec<Field>,
    /// The request's head as it is sent to the instance.
    pub(crate) head: Vec<u8>,
}

/// A client's connection.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    /// What it sent and was not used yet.
    pub(crate) buf: Buf,
    pub(crate) alarm: Watched,
    pub(crate) site: Arc<Site>,
    pub(crate) asker: Asker,
}

/// What becomes of a connection after a request.
pub(crate) enum After {
    /// It waits for the next one.
    Next,
    /// It is closed.
    Close,
    /// It is broken off: the client must not take what it has for the whole answer.
    BreakOff,
    /// It is closed when the client has seen the answer, although it may still be sending.
    Linger,
    /// It has become a tunnel.
    Tunnel(Box<tunnel::Ends>),
}

/// What was read at a request's start.
enum Begun {
    /// A head of so many bytes.
    Head(usize),
    /// The first bytes of HTTP/2.
    Http2,
    /// The client is gone, or was silent too long.
    Gone,
    Refused(Refusal),
}

/// What is known of a request when its head is out of the buffer.
pub(crate) struct Facts {
    pub(crate) to_head: bool,
    /// It may be sent again after it was sent whole.
    pub(crate) repeatable: bool,
    pub(crate) minor: u8,
    pub(crate) last: bool,
    /// The proof that the instance must give of a WebSocket.
    pub(crate) proof: Option<String>,
    /// The header line that gives the client its id.
    pub(crate) cookie: Vec<u8>,
    /// Hash of the person's id, for choosing the instance.
    pub(crate) person: u64,
}

impl<S: AsyncRead + AsyncWrite + BreaksOff + Unpin> Client<S> {
    /// Carries requests until the connection ends; gives itself back if it turns out to speak HTTP/2.
    pub(crate) async fn serve(mut self) -> Option<Self> {
        poll_fn(|cx| {
            self.alarm.attach(cx);
            Poll::Ready(())
        })
        .await;
        let mut is_first = true;
        loop {
            let after = match self.begin(is_first).await {
                // In a box of its own, so that a connection that waits has no room for the states of a request.
                Begun::Head(length) => Box::pin(self.carry(length)).await,
                Begun::Http2 => return Some(self),
                Begun::Gone => return None,
                Begun::Refused(refusal) => self.refuse(refusal).await,
            };
            is_first = false;
            match after {
                After::Next => {}
                After::Close => {
                    self.shutdown().await;
                    return None;
                }
                After::BreakOff => {
                    self.stream.break_off();
                    return None;
                }
                After::Linger => {
                    self.linger().await;
                    return None;
                }
                After::Tunnel(ends) => {
                    tunnel::run(self, *ends).await;
                    return None;
                }
            }
        }
    }

    /// Waits for a request's head.
    async fn begin(&mut self, is_first: bool) -> Begun {
        let (bytes_max, header_seconds, idle_seconds) = {
            let limits = &self.site.door.serving.limits;
            (limits.header_bytes as usize, limits.header_seconds, limits.idle_seconds)
        };
        let mut scanned = 0;
        let mut is_waiting = self.buf.is_empty();
        self.alarm.set(if is_first || !is_waiting { header_seconds } else { idle_seconds });
        self.alarm.enter(if is_waiting { Phase::Idle } else { Phase::Busy });
        let Self { stream, buf, alarm, .. } = self;
        let mut is_late = false;
        let mut arrive = |cx: &mut Context<'_>| {
            loop {
                if !buf.is_empty() {
                    if is_waiting {
                        is_waiting = false;
                        alarm.enter(Phase::Busy);
                        alarm.set(header_seconds);
                    }
                    // One empty line before a request is passed over (RFC 9112, 2.2).
                    if scanned == 0 && buf.bytes().starts_with(b"\r\n") {
                        buf.used(2);
                        continue;
                    }
                    let bytes = buf.bytes();
                    if is_first && bytes[0] == b'P' && PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
                        if bytes.len() >= PREFACE.len() {
                            return Poll::Ready(Some(Begun::Http2));
                        }
                    } else {
                        match head_end(bytes, &mut scanned) {
                            Ok(Some(length)) if length <= bytes_max => return Poll::Ready(Some(Begun::Head(length))),
                            Ok(None) if bytes.len() < bytes_max => {}
                            Ok(_) => return Poll::Ready(Some(Begun::Refused(too_large(bytes, bytes_max)))),
                            Err(_) => return Poll::Ready(Some(Begun::Refused(BARE_FEED))),
                        }
                    }
                    if buf.is_full() {
                        buf.grow(bytes_max);
                    }
                }
                match buf.poll_fill(cx, stream) {
                    Poll::Ready(Ok(count)) if count > 0 => is_late = false,
                    Poll::Ready(_) => return Poll::Ready(Some(Begun::Gone)),
                    Poll::Pending if is_late => {
                        alarm.clear();
                        return Poll::Ready(Some(if is_waiting { Begun::Gone } else { Begun::Refused(TOO_SLOW) }));
                    }
                    Poll::Pending => {
                        ready!(alarm.poll());
                        is_late = true;
                        return Poll::Ready(None);
                    }
                }
            }
        };
        loop {
            if let Some(begun) = poll_fn(&mut arrive).await {
                return begun;
            }
            // What arrived before the deadline is answered, also if this thread has not heard of it yet.
            tokio::task::yield_now().await;
        }
    }

    /// Carries one request, whose head is the first `length` bytes of the buffer.
    async fn carry(&mut self, length: usize) -> After {
        let started = Instant::now();
        let mut scratch = Scratch { head: buf::head(), ..Scratch::default() };
        scratch.fields = spare::take();
        scratch.answer_fields = spare::take();
        let after = self.carry_with(length, started, &mut scratch).await;
        spare::give(std::mem::take(&mut scratch.fields));
        spare::give(std::mem::take(&mut scratch.answer_fields));
        buf::head_done(scratch.head);
        after
    }

    async fn carry_with(&mut self, length: usize, started: Instant, scratch: &mut Scratch) -> After {
        let site = self.site.clone();
        let serving = &site.door.serving;
        let head = &self.buf.bytes()[..length];
        let request = match Request::read(head, usize::from(serving.limits.header_count), &mut scratch.fields) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if let (Framing::Length(length), Some(most)) = (&request.framing, serving.limits.body_bytes)
            && *length > most
        {
            return self.refuse(TOO_LONG).await;
        }
        let value = |field: &Field| &head[field.value.clone()];
        let by_name = |name: &str| {
            let mut named =
                scratch.fields.iter().filter(|field| head[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()));
            named.next().map(value)
        };
        let cookies = scratch.fields.iter().filter(|field| field.known == crate::http::Known::Cookie).map(value);
        let identity = Identity::find(&serving.sticky, serving.sticky.header.as_deref().and_then(by_name), cookies);
        let routing = site.routing();
        let own =
            routing.synthetic().is_some_and(|own| by_name(SYNTHETIC).is_some_and(|value| value == own.as_bytes()));
        let (method, target) = (&head[request.method.clone()], &head[request.target.clone()]);
        let choice = {
            let unheard = || site.door.unheard();
            match own {
                true => routing.choose_synthetic(method, target, &unheard),
                false => routing.choose(identity.bytes(), method, target, &unheard),
            }
        };
        let fallback = routing.fallback(method, target);
        let party = match choice {
            Choice::To(party) => party,
            Choice::Closed(answering) => {
                let answer = Answer::from(answering);
                return self.answer(&answer, length, &request).await;
            }
            Choice::Nowhere => {
                let answer = Answer::new(503, "the service is closed for now");
                return self.answer(&answer, length, &request).await;
            }
        };
        // Refused here, because after the switch there is no answer any more that could say so.
        let tunnel = (request.upgrade == Upgrade::WebSocket).then(|| site.door.open_tunnel());
        if matches!(tunnel, Some(None)) {
            let answer = Answer::new(503, "there are too many WebSockets");
            return self.answer(&answer, length, &request).await;
        }
        let person = match &identity {
            Identity::Brought(id) if !own => Some(fingerprint(id)),
            _ => None,
        };
        if let Some(person) = person {
            party.ledger.saw(person, now_seconds());
        }
        let facts = Facts {
            to_head: method == b"HEAD",
            repeatable: request.framing.is_over() && is_idempotent(method),
            minor: request.minor,
            last: request.last,
            proof: (request.upgrade == Upgrade::WebSocket)
                .then(|| crate::websocket::accept(Request::websocket_key(head, &scratch.fields))),
            cookie: identity.set_cookie(&serving.sticky, self.asker.secure),
            person: steady(identity.bytes()),
        };
        rewrite::request(&mut scratch.head, head, &request, &scratch.fields, self.asker);
        self.buf.used(length);
        let mut way = Way {
            flight: Flight::new(&party.ledger, started, own, person),
            upload: Upload::new(request.framing, serving.limits.body_bytes),
            facts,
            tunnel: tunnel.flatten(),
        };
        if let Some(fallback) = fallback {
            way.flight.may_be_by(fallback);
        }
        let party = party.clone();
        match self.send(&routing, &party, &mut way, scratch).await {
            Sent::Answered(answered) => self.bring(*answered, way, scratch).await,
            Sent::Failed(status, why) => {
                way.flight.aborted();
                self.say(&Answer::new(status, why), way.facts.to_head).await;
                if way.upload.is_done() { After::Close } else { After::Linger }
            }
            Sent::Stuck(Stuck::ClientLeft | Stuck::Refused) => After::Close,
            Sent::Stuck(Stuck::Stalled) => self.refuse(TOO_SLOW).await,
            Sent::Stuck(Stuck::Malformed(why)) => self.refuse(Refusal { status: 400, why }).await,
            Sent::Stuck(Stuck::TooLong) => self.refuse(TOO_LONG).await,
        }
    }

    /// Answers a request that goes nowhere.
    async fn answer(&mut self, answer: &Answer, length: usize, request: &Request) -> After {
        let to_head = self.buf.bytes()[request.method.clone()] == *b"HEAD";
        self.buf.used(length);
        let closes = request.last || !request.framing.is_over() || self.site.door.is_stopping();
        if !self.write(&answer.http1(to_head, closes)).await {
            return After::Close;
        }
        match (closes, request.framing.is_over()) {
            (false, _) => After::Next,
            (true, true) => After::Close,
            (true, false) => After::Linger,
        }
    }

    /// Refuses what was sent; the connection ends, because nobody knows where the next request starts.
    async fn refuse(&mut self, refusal: Refusal) -> After {
        self.say(&Answer::new(refusal.status, refusal.why), false).await;
        After::Linger
    }

    async fn say(&mut self, answer: &Answer, to_head: bool) {
        self.write(&answer.http1(to_head, true)).await;
    }

    /// Writes all of `bytes`; tells whether the client took them.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.alarm.set(self.site.door.serving.limits.pause_seconds);
        let Self { stream, alarm, .. } = self;
        let mut at = 0;
        poll_fn(|cx| {
            while at < bytes.len() {
                if alarm.poll().is_ready() {
                    return Poll::Ready(false);
                }
                match ready!(Pin::new(&mut *stream).poll_write(cx, &bytes[at..])) {
                    Ok(count) if count > 0 => at += count,
                    _ => return Poll::Ready(false),
                }
            }
            Pin::new(&mut *stream).poll_flush(cx).map(|flushed| flushed.is_ok())
        })
        .await
    }

    /// Says to the client that nothing more comes.
    pub(crate) async fn shutdown(&mut self) {
        self.alarm.clear();
        self.alarm.set(LINGER_SECONDS);
        let Self { stream, alarm, .. } = self;
        poll_fn(|cx| match alarm.poll() {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Pin::new(&mut *stream).poll_shutdown(cx).map(drop),
        })
        .await;
    }

    /// The same, then reads what the client still sends, for a moment: a connection that is closed with bytes unread
    /// is reset, and the client may never see the answer.
    async fn linger(&mut self) {
        self.shutdown().await;
        let Self { stream, alarm, buf, .. } = self;
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            loop {
                left = left.saturating_sub(buf.bytes().len());
                buf.release();
                if left == 0 || alarm.poll().is_ready() {
                    return Poll::Ready(());
                }
                match ready!(buf.poll_fill(cx, stream)) {
                    Ok(count) if count > 0 => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// Looks whether the client is still there; what it sends ahead stays in the buffer.
    pub(crate) fn poll_left(stream: &mut S, buf: &mut Buf, cx: &mut Context<'_>) -> Poll<()> {
        while !buf.is_full() {
            match ready!(buf.poll_fill(cx, stream)) {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

const TOO_SLOW: Refusal = Refusal { status: 408, why: "the request took too long to arrive" };
const TOO_LONG: Refusal = Refusal { status: 413, why: "the body is longer than allowed" };
const BARE_FEED: Refusal = Refusal { status: 400, why: "a line ends without a carriage return" };

/// Tells what of a head is too large: its first line or its headers.
fn too_large(bytes: &[u8], most: usize) -> Refusal {
    match bytes[..bytes.len().min(most)].contains(&b'\n') {
        true => Refusal { status: 431, why: "the headers are longer than allowed" },
        false => Refusal { status: 414, why: "the request line is longer than allowed" },
    }
}

/// Tells whether a request of this method may be sent twice (RFC 9110, 9.2.2).
pub(crate) fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
}

/// Tells whether an error means that the other end is gone.
pub(crate) fn is_time_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Vectors of fields, lent from request to request.
mod spare {
    use super::Field;
    use std::cell::RefCell;

    thread_local! {
        static SPARE: RefCell<Vec<Vec<Field>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn take() -> Vec<Field> {
        SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    pub(super) fn give(mut fields: Vec<Field>) {
        fields.clear();
        // At the thread's end there is no place to keep it any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < 64 {
                spare.push(fields);
            }
        });
    }
}
