//! Signed notes (C2SP signed-note v1.0.0, Ed25519): a text and signatures that any checker of that format reads.

use crate::terms::Digest;
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use core::{fmt, str::FromStr};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Type byte of plain Ed25519 note signatures.
const ED25519: u8 = 0x01;
/// The specification asks verifiers to take at least 16 signatures.
const SIGNATURES_MAX: usize = 16;
/// Room for 16 post-quantum signatures of 5 kB in base64, and the text.
const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Origins are an installation and a chain name of at most 128 characters.
const KEY_NAME_BYTES_MAX: usize = 256;

/// Why a note or key can't be read or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the format of a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not the format of a verifier key.
    #[error("not a verifier key (NAME+HASH+BASE64): {0}")]
    BadKey(&'static str),
    /// No signature by this key.
    #[error("the note has no signature by {name}")]
    NotSigned {
        /// The key's name and id.
        name: String,
    },
    /// A signature by this key that does not fit the text.
    #[error("the signature by {name} does not fit the text: the note was edited or the key is another")]
    BadSignature {
        /// The key's name and id.
        name: String,
    },
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let plain = !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    if (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && plain {
        Ok(())
    } else {
        Err(NoteError::BadKey("a key's name has 1 to 256 bytes, no spaces and no '+'"))
    }
}

fn hex_id(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// A key that signs notes. Its Debug output shows the public part only.
#[derive(Clone)]
pub struct NoteKey {
    name: String,
    key: SigningKey,
}

impl NoteKey {
    /// Makes a key from its name and 32 secret bytes, which the caller draws from the system's random source.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// Gives the same key under another name: one installation signs each chain under the chain's own origin.
    pub fn named(&self, name: &str) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: self.key.clone() })
    }

    /// Gives the name it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the public part.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey::new(self.name.clone(), self.key.verifying_key())
    }

    /// Signs `text`, which must end in a newline and hold no other control character.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_text(text)?;
        let mut signature = self.verifier().id.to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        Ok(format!("{text}\n\u{2014} {} {}\n", self.name, BASE64_STANDARD.encode(signature)))
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteKey({})", self.verifier())
    }
}

/// The public part of a key, written `NAME+HASH+BASE64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: String, key: VerifyingKey) -> Self {
        let mut named = name.clone().into_bytes();
        named.extend_from_slice(&[b'\n', ED25519]);
        named.extend_from_slice(key.as_bytes());
        let [a, b, c, d, ..] = Digest::of(&named).0;
        Self { name, id: [a, b, c, d], key }
    }

    /// Gives the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the same public key under another name.
    pub fn named(&self, name: &str) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self::new(name.to_owned(), self.key))
    }

    /// Gives this key under `origin`, if its name is `origin` or a path above it: one key is published per installation.
    pub fn under(&self, origin: &str) -> Option<Self> {
        let below = origin.strip_prefix(&self.name)?;
        if below.is_empty() {
            return Some(self.clone());
        }
        if below.starts_with('/') { self.named(origin).ok() } else { None }
    }

    /// Tells whether the two are one key, whatever their names.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Checks that this key signed the note; every signature line that claims this key must hold.
    pub fn verify(&self, note: &Note) -> Result<(), NoteError> {
        let name = || format!("{}+{}", self.name, hex_id(self.id));
        let mut signed = false;
        for line in note.signatures.iter().filter(|line| line.name == self.name && line.id == self.id) {
            let bad = || NoteError::BadSignature { name: name() };
            let signature = Signature::from_slice(&line.signature).map_err(|_| bad())?;
            // Strict: no small-order keys, no malleable signatures, so that all checkers agree.
            self.key.verify_strict(note.text.as_bytes(), &signature).map_err(|_| bad())?;
            signed = true;
        }
        if signed { Ok(()) } else { Err(NoteError::NotSigned { name: name() }) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut public = [ED25519; 33];
        public[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex_id(self.id), BASE64_STANDARD.encode(public))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(public)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadKey("it has three parts joined by '+'"));
        };
        check_name(name)?;
        let public = BASE64_STANDARD.decode(public).map_err(|_| NoteError::BadKey("its last part is base64"))?;
        let [ED25519, key @ ..] = public.as_slice() else {
            return Err(NoteError::BadKey("its algorithm is not Ed25519 (type 1)"));
        };
        let key: [u8; 32] = key.try_into().map_err(|_| NoteError::BadKey("an Ed25519 key has 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| NoteError::BadKey("its bytes are no Ed25519 key"))?;
        if key.is_weak() {
            return Err(NoteError::BadKey("it is a weak key that fits many signatures"));
        }
        let made = Self::new(name.to_owned(), key);
        if hex_id(made.id) == id { Ok(made) } else { Err(NoteError::BadKey("its hash does not fit name and key")) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

/// A parsed note. Its text means nothing until [`VerifierKey::verify`] agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note within the limits of size and signatures.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is longer than 128 KiB"));
        }
        let cut = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let (text, rest) = (&note[..=cut], &note[cut + 2..]);
        check_text(text)?;
        let lines = rest.strip_suffix('\n').ok_or(NoteError::Malformed("the last line has no newline"))?;
        let signatures: Vec<_> =
            lines.split('\n').take(SIGNATURES_MAX + 1).map(signature_line).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has more than 16 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Gives the signed text, its last newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Gives the names of the keys that claim to have signed.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|line| line.name.as_str())
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if text.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("a control character in the text"));
    }
    Ok(())
}

fn signature_line(line: &str) -> Result<SignatureLine, NoteError> {
    let wrong = NoteError::Malformed("a signature line is '\u{2014} NAME BASE64'");
    let (name, encoded) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(wrong.clone())?;
    check_name(name).map_err(|_| wrong.clone())?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| wrong.clone())?;
    let (id, signature) = bytes.split_first_chunk::<4>().ok_or(wrong.clone())?;
    if signature.is_empty() {
        return Err(wrong);
    }
    Ok(SignatureLine { name: name.to_owned(), id: *id, signature: signature.to_vec() })
}

/// Gives 32 bytes from base64 in its one canonical form.
pub(super) fn digest_of_base64(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Digest(bytes))
}

/// Writes a digest as base64.
pub(super) fn base64_of_digest(digest: &Digest) -> String {
    BASE64_STANDARD.encode(digest.0).to_string()
}
