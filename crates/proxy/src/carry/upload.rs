//! A request on its way to the instance: its head, then its body piece by piece.

use super::{Alarm, Buf};
use crate::http::Framing;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Why a request can't be sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The client went away.
    ClientLeft,
    /// The client's body is malformed.
    Malformed(&'static str),
    /// The client's body is longer than allowed.
    TooLong,
    /// The instance takes no more; it may have answered all the same.
    Refused,
    /// The client sends nothing more of its body.
    Stalled,
}

/// A request's way to the instance.
#[derive(Debug)]
pub(crate) struct Upload {
    framing: Framing,
    /// How much of the head was sent.
    head_at: usize,
    /// How much of the client's buffer is to be passed on, and then left out.
    pass: usize,
    skip: usize,
    /// Bytes of body that may still come.
    room: u64,
    /// Whether any byte reached the connection.
    pub(crate) has_sent: bool,
    is_done: bool,
}

impl Upload {
    pub(crate) fn new(framing: Framing, body_bytes: Option<u64>) -> Self {
        Self {
            framing,
            head_at: 0,
            pass: 0,
            skip: 0,
            room: body_bytes.unwrap_or(u64::MAX),
            has_sent: false,
            is_done: false,
        }
    }

    /// Tells whether all was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Tells whether everything at hand was sent, of a head of so many bytes too, so that it is the client's turn.
    pub(crate) fn awaits_client(&self, head: usize, buf: &Buf) -> bool {
        let all_sent = self.head_at >= head && self.pass == 0 && self.skip == 0 && buf.is_empty();
        !self.is_done && all_sent && !self.framing.is_over()
    }

    /// Starts anew on another connection; nothing of the body may have been sent.
    pub(crate) fn restart(&mut self) {
        (self.head_at, self.is_done, self.has_sent) = (0, false, false);
    }

    /// Sends on until all is sent or somebody is not ready.
    pub(crate) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        (client, buf): (&mut S, &mut Buf),
        service: &mut TcpStream,
        alarm: (&Alarm, u32),
    ) -> Poll<Result<(), Stuck>> {
        while !self.is_done {
            if self.pass == 0 && self.skip == 0 && !buf.is_empty() && !self.framing.is_over() {
                self.look(buf)?;
            }
            if self.head_at < head.len() {
                let count = ready!(self.send_head(cx, head, buf, service)).map_err(|_| Stuck::Refused)?;
                self.sent(count, head.len(), buf);
            } else if self.pass > 0 {
                let bytes = &buf.bytes()[..self.pass];
                let count = ready!(Pin::new(&mut *service).poll_write(cx, bytes)).map_err(|_| Stuck::Refused)?;
                self.sent(count, head.len(), buf);
                alarm.0.set(alarm.1);
            } else if self.skip > 0 {
                buf.used(self.skip);
                self.skip = 0;
            } else if self.framing.is_over() {
                self.is_done = true;
            } else if buf.is_empty() {
                match ready!(buf.poll_fill(cx, client)) {
                    Ok(count) if count > 0 => alarm.0.set(alarm.1),
                    _ => return Poll::Ready(Err(Stuck::ClientLeft)),
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Finds out how much of the client's bytes belongs to the body.
    fn look(&mut self, buf: &Buf) -> Result<(), Stuck> {
        let scan = self.framing.scan(buf.bytes()).map_err(Stuck::Malformed)?;
        (self.pass, self.skip) = (scan.pass, scan.skip);
        self.room = self.room.checked_sub(scan.pass as u64).ok_or(Stuck::TooLong)?;
        Ok(())
    }

    fn send_head(
        &self,
        cx: &mut Context<'_>,
        head: &[u8],
        buf: &Buf,
        service: &mut TcpStream,
    ) -> Poll<io::Result<usize>> {
        let head = &head[self.head_at..];
        if self.pass == 0 {
            return Pin::new(service).poll_write(cx, head);
        }
        let both = [io::IoSlice::new(head), io::IoSlice::new(&buf.bytes()[..self.pass])];
        Pin::new(service).poll_write_vectored(cx, &both)
    }

    fn sent(&mut self, count: usize, head: usize, buf: &mut Buf) {
        self.has_sent |= count > 0;
        let of_head = count.min(head - self.head_at);
        self.head_at += of_head;
        let of_body = count - of_head;
        if of_body > 0 {
            self.pass -= of_body;
            buf.used(of_body);
        }
    }
}
