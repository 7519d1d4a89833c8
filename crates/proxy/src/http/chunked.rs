//! The chunked coding, followed byte by byte.
//!
//! Passed on as it is but for extensions, which are left out after their grammar was checked. Strict: sizes of at most
//! 15 hex digits, every line ended by CR LF, no white space, bounded extensions and trailers.

use super::{Scan, field};

/// The most bytes of extensions and trailers in one body; more is an attempt to keep us busy.
const EXTRA_MAX: usize = 8 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a size, after so many digits.
    Size(u8),
    /// In an extension.
    Extension,
    /// Behind a size's CR.
    SizeFeed,
    /// In a chunk's bytes.
    Data,
    /// Behind a chunk's bytes, before CR.
    DataReturn,
    DataFeed,
    /// At the start of a trailer's line or of the empty line that ends all.
    Line,
    /// In a trailer's name, in its value, behind its CR.
    Name,
    Value,
    ValueFeed,
    LastFeed,
    Over,
}

/// A chunked body and how far it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    at: At,
    /// The chunk's size as far as it was read, then what is left of it.
    size: u64,
    extra: usize,
    /// Whether only the chunks' bytes are passed on, for a reader that frames them otherwise.
    bare: bool,
    /// The trailers' lines, kept for such a reader.
    trailers: Vec<u8>,
}

impl Chunked {
    /// Starts a body that is passed on chunked.
    pub(crate) fn new() -> Self {
        Self { at: At::Size(0), size: 0, extra: 0, bare: false, trailers: Vec::new() }
    }

    /// Starts a body of which only the contents are passed on.
    pub(crate) fn bare() -> Self {
        Self { bare: true, ..Self::new() }
    }

