//! The bytes of the stream: an HTTP head, then server-sent events.

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest event: thousands of switches fit.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Why a stream is left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The answer is no stream.
    NoStream,
    /// Something is too long.
    TooLong,
}

/// Takes bytes as they come, gives the data of whole events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    /// Bytes of the buffer in which no end of an event was found.
    looked: usize,
    is_open: bool,
}

impl Events {
    /// Adds what was read.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the data of the next whole event; comments have none and are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<String>, Wrong> {
        if !self.is_open {
            match find(&self.buffer, b"\r\n\r\n", 0) {
                Some(end) => {
                    let ok = self.buffer.starts_with(b"HTTP/1.1 200 ") || self.buffer.starts_with(b"HTTP/1.0 200 ");
                    self.buffer.drain(..end + 4);
                    self.is_open = true;
                    if !ok {
                        return Err(Wrong::NoStream);
                    }
                }
                None if self.buffer.len() > HEAD_BYTES_MAX => return Err(Wrong::TooLong),
                None => return Ok(None),
            }
        }
        loop {
            let Some(end) = find(&self.buffer, b"\n\n", self.looked) else {
                self.looked = self.buffer.len().saturating_sub(1);
                let too_long = self.buffer.len() > EVENT_BYTES_MAX;
                return if too_long { Err(Wrong::TooLong) } else { Ok(None) };
            };
            let data = data(&self.buffer[..end]);
            self.buffer.drain(..end + 2);
            self.looked = 0;
            if data.is_some() {
                return Ok(data);
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// Joins the data lines of an event; one that is no text has none.
fn data(event: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(event).ok()?;
    let mut lines = text.lines().filter_map(|line| {
        let data = line.strip_prefix("data:")?;
        Some(data.strip_prefix(' ').unwrap_or(data))
    });
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |all, line| all + "\n" + line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nid: 1\ndata: one\n\n:\n\ndata: two\ndata:three\n\ndata: fo";
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for part in text.chunks(size) {
                events.add(part);
                while let Some(data) = events.next().unwrap() {
                    found.push(data);
                }
            }
            assert_eq!(found, ["one", "two\nthree"], "in parts of {size}");
        }
    }

    #[test]
    fn another_answer_and_endless_ones_are_left() {
        let after = |bytes: &[u8]| {
            let mut events = Events::default();
            events.add(bytes);
            events.next()
        };
        assert_eq!(after(b"HTTP/1.1 404 Not Found\r\n\r\n"), Err(Wrong::NoStream));
        assert_eq!(after(&vec![b'a'; HEAD_BYTES_MAX + 1]), Err(Wrong::TooLong));
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'a'; EVENT_BYTES_MAX + 1]].concat();
        assert_eq!(after(&endless), Err(Wrong::TooLong));
    }
}
