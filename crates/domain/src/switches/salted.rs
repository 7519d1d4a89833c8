//! The seat of traffic for one salt, asked for again and again: the salt is hashed once.

use crate::traffic::SEATS;
use alloc::vec::Vec;

/// A salt that was hashed; gives the same seats as [`crate::traffic::seat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salted(u64);

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Salted {
    pub(super) fn new(salt: &[u8]) -> Self {
        Self(add(OFFSET, salt.iter().chain(&[0])))
    }

    /// Gives the seat of `key`.
    pub(super) fn seat(self, key: &[u8]) -> u16 {
        seat_of(add(self.0, key.iter()))
    }

    /// Gives the seat of `key` for each of `salts`, in their order.
    ///
    /// Each byte of a hash waits for the one before; of eight hashes side by side the processor has eight at a time.
    pub(super) fn seats(salts: &[Self], key: &[u8]) -> Vec<u16> {
        let mut seats = Vec::with_capacity(salts.len());
        let (eights, rest) = salts.as_chunks::<8>();
        for eight in eights {
            let mut hashes = [0; 8];
            hashes.iter_mut().zip(eight).for_each(|(hash, salt)| *hash = salt.0);
            for byte in key {
                // A plain loop: an array's own `map` stays a call here.
                for hash in &mut hashes {
                    *hash = (*hash ^ u64::from(*byte)).wrapping_mul(PRIME);
                }
            }
            seats.extend(hashes.iter().copied().map(seat_of));
        }
        seats.extend(rest.iter().map(|salt| salt.seat(key)));
        seats
    }
}

/// Gives the seat of a hash that every byte was added to.
fn seat_of(mut hash: u64) -> u16 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    ((u128::from(hash) * u128::from(SEATS)) >> 64) as u16
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
    fn many_salts_at_once_give_the_seats_of_traffic() {
        for count in [0, 1, 7, 8, 9, 16, 100] {
            let names: Vec<_> = (0..count).map(|number| format!("flag-{number}")).collect();
            let salts: Vec<Salted> = names.iter().map(|name| Salted::new(name.as_bytes())).collect();
            for key in ["", "a", "person-17"] {
                let seats: Vec<u16> = names.iter().map(|name| seat(key.as_bytes(), name.as_bytes())).collect();
                assert_eq!(Salted::seats(&salts, key.as_bytes()), seats);
            }
        }
    }

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
