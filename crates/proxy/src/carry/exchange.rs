//! One request to an instance and its answer back.

use super::{
    BreaksOff, Buf, Phase,
    client::{After, Client, Facts, Scratch, is_time_out},
    now_ms,
    site::OpenTunnel,
    tunnel::Ends,
    upload::{Stuck, Upload},
    upstream::{Fresh, Upstream},
};
use crate::{
    http::{Field, Framing, Response, chunked::Chunked, head_end, rewrite, rewrite::Ending},
    observe::Flight,
    route::{Party, Peer, Routing},
};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// The longest head of an answer.
pub(crate) const ANSWER_HEAD_MAX: usize = 64 << 10;

/// A request on its way.
pub(crate) struct Way {
    pub(crate) flight: Flight,
    pub(crate) upload: Upload,
    pub(crate) facts: Facts,
    /// The room for the tunnel that it asks for.
    pub(crate) tunnel: Option<OpenTunnel>,
}

/// What sending a request came to.
pub(crate) enum Sent {
    /// The head of a final answer is there, or of a switch to WebSocket.
    Answered(Box<Answered>),
    /// No answer; the client gets this status.
    Failed(u16, &'static str),
    /// The client's fault.
    Stuck(Stuck),
}

/// An answer whose head is there.
pub(crate) struct Answered {
    peer: Arc<Peer>,
    upstream: Upstream,
    /// What the instance sent: the head of `head` bytes, then what followed.
    buf: Buf,
    head: usize,
    response: Response,
}

/// Why one try failed.
enum Failed {
    /// The instance could not be reached.
    Unreachable {
        timed_out: bool,
    },
    /// It closed, or sent nonsense, before its answer.
    Broken {
        was_reused: bool,
        why: &'static str,
    },
    TooSlow,
    Stuck(Stuck),
}

/// What came from an instance: a final answer, one before it, or none.
enum Came {
    Head(usize, Response),
    Nothing,
    Nonsense(&'static str),
    TooSlow,
    Stuck(Stuck),
}

impl<S: AsyncRead + AsyncWrite + BreaksOff + Unpin> Client<S> {
    /// Sends the request to `party`, and once more to last-good if that can do no harm.
    pub(crate) async fn send(
        &mut self,
        routing: &Routing,
        party: &Arc<Party>,
        way: &mut Way,
        scratch: &mut Scratch,
    ) -> Sent {
        let Some(mut peer) = party.peer(way.facts.person, now_ms(), None) else {
            return Sent::Failed(502, "the release has no instances");
        };
        let mut party = party;
        let mut fresh = Fresh::No;
        let mut is_second = false;
        loop {
            let failed = match self.attempt(&peer, fresh, way, scratch).await {
                Ok(answered) => return Sent::Answered(Box::new(answered)),
                Err(failed) => failed,
            };
            self.alarm.clear();
            // A kept connection that was closed before it took a byte is no failure: another one will do.
            if matches!(failed, Failed::Broken { was_reused: true, .. }) && !way.upload.has_sent && fresh == Fresh::No {
                way.upload.restart();
                fresh = Fresh::Yes;
                continue;
            }
            let (status, why, is_stale) = match failed {
                Failed::Stuck(stuck) => return Sent::Stuck(stuck),
                Failed::TooSlow => return Sent::Failed(504, "the service did not answer in time"),
                Failed::Unreachable { timed_out: true } => (504, "the service can't be reached in time", false),
                Failed::Unreachable { timed_out: false } => (502, "the service can't be reached", false),
                Failed::Broken { was_reused, why } => (502, why, was_reused),
            };
            let may_again = !is_second && (!way.upload.has_sent || way.facts.repeatable);
            let Some(rescue) = routing.rescue().filter(|_| may_again) else { return Sent::Failed(status, why) };
            let is_same = Arc::ptr_eq(rescue, party);
            let Some(next) = rescue.peer(way.facts.person, now_ms(), is_same.then_some(&peer)) else {
                return Sent::Failed(status, why);
            };
            // The same instance again makes sense only where the fault may have been the kept connection's.
            if is_same && next.address == peer.address && !is_stale {
                return Sent::Failed(status, why);
            }
            way.flight.rescued_by(&rescue.ledger);
            way.upload.restart();
            (is_second, fresh, party, peer) = (true, Fresh::Yes, rescue, next);
        }
    }

