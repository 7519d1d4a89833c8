//! Closed routes as entries of a HAProxy map: a regular expression for the request, and the answer.
//!
//! The key is compared with `METHOD:path`, the path in the plain form that the rules of docs/guide/haproxy.md make. The
//! value is `status:retry-after:body`, the body in base64, so that nothing in it can end a command or a line.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lastgood_domain::traffic::{Closed, RoutePattern};
use std::fmt::Write as _;

/// Bytes of entries sent by one command: HAProxy's buffer has 16 KiB.
const PART_BYTES_MAX: usize = 8 * 1024;
/// Longest body in bytes; with it an entry still fits into one command.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// Makes the entries, in the order in which they are to be tried.
///
/// Errors: what HAProxy's map could not hold, in words.
pub(super) fn entries(closed: &[Closed]) -> Result<Vec<(String, String)>, String> {
    let mut entries = Vec::new();
    for one in closed {
        let answer = &one.answer;
        if answer.body.len() > BODY_BYTES_MAX {
            return Err(format!("the answer of {} is longer than {BODY_BYTES_MAX} bytes", one.by));
        }
        let retry = answer.retry_after.map(|seconds| seconds.to_string()).unwrap_or_default();
        // HAProxy would write a line's end as %0A.
        let body: String = answer.body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let value = format!("{}:{retry}:{}", answer.status, STANDARD.encode(body));
        for route in &one.routes {
            let key = expression(route);
            if key.len() > PART_BYTES_MAX / 4 {
                return Err(format!("a route of {} is too long", one.by));
            }
            entries.push((key, value.clone()));
        }
    }
    Ok(entries)
}

/// Writes a route as a regular expression.
fn expression(route: &RoutePattern) -> String {
    let text = route.to_string();
    let (method, path) = text.split_once(' ').unwrap_or(("", &text));
    let mut key = if method.is_empty() { "^[^:]*:".to_owned() } else { format!("^{method}:") };
    if path == "*" {
        return key;
    }
    let (path, end) = match path.strip_suffix("/*") {
        Some(folder) => (folder, "(/|$)"),
        None if path == "/" => (path, "$"),
        None => (path, "/?$"),
    };
    for byte in path.bytes().map(|byte| byte.to_ascii_lowercase()) {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_') {
            key.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(key, "\\x{byte:02x}");
        }
    }
    key + end
}

/// Writes the map's file, which HAProxy reads when it is reloaded.
pub(super) fn file(entries: &[(String, String)]) -> String {
    entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect()
}

/// Gives the commands that fill a new version of the map, each of a size that HAProxy takes, and at last make it the one
/// that counts.
pub(super) fn replace(map: &str, version: &str, entries: &[(String, String)]) -> Vec<String> {
    let mut parts = vec![String::new()];
    for entry in entries {
        let line = file(std::slice::from_ref(entry));
        if let Some(part) = parts.last_mut().filter(|part| part.len() + line.len() <= PART_BYTES_MAX) {
            part.push_str(&line);
        } else {
            parts.push(line);
        }
    }
    let filled = parts.iter().filter(|part| !part.is_empty());
    let mut commands: Vec<String> = filled.map(|part| format!("add map @{version} {map} <<\n{part}")).collect();
    commands.push(format!("commit map @{version} {map}"));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::traffic::Answering;

    #[test]
    fn a_route_becomes_an_expression_that_means_the_same() {
        for (route, key) in [
            ("*", "^[^:]*:"),
            ("POST *", "^POST:"),
            ("/", "^[^:]*:/$"),
            ("POST /Login.php", "^POST:/login\\x2ephp/?$"),
            ("/a(b)/*", "^[^:]*:/a\\x28b\\x29(/|$)"),
            ("/ü/*", "^[^:]*:/\\xc3\\xbc(/|$)"),
        ] {
            assert_eq!(expression(&route.parse().unwrap()), key);
        }
    }

    #[test]
    fn many_routes_go_in_parts_that_haproxy_can_take() {
        let routes = (0..2_000).map(|n| format!("/folder-{n}/*").parse().unwrap()).collect();
        let answer = Answering { status: 503, retry_after: Some(30), body: "later;\n# pleas".into() };
        let entries = entries(&[Closed { by: "switch auth".into(), routes, answer }]).unwrap();
        assert_eq!(entries[0].1, "503:30:bGF0ZXI7ICMgcGxlYXM=");
        let commands = replace("/m", "3", &entries);
        assert!(commands.iter().all(|command| command.len() < 16_000));
        assert_eq!(commands.last().unwrap(), "commit map @3 /m");
        let sent: usize = commands.iter().map(|command| command.lines().count() - 1).sum();
        assert_eq!(sent, 2_000);
    }
}
