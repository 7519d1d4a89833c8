//! HAProxy's weights, whole numbers up to 256 for each server, that come nearest to a share.

use lastgood_domain::traffic::{SEATS, Share};
use serde::{Deserialize, Serialize};

/// HAProxy's largest weight.
const MAX: u16 = 256;
/// What differs by less counts as equally near: a twentieth of a seat.
const SAME: f64 = 0.05 / SEATS as f64;
/// How far off the share may be so that nobody moves the other way, as a part of the smaller side: less than a hash is off by
/// itself.
const KEEP: f64 = 0.05;

/// The weight of each server of either side; both get some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Of each of last-good's servers.
    pub last_good: u16,
    /// Of each of the candidate's.
    pub candidate: u16,
}

impl Weights {
    /// A side that serves alone.
    pub(super) const ALONE: u16 = MAX;

    /// Chooses for a share between none and all; `servers` are last-good's and the candidate's, both at least one.
    ///
    /// With `before`, weights that only grow on one side and only fall on the other come first: with a consistent hash
    /// nobody moves back then while the share grows. Near none and all, and with several servers of a candidate
    /// against few, the weights are too coarse for it in some cases.
    pub fn nearest(share: Share, servers: (usize, usize), before: Option<Self>) -> Self {
        let wanted = f64::from(share.seats()) / f64::from(SEATS);
        let ratio = wanted / (1.0 - wanted) * servers.0 as f64 / servers.1 as f64;
        let pairs = (1..=MAX).flat_map(move |last_good| {
            let ideal = (f64::from(last_good) * ratio).floor().min(f64::from(MAX)) as u16;
            // What the candidate has already may be as good.
            [ideal, ideal + 1, before.map_or(1, |before| before.candidate)]
                .map(|candidate| Self { last_good, candidate: candidate.clamp(1, MAX) })
        });
        let all: Vec<Self> = pairs.collect();
        let error = |pair: &Self| (pair.part(servers) - wanted).abs();
        let least = |pairs: &[Self]| pairs.iter().map(error).fold(f64::INFINITY, f64::min);
        let near_enough = least(&all) + KEEP * wanted.min(1.0 - wanted);
        let keeps = |pair: &Self| {
            before.is_some_and(|before| {
                if before.part(servers) <= wanted {
                    pair.candidate >= before.candidate && pair.last_good <= before.last_good
                } else {
                    pair.candidate <= before.candidate && pair.last_good >= before.last_good
                }
            })
        };
        let keeping: Vec<Self> = all.iter().filter(|pair| keeps(pair) && error(pair) <= near_enough).copied().collect();
        let pairs = if keeping.is_empty() { all } else { keeping };
        let least = least(&pairs);
        let nearest = pairs.into_iter().filter(|pair| error(pair) <= least + SAME);
        // Larger weights spread a hash more evenly.
        nearest
            .max_by_key(|pair| (pair.last_good + pair.candidate, pair.last_good))
            .unwrap_or(Self { last_good: MAX, candidate: 1 })
    }

    /// Gives the share that the candidate gets by them, to the seat.
    pub fn share(self, servers: (usize, usize)) -> Share {
        Share::of_seats((self.part(servers) * f64::from(SEATS)).round() as u16)
    }

    fn part(self, servers: (usize, usize)) -> f64 {
        let last_good = f64::from(self.last_good) * servers.0 as f64;
        let candidate = f64::from(self.candidate) * servers.1 as f64;
        candidate / (last_good + candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(last_good: u16, candidate: u16) -> Weights {
        Weights { last_good, candidate }
    }

    #[test]
    fn the_usual_shares_are_met_to_the_seat() {
        for (percent, servers, weights) in [
            (5, (1, 1), pair(247, 13)),
            (25, (1, 1), pair(255, 85)),
            (50, (1, 1), pair(256, 256)),
            (75, (1, 1), pair(85, 255)),
            (5, (4, 1), pair(247, 52)),
            (5, (1, 4), pair(228, 3)),
            (25, (4, 2), pair(255, 170)),
        ] {
            let share = Share::percent(percent);
            let got = Weights::nearest(share, servers, None);
            assert_eq!((got, got.share(servers)), (weights, share), "{percent} % of {servers:?}");
        }
    }

    #[test]
    fn a_share_that_no_weights_give_is_met_as_near_as_can_be_and_said() {
        // One seat of 10,000: 1 of 256 + 1 is the least there is.
        let least = Weights::nearest(Share::of_seats(1), (1, 1), None);
        assert_eq!((least, least.share((1, 1))), (pair(256, 1), Share::of_seats(39)));
        let most = Weights::nearest(Share::of_seats(9_999), (1, 1), None);
        assert_eq!((most, most.share((1, 1))), (pair(1, 256), Share::of_seats(9_961)));
        let third = Weights::nearest(Share::of_seats(3_333), (1, 1), None);
        assert_eq!(third.share((1, 1)), Share::of_seats(3_333));
    }

    #[test]
    fn all_shares_from_half_a_percent_on_are_within_a_seat_of_what_was_asked() {
        for seats in 50..=9_950 {
            let got = Weights::nearest(Share::of_seats(seats), (1, 1), None).share((1, 1)).seats();
            assert!(got.abs_diff(seats) <= 10, "{seats} became {got}");
        }
    }

    #[test]
    fn as_the_share_grows_one_side_only_grows_and_the_other_only_falls_and_back_again() {
        for servers in [(1, 1), (3, 1), (4, 4)] {
            let up = [5, 10, 25, 33, 50, 75, 90];
            let mut before: Option<Weights> = None;
            for percent in up.into_iter().chain(up.into_iter().rev()) {
                let share = Share::percent(percent);
                let next = Weights::nearest(share, servers, before);
                assert!(next.share(servers).seats().abs_diff(share.seats()) <= 60, "{percent} % became {next:?}");
                if let Some(before) = before {
                    let grows = before.share(servers) <= share;
                    let (low, high) = if grows { (before, next) } else { (next, before) };
                    assert!(
                        low.candidate <= high.candidate && low.last_good >= high.last_good,
                        "{before:?} became {next:?} at {percent} % of {servers:?}"
                    );
                }
                before = Some(next);
            }
        }
    }
}