    async fn attempt(
        &mut self,
        peer: &Arc<Peer>,
        fresh: Fresh,
        way: &mut Way,
        scratch: &mut Scratch,
    ) -> Result<Answered, Failed> {
        let site = self.site.clone();
        let limits = &site.door.serving.limits;
        let mut upstream = Upstream::to(peer, limits, &self.alarm, fresh)
            .await
            .map_err(|error| Failed::Unreachable { timed_out: is_time_out(&error) })?;
        self.alarm.set(limits.pause_seconds);
        let mut buf = Buf::default();
        let mut is_waiting = false;
        loop {
            let came = self.wait(&mut upstream.stream, &mut buf, &mut is_waiting, way, scratch).await;
            let was_reused = upstream.reused;
            match came {
                Came::Head(head, response) if response.status >= 200 || response.status == 101 => {
                    if response.status == 101
                        && !proves(&buf.bytes()[..head], &response, &scratch.answer_fields, &way.facts)
                    {
                        let why = "the service switched protocols without being asked, or without proof";
                        return Err(Failed::Broken { was_reused: false, why });
                    }
                    way.flight.answered(response.status);
                    return Ok(Answered { peer: peer.clone(), upstream, buf, head, response });
                }
                // 100 Continue and the like go to the client at once; the answer follows.
                Came::Head(head, response) => {
                    if way.facts.minor == 1 {
                        let mut out = Vec::new();
                        let bytes = &buf.bytes()[..head];
                        rewrite::response(&mut out, bytes, &response, &scratch.answer_fields, Ending::Stays, b"");
                        if !self.write(&out).await {
                            return Err(Failed::Stuck(Stuck::ClientLeft));
                        }
                        self.alarm.set(limits.answer_seconds);
                    }
                    buf.used(head);
                }
                Came::Nothing => {
                    return Err(Failed::Broken {
                        was_reused,
                        why: "the service closed the connection without an answer",
                    });
                }
                Came::Nonsense(why) => return Err(Failed::Broken { was_reused: false, why }),
                Came::TooSlow => return Err(Failed::TooSlow),
                Came::Stuck(stuck) => return Err(Failed::Stuck(stuck)),
            }
        }
    }

