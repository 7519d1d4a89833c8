//! A fuzz target for the addresses of databases.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::postgres::Address;
use std::str;

/// An address is written as it is read, and never with a password.
pub(crate) fn postgres_address(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    assert!(url || format!("{text} password=x").parse::<Address>().is_err(), "a password is taken");
    let written = address.to_string();
    // Only what has no blanks can be written in words.
    if written.chars().filter(|c| c.is_whitespace()).count() == 3 {
        assert_eq!(written.parse::<Address>().unwrap(), address, "{written:?}");
    }
    assert_eq!(address.with_user("other").user(), "other");
}
