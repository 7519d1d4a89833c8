//! The cookies of one run: kept by name, path and their end, for one host.

use std::collections::BTreeMap;

/// Most cookies kept: browsers keep some 180 of one site.
const COOKIES_MAX: usize = 180;

/// Cookies of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jar {
    /// By name and path.
    cookies: BTreeMap<(String, String), String>,
}

impl Jar {
    /// Keeps what one `Set-Cookie` header of an answer to `path` sets; gives the value, if there is one.
    ///
    /// Domain and Secure don't matter: one run talks to one instance only.
    pub(crate) fn keep<'h>(&mut self, header: &'h str, path: &str) -> Option<(&'h str, &'h str)> {
        let mut parts = header.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.contains(char::is_control) || value.contains(char::is_control) {
            return None;
        }
        let mut cookie_path = default_path(path).to_owned();
        let mut is_over = false;
        for part in parts {
            let (key, setting) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
            if key.eq_ignore_ascii_case("path") && setting.starts_with('/') {
                cookie_path = setting.into();
            } else if key.eq_ignore_ascii_case("max-age") {
                is_over = setting.parse::<i64>().is_ok_and(|seconds| seconds <= 0);
            } else if key.eq_ignore_ascii_case("expires") && setting.contains(" 1970 ") {
                // How servers take a cookie away. Other ends are later than the run.
                is_over = true;
            }
        }
        let key = (name.to_owned(), cookie_path);
        if is_over {
            self.cookies.remove(&key);
        } else if self.cookies.len() < COOKIES_MAX || self.cookies.contains_key(&key) {
            self.cookies.insert(key, value.into());
        }
        Some((name, value))
    }

    /// Gives the value of a `Cookie` header for a request to `path`.
    pub(crate) fn header(&self, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap_or_default();
        let mut fitting: Vec<_> = self.cookies.iter().filter(|((_, of), _)| is_below(path, of)).collect();
        // More exact paths first, as the standard asks.
        fitting.sort_by_key(|((_, of), _)| usize::MAX - of.len());
        let pairs: Vec<String> = fitting.into_iter().map(|((name, _), value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

fn default_path(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

fn is_below(path: &str, of: &str) -> bool {
    match path.strip_prefix(of) {
        Some(rest) => rest.is_empty() || of.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_sent_to_its_path_until_it_is_taken_away() {
        let mut jar = Jar::default();
        jar.keep("session=abc; Path=/; HttpOnly", "/account/login");
        jar.keep("step=2", "/account/login?x=1");
        jar.keep("nonsense", "/");
        jar.keep("two\rX-Lines: y=1", "/");
        assert_eq!(jar.header("/notes").as_deref(), Some("session=abc"));
        assert_eq!(jar.header("/account/me?y=2").as_deref(), Some("step=2; session=abc"));
        assert_eq!(jar.header("/accounts").as_deref(), Some("session=abc"));
        jar.keep("session=; Path=/; Max-Age=0", "/logout");
        assert_eq!(jar.header("/notes"), None);
        jar.keep("step=; Path=/account; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "/");
        assert_eq!(jar.header("/account/me"), None);
    }
}
