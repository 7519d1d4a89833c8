//! Which requests a rule is about: an optional method and a path.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tells why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a route: {why}")]
pub struct PatternError {
    /// Repeats the refused text, cut to 80 characters.
    pub text: String,
    /// Says what is expected instead.
    pub why: &'static str,
}

/// A method and a path such as `POST /login`, `/account/*` or `*`.
///
/// A path that ends in `/*` covers the folder and all below it; any other is exact. Without a method all are meant.
/// Comparing is done on the path as the service sees it after decoding and removal of dots, see [`RoutePattern::covers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePattern {
    method: Option<String>,
    /// Without the star; `below` tells whether it had one.
    path: String,
    below: bool,
}

impl RoutePattern {
    /// Tells whether a request is meant.
    ///
    /// The path is compared in every form in which a service could see it: percent-decoded not at all, once or twice,
    /// `.` and `..` resolved or not, repeated slashes as one, letters in either case. One of them is enough: what closes a
    /// route must not be passed by another spelling of it, and which of them the service takes nobody here knows.
    pub fn covers(&self, method: &str, path: &str) -> bool {
        if self.method.as_deref().is_some_and(|wanted| wanted != method) {
            return false;
        }
        let raw = path.split(['?', '#']).next().unwrap_or_default();
        let once = decode(raw);
        let twice = decode(&once);
        let readings = [(raw, Dots::Stay), (raw, Dots::Resolved), (&*once, Dots::Stay), (&*once, Dots::Resolved)];
        let readings = readings.into_iter().chain([(&*twice, Dots::Stay), (&*twice, Dots::Resolved)]);
        let mut readings = readings.map(|(path, dots)| plain(path, dots));
        readings.any(|path| self.is(&path))
    }

    fn is(&self, path: &str) -> bool {
        if !self.below {
            return path.eq_ignore_ascii_case(&self.path)
                || path.strip_suffix('/').is_some_and(|path| path.eq_ignore_ascii_case(&self.path));
        }
        let folder = self.path.as_bytes();
        let bytes = path.as_bytes();
        bytes.len() >= folder.len()
            && bytes[..folder.len()].eq_ignore_ascii_case(folder)
            && (bytes.len() == folder.len() || bytes[folder.len()] == b'/')
    }
}

/// What becomes of `.` and `..` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dots {
    Stay,
    Resolved,
}

/// Gives a path in its plainest form.
fn plain(path: &str, dots: Dots) -> String {
    let mut parts: alloc::vec::Vec<&str> = alloc::vec::Vec::new();
    // A backslash is a slash to some services, and what follows a semicolon is a parameter to others.
    for part in path.split(['/', '\\']) {
        match (part.split(';').next().unwrap_or_default(), dots) {
            ("", _) | (".", Dots::Resolved) => {}
            ("..", Dots::Resolved) => drop(parts.pop()),
            (part, _) => parts.push(part),
        }
    }
    let ends_in_folder = path.ends_with('/') && !parts.is_empty();
    let mut plain = String::with_capacity(path.len() + 1);
    for part in &parts {
        plain.push('/');
        plain.push_str(part);
    }
    if ends_in_folder || plain.is_empty() {
        plain.push('/');
    }
    plain
}

/// Decodes `%41` and the like once; what is no such pair stays.
fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = alloc::vec::Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        // A number's reader takes a sign for a digit.
        let pair = pair.filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let byte =
            pair.and_then(|pair| core::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        match (self.below, self.path.is_empty()) {
            (true, true) => f.write_str("*"),
            (true, false) => write!(f, "{}/*", self.path),
            (false, _) => f.write_str(&self.path),
        }
    }
}

impl FromStr for RoutePattern {
    type Err = PatternError;

    /// Reads `POST /login`, `/account/*`, `GET *`.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |why| PatternError { text: text.chars().take(80).collect(), why };
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method), path),
            None => (None, text),
        };
        if method
            .is_some_and(|method| method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'))
        {
            return Err(wrong("write the method in capitals and one space after it, like POST /login"));
        }
        let method = method.map(ToString::to_string);
        if path == "*" || path == "/*" {
            return Ok(Self { method, path: String::new(), below: true });
        }
        if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
            return Err(wrong("a path starts with / and has no query, like /account/*"));
        }
        let (path, below) = match path.strip_suffix("/*") {
            Some(folder) => (folder, true),
            None => (path, false),
        };
        if path.contains('*') {
            return Err(wrong("a star stands only at the end, like /account/*"));
        }
        // A folder that ends in a slash would have nothing below it.
        if plain(&decode(&decode(path)), Dots::Resolved) != path || below && path.ends_with('/') {
            return Err(wrong("write the path in its plain form: no dots, no %, no repeated /"));
        }
        Ok(Self { method, path: path.to_owned(), below })
    }
}

impl Serialize for RoutePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoutePattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, method: &str, path: &str) -> bool {
        pattern.parse::<RoutePattern>().unwrap().covers(method, path)
    }

    #[test]
    fn a_closed_route_can_t_be_reached_by_another_spelling() {
        for path in [
            "/account/login",
            "/account/login?x=1",
            "//account//login",
            "/account/./login",
            "/x/../account/login",
            "/account/%6Cogin",
            "/account/%256Cogin",
            "/ACCOUNT/Login",
            "/account\\login",
            "/account;x=1/login",
            "/account/login/",
            "/%2e/account/login",
            "/account%2flogin",
            "account/login",
        ] {
            assert!(covers("POST /account/login", "POST", path), "{path} passed");
            assert!(covers("/account/*", "POST", path), "{path} passed the folder");
        }
    }

    #[test]
    fn a_closed_folder_can_t_be_left_by_dots_that_the_service_may_take_for_a_name() {
        for path in
            ["/rooms/%2e%2e/messages", "/rooms/%252e%252e/messages", "/rooms/../messages", "/rooms/x%2f..%2f..%2fy"]
        {
            assert!(covers("POST /rooms/*", "POST", path), "{path} passed");
        }
        // What leads into it is closed as before, and what never names it is not.
        assert!(covers("POST /rooms/*", "POST", "/x/%2e%2e/rooms/y"));
        assert!(!covers("POST /rooms/*", "POST", "/messages/%2e%2e/users"));
    }

    #[test]
    fn only_the_named_routes_are_covered() {
        for (pattern, method, path) in [
            // No escape, to anybody.
            ("/account/\u{f}", "GET", "/account/%+f"),
            ("POST /account/login", "GET", "/account/login"),
            ("/account/login", "POST", "/account/login2"),
            ("/account/*", "POST", "/accounts"),
            ("/account/*", "POST", "/x/account/login"),
            ("/", "GET", "/x"),
        ] {
            assert!(!covers(pattern, method, path), "{pattern} covers {method} {path}");
        }
        assert!(covers("*", "GET", "/"));
        assert!(covers("/account/*", "GET", "/account"));
    }

    #[test]
    fn what_is_no_route_is_refused_and_what_is_one_is_said_back() {
        for text in
            ["", "login", "post /login", "POST  /login", "/a*b", "/a?b", "/a/../b", "/%41", "/a//b", "/a//*", "//*"]
        {
            assert!(text.parse::<RoutePattern>().is_err(), "{text:?} was accepted");
        }
        for text in ["*", "POST /login", "/account/*", "GET *", "/"] {
            assert_eq!(text.parse::<RoutePattern>().unwrap().to_string(), text);
        }
    }
}