    /// Tells whether the last chunk and the trailers were read.
    pub(crate) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Tells whether only the contents are passed on.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare
    }

    /// Gives the trailers' lines of a bare body.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// See [`super::Framing::scan`].
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Scan, &'static str> {
        let mut at = 0;
        // One run of bytes to pass, then one to leave out; the caller comes again for what follows.
        let mut pass = None;
        while at < bytes.len() && self.at != At::Over {
            let passes = self.passes(bytes[at]);
            match (passes, pass) {
                (true, Some(_)) => break,
                (false, None) => pass = Some(at),
                _ => {}
            }
            if self.at == At::Data {
                let run = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                at += run;
                self.size -= run as u64;
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        let pass = pass.unwrap_or(at);
        Ok(Scan { pass, skip: at - pass })
    }

    /// Tells whether the next byte is passed on.
    fn passes(&self, byte: u8) -> bool {
        if self.bare {
            return self.at == At::Data;
        }
        // An extension starts with its semicolon.
        !(self.at == At::Extension && byte != b'\r' || matches!(self.at, At::Size(_)) && byte == b';')
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.at = match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.size = self.size << 4 | u64::from(digit);
                At::Size(digits + 1)
            }
            (At::Size(1..), b'\r') => At::SizeFeed,
            (At::Size(1..), b';') => self.extra(At::Extension)?,
            (At::Size(_), _) => return Err("a chunk's size is no hex number"),
            (At::Extension, b'\r') => At::SizeFeed,
            (At::Extension, b'\t' | b' '..=b'~') => self.extra(At::Extension)?,
            (At::Extension, _) => return Err("a chunk's extension has a control character"),
            (At::SizeFeed, b'\n') if self.size == 0 => At::Line,
            (At::SizeFeed, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataFeed,
            (At::DataFeed, b'\n') => At::Size(0),
            (At::DataReturn | At::DataFeed, _) => return Err("a chunk is longer than its size"),
            (At::Line, b'\r') => At::LastFeed,
            (At::LastFeed, b'\n') => At::Over,
            (At::Line, byte) if field::is_token(&[byte]) => self.trailer(byte, At::Name)?,
            (At::Name, b':') => self.trailer(byte, At::Value)?,
            (At::Name, byte) if field::is_token(&[byte]) => self.trailer(byte, At::Name)?,
            (At::Value, b'\r') => At::ValueFeed,
            (At::Value, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(byte, At::Value)?,
            (At::ValueFeed, b'\n') => {
                self.trailers.extend(b"\r\n");
                self.end_of_trailer()?;
                At::Line
            }
            (At::SizeFeed | At::ValueFeed | At::LastFeed, _) => return Err("a carriage return stands alone"),
            (At::Line | At::Name | At::Value, _) => return Err("a trailer is no header"),
            (At::Data | At::Over, _) => self.at,
        };
        Ok(())
    }

    fn extra(&mut self, at: At) -> Result<At, &'static str> {
        self.extra += 1;
        if self.extra > EXTRA_MAX { Err("chunk extensions and trailers are longer than 8 KiB") } else { Ok(at) }
    }

    fn trailer(&mut self, byte: u8, at: At) -> Result<At, &'static str> {
        self.trailers.push(byte);
        self.extra(at)
    }

    /// Refuses a trailer that would change how the message is read.
    fn end_of_trailer(&mut self) -> Result<(), &'static str> {
        let lines = &self.trailers[..self.trailers.len() - 2];
        let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
        let name = lines[start..].split(|byte| *byte == b':').next().unwrap_or_default();
        match field::known(name) {
            field::Known::Other => Ok(()),
            _ => Err("a trailer is a header that must stand before the body"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `pieces` and gives what was passed on, or what is wrong.
    fn follow(mut chunked: Chunked, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), &'static str> {
        let mut passed = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && !chunked.is_over() {
                let scan = chunked.scan(rest)?;
                assert!(scan.pass + scan.skip > 0, "it stands still");
                passed.extend(&rest[..scan.pass]);
                rest = &rest[scan.pass + scan.skip..];
            }
        }
        Ok((passed, chunked.is_over()))
    }

    #[test]
    fn chunks_are_passed_on_as_they_are_but_for_extensions() {
        let body = b"4;name=\"x\"\r\nWiki\r\n0A\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\n\r\nGET";
        let clean = b"4\r\nWiki\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n".to_vec();
        assert_eq!(follow(Chunked::new(), &[body]), Ok((clean.clone(), true)));
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(follow(Chunked::new(), &bytes), Ok((clean, true)));
        assert_eq!(follow(Chunked::bare(), &[body]), Ok((b"Wiki0123456789".to_vec(), true)));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for body in [
            &b"\r\n"[..],
            b";x\r\n",
            b"g\r\n",
            b"0x4\r\nWiki\r\n",
            b"+4\r\nWiki\r\n",
            b"-1\r\n",
            b" 4\r\nWiki\r\n",
            b"4 \r\nWiki\r\n",
            b"4\nWiki\n",
            b"4\rWiki\r\n",
            b"4\r\nWikipedia\r\n",
            b"4\r\nWiki\n0\r\n\r\n",
            b"4\r\nWik\r\n\r\n0\r\n\r\n",
            b"4;a\nb\r\nWiki\r\n",
            b"1000000000000000\r\n",
            b"ffffffffffffffffffff\r\n",
            b"0\r\n\n",
            b"0\r\nContent-Length: 4\r\n\r\n",
            b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\nHost: other\r\n\r\n",
            b"0\r\n folded: x\r\n\r\n",
            b"0\r\nname : x\r\n\r\n",
            b"0\r\nX: a\nb\r\n\r\n",
            b"0\r\nX: a\0b\r\n\r\n",
        ] {
            assert!(follow(Chunked::new(), &[body]).is_err(), "{:?} passed", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_cut_off() {
        let long = [b"4;".to_vec(), vec![b'x'; EXTRA_MAX + 1]].concat();
        assert!(follow(Chunked::new(), &[&long]).is_err());
        let long = [b"0\r\nX: ".to_vec(), vec![b'x'; EXTRA_MAX + 1]].concat();
        assert!(follow(Chunked::new(), &[&long]).is_err());
    }

    proptest! {
        /// Any contents in any chunks cut anywhere come out whole, and what follows the body is not touched.
        #[test]
        fn contents_come_out_whole(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6), cut in 1_usize..40) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let pieces: Vec<&[u8]> = body.chunks(cut).collect();
            prop_assert_eq!(follow(Chunked::bare(), &pieces), Ok((chunks.concat(), true)));
            prop_assert_eq!(follow(Chunked::new(), &pieces), Ok((body.clone(), true)));
        }

        /// Random bytes never make it panic or stand still, and cut in pieces they are judged alike.
        #[test]
        fn random_bytes_are_judged_alike_however_they_arrive(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b';')], 0..200), cut in 1_usize..9) {
            let whole = follow(Chunked::new(), &[&bytes]);
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(follow(Chunked::new(), &pieces), whole);
        }
    }
}
