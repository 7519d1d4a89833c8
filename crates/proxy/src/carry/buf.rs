//! Buffers that are there only while bytes are in them: an idle connection holds none.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Size of a buffer: two of them hold most answers, and both stay in the processor's second cache.
pub(crate) const SIZE: usize = 32 << 10;
/// Free buffers that a thread keeps; more are given back to the allocator.
const FREE_MAX: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static HEADS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buf {
    /// Empty, or of a buffer's whole length.
    data: Vec<u8>,
    at: usize,
    end: usize,
}

impl Buf {
    /// Makes one that has `bytes` in it.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut buf = Self::default();
        buf.attach();
        buf.grow(bytes.len());
        buf.data[..bytes.len()].copy_from_slice(bytes);
        buf.end = bytes.len();
        buf
    }

    /// Gives the bytes that are there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.at..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Takes the first `count` bytes as used.
    pub(crate) fn used(&mut self, count: usize) {
        self.at += count;
        if self.at >= self.end {
            self.release();
        }
    }

    /// Makes room for `size` bytes in all.
    pub(crate) fn grow(&mut self, size: usize) {
        if self.data.len() < size {
            self.data.resize(size, 0);
        }
    }

    /// Tells whether no byte more can be read before some are used.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.at == self.data.len() && !self.data.is_empty()
    }

    /// Reads more; gives how many bytes came, 0 at the stream's end. Must not be full.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.attach();
        if self.at > 0 && self.end == self.data.len() {
            self.data.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            self.at = 0;
        }
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        let polled = Pin::new(from).poll_read(cx, &mut room);
        let came = room.filled().len();
        self.end += came;
        if self.is_empty() {
            self.release();
        }
        ready!(polled)?;
        Poll::Ready(Ok(came))
    }

    fn attach(&mut self) {
        if self.data.is_empty() {
            self.data = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE]);
        }
    }

    /// Gives the memory back; what was in it is gone.
    pub(crate) fn release(&mut self) {
        (self.at, self.end) = (0, 0);
        let data = std::mem::take(&mut self.data);
        if data.len() == SIZE {
            // At the thread's end there is no place to keep it any more.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < FREE_MAX {
                    free.push(data);
                }
            });
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes an empty vector to write a head into.
pub(crate) fn head() -> Vec<u8> {
    HEADS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(2_048))
}

/// Gives such a vector back.
pub(crate) fn head_done(mut head: Vec<u8>) {
    head.clear();
    if head.capacity() <= 2 * SIZE {
        let _ = HEADS.try_with(|heads| {
            let mut heads = heads.borrow_mut();
            if heads.len() < FREE_MAX {
                heads.push(head);
            }
        });
    }
}
