//! Fuzz targets for the readers of this crate; see `cargo xtask fuzz`. Not a part of what is shipped.
//!
//! Each takes any bytes and panics if what it promises does not hold.

use crate::{
    Message, Safe,
    json::parse,
    stream::{Events, Wrong},
};
use std::str;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[("switch_message", switch_message), ("switch_stream", switch_stream)];

/// A message means the same when it is written again, and nothing that is cut is one.
pub fn switch_message(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    assert!(parse(text).is_none() || parse(&format!(" {text}\n")) == parse(text), "blanks change {text:?}");
    assert!(parse(text).is_none() || parse(&format!("{text}}}")).is_none(), "{text:?} is read with more behind it");
    let Some(message) = Message::read(text) else { return };
    let switches: Vec<String> = message
        .switches
        .iter()
        .map(|one| {
            let safe = if one.safe == Safe::AsHeard { "as-heard" } else { "tripped" };
            format!("{{\"name\":\"{}\",\"tripped\":{},\"safe\":\"{safe}\"}}", one.name, one.tripped)
        })
        .collect();
    let written = format!(
        "{{\"environment\":\"{}\",\"epoch\":{},\"lease_ms\":{},\"switches\":[{}]}}",
        message.environment,
        message.epoch,
        message.lease.as_millis(),
        switches.join(",")
    );
    assert_eq!(Message::read(&written).as_ref(), Some(&message), "{text:?} is written {written:?}");
    let trimmed = text.trim_end();
    assert_eq!(Message::read(&trimmed[..trimmed.len() - 1]), None, "a cut message is taken");
}

/// The events of a stream are the same however its bytes arrive.
pub fn switch_stream(bytes: &[u8]) {
    let read = |cut: usize| -> Result<Vec<String>, Wrong> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for piece in bytes.chunks(cut) {
            events.add(piece);
            while let Some(data) = events.next()? {
                found.push(data);
            }
        }
        Ok(found)
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(read(1), whole);
    assert_eq!(read(5), whole);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_reader_of_the_client_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(super::TARGETS);
    }
}
