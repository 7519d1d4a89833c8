//! A plain connection: it opens, and perhaps the service says what it should.

use super::{
    answer::{Answer, Lookup},
    config::TcpKeys,
    run::no_value,
    variables::{self, Place},
    wire::{Base, Trouble},
};
use std::{
    io::{self, Read as _, Write as _},
    time::Instant,
};

/// Most bytes read while a pattern is awaited: greetings and replies are lines.
const READ_BYTES_MAX: usize = 64 << 10;

/// Connects, sends and awaits.
pub(crate) fn converse(base: &Base, keys: &TcpKeys, value: Lookup<'_>, until: Instant) -> Result<Answer, Trouble> {
    let send =
        keys.send.as_deref().map(|text| variables::expand(text, Place::Plain, value)).transpose().map_err(no_value)?;
    let expect = keys.expect.as_ref().map(|pattern| pattern.regex(value)).transpose().map_err(Trouble::config)?;
    let mut wire = base.connect(until)?;
    if let Some(text) = send {
        wire.write_all(text.as_bytes()).map_err(|error| Trouble::of_io(&error, "nothing"))?;
    }
    let Some(expect) = expect else {
        return Ok(Answer::default());
    };
    let mut read = Vec::new();
    let mut part = [0; 4 << 10];
    loop {
        let text = String::from_utf8_lossy(&read);
        if expect.is_match(&text) {
            return Ok(Answer { body: read, ..Answer::default() });
        }
        let so_far = || match text.trim() {
            "" => "nothing that fits".to_owned(),
            said => format!("only {said:?}"),
        };
        if read.len() > READ_BYTES_MAX {
            return Err(Trouble::failed(format!("more than {READ_BYTES_MAX} bytes that don't fit")));
        }
        let count = match wire.read(&mut part) {
            Ok(0) => {
                return Err(Trouble::of_io(&io::ErrorKind::UnexpectedEof.into(), &so_far()));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(Trouble::of_io(&error, &so_far())),
        };
        read.extend_from_slice(&part[..count]);
    }
}
