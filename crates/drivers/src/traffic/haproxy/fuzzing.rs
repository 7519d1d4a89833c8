//! Fuzz targets for what HAProxy says and is told.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::{closed::entries, runtime::read};
use lastgood_domain::traffic::{Answering, Closed, RoutePattern};
use regex::RegexBuilder;
use std::str;

/// An answer has as many servers as lines at most, and each counts for itself.
pub(crate) fn haproxy_answer(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for with_map in [false, true] {
        if let Ok(seen) = read(text, with_map) {
            assert!(seen.servers.len() <= text.lines().count() && seen.closed.is_none_or(|_| with_map));
            assert!(seen.servers.keys().all(|name| text.contains(name.as_str())));
        }
    }
}

/// The expression of a route closes what the route covers and nothing else, for paths in their plain form.
pub(crate) fn haproxy_routes(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(route) = pattern.parse::<RoutePattern>() else { return };
    let answer = Answering { status: 503, retry_after: None, body: path.into() };
    let closed = Closed { by: "switch a".into(), routes: vec![route.clone()], answer };
    let Ok(entries) = entries(&[closed]) else { return };
    let (key, value) = &entries[0];
    assert!(!key.contains([' ', '\n']) && !value.contains([' ', '\n', ';']), "{key:?} {value:?} ends its command");
    let plain = path.starts_with('/') && !path.contains("//");
    if !plain || !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_~!$&'()*+,=:@".contains(&byte)) {
        return;
    }
    let expression = RegexBuilder::new(key).build().unwrap();
    for method in ["GET", "POST"] {
        let request = format!("{method}:{}", path.to_ascii_lowercase());
        assert_eq!(expression.is_match(&request), route.covers(method, path), "{pattern:?} is {key:?}: {request:?}");
    }
}
