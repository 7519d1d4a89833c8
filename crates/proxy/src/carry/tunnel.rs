//! A WebSocket between a client and an instance: bytes pass both ways as they are, and the frames are followed.
//!
//! When its release's drain ends, or the proxy stops, the client gets a Close where a message ends (or, if that takes too
//! long, where a frame ends), never within one. What the client still sends goes to the instance until its own Close,
//! so that no message of its is lost on the way.

use super::{BreaksOff, Buf, client::Client, now_ms, site::OpenTunnel, unix_ms};
use crate::{
    observe::{Ended, ledger::Tunnel},
    websocket::frames::{Frames, close, masked_close},
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Service restart (IANA's registry of WebSocket close codes): come again.
const RESTART: u16 = 1012;
/// Going away: nothing was said for too long.
const AWAY: u16 = 1001;
/// How long the end of a message is waited for, before the end of a frame must do.
const MESSAGE_MS: u64 = 3_000;
/// How long the end of a frame is waited for, and then the answer to a Close.
const FRAME_MS: u64 = 5_000;
/// Seconds that the rest of a tunnel may take after one side ended it.
const REST_SECONDS: u32 = 10;

/// The instance's side of a tunnel.
pub(crate) struct Ends {
    pub(crate) service: TcpStream,
    /// What the instance sent and was not brought yet.
    pub(crate) answer: Buf,
    pub(crate) tunnel: Tunnel,
    /// What it takes of the limit.
    pub(crate) _room: Option<OpenTunnel>,
}

/// One direction.
#[derive(Default)]
struct Half {
    frames: Frames,
    /// Bytes of the buffer that were followed and not yet written.
    pass: usize,
    /// Nothing more is read.
    is_over: bool,
    /// What comes is thrown away: the receiver has been told that the tunnel is closed.
    is_mute: bool,
    /// It was said to the receiver that nothing more comes.
    is_shut: bool,
}

/// Where a direction is held, so that a Close can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nowhere,
    Message,
    Frame,
}

impl Hold {
    fn is_here(self, frames: &Frames) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Message => frames.is_between_messages(),
            Self::Frame => frames.is_between(),
        }
    }
}

/// How far a Close of the proxy's own is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// It is put in when the hold is reached; since when it is waited for.
    Wanted {
        code: u16,
        since_ms: u64,
    },
    /// It is in; the client's answer is waited for since then.
    Said {
        code: u16,
        since_ms: u64,
    },
}

/// Carries a tunnel to its end, and counts how it ended.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + BreaksOff + Unpin>(mut client: Client<S>, ends: Ends) {
    let _ = client.alarm.drained_with.set(ends.tunnel.ledger().clone());
    let idle_seconds = client.site.door.serving.limits.tunnel_idle_seconds;
    client.alarm.set(idle_seconds);
    let mut both = Both {
        up: Half::default(),
        down: Half::default(),
        service: ends.service,
        answer: ends.answer,
        closing: Closing::No,
        notice: Vec::new(),
        first_close: None,
        idle_seconds,
        is_ending: false,
        is_refused: false,
    };
    let how = poll_fn(|cx| both.poll(cx, &mut client, &ends.tunnel)).await;
    drop(both);
    client.shutdown().await;
    ends.tunnel.ended(how);
}

/// Who sent the first Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Service,
}

struct Both {
    /// From the client to the instance.
    up: Half,
    /// From the instance to the client.
    down: Half,
    service: TcpStream,
    answer: Buf,
    closing: Closing,
    /// A Close of ours that is not yet written whole.
    notice: Vec<u8>,
    first_close: Option<Who>,
    idle_seconds: u32,
    /// One side has ended it; the deadline is for the rest.
    is_ending: bool,
    /// The instance took no more while the client was there.
    is_refused: bool,
}

