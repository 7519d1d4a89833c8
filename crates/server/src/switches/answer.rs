//! Which request gets which answer. Everything but a trip is answered on the spot.

use super::{
    board::problem,
    context::{Asked, Unread},
    given::{Answer as Flag, EVENTS, Given},
    http::{Answer, Request},
};
use lastgood_domain::{
    failure::Failure,
    terms::{Reason, SwitchName},
};
use serde::Deserialize;
use serde_json::json;

/// The path of all flags; one flag is below it.
const FLAGS: &str = "/ofrep/v1/evaluate/flags";
/// The path of all switches.
const SWITCHES: &str = "/v1/switches";

/// What happens to a connection after a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// An answer was written.
    Answered,
    /// It becomes a stream of the switches.
    Switches,
    /// It becomes a stream of events that say: evaluate again.
    Events,
    /// The board is asked to trip a switch, and answers later.
    Trip(SwitchName, Reason),
}

/// Answers a request, or says what else becomes of it. `fresh` tells whether the board has looked lately; `token` is what a
/// trip must have.
pub(super) fn answer(
    request: &Request<'_>,
    given: &Given,
    (fresh, token): (bool, Option<&str>),
    out: &mut Vec<u8>,
) -> Then {
    let keep = request.keep;
    let mut refuse = |status, code, what: &str, hint| {
        let failure = Failure::new(code, what, Some(hint));
        Answer { status, tag: None, keep }
            .write(out, |out| out.extend_from_slice(problem(&failure).to_string().as_bytes()));
        Then::Answered
    };
    let path = request.path;
    let trip = path.strip_prefix(SWITCHES).and_then(|rest| rest.strip_prefix('/')?.strip_suffix("/trip"));
    let one_flag = path.strip_prefix(FLAGS).and_then(|rest| rest.strip_prefix('/'));
    let wanted = match path {
        SWITCHES | "/v1/switches/stream" | EVENTS => "GET",
        FLAGS => "POST",
        _ if trip.is_some() || one_flag.is_some() => "POST",
        _ => {
            return refuse(
                404,
                "api-path-unknown",
                "there is nothing at this path",
                "lastgood explain api-path-unknown",
            );
        }
    };
    if request.method != wanted {
        return refuse(405, "api-method-wrong", "this path takes another method", "lastgood explain api-method-wrong");
    }
    match path {
        SWITCHES if !fresh => {
            let what = "the evidence could not be read lately, so nobody knows how the switches stand";
            refuse(503, "switches-unread", what, "see what the daemon says, and: lastgood evidence verify")
        }
        SWITCHES => {
            Answer { status: 200, tag: None, keep }.write(out, |out| out.extend_from_slice(&given.switches_json));
            Then::Answered
        }
        "/v1/switches/stream" => Then::Switches,
        EVENTS => Then::Events,
        FLAGS => {
            all_flags(request, given, out);
            Then::Answered
        }
        _ => match (trip, one_flag) {
            (Some(name), _) => match trip_of(request, name, token) {
                Ok((switch, reason)) => Then::Trip(switch, reason),
                Err((status, code, what, hint)) => refuse(status, code, &what, hint),
            },
            (None, key) => {
                flag(request, key.unwrap_or_default(), given, out);
                Then::Answered
            }
        },
    }
}

fn all_flags(request: &Request<'_>, given: &Given, out: &mut Vec<u8>) {
    let keep = request.keep;
    let tag = given.tag(request.body);
    // Equal only if this very body was answered with these very flags: nothing needs to be read or evaluated.
    if request.if_none_match.is_some_and(|known| known.contains(&tag)) {
        Answer { status: 304, tag: Some(&tag), keep }.write(out, |_| ());
        return;
    }
    match Asked::read(request.body) {
        Ok(asked) => Answer { status: 200, tag: Some(&tag), keep }.write(out, |out| given.all(&asked, out)),
        Err(unread) => error(400, keep, out, None, &unread),
    }
}

fn flag(request: &Request<'_>, key: &str, given: &Given, out: &mut Vec<u8>) {
    let keep = request.keep;
    let key = decoded(key);
    let asked = match Asked::read(request.body) {
        Ok(asked) => asked,
        Err(unread) => return error(400, keep, out, Some(&key), &unread),
    };
    let mut write = |status, text: &[u8]| {
        Answer { status, tag: None, keep }.write(out, |out| out.extend_from_slice(text));
    };
    match given.one(&key, &asked) {
        Flag::Value(text) => write(200, text),
        Flag::Error(text) => write(400, text),
        Flag::Unknown => {
            let details = "there is no such flag; see which there are: lastgood flag list";
            let text = json!({ "key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details });
            write(404, text.to_string().as_bytes());
        }
    }
}

fn error(status: u16, keep: bool, out: &mut Vec<u8>, key: Option<&str>, unread: &Unread) {
    let (code, details) = unread.parts();
    let mut text = json!({ "errorCode": code, "errorDetails": details });
    if let Some(key) = key {
        text["key"] = key.into();
    }
    Answer { status, tag: None, keep }.write(out, |out| out.extend_from_slice(text.to_string().as_bytes()));
}

/// What a trip must say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TripBody {
    reason: Reason,
}

type Refusal = (u16, &'static str, String, &'static str);

fn trip_of(request: &Request<'_>, name: &str, token: Option<&str>) -> Result<(SwitchName, Reason), Refusal> {
    const EXAMPLE: &str = "send application/json: {\"reason\":\"…\"}";
    if request.has_origin {
        let what = "a browser's page may not trip a switch".into();
        return Err((403, "api-browser-refused", what, "use the command line: lastgood switch trip NAME --reason …"));
    }
    if let Some(token) = token {
        let sent = request.authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !is_same(sent.as_bytes(), token.as_bytes()) {
            let what = "the bearer token is missing or wrong".into();
            return Err((401, "api-token-wrong", what, "send the secret that [switches] token names"));
        }
    }
    if !request.is_json {
        return Err((415, "api-body-wrong", "the body must be application/json".into(), EXAMPLE));
    }
    let body: TripBody = serde_json::from_slice(request.body)
        .map_err(|error| (400, "api-body-wrong", format!("the body can't be read: {error}"), EXAMPLE))?;
    let switch = SwitchName::new(&decoded(name))
        .map_err(|error| (404, "switch-unknown", error.to_string(), "see which there are: lastgood switch list"))?;
    Ok((switch, body.reason))
}

/// Compares two texts in a time that does not tell where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

/// Decodes `%3A` and its like; what is no code stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        // A number's reader takes a sign for a digit.
        let two = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').filter(two);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
