//! What of a router's seconds is new to who has its place among them, also when the clock was set back.

/// Seconds that the clock must have gone back before counting begins again.
const CLOCK_BACK: u64 = 10;

/// What a second is to who has taken some already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The next one.
    Next,
    /// The first after the clock was set back.
    SetBack,
    /// Nothing new.
    Taken,
}

/// Places a router's `second` behind the newest one `taken`, which is moved on; `now` is what the clock shows.
///
/// That the clock shows an earlier time is not enough: until the router counts by it, it would give again what was
/// taken before.
pub(super) fn place(taken: &mut u64, second: u64, now: u64) -> Place {
    let place = if second > *taken {
        Place::Next
    } else if *taken > now.saturating_add(CLOCK_BACK) {
        Place::SetBack
    } else {
        return Place::Taken;
    };
    *taken = second;
    place
}