impl Both {
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<S>,
        tunnel: &Tunnel,
    ) -> Poll<Ended> {
        if client.alarm.poll().is_ready() {
            client.alarm.clear();
            let is_drained = tunnel.ledger().is_due(unix_ms()) || client.site.door.is_stopping();
            if let Some(how) = self.rung(is_drained) {
                return Poll::Ready(how);
            }
            // Each tenth of a second from now on.
            client.alarm.set(0);
        }
        loop {
            let Client { stream, buf, .. } = client;
            let up = pump(cx, &mut self.up, (stream, buf), &mut self.service, Hold::Nowhere);
            let hold = self.hold();
            let down = pump(cx, &mut self.down, (&mut self.service, &mut self.answer), stream, hold);
            if down.is_err() {
                return Poll::Ready(self.ended());
            }
            if up.is_err() {
                // The instance takes no more; what it sent before is still brought.
                self.is_refused |= !self.up.is_over;
                (self.up.is_over, self.up.is_shut) = (true, true);
                buf.release();
                self.up.pass = 0;
            }
            if self.first_close.is_none() {
                self.first_close = match (self.up.frames.close_code(), self.down.frames.close_code()) {
                    (Some(_), _) => Some(Who::Client),
                    (_, Some(_)) => Some(Who::Service),
                    _ => None,
                };
            }
            if self.put_in(cx, stream) {
                continue;
            }
            if up == Ok(true) || down == Ok(true) {
                let rest = self.is_ending || self.closing != Closing::No;
                if !rest {
                    client.alarm.set(self.idle_seconds);
                }
            }
            break;
        }
        self.end(cx, client)
    }

    /// The deadline has passed, or a drain or a stop closes it.
    fn rung(&mut self, is_drained: bool) -> Option<Ended> {
        let now = now_ms();
        match self.closing {
            Closing::No if is_drained => self.closing = Closing::Wanted { code: RESTART, since_ms: now },
            Closing::No if self.is_ending => return Some(self.ended()),
            Closing::No => self.closing = Closing::Wanted { code: AWAY, since_ms: now },
            Closing::Wanted { since_ms, .. } if now >= since_ms + MESSAGE_MS + FRAME_MS => return Some(self.ended()),
            Closing::Said { since_ms, .. } if now >= since_ms + FRAME_MS => return Some(self.ended()),
            Closing::Wanted { .. } | Closing::Said { .. } => {}
        }
        None
    }

    /// Tells where the instance's direction is held.
    fn hold(&self) -> Hold {
        match self.closing {
            Closing::Wanted { since_ms, .. } if now_ms() >= since_ms + MESSAGE_MS => Hold::Frame,
            Closing::Wanted { .. } => Hold::Message,
            Closing::No | Closing::Said { .. } => Hold::Nowhere,
        }
    }

    /// Puts the Close in where the hold is reached, and writes it; tells whether the pumps may go on.
    fn put_in<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, client: &mut S) -> bool {
        if let Closing::Wanted { code, .. } = self.closing
            && self.down.pass == 0
            && self.notice.is_empty()
            && self.hold().is_here(&self.down.frames)
        {
            if self.down.frames.close_code().is_none() && !self.down.is_over {
                self.notice =
                    close(code, if code == RESTART { "the service moves" } else { "nothing was said for long" });
            }
            self.down.is_mute = true;
            self.closing = Closing::Said { code, since_ms: now_ms() };
        }
        while !self.notice.is_empty() {
            match Pin::new(&mut *client).poll_write(cx, &self.notice) {
                Poll::Ready(Ok(count)) if count > 0 => drop(self.notice.drain(..count)),
                Poll::Ready(_) => {
                    self.notice.clear();
                    self.down.is_over = true;
                }
                Poll::Pending => return false,
            }
            if self.notice.is_empty() {
                let _ = Pin::new(&mut *client).poll_flush(cx);
                return true;
            }
        }
        false
    }

    /// Says to one side that the other has ended, and finds out whether all is over.
    fn end<S: AsyncRead + AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, client: &mut Client<S>) -> Poll<Ended> {
        if self.down.is_over && self.down.pass == 0 && self.answer.is_empty() {
            return Poll::Ready(self.ended());
        }
        let is_closed = self.up.frames.close_code().is_some();
        if (self.up.is_over || is_closed) && self.up.pass == 0 && !self.is_ending {
            self.is_ending = true;
            client.alarm.set(REST_SECONDS);
        }
        if self.up.is_over && self.up.pass == 0 && client.buf.is_empty() && !self.up.is_shut {
            self.up.is_shut = Pin::new(&mut self.service).poll_shutdown(cx).is_ready();
        }
        // Both have said Close: the instance ends the connection now, and if it does not, the deadline does.
        Poll::Pending
    }

    /// Judges how it ended, and tells the instance if it does not know yet.
    fn ended(&mut self) -> Ended {
        let is_told = self.up.frames.close_code().is_some() || self.up.is_over;
        if !is_told && self.up.pass == 0 && self.up.frames.is_between() {
            let mut mask = [0; 4];
            let _ = getrandom::fill(&mut mask);
            let code = if matches!(self.closing, Closing::Said { code: AWAY, .. }) { AWAY } else { RESTART };
            // If it has no room for twelve bytes it is not listening anyway.
            let _: io::Result<usize> = self.service.try_write(&masked_close(code, mask));
        }
        match self.closing {
            Closing::Said { code: RESTART, .. } | Closing::Wanted { code: RESTART, .. } => return Ended::Drained,
            Closing::Said { .. } | Closing::Wanted { .. } => return Ended::Clean,
            Closing::No => {}
        }
        match (self.first_close, self.down.frames.close_code()) {
            (Some(Who::Client), _) => Ended::Clean,
            (_, Some(1002 | 1003 | 1007..=1011)) => Ended::Error,
            (_, Some(_)) => Ended::Clean,
            // The client went away, or the instance did.
            (_, None) if self.up.is_over && !self.is_refused => Ended::Clean,
            (_, None) => Ended::Cut,
        }
    }
}

/// Moves what can be moved in one direction; tells whether anything was. Errors: the receiver is gone.
fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    half: &mut Half,
    (from, buf): (&mut R, &mut Buf),
    to: &mut W,
    hold: Hold,
) -> Result<bool, ()> {
    let mut moved = false;
    loop {
        if half.pass > 0 {
            match Pin::new(&mut *to).poll_write(cx, &buf.bytes()[..half.pass]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    half.pass -= count;
                    buf.used(count);
                    moved = true;
                }
                Poll::Ready(_) => return Err(()),
                Poll::Pending => return Ok(moved),
            }
        } else if !buf.is_empty() {
            if half.is_mute || half.frames.close_code().is_some() {
                // Nothing may follow a Close.
                buf.release();
            } else if hold.is_here(&half.frames) {
                return Ok(moved);
            } else {
                half.pass = half.frames.follow_until(buf.bytes(), |frames| hold.is_here(frames));
            }
        } else if half.is_over || hold.is_here(&half.frames) {
            return Ok(moved);
        } else {
            match Pin::new(&mut *to).poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(moved),
            }
            match buf.poll_fill(cx, from) {
                Poll::Ready(Ok(count)) if count > 0 => moved = true,
                Poll::Ready(_) => half.is_over = true,
                Poll::Pending => return Ok(moved),
            }
        }
    }
}
