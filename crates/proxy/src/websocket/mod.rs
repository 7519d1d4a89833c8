//! WebSocket as far as a proxy must know it: the handshake's proof, and where frames end.

pub(crate) mod frames;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

/// Tells whether a Sec-WebSocket-Key is 16 bytes in base64.
pub(crate) fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Gives the Sec-WebSocket-Accept that proves that `key` was read by a WebSocket server (RFC 6455, 4.2.2).
pub(crate) fn accept(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_one_of_the_standard() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for key in [&b""[..], b"dGhlIHNhbXBsZQ==", b"dGhlIHNhbXBsZSBub25jZQ=", b"!!!!IHNhbXBsZSBub25jZQ=="] {
            assert!(!is_key(key));
        }
    }
}
