//! Follows one direction of a WebSocket, so that a Close can be put where a frame ends.
//!
//! Contents are never looked at but for the code of a Close. Any bytes are followed: judging them is the ends' work.

/// The opcode of a Close frame.
const CLOSE: u8 = 8;

/// Where one direction of a tunnel stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    /// The header as far as it was read.
    header: [u8; 14],
    have: u8,
    /// Bytes of the frame's contents that are still to come.
    left: u64,
    /// How many bytes of a Close's contents were read, for its code.
    code_at: u8,
    code: u16,
    /// A message was begun by a frame without its end.
    in_message: bool,
    /// A Close frame was read to its end.
    closed: bool,
}

impl Frames {
    /// Tells whether the next byte starts a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Tells whether the next byte starts a message.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.have == 0 && !self.in_message
    }

    /// Gives the code of the Close that was read: 1005 if it had none.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.closed.then_some(if self.code_at >= 2 { self.code } else { 1005 })
    }

    /// Follows `bytes` until `stop` holds at the end of a frame, or to the end of a Close; gives how many were followed.
    pub(crate) fn follow_until(&mut self, bytes: &[u8], stop: impl Fn(&Self) -> bool) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.closed {
            if self.left > 0 {
                let run = (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.contents(&bytes[at..at + run]);
                at += run;
            } else {
                self.header[usize::from(self.have)] = bytes[at];
                self.have += 1;
                at += 1;
                if usize::from(self.have) < self.header_length() {
                    continue;
                }
                self.left = self.length();
                self.code_at = 0;
                self.code = 0;
            }
            if self.left == 0 && self.have > 0 {
                self.end_of_frame();
                if stop(self) {
                    break;
                }
            }
        }
        at
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 15
    }

    /// Gives how long the header is, as far as its first bytes tell.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.header[1] & 127 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 128 != 0 { 4 } else { 0 }
    }

    fn length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match self.header[1] & 127 {
            126 => big_endian(&self.header[2..4]),
            127 => big_endian(&self.header[2..10]),
            short => u64::from(short),
        }
    }

    fn contents(&mut self, run: &[u8]) {
        self.left -= run.len() as u64;
        if self.opcode() != CLOSE || self.code_at >= 2 {
            return;
        }
        for byte in run.iter().take(usize::from(2 - self.code_at)) {
            // A masked byte is read with its byte of the mask, the last four of the header.
            let mask = match self.header[1] & 128 {
                0 => 0,
                _ => self.header[self.header_length() - 4 + usize::from(self.code_at)],
            };
            self.code = self.code << 8 | u16::from(byte ^ mask);
            self.code_at += 1;
        }
    }

    fn end_of_frame(&mut self) {
        match self.opcode() {
            CLOSE => self.closed = true,
            // Other control frames may stand between the parts of a message.
            9..=15 => {}
            _ => self.in_message = self.header[0] & 128 == 0,
        }
        self.have = 0;
    }
}

/// Gives a Close frame of a server, with a code and a short reason.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.len().min(120)];
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = vec![0x80 | CLOSE, length];
    frame.extend(code.to_be_bytes());
    frame.extend(reason);
    frame
}

/// Gives a Close frame of a client, which must be masked.
pub(crate) fn masked_close(code: u16, mask: [u8; 4]) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    let mut frame = vec![0x80 | CLOSE, 0x80 | 2];
    frame.extend(mask);
    frame.extend([high ^ mask[0], low ^ mask[1]]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Frames {
        fn follow(&mut self, bytes: &[u8]) -> usize {
            self.follow_until(bytes, |_| false)
        }
    }
    use proptest::prelude::*;

    fn frame(first: u8, contents: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 128 } else { 0 };
        let mut frame = vec![first];
        match contents.len() {
            0..=125 => frame.push(bit | contents.len() as u8),
            126..=65_535 => {
                frame.push(bit | 126);
                frame.extend((contents.len() as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((contents.len() as u64).to_be_bytes());
            }
        }
        frame.extend(mask.iter().flatten());
        frame.extend(contents.iter().enumerate().map(|(at, byte)| byte ^ mask.map_or(0, |mask| mask[at % 4])));
        frame
    }

    #[test]
    fn it_knows_where_frames_and_messages_end() {
        let stream = [frame(0x01, b"a", None), frame(0x89, b"ping", None), frame(0x80, &[b'b'; 200], None)].concat();
        let mut frames = Frames::default();
        let mut ends = Vec::new();
        for (at, byte) in stream.iter().enumerate() {
            assert_eq!(frames.follow(&[*byte]), 1);
            if frames.is_between() {
                ends.push((at + 1, frames.is_between_messages()));
            }
        }
        // 3 bytes of text without its end, a ping of 6 between, the rest of 204.
        assert_eq!(ends, [(3, false), (9, false), (213, true)]);
    }

    #[test]
    fn it_reads_the_code_of_a_close_and_stops_behind_it() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let close = frame(0x88, &[3, 0xf3, b'x'], mask);
            let mut frames = Frames::default();
            assert_eq!(frames.follow(&[close.clone(), vec![0; 9]].concat()), close.len());
            assert_eq!(frames.close_code(), Some(1011));
        }
        let mut frames = Frames::default();
        frames.follow(&frame(0x88, b"", None));
        assert_eq!(frames.close_code(), Some(1005));
        for ours in [close(1012, "moving"), masked_close(1012, [9, 8, 7, 6])] {
            let mut frames = Frames::default();
            assert_eq!(frames.follow(&ours), ours.len());
            assert_eq!(frames.close_code(), Some(1012));
        }
    }

    proptest! {
        /// However a stream of frames is cut, the ends that are found are the ends there are.
        #[test]
        fn ends_are_found_however_the_stream_is_cut(
            parts in prop::collection::vec((0_usize..3, 0_usize..70_000, any::<bool>(), any::<[u8; 4]>()), 1..6),
            cut in 1_usize..5_000,
        ) {
            let (mut stream, mut ends) = (Vec::new(), Vec::new());
            for (kind, length, is_masked, mask) in parts {
                stream.extend(frame([0x81, 0x02, 0x8a][kind], &vec![7; length], is_masked.then_some(mask)));
                ends.push(stream.len());
            }
            let (mut frames, mut at, mut found) = (Frames::default(), 0, Vec::new());
            for piece in stream.chunks(cut) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let run = frames.follow_until(rest, |_| true);
                    prop_assert!(run > 0);
                    at += run;
                    rest = &rest[run..];
                    if frames.is_between() {
                        found.push(at);
                    }
                }
            }
            prop_assert_eq!(found, ends);
        }

        /// Any bytes are followed to their end or to a Close.
        #[test]
        fn any_bytes_are_followed(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..20) {
            let mut frames = Frames::default();
            for piece in bytes.chunks(cut) {
                let run = frames.follow(piece);
                prop_assert!(run == piece.len() || frames.close_code().is_some());
                if frames.close_code().is_some() {
                    break;
                }
            }
        }
    }
}
