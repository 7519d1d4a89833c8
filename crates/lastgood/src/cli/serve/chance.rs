//! Chance for schedules, so that many machines don't ask at the same second.

/// Draws a byte for the jitter; no randomness at hand is no reason not to run.
pub(super) fn rand_byte() -> u8 {
    let mut byte = [0; 1];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut byte)) {
        Ok(()) => byte[0],
        Err(_) => 128,
    }
}
