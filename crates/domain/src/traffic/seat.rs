//! One hash of a stable id into 10,000 seats, with the share as a threshold.
//!
//! As a share grows nobody moves back, because a seat below the threshold stays below it; as it falls to nothing
//! everybody returns. The function is part of what users see, so it never changes: its test has fixed answers.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Number of seats; a share of one seat is 0.01 %.
pub const SEATS: u16 = 10_000;

/// Gives the seat of `key`, 0 to [`SEATS`] - 1.
///
/// Another `salt` (such as the release that is rolled out) seats everybody anew, so that not the same people are
/// first each time. FNV-1a over salt, a zero byte and key, then the finaliser of MurmurHash3, because FNV alone leaves
/// the high bits of short keys alike; both are public domain.
pub fn seat(key: &[u8], salt: &[u8]) -> u16 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = salt.iter().chain(&[0]).chain(key);
    let mut hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let seat = (u128::from(hash) * u128::from(SEATS)) >> 64;
    u16::try_from(seat).unwrap_or(SEATS - 1)
}

/// A share of traffic: how many of the [`SEATS`] belong to the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u16);

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(SEATS);

    /// Makes a share of `seats`; more than all are all.
    pub const fn of_seats(seats: u16) -> Self {
        Self(if seats > SEATS { SEATS } else { seats })
    }

    /// Makes a share of whole percents; more than 100 are 100.
    pub const fn percent(percent: u8) -> Self {
        Self::of_seats(percent as u16 * 100)
    }

    /// Gives the number of seats.
    pub const fn seats(self) -> u16 {
        self.0
    }

    /// Tells whether `seat` is in it.
    pub const fn has(self, seat: u16) -> bool {
        seat < self.0
    }
}

impl fmt::Display for Share {
    /// Writes it as people say it: `5 %`, `0.25 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole} %"),
            _ if part % 10 == 0 => write!(f, "{whole}.{} %", part / 10),
            _ => write!(f, "{whole}.{part:02} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString as _};

    /// Answers of an independent implementation.
    #[test]
    fn seats_never_change() {
        let seats = |salt: &str| ["", "a", "alice", "bob"].map(|key| seat(key.as_bytes(), salt.as_bytes()));
        assert_eq!(seats(""), [7227, 3783, 8286, 3313]);
        assert_eq!(seats("chat 1.1.0"), [9265, 7977, 4489, 6090]);
    }

    #[test]
    fn seats_are_taken_evenly() {
        let mut taken = [0_u32; 100];
        for person in 0..100_000 {
            taken[usize::from(seat(format!("person-{person}").as_bytes(), b"salt") / 100)] += 1;
        }
        // 1,000 each, five standard deviations (31.5) to either side.
        assert!(taken.iter().all(|count| (840..1160).contains(count)), "{taken:?}");
    }

    #[test]
    fn a_share_is_said_as_people_say_it() {
        let said = [Share::percent(5), Share::of_seats(25), Share::of_seats(1250), Share::ALL].map(|s| s.to_string());
        assert_eq!(said, ["5 %", "0.25 %", "12.5 %", "100 %"]);
    }
}
