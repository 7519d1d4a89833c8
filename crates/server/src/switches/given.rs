//! What is given now: everything that can be written beforehand is, so that a question costs a few copies.

use super::context::Asked;
use lastgood_domain::{
    switches::{Compiled, Failed, Live, Why},
    terms::{Digest, FlagKey},
};
use lastgood_engine::{config::SwitchesConfig, switches::Folded};
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// After how long without being looked at a client may let go of the event stream: OFREP's own default.
const INACTIVITY_SECONDS: u32 = 120;
/// Where the event stream is.
pub(super) const EVENTS: &str = "/ofrep/v1/events";
/// Bytes of an `ETag` that are digest: as many as no chance and nobody without our evidence makes twice.
const TAG_BYTES: usize = 16;

/// The flags and switches of one epoch, ready to be given.
pub(super) struct Given {
    pub(super) epoch: u64,
    /// How long programs go on without hearing of us.
    pub(super) lease: Duration,
    /// Digest over all that decides about flags.
    pub(super) version: Digest,
    flags: Vec<Ready>,
    places: HashMap<FlagKey, usize>,
    /// The answer to a question for all flags, in order.
    pieces: Vec<Piece>,
    /// The places of those flags that depend on who asks, in order.
    asked: Vec<usize>,
    /// Longest answer to a question for all flags.
    length: usize,
    tail: Vec<u8>,
    /// The event of the switches' stream.
    pub(super) switches_event: Arc<[u8]>,
    /// The event that tells clients to evaluate again.
    pub(super) refetch_event: Arc<[u8]>,
    /// The state of the switches as one document.
    pub(super) switches_json: Vec<u8>,
}

/// A part of the answer to a question for all flags.
enum Piece {
    /// The same for everybody.
    Fixed(Vec<u8>),
    /// Depends on who asks: the flag's place.
    Asked(usize),
}

/// One flag with every answer it can give.
struct Ready {
    compiled: Compiled,
    /// By variant and reason; the last row is without a variant.
    answers: Vec<Vec<u8>>,
    no_key: Vec<u8>,
    conflict: Vec<u8>,
}

