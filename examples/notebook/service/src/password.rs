//! Passwords and tokens: stored as slow hashes and as digests, never as they are.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Rounds of the key derivation: about a millisecond, so that a login costs what a login costs
/// and a test of a hundred is still quick. A service with real users would take hundreds of thousands.
const ROUNDS: u32 = 1_000;

/// More rounds than this in a stored hash are not believed: it would stop the service.
const ROUNDS_MAX: u32 = 1_000_000;

const SCHEME: &str = "pbkdf2-sha256";

/// Hashes a password with a salt of its own.
pub(crate) fn hash(password: &str) -> Result<String, getrandom::Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let key = derive(password.as_bytes(), &salt, ROUNDS);
    Ok(format!("{SCHEME}${ROUNDS}${}${}", hex(&salt), hex(&key)))
}

/// Tells whether the password belongs to the stored hash; a hash that can't be read belongs to none.
pub(crate) fn verify(password: &str, stored: &str) -> bool {
    let mut parts = stored.split('$');
    let (Some(SCHEME), Some(rounds), Some(salt), Some(key), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(rounds), Some(salt), Some(key)) = (rounds.parse::<u32>(), unhex(salt), unhex(key)) else {
        return false;
    };
    (1..=ROUNDS_MAX).contains(&rounds) && same(&derive(password.as_bytes(), &salt, rounds), &key)
}

/// Makes a token that nobody can guess.
pub(crate) fn token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Gives what is stored of a token.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// PBKDF2 (RFC 8018, 5.2) with HMAC-SHA-256 and one block of output.
fn derive(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(password).expect("HMAC takes keys of any length");
    let block = |parts: [&[u8]; 2]| -> [u8; 32] {
        let mut mac = mac.clone();
        parts.into_iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut round = block([salt, &1_u32.to_be_bytes()]);
    let mut key = round;
    for _ in 1..rounds {
        round = block([&round, &[]]);
        key.iter_mut().zip(round).for_each(|(sum, byte)| *sum ^= byte);
    }
    key
}

/// Compares without telling by time where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_derivation_is_pbkdf2() {
        // Vectors of RFC 7914, section 11 (first 32 bytes of the output).
        let key = derive(b"passwd", b"salt", 1);
        assert_eq!(hex(&key), "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
        let key = derive(b"Password", b"NaCl", 80_000);
        assert_eq!(hex(&key), "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56");
    }

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let stored = hash("open sesame").unwrap();
        assert!(verify("open sesame", &stored));
        assert!(!verify("open sesamE", &stored));
        assert_ne!(stored, hash("open sesame").unwrap(), "each hash has its own salt");
    }

    #[test]
    fn a_damaged_hash_belongs_to_no_password() {
        let stored = hash("open sesame").unwrap();
        for damaged in [&stored[..64], &stored[..20], "", "$$$", "pbkdf2-sha256$0$00$00", "pbkdf2-sha256$9999999$00$00"]
        {
            assert!(!verify("open sesame", damaged), "{damaged}");
        }
    }
}
