//! Fuzz targets for what is asked of flags and switches. Each panics if what it promises does not hold.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::{
    answer::decoded,
    context::Asked,
    http::{Read, read},
};
use lastgood_domain::switches::{Attribute, Context as _};
use serde_json::Value;
use std::str;

/// A request is read alike however its bytes arrive, and is all that was taken of them.
pub(crate) fn switches_request(bytes: &[u8]) {
    let Read::Whole(request) = read(bytes) else { return };
    let length = request.length;
    assert!(length <= bytes.len() && request.body.len() <= length);
    let Read::Whole(alone) = read(&bytes[..length]) else { panic!("what follows a request changes it") };
    assert_eq!(
        (alone.method, alone.path, alone.body, alone.keep),
        (request.method, request.path, request.body, request.keep)
    );
    for end in 0..length {
        assert!(matches!(read(&bytes[..end]), Read::Part(_)), "{end} of {length} bytes are not waited for");
    }
}

/// Who asks is what any reader of JSON sees.
pub(crate) fn ofrep_context(bytes: &[u8]) {
    let Ok(asked) = Asked::read(bytes) else { return };
    if bytes.is_empty() {
        return;
    }
    let text = str::from_utf8(bytes).unwrap();
    // Half a pair of surrogates in what is passed over is nobody's matter.
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let Value::Object(context) = &value["context"] else { return };
    assert_eq!(asked.targeting_key(), context.get("targetingKey").and_then(Value::as_str));
    for (name, one) in context.iter().filter(|(name, _)| *name != "targetingKey") {
        match (asked.attribute(name), one) {
            (Attribute::Text(mine), Value::String(theirs)) => assert_eq!(mine, theirs),
            (Attribute::Boolean(mine), Value::Bool(theirs)) => assert_eq!(mine, *theirs),
            (Attribute::Number(mine), Value::Number(theirs)) => assert_eq!(Some(mine), theirs.as_f64()),
            (Attribute::Absent, Value::Null | Value::Array(_) | Value::Object(_)) => {}
            (_, other) => panic!("{name:?} is read otherwise than {other}"),
        }
    }
}

/// A name in a path comes back from its escaped form, and what is no escape stays.
pub(crate) fn escaped_name(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(decoded(&escaped), text);
    let two = |at: usize| text.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !text.bytes().enumerate().any(|(at, byte)| byte == b'%' && two(at)) {
        assert_eq!(decoded(text), text, "what is no escape is changed");
    }
}
