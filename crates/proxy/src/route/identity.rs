//! What a person is recognised by.

use crate::settings::Sticky;
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::OnceLock,
};

/// The longest id that is used; a longer one is cut, so that nobody makes us hash kilobytes.
const ID_MAX: usize = 256;

/// A person's stable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity<'a> {
    /// The client brought it.
    Brought(&'a [u8]),
    /// It has none: this one, 32 hex digits, is given to it.
    Given([u8; 32]),
}

impl<'a> Identity<'a> {
    /// Finds the id: the header, the service's cookie, our own cookie, in this order; else makes one.
    ///
    /// `header` is the value of the header that [`Sticky::header`] names, `cookies` are the values of the Cookie headers.
    pub(crate) fn find(
        sticky: &Sticky,
        header: Option<&'a [u8]>,
        cookies: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Self {
        let short = |id: &'a [u8]| Self::Brought(&id[..id.len().min(ID_MAX)]);
        if let Some(id) = header.filter(|id| !id.is_empty()) {
            return short(id);
        }
        if let Some(name) = &sticky.cookie
            && let Some(id) = cookies.clone().find_map(|cookies| cookie(cookies, name.as_bytes()))
        {
            return short(id);
        }
        let own = |cookies| cookie(cookies, sticky.own_cookie.as_bytes());
        // Only what we could have given is taken: an id that someone planted must not be longer or other than ours.
        match cookies.clone().find_map(own).filter(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit)) {
            Some(id) => Self::Brought(id),
            None => Self::Given(draw()),
        }
    }

    /// Gives the id's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Brought(id) => id,
            Self::Given(id) => id,
        }
    }

    /// Gives the header line that hands the id to its client; nothing if the client brought it.
    pub(crate) fn set_cookie(&self, sticky: &Sticky, secure: bool) -> Vec<u8> {
        match self {
            Self::Brought(_) => Vec::new(),
            Self::Given(_) => [b"Set-Cookie: ", &self.cookie_value(sticky, secure)[..], b"\r\n"].concat(),
        }
    }

    /// Gives the value of that header.
    pub(crate) fn cookie_value(&self, sticky: &Sticky, secure: bool) -> Vec<u8> {
        let secure: &[u8] = if secure { b"; Secure" } else { b"" };
        // 30 days: longer than a rollout, so that nobody is seated anew within one.
        let rest = b"; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax";
        [sticky.own_cookie.as_bytes(), b"=", self.bytes(), rest, secure].concat()
    }
}

/// Finds a cookie's value.
pub(crate) fn cookie<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = cookies.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })?;
    (!value.is_empty()).then_some(value)
}

/// Draws 128 random bits, in hex.
fn draw() -> [u8; 32] {
    let mut bits = [0_u8; 16];
    if getrandom::fill(&mut bits).is_err() {
        // Without the system's chance people are still told apart, by the keyed hash of a counter.
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bits[..8].copy_from_slice(&fingerprint(&count.to_be_bytes()).to_be_bytes());
    }
    let mut hex = [0_u8; 32];
    for (at, byte) in bits.iter().enumerate() {
        hex[at * 2] = b"0123456789abcdef"[usize::from(byte >> 4)];
        hex[at * 2 + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

/// Gives the hash that people are counted by; another in each process, so that it tells nothing outside.
pub(crate) fn fingerprint(id: &[u8]) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sticky() -> Sticky {
        Sticky { header: Some("x-user".into()), cookie: Some("session".into()), own_cookie: "lastgood".into() }
    }

    #[test]
    fn the_id_is_the_headers_then_the_services_cookies_then_our_own() {
        let own = "0123456789abcdef0123456789abcdef";
        let cookies = format!("a=1; session=\"s1\"; lastgood={own}");
        let find = |header, cookies: &'static str| {
            let identity = Identity::find(&sticky(), header, [cookies.as_bytes()].into_iter());
            String::from_utf8_lossy(identity.bytes()).into_owned()
        };
        let cookies: &'static str = cookies.leak();
        assert_eq!(find(Some(&b"alice"[..]), cookies), "alice");
        assert_eq!(find(None, cookies), "s1");
        assert_eq!(find(None, "session=; lastgood=0123456789abcdef0123456789abcdef"), own);
        assert_eq!(find(None, "xsession=s2;session=s3"), "s3");
    }

    #[test]
    fn who_has_no_id_is_given_one_and_a_planted_one_is_not_taken() {
        for cookies in ["", "lastgood=alice", "lastgood=0123456789abcdef0123456789abcdeg", "session"] {
            let identity = Identity::find(&sticky(), None, [cookies.as_bytes()].into_iter());
            assert!(matches!(identity, Identity::Given(_)), "{cookies}");
            let line = String::from_utf8(identity.set_cookie(&sticky(), true)).unwrap();
            assert!(line.starts_with("Set-Cookie: lastgood=") && line.ends_with("HttpOnly; SameSite=Lax; Secure\r\n"));
        }
        let given = || Identity::find(&sticky(), None, std::iter::empty());
        assert_ne!(given(), given());
    }

    proptest! {
        #[test]
        fn a_cookie_is_found_in_any_bytes_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in "[a-z]{1,4}") {
            let with = [&bytes[..], b"; ", name.as_bytes(), b"=v"].concat();
            prop_assert!(cookie(&with, name.as_bytes()).is_some());
            let _ = cookie(&bytes, name.as_bytes());
        }
    }
}
