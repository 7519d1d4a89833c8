//! How long an instance has been idle, as far as anybody looked: one answer tells of one instant only.

use crate::{facts::Busyness, terms::Span};
use alloc::format;

/// The idle answers of one instance that came one after the other, on a clock that only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quiet {
    /// When the first and the last of them came.
    idle: Option<(Span, Span)>,
}

/// Gives how often an instance is looked at to see a quiet period of `quiet`: four times in it, every 1 to 10 s.
pub fn look_every(quiet: Span) -> Span {
    Span(quiet.0 / 4).clamp(Span::seconds(1), Span::seconds(10))
}

impl Quiet {
    /// Takes in what a look at `at` said, and gives what that means: idle only once every look for `quiet` said so.
    ///
    /// A busy or missing answer starts the period anew, and so does a gap of more than three looks: nobody saw what was in it.
    pub fn hear(&mut self, answer: Busyness, at: Span, quiet: Span) -> Busyness {
        if answer != Busyness::Idle {
            self.idle = None;
            return answer;
        }
        let gap_max = look_every(quiet).0 * 3;
        let since = match self.idle {
            Some((since, last)) if at.0.saturating_sub(last.0) <= gap_max => since,
            _ => at,
        };
        self.idle = Some((since, at));
        let idle = Span(at.0.saturating_sub(since.0));
        if idle >= quiet {
            return Busyness::Idle;
        }
        Busyness::Busy(format!("idle for {idle} so far; it moves once it was for {quiet}"))
    }

    /// Tells whether the looks up to now saw it idle for `quiet`, and the last is none of long ago.
    pub fn is_over(&self, at: Span, quiet: Span) -> bool {
        let gap_max = look_every(quiet).0 * 3;
        self.idle.is_some_and(|(since, last)| last.0 - since.0 >= quiet.0 && at.0.saturating_sub(last.0) <= gap_max)
    }
}
