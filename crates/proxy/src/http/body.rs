//! How far a message's body reaches.

use super::chunked::Chunked;

/// How a body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunked),
    /// With the connection; answers only.
    Close,
}

/// What to do with the bytes at hand: pass on the first `pass`, leave out the next `skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) pass: usize,
    pub(crate) skip: usize,
}

impl Framing {
    /// Makes the framing of a chunked body.
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked::new())
    }

    /// Tells whether the body has ended.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::None => true,
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_over(),
            Self::Close => false,
        }
    }

    /// Looks at the next bytes and takes them as read: all that the answer names must be passed on or left out.
    ///
    /// Errors: what is wrong with a chunk.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Scan, &'static str> {
        match self {
            Self::None => Ok(Scan { pass: 0, skip: 0 }),
            Self::Close => Ok(Scan { pass: bytes.len(), skip: 0 }),
            Self::Length(left) => {
                let pass = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= pass as u64;
                Ok(Scan { pass, skip: 0 })
            }
            Self::Chunked(chunked) => chunked.scan(bytes),
        }
    }
}