    /// Sends on, and waits for the head of an answer.
    async fn wait(
        &mut self,
        service: &mut TcpStream,
        answer: &mut Buf,
        is_waiting: &mut bool,
        way: &mut Way,
        scratch: &mut Scratch,
    ) -> Came {
        let site = self.site.clone();
        let limits = &site.door.serving.limits;
        let Self { stream, buf, alarm, .. } = self;
        let Scratch { head, answer_fields, .. } = scratch;
        let mut scanned = 0;
        poll_fn(|cx| {
            // The instance takes no more: it may have answered before it closed, so its answer is still waited for.
            let mut refused = false;
            if !way.upload.is_done() {
                match way.upload.poll(cx, head, (stream, buf), service, (alarm, limits.pause_seconds)) {
                    Poll::Ready(Err(Stuck::Refused)) => refused = true,
                    Poll::Ready(Err(stuck)) => return Poll::Ready(Came::Stuck(stuck)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if way.upload.is_done() && !*is_waiting {
                *is_waiting = true;
                alarm.set(limits.answer_seconds);
            }
            loop {
                if !answer.is_empty() {
                    match head_end(answer.bytes(), &mut scanned) {
                        Ok(Some(length)) => {
                            let bytes = &answer.bytes()[..length];
                            // As many headers as fit the bytes that are allowed.
                            return Poll::Ready(match Response::read(bytes, way.facts.to_head, 1_000, answer_fields) {
                                Ok(response) => Came::Head(length, response),
                                Err(bad) => Came::Nonsense(bad.0),
                            });
                        }
                        Ok(None) if answer.bytes().len() < ANSWER_HEAD_MAX => {}
                        Ok(None) => return Poll::Ready(Came::Nonsense("the service's headers are too long")),
                        Err(_) => {
                            return Poll::Ready(Came::Nonsense(
                                "a line of the service's ends without a carriage return",
                            ));
                        }
                    }
                    if answer.is_full() {
                        answer.grow(ANSWER_HEAD_MAX);
                    }
                }
                match answer.poll_fill(cx, service) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Came::Nothing),
                    Poll::Pending if refused => return Poll::Ready(Came::Nothing),
                    Poll::Pending => break,
                }
            }
            if alarm.poll().is_ready() {
                // Whoever was waited for is at fault.
                let is_clients = way.upload.awaits_client(head.len(), buf);
                return Poll::Ready(if is_clients { Came::Stuck(Stuck::Stalled) } else { Came::TooSlow });
            }
            if way.upload.is_done() && Self::poll_left(stream, buf, cx).is_ready() {
                return Poll::Ready(Came::Stuck(Stuck::ClientLeft));
            }
            Poll::Pending
        })
        .await
    }

    /// Brings the answer to the client.
    pub(crate) async fn bring(&mut self, answered: Answered, mut way: Way, scratch: &mut Scratch) -> After {
        let Answered { peer, mut upstream, buf: mut answer, head, mut response } = answered;
        let site = self.site.clone();
        if response.status == 101 {
            return self.switch(upstream, answer, head, &response, way, scratch).await;
        }
        // A client of HTTP/1.0 knows no chunks.
        let unchunked = way.facts.minor == 0 && matches!(response.framing, Framing::Chunked(_));
        if unchunked {
            response.framing = Framing::Chunked(Chunked::bare());
        }
        // Only the connection's end tells the client where the answer's is.
        let unmarked = unchunked || response.framing == Framing::Close;
        let closes = way.facts.last || unmarked || !way.upload.is_done() || site.door.is_stopping();
        let ending = if closes { Ending::Closes } else { Ending::Stays };
        let mut out = super::buf::head();
        rewrite::response(
            &mut out,
            &answer.bytes()[..head],
            &response,
            &scratch.answer_fields,
            ending,
            &way.facts.cookie,
        );
        answer.used(head);
        let mut download = Download { framing: response.framing.clone(), out_at: 0, pass: 0, skip: 0, moved: false };
        self.alarm.set(site.door.serving.limits.pause_seconds);
        let brought =
            self.download(&mut download, &mut out, &mut answer, &mut upstream.stream, &mut way, scratch).await;
        super::buf::head_done(out);
        match brought {
            Brought::Whole => {
                if !response.last && answer.is_empty() && way.upload.is_done() {
                    upstream.keep(&peer);
                }
                match (closes, way.upload.is_done()) {
                    (false, _) => After::Next,
                    (true, true) => After::Close,
                    (true, false) => After::Linger,
                }
            }
            // The client must not take what it has for the whole.
            Brought::Cut => {
                way.flight.aborted();
                if unmarked { After::BreakOff } else { After::Close }
            }
            Brought::ClientLeft => After::Close,
        }
    }

    async fn download(
        &mut self,
        download: &mut Download,
        out: &mut Vec<u8>,
        answer: &mut Buf,
        service: &mut TcpStream,
        way: &mut Way,
        scratch: &mut Scratch,
    ) -> Brought {
        let site = self.site.clone();
        let pause = site.door.serving.limits.pause_seconds;
        // What of the body is there already goes out together with the head.
        while !answer.is_empty() && !download.framing.is_over() {
            match download.framing.scan(answer.bytes()) {
                Ok(scan) => {
                    out.extend(&answer.bytes()[..scan.pass]);
                    answer.used(scan.pass + scan.skip);
                }
                Err(_) => return Brought::Cut,
            }
        }
        let Self { stream, buf, alarm, .. } = self;
        poll_fn(|cx| {
            if !way.upload.is_done() {
                match way.upload.poll(cx, &scratch.head, (stream, buf), service, (alarm, pause)) {
                    Poll::Ready(Err(Stuck::ClientLeft)) => return Poll::Ready(Brought::ClientLeft),
                    // The answer is on its way; the rest of the request is not needed for it.
                    Poll::Ready(Err(_) | Ok(())) | Poll::Pending => {}
                }
            }
            match download.poll(cx, out, answer, (service, stream)) {
                Poll::Ready(brought) => return Poll::Ready(brought),
                Poll::Pending => {}
            }
            if std::mem::take(&mut download.moved) {
                alarm.set(pause);
            } else if alarm.poll().is_ready() {
                // Whoever was waited for is at fault.
                let is_clients = download.pass > 0
                    || download.out_at < out.len()
                    || way.upload.awaits_client(scratch.head.len(), buf);
                return Poll::Ready(if is_clients { Brought::ClientLeft } else { Brought::Cut });
            }
            if way.upload.is_done() && Self::poll_left(stream, buf, cx).is_ready() {
                return Poll::Ready(Brought::ClientLeft);
            }
            Poll::Pending
        })
        .await
    }

    /// Makes the connection a tunnel.
    async fn switch(
        &mut self,
        upstream: Upstream,
        mut answer: Buf,
        head: usize,
        response: &Response,
        mut way: Way,
        scratch: &mut Scratch,
    ) -> After {
        let mut out = Vec::new();
        let bytes = &answer.bytes()[..head];
        rewrite::response(&mut out, bytes, response, &scratch.answer_fields, Ending::Stays, &way.facts.cookie);
        answer.used(head);
        let (tunnel, room) = (way.flight.tunnel(), way.tunnel.take());
        drop(way);
        if !self.write(&out).await {
            tunnel.ended(crate::observe::Ended::Clean);
            return After::Close;
        }
        self.alarm.enter(Phase::Tunnel);
        After::Tunnel(Box::new(Ends { service: upstream.stream, answer, tunnel, _room: room }))
    }
}

/// Tells whether a switch to WebSocket was asked for and is proven.
fn proves(head: &[u8], response: &Response, fields: &[Field], facts: &Facts) -> bool {
    let mut proofs = fields.iter().filter(|field| field.known == crate::http::Known::WebSocketAccept);
    let given = proofs.next().map(|field| &head[field.value.clone()]);
    response.to_websocket
        && proofs.next().is_none()
        && facts.proof.as_ref().is_some_and(|proof| given == Some(proof.as_bytes()))
}

/// An answer's way to the client.
struct Download {
    framing: Framing,
    /// How much of the head, and of what goes with it, was written.
    out_at: usize,
    pass: usize,
    skip: usize,
    /// Something moved since it was last asked.
    moved: bool,
}

/// How an answer's way ended.
enum Brought {
    Whole,
    /// The instance broke off, sent nonsense, or one of the two paused too long.
    Cut,
    ClientLeft,
}

impl Download {
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        out: &[u8],
        answer: &mut Buf,
        (service, client): (&mut TcpStream, &mut S),
    ) -> Poll<Brought> {
        loop {
            let to_write = if self.out_at < out.len() { &out[self.out_at..] } else { &answer.bytes()[..self.pass] };
            if !to_write.is_empty() {
                match ready!(Pin::new(&mut *client).poll_write(cx, to_write)) {
                    Ok(count) if count > 0 => self.wrote(count, out.len(), answer),
                    _ => return Poll::Ready(Brought::ClientLeft),
                }
            } else if self.skip > 0 {
                answer.used(std::mem::take(&mut self.skip));
            } else if self.framing.is_over() {
                return match ready!(Pin::new(&mut *client).poll_flush(cx)) {
                    Ok(()) => Poll::Ready(Brought::Whole),
                    Err(_) => Poll::Ready(Brought::ClientLeft),
                };
            } else if !answer.is_empty() {
                match self.framing.scan(answer.bytes()) {
                    Ok(scan) => (self.pass, self.skip) = (scan.pass, scan.skip),
                    Err(_) => return Poll::Ready(Brought::Cut),
                }
            } else {
                // Nothing more at hand: the client must have what there was, also under TLS.
                if ready!(Pin::new(&mut *client).poll_flush(cx)).is_err() {
                    return Poll::Ready(Brought::ClientLeft);
                }
                match ready!(answer.poll_fill(cx, service)) {
                    Ok(0) if self.framing == Framing::Close => self.framing = Framing::None,
                    Ok(0) | Err(_) => return Poll::Ready(Brought::Cut),
                    Ok(_) => self.moved = true,
                }
            }
        }
    }

    fn wrote(&mut self, count: usize, out: usize, answer: &mut Buf) {
        self.moved = true;
        if self.out_at < out {
            self.out_at += count;
        } else {
            self.pass -= count;
            answer.used(count);
        }
    }
}