/// What one flag gives somebody.
pub(super) enum Answer<'a> {
    /// A value, or that the program's own is to be used.
    Value(&'a [u8]),
    /// An error; programs use their own value.
    Error(&'a [u8]),
    /// There is no such flag.
    Unknown,
}

impl Given {
    /// Makes everything ready.
    pub(super) fn new(config: &SwitchesConfig, folded: &Folded) -> Self {
        let declared = config.declared();
        let live = folded.state.live(&declared.flags);
        let version = version(&live);
        let flags: Vec<Ready> = live.iter().map(|(key, live)| Ready::new(key, live)).collect();
        let places = live.iter().enumerate().map(|(place, (key, _))| ((*key).clone(), place)).collect();
        let streams = json!([{ "type": "sse", "endpoint": { "requestUri": EVENTS },
                               "inactivityDelaySec": INACTIVITY_SECONDS }]);
        let tail = format!("],\"eventStreams\":{streams},\"metadata\":{{\"version\":\"{}\"}}}}", version.short());
        let state = state(config, folded);
        let epoch = folded.state.epoch;
        let pieces = pieces(&flags);
        let asked = pieces.iter().filter_map(|piece| match piece {
            Piece::Asked(place) => Some(*place),
            Piece::Fixed(_) => None,
        });
        let longest = |place: &usize| flags[*place].answers.iter().map(Vec::len).max().unwrap_or(0);
        let length = pieces.iter().map(|piece| match piece {
            Piece::Asked(place) => longest(place) + 1,
            Piece::Fixed(text) => text.len() + 1,
        });
        let refetch = json!({ "type": "refetchEvaluation", "etag": format!("\"{}\"", version.short()) });
        Self {
            epoch,
            lease: config.lease.duration(),
            version,
            asked: asked.collect(),
            length: length.sum::<usize>() + tail.len() + 16,
            pieces,
            flags,
            places,
            tail: tail.into_bytes(),
            switches_event: format!("id: {epoch}\ndata: {state}\n\n").into_bytes().into(),
            refetch_event: format!("id: {epoch}\nevent: message\ndata: {refetch}\n\n").into_bytes().into(),
            switches_json: state.to_string().into_bytes(),
        }
    }

    /// Gives the tag of the answer to this body: equal only for the same flags and the same body, byte by byte.
    ///
    /// The body is not read for it. The same context written in another way has another tag, which costs an evaluation;
    /// another context never has the same.
    pub(super) fn tag(&self, body: &[u8]) -> String {
        let mut all = Vec::with_capacity(32 + body.len());
        all.extend_from_slice(&self.version.0);
        all.extend_from_slice(body);
        let digest = Digest::of(&all);
        let mut tag = String::with_capacity(2 + 2 * TAG_BYTES);
        tag.push('"');
        for byte in &digest.0[..TAG_BYTES] {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            tag.push(char::from(DIGITS[usize::from(byte >> 4)]));
            tag.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        tag.push('"');
        tag
    }

    /// Gives what one flag gives.
    pub(super) fn one(&self, key: &str, asked: &Asked<'_>) -> Answer<'_> {
        let place = FlagKey::new(key).ok().and_then(|key| self.places.get(&key));
        let Some(place) = place else { return Answer::Unknown };
        let flag = &self.flags[*place];
        flag.answer(asked, flag.compiled.seat(asked))
    }

    /// Writes what all flags give. A flag that can't be told is an error among the others.
    pub(super) fn all(&self, asked: &Asked<'_>, out: &mut Vec<u8>) {
        // All seats first: what is given depends on them, and the processor can't guess it.
        let seats: Vec<Option<u16>> = self.asked.iter().map(|place| self.flags[*place].compiled.seat(asked)).collect();
        let mut seats = seats.into_iter();
        out.reserve(self.length);
        out.extend_from_slice(b"{\"flags\":[");
        let mut first = true;
        for piece in &self.pieces {
            if !first {
                out.push(b',');
            }
            first = false;
            match piece {
                Piece::Fixed(text) => out.extend_from_slice(text),
                Piece::Asked(place) => match self.flags[*place].answer(asked, seats.next().flatten()) {
                    Answer::Value(text) | Answer::Error(text) => out.extend_from_slice(text),
                    Answer::Unknown => {}
                },
            }
        }
        out.extend_from_slice(&self.tail);
    }
}

impl Ready {
    fn new(key: &FlagKey, live: &Live<'_>) -> Self {
        let compiled = Compiled::new(key, live);
        let mut answers = Vec::new();
        let values = compiled.variants.iter().map(|name| Some((name, &live.definition.variants[name])));
        for value in values.chain([None]) {
            for why in Why::ALL {
                let mut text = format!("{{\"key\":\"{key}\",\"reason\":\"{}\"", why.word());
                match value {
                    // Names and keys have no character that JSON would write otherwise; the value is JSON as it stands.
                    Some((name, value)) => text += &format!(",\"variant\":\"{name}\",\"value\":{value}"),
                    // Some providers fail without a variant; without a value they all use the program's own.
                    None => text += ",\"variant\":\"code-default\"",
                }
                if let (Why::Disabled, Some(switch)) = (why, &live.tripped) {
                    text += &format!(",\"metadata\":{{\"tripped\":\"{switch}\"}}");
                }
                text.push('}');
                answers.push(text.into_bytes());
            }
        }
        let error = |code: &str, failed: Failed| {
            json!({ "key": key, "errorCode": code, "errorDetails": failed.to_string() }).to_string().into_bytes()
        };
        Self {
            compiled,
            answers,
            no_key: error("TARGETING_KEY_MISSING", Failed::NoTargetingKey),
            conflict: error("GENERAL", Failed::Conflict),
        }
    }

    fn answer(&self, asked: &Asked<'_>, seat: Option<u16>) -> Answer<'_> {
        match self.compiled.evaluate_at(asked, seat) {
            Ok(outcome) => {
                let row = outcome.variant.map_or(self.compiled.variants.len(), usize::from);
                Answer::Value(&self.answers[row * Why::ALL.len() + outcome.why as usize])
            }
            Err(Failed::NoTargetingKey) => Answer::Error(&self.no_key),
            Err(Failed::Conflict) => Answer::Error(&self.conflict),
        }
    }
}

/// Joins neighbours that are the same for everybody.
fn pieces(flags: &[Ready]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (place, flag) in flags.iter().enumerate() {
        if !flag.compiled.is_same_for_all() {
            pieces.push(Piece::Asked(place));
            continue;
        }
        let text = match flag.answer(&Asked::default(), None) {
            Answer::Value(text) | Answer::Error(text) => text,
            Answer::Unknown => continue,
        };
        match pieces.last_mut() {
            Some(Piece::Fixed(before)) => {
                before.push(b',');
                before.extend_from_slice(text);
            }
            _ => pieces.push(Piece::Fixed(text.to_vec())),
        }
    }
    pieces
}

fn version(live: &[(&FlagKey, Live<'_>)]) -> Digest {
    let flags: Vec<_> =
        live.iter().map(|(key, live)| json!([key, live.definition, live.on, live.tripped, live.conflict])).collect();
    Digest::of(serde_json::Value::from(flags).to_string().as_bytes())
}

/// Makes the document that programs hear: every switch, what it is, and what to do without us.
fn state(config: &SwitchesConfig, folded: &Folded) -> serde_json::Value {
    let state = &folded.state;
    let mut names = config.declared().switches();
    names.extend(state.tripped.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    let switches: Vec<_> = names
        .iter()
        .map(|name| json!({ "name": name, "tripped": state.is_tripped(name.as_str()), "safe": config.safe_of(name) }))
        .collect();
    json!({
        "environment": config.environment, "epoch": state.epoch, "lease_ms": config.lease.0.0, "switches": switches,
    })
}
