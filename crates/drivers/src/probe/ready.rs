//! Waits for an instance to become ready, in the tightest loop that does no harm: every millisecond here is one that
//! users of a rolled-back instance wait.

use super::{
    ProbeTarget,
    config::Step,
    failure::{Attempt, FailureKind, ProbeFailure, ReadyFailure},
    run::{Session, refused, span},
    wire::{Base, Trouble},
};
use lastgood_domain::terms::Span;
use std::{
    thread,
    time::{Duration, Instant},
};

/// The first pause: small programs listen within a few milliseconds.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// A pause is this part of the time waited so far: an answer is noticed at most that much too late.
const PAUSE_SHARE: u32 = 8;
/// The longest pause: 40 questions a second load nothing, and 25 ms are not noticed after a start that took long.
const PAUSE_MAX: Duration = Duration::from_millis(25);
/// A try that is cut off with less than this part of the limit says nothing of the program; the one before it does.
const LAST_TRY_SHARE: u32 = 10;
/// Longest wait that is meant by "no limit": an `Instant` must not overflow.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Time for one connection where only that is asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until `ready` passes; without a step, until the port accepts a connection.
///
/// `tries` and `pause` of the step don't count here. Ends early when `died` says why the instance ended.
pub fn wait_ready(
    ready: Option<&Step>,
    target: &ProbeTarget,
    deadline: Duration,
    died: &dyn Fn() -> Option<String>,
) -> Result<Span, ReadyFailure> {
    let started = Instant::now();
    let until = started + deadline.min(DEADLINE_MAX);
    let mut session = match (ready, Session::open(target, until)) {
        (_, Ok(session)) => session,
        (Some(step), Err(trouble)) => return Err(ReadyFailure::Unusable(refused(step, trouble))),
        (None, Err(trouble)) => return Err(ReadyFailure::Unusable(unconnected(trouble))),
    };
    let mut pause = PAUSE_FIRST;
    let mut before: Option<ProbeFailure> = None;
    loop {
        let room = until.saturating_duration_since(Instant::now());
        let tried = match ready {
            Some(step) => session.one_try(step, 1).map(drop),
            None => connect(target, until),
        };
        let failure = match tried {
            // Another program may have taken the port of an instance that ended.
            Ok(()) => match died() {
                None => return Ok(span(started.elapsed())),
                Some(why) => {
                    return Err(ReadyFailure::Died { why, after: span(started.elapsed()) });
                }
            },
            Err(failure) => failure,
        };
        if let Some(why) = died() {
            return Err(ReadyFailure::Died { why, after: span(started.elapsed()) });
        }
        if failure.kind == FailureKind::Config {
            return Err(ReadyFailure::Unusable(failure));
        }
        if Instant::now() + pause >= until {
            let cut = failure.kind == FailureKind::Timeout && room < deadline / LAST_TRY_SHARE;
            let last = before.filter(|_| cut).unwrap_or(failure);
            return Err(ReadyFailure::TimedOut { limit: span(deadline), last });
        }
        before = Some(failure);
        thread::sleep(pause);
        pause = (started.elapsed() / PAUSE_SHARE).clamp(PAUSE_FIRST, PAUSE_MAX);
    }
}

fn connect(target: &ProbeTarget, until: Instant) -> Result<(), ProbeFailure> {
    let until = until.min(Instant::now() + CONNECT_TIMEOUT);
    Base::parse(&target.base).and_then(|base| base.connect(until)).map(drop).map_err(unconnected)
}

fn unconnected(trouble: Trouble) -> ProbeFailure {
    let attempt =
        Attempt { alternative: String::new(), kind: trouble.kind, expected: "a connection".into(), got: trouble.got };
    ProbeFailure { step: "ready".into(), kind: attempt.kind, attempts: vec![attempt], tries: 1 }
}
