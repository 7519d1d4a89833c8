//! The seat of traffic for one salt, asked for again and again: the salt is hashed once.

use crate::traffic::SEATS;

/// A salt that was hashed; gives the same seats as [`crate::traffic::seat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salted(u64);

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Salted {
    pub(super) fn new(salt: &[u8]) -> Self {
        Self(add(OFFSET, salt.iter().chain(&[0])))
    }

    /// Gives the seat of `key`. No branch depends on it, so that the processor can begin with the next flag's.
    pub(super) fn seat(self, key: &[u8]) -> u16 {
        let mut hash = add(self.0, key.iter());
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        ((u128::from(hash) * u128::from(SEATS)) >> 64) as u16
    }
}

fn add<'a>(hash: u64, bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::seat;
    use alloc::format;

    #[test]
    fn a_salt_hashed_before_gives_the_seats_of_traffic() {
        for salt in ["", "a", "new-editor", "chat 1.1.0", "ä\0"] {
            assert_eq!(Salted::new(salt.as_bytes()).seat(b""), seat(b"", salt.as_bytes()));
            for number in 0..500 {
                let key = format!("person-{number}");
                assert_eq!(Salted::new(salt.as_bytes()).seat(key.as_bytes()), seat(key.as_bytes(), salt.as_bytes()));
            }
        }
    }
}
