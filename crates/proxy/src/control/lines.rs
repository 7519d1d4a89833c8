//! Lines over a Unix socket, with the sockets that may come along with them.

use lastgood_domain::traffic::wire::LINE_MAX;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The most sockets in one message; the kernel allows 253.
pub(crate) const SOCKETS_MAX: usize = 250;

/// One end of a control connection.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Writes one document as a line.
    pub(crate) fn write(&mut self, document: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Writes one document as a line, and sockets along with its first bytes.
    pub(crate) fn write_with(&mut self, document: &impl Serialize, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("there are too many sockets for one message"));
        }
        let sent = sendmsg(&self.stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?;
        self.stream.write_all(&line[sent..])
    }

    /// Reads one document; `None` at the connection's end.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(line) = self.line()? {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Ok(None),
                count => self.read.extend(&piece[..count]),
            }
        }
    }

    /// Reads one document and the sockets that came along with it.
    pub(crate) fn read_with<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut sockets = Vec::new();
        loop {
            if let Some(line) = self.line()? {
                let document =
                    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                return Ok(Some((document, sockets)));
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut piece = vec![0; 16 << 10];
            let came =
                recvmsg(&self.stream, &mut [IoSliceMut::new(&mut piece)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            if came.bytes == 0 {
                return Ok(None);
            }
            self.read.extend(&piece[..came.bytes]);
        }
    }

    /// Takes a whole line out of what was read.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.read.iter().position(|byte| *byte == b'\n') {
            Some(feed) => {
                let mut line: Vec<u8> = self.read.drain(..=feed).collect();
                line.pop();
                Ok(Some(line))
            }
            None if self.read.len() > LINE_MAX => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long")),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::traffic::wire::{Ask, Told};
    use proptest::prelude::*;

    proptest! {
        /// Any bytes end in a message, an error or the end; never in a panic or a wait.
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300), damage in any::<u8>(), at in any::<prop::sample::Index>()) {
            let mut good = br#"{"do":"slices","service":"chat","after":7}"#.to_vec();
            let place = at.index(good.len());
            good[place] = damage;
            for text in [bytes, good] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                theirs.write_all(&text).unwrap();
                theirs.write_all(b"\n{\"do\":\"hand-over\"}\n").unwrap();
                drop(theirs);
                let mut lines = Lines::new(ours);
                for _ in 0..text.len() + 3 {
                    match lines.read::<Ask>() {
                        Ok(Some(_)) | Err(_) => {}
                        Ok(None) => return Ok(()),
                    }
                }
                prop_assert!(false, "it does not end");
            }
        }
    }

    #[test]
    fn sockets_come_along_with_their_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        use std::os::fd::AsFd as _;
        Lines::new(ours).write_with(&Told::Stopping, &[listener.as_fd()]).unwrap();
        drop(listener);
        let (told, mut sockets) = Lines::new(theirs).read_with::<Told>().unwrap().unwrap();
        assert_eq!((told, sockets.len()), (Told::Stopping, 1));
        let listener = std::net::TcpListener::from(sockets.remove(0));
        assert_eq!(listener.local_addr().unwrap(), address);
    }
}
