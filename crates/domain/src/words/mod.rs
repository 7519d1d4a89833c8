//! What events, states and waits are called by people: one English sentence each, written once.
//!
//! Screens only place these; the rule behind an event and who can change it stand beside the sentence.

mod brief;
mod explain;
mod traffic;
mod why;

pub use brief::Brief;
pub use explain::{Explained, explain};
pub use why::{FrozenBy, Why, awaited, undriven, why};

use crate::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Cause, End, Event, Gate, Health, Record, Verdict},
    facts::{Busyness, Loss, RehearsalFacts},
    operations::rca,
    service::{Condition, Phase, Service},
    terms::{InstanceName, ReleaseTag, Timestamp},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Says what happened, given the state after it. `None` for events that only people who debug want to see.
pub fn sentence(service: &Service, record: &Record) -> Option<String> {
    spoken(service, record).map(|text| one_line(&text))
}

/// Puts a text of several lines, such as the end of a program's log, on one line: ` / ` between its lines.
///
/// A line that announces the next ones with a colon needs no mark: `last log lines: listening / ready`.
pub fn one_line(text: &str) -> String {
    let mut whole = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !whole.is_empty() {
            whole += if whole.ends_with(':') { " " } else { " / " };
        }
        whole += line;
    }
    whole
}

/// Cuts a sentence to what fits beside others on a screen; the whole of it is in the log.
pub fn brief(text: &str) -> String {
    /// Two lines of a common terminal.
    const CHARS_MAX: usize = 160;
    let line = one_line(text);
    match line.char_indices().nth(CHARS_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

fn spoken(service: &Service, record: &Record) -> Option<String> {
    let name = |digest| service.name_of(Some(digest));
    Some(match &record.event {
        Event::HoldSet { hold, reason, until, .. } => {
            let until =
                until.map_or_else(|| "until it is lifted".into(), |until| format!("for {}", until.since(record.at)));
            format!("hold {hold} set by {} {until}: {reason}", record.by)
        }
        Event::HoldReviewSet { hold, review } => {
            format!("{} asks to be asked after hold {hold} in {}", record.by, review.since(record.at))
        }
        Event::HoldReviewDue { hold, .. } => service.asked_after(*hold),
        Event::HoldExempted { hold, exemption, asked_by } => {
            let called = service.holds.get(hold).map_or_else(|| format!("hold {hold}"), |held| held.called(*hold));
            let (tag, bytes, until) = (&exemption.tag, exemption.release.short(), exemption.until.since(record.at));
            let reason = &exemption.reason;
            format!(
                "{tag} ({bytes}) may pass {called} for {until}, asked by {asked_by}, approved by {}: {reason}",
                record.by
            )
        }
        Event::HoldLifted { hold, reason } => format!("hold {hold} lifted by {}: {reason}", record.by),
        Event::Pinned { tag, reason } => format!("pinned to {tag} by {}: {reason}", record.by),
        Event::Annotated { incident } => format!("part of incident {incident}, by {}", record.by),
        Event::Unpinned { reason } => format!("unpinned by {}: {reason}", record.by),
        Event::Rejected { tag, reason, .. } => format!("{tag} is rejected: {reason}"),
        Event::Waived { release, reason } => format!("{} may be tried again: {reason}", name(release)),
        Event::RunStarted { run, aim, .. } => match aim {
            Aim::Drain => format!("run {run} started by {} for deferred instances", record.by),
            Aim::Cool => format!("run {run} started by {} to stop the standby release", record.by),
            Aim::Track => format!("run {run} started by {}", record.by),
            Aim::DryRun => format!("dry run {run} started by {}", record.by),
            Aim::Back { reason, .. } => format!("rollback {run} started by {}: {reason}", record.by),
        },
        Event::Gated { gate, verdict: Verdict::Pass, because } => {
            format!("gate {}: pass ({because})", gate_name(*gate))
        }
        Event::Gated { gate, verdict, because } => {
            format!("gate {}: {}: {because}", gate_name(*gate), verdict_name(*verdict))
        }
        Event::Ordered { .. } => return None,
        Event::Answered { answer, .. } => {
            let said = answered(answer)?;
            match (&service.answered, service.rehearsed) {
                (_, Some(leg)) => rehearsed(leg, answer).unwrap_or(said),
                (Some(instance), None) => format!("{instance}: {said}{}", over(service, instance, answer, record.at)),
                (None, None) => said,
            }
        }
        Event::CandidateChosen { offer } => format!("candidate {} from {}", offer.tag, offer.origin),
        Event::SnapshotsBegun { instances } => format!("taking snapshots of {}", names(instances)),
        Event::RehearsalBegun { instance, .. } => format!("rehearsing on a copy of {instance}'s data"),
        Event::WayBackProven { release, way_back, because } => {
            format!("way back from {}: {} ({because})", name(release), way_back.says())
        }
        Event::MoveBegun { plan, release, instances } => {
            format!("plan {} moves {} to {}", plan.short(), names(instances), name(release))
        }
        Event::WaveBegun { number: 1, .. } => "wave 1, the canary".to_string(),
        Event::WaveBegun { number, size } => format!("wave {number}, up to {size} at a time"),
        Event::Deferred { instance, why, .. } => format!("{instance} is deferred: {why}"),
        Event::SoakBegun { until } => format!("watching the wave for {}", until.since(record.at)),
        Event::Moved { instance } => format!("{instance} moved and answers"),
        Event::ReturnBegun { cause, back, .. } => {
            let all: Vec<InstanceName> = back.iter().map(|one| one.instance.clone()).collect();
            format!("going back with {}: {}", names(&all), cause_words(cause))
        }
        Event::ReturnWithData { instance, .. } => {
            format!("{instance} goes back with its data: code alone did not work")
        }
        Event::Returned { instance } => format!("{instance} is back and answers"),
        Event::ReturnHeld { instance, loss, age } => {
            format!("{instance} waits for a person: going back would drop {} written over {age}", lost(loss))
        }
        Event::ReturnFailed { instance, failure, reopens: None } => {
            format!("{instance} could not be brought back: {}", failure.about(instance))
        }
        Event::ReturnFailed { instance, failure, reopens: Some(release) } => {
            format!(
                "{instance} could not be brought back and is opened again on {}: {}",
                name(release),
                failure.about(instance)
            )
        }
        Event::Promoted { release, behind } if behind.is_empty() => {
            format!("last-good is {} on every instance", name(release))
        }
        Event::Promoted { release, behind } => {
            format!("last-good is {}; still to move: {}", name(release), names(behind))
        }
        Event::Demoted { release } => {
            format!("last-good is {} again", service.name_of(release.as_ref()))
        }
        Event::RunEnded { run, end } => format!("run {run} ended: {}", end_words(end)),
        Event::Died { instance, why, again_at } => {
            format!("{instance} died: {why}; starting it again in {}", again_at.since(record.at))
        }
        Event::Revived { instance } => format!("{instance} runs again"),
        Event::NotRevived { instance, failure, again_at } => {
            format!(
                "{instance} can't be started again: {}; next try in {}",
                failure.about(instance),
                again_at.since(record.at)
            )
        }
        Event::SetupAccepted { instance, release, reason, .. } => {
            let by = &record.by;
            format!(
                "{instance} is started as {} with the configuration of now, accepted by {by}: {reason}",
                name(release)
            )
        }
        Event::WentOnWithout { failure } => format!("the rollback continues despite: {failure}"),
        Event::OutcomesCounted { outcomes, health } => format!(
            "users' outcomes: {} good, {} by a fallback, {} broken: {}",
            outcomes.good,
            outcomes.degraded,
            outcomes.broken,
            health_name(*health)
        ),
        Event::RewindAcknowledged { reason, .. } => {
            format!("{} acknowledged that the log was rewound: {reason}", record.by)
        }
        Event::Traffic(event) => traffic::sentence(service, event, record),
        Event::Analysis(event) => rca::sentence(&record.by, event),
        Event::WentStale { since, because } => {
            format!("no release accepted for {}; last time: {because}", record.at.since(*since))
        }
    })
}

/// Says over which time was written what a restore drops; nothing of any other answer.
fn over(service: &Service, instance: &InstanceName, answer: &Answer, at: Timestamp) -> String {
    let Answer::Measured { loss } = answer else { return String::new() };
    let Some(Phase::Returning { back, .. }) = service.run.as_ref().map(|run| &run.phase) else { return String::new() };
    let since = back.get(instance).and_then(|(one, _)| one.since).filter(|_| *loss != Loss::default());
    since.map_or_else(String::new, |since| format!(", all written within {}", at.since(since)))
}

/// Says which of the four tries of a rehearsal an answer is of: a failure of the last is an answer, no fault.
fn rehearsed(leg: Leg, answer: &Answer) -> Option<String> {
    let tried = match leg {
        Leg::Control => "control",
        Leg::Candidate => "candidate",
        Leg::Restart => "restart",
        Leg::WayBack => "way back",
    };
    Some(match (leg, answer) {
        (Leg::WayBack, Answer::RehearsalPassed { facts }) => {
            format!("rehearsal, {tried}: last-good can use the migrated data, {}", cost(facts))
        }
        (Leg::WayBack, Answer::RehearsalFailed { failure }) => {
            format!("rehearsal, {tried}: last-good can't use the migrated data: {failure}")
        }
        (_, Answer::RehearsalPassed { facts }) => format!("rehearsal, {tried}: passed, {}", cost(facts)),
        (_, Answer::RehearsalFailed { failure }) => format!("rehearsal, {tried}: FAILED: {failure}"),
        _ => return None,
    })
}

fn cost(facts: &RehearsalFacts) -> String {
    let RehearsalFacts { ready_after, took, bytes, fence, .. } = facts;
    format!("ready after {ready_after}, {took} in all, {} of disk, fenced by {fence}", size(*bytes))
}

fn answered(answer: &Answer) -> Option<String> {
    Some(match answer {
        Answer::Offered { offer, .. } => format!("the channel offers {}", offer.tag),
        Answer::NothingElse => "the channel offers nothing else".into(),
        Answer::Installed { installation, .. } => {
            format!("installed {} ({})", installation.release.tag, size(installation.bytes))
        }
        Answer::NotAsAnnounced { announced, fetched } => {
            format!("not installed: {announced} was announced and {fetched} was fetched")
        }
        Answer::Snapshotted { facts } => {
            format!("snapshot {}: {}, {} rows, verified, in {}", facts.id, size(facts.bytes), facts.rows, facts.took)
        }
        Answer::RehearsalPassed { facts } => format!("rehearsal passed: {}", cost(facts)),
        Answer::RehearsalFailed { failure } => format!("rehearsal failed: {failure}"),
        Answer::BusyAsked { busyness: Busyness::Idle } => return None,
        Answer::BusyAsked { busyness: Busyness::Busy(why) } => format!("busy: {why}"),
        Answer::BusyAsked { busyness: Busyness::CannotTell(why) } => format!("cannot tell if busy: {why}"),
        Answer::ProbePassed { facts } => {
            let used: Vec<String> =
                facts.used.iter().map(|(step, alternative)| format!("{step} by {alternative}")).collect();
            match used.is_empty() {
                true => format!("probe passed in {}", facts.took),
                false => format!("probe passed in {} ({})", facts.took, used.join(", ")),
            }
        }
        Answer::ResumePassed { facts } if facts.sent == 0 => "the router has seen no session to resume".into(),
        Answer::ResumePassed { facts } => format!(
            "sessions resume both ways: {} messages sent, {} arrived, {} of them replayed, none twice, in {}",
            facts.sent, facts.delivered, facts.replayed, facts.took
        ),
        Answer::Routed { took } => format!("the router confirmed in {took}"),
        Answer::FlagsOn { on, were_on } => traffic::flags_on(on, were_on),
        Answer::FlagsOff { off, kept } => traffic::flags_off(off, kept),
        Answer::Tripped { switches } => format!("tripped: {}", names(switches)),
        Answer::LaidReady { bytes: 0 } => return None,
        Answer::LaidReady { bytes } => format!("rollback data staged ({})", size(*bytes)),
        Answer::Measured { loss } => {
            format!("a restore drops {}", lost(loss))
        }
        Answer::Restored { facts } => {
            let kept = facts.aside.as_deref().unwrap_or("nowhere: there was none");
            let mut said = format!("restored {} in {}; the newer data is kept in {kept}", facts.snapshot, facts.took);
            if !facts.earlier.is_empty() {
                said = format!("{said}, and what earlier tries moved away in {}", facts.earlier.join(", "));
            }
            said
        }
        Answer::Failed { failure } => format!("failed: {failure}"),
        Answer::Hindered { failure } => format!("hindered: {failure}"),
        Answer::Started { unit, .. } if !unit.is_empty() => {
            format!("its unit is again as it was with that release: {}", unit.join("; "))
        }
        // Why it is left for later says it.
        Answer::NotStopped { .. } => return None,
        // The gate's verdict is a record of its own.
        Answer::GateAsked { .. } => return None,
        Answer::Verified | Answer::Stopped | Answer::Started { .. } | Answer::Cleared => return None,
    })
}

/// Says what an effect is about to do.
pub fn doing(effect: &Effect) -> String {
    match effect {
        Effect::Check { except, .. } if except.is_empty() => "asking the channel".into(),
        Effect::Check { except, .. } => format!("asking the channel for the newest but {}", tags(except)),
        Effect::Install { offer } => format!("installing {}", offer.tag),
        Effect::Verify { .. } => "verifying last-good's installation".into(),
        Effect::AskGate { gate, .. } => format!("asking the gate {gate}"),
        Effect::Snapshot { instance, .. } => format!("copying {instance}'s data while it runs"),
        Effect::Rehearse { leg, .. } => format!("rehearsing, {}", leg.says()),
        Effect::ClearRehearsal => "removing the rehearsal's copies".into(),
        Effect::AskBusy { instance } => format!("asking whether {instance} is busy"),
        Effect::Stop { instance } => format!("stopping {instance}"),
        Effect::SnapshotStopped { instance, .. } => format!("copying {instance}'s data at the stop"),
        Effect::Start { instance, .. } => format!("starting {instance}"),
        Effect::Probe { instance, .. } => format!("probing {instance}"),
        Effect::Measure { instance, .. } => format!("counting what {instance} would lose"),
        Effect::Restore { instance, .. } => format!("putting {instance}'s data back"),
        Effect::LayReady { instance, .. } => format!("staging rollback data of {instance}"),
        Effect::Route { route } => traffic::routing(route),
        Effect::TryResume { .. } => "proving that sessions can be resumed".into(),
        Effect::TurnOn { flags, .. } => format!("turning {} on", names(flags)),
        Effect::TurnOff { flags, .. } => format!("turning {} off", names(flags)),
        Effect::Trip { switches, .. } => format!("tripping {}", names(switches)),
        Effect::Prune { .. } => "removing copies that no rollback needs".into(),
    }
}

/// Says how a run ended, in one line.
pub fn end_words(end: &End) -> String {
    one_line(&spoken_end(end))
}

fn spoken_end(end: &End) -> String {
    match end {
        End::Held { because, went_back: true, .. } => {
            format!("ended before its promotion, its share of the traffic is taken back: {because}")
        }
        End::Held { because, moved, .. } => match moved.len() {
            0 => format!("held, nothing was done: {because}"),
            1 => format!("held: {} has moved, the rest waits: {because}", names(moved)),
            _ => format!("held: {} have moved, the rest waits: {because}", names(moved)),
        },
        End::UpToDate => "up to date".into(),
        End::Refused { gate, because } => format!("refused by the {} gate: {because}", gate_name(*gate)),
        End::Stopped { failure } => format!("stopped before anything moved: {failure}"),
        End::GateBroken { failure } => format!("the gate is broken, nothing was rejected: {failure}"),
        End::RehearsalFailed { failure } => format!("the candidate failed its rehearsal: {failure}"),
        End::Rehearsed { way_back } => format!("the dry run passed; way back: {}", way_back.says()),
        End::Promoted => "promoted".into(),
        End::Waiting { because } => format!("waiting: {because}"),
        End::RolledBack { .. } => format!("rolled back: {}", end.because()),
        End::RollbackFailed { instances } => format!("the rollback failed on {}", names(instances)),
        End::RollbackHeld { instances } => {
            format!("the rollback waits for a person on {}", names(instances))
        }
        End::Superseded => "a rollback took over".into(),
        End::Cooled => "the standby release is stopped; a rollback starts it again first".into(),
        End::Unproven { gate: Gate::Preflight, because } => {
            format!("held, nothing was moved: preflight could not be evaluated: {because}")
        }
        End::Unproven { because, .. } => {
            format!("held, nothing was moved: could not evaluate gate {because}")
        }
    }
}

fn cause_words(cause: &Cause) -> String {
    End::RolledBack { cause: cause.clone() }.because()
}

/// Gives a gate's name on screens.
pub const fn gate_name(gate: Gate) -> &'static str {
    match gate {
        Gate::Hold => "hold",
        Gate::Pin => "pin",
        Gate::Channel => "channel",
        Gate::Rejected => "rejected",
        Gate::Newer => "newer",
        Gate::Digest => "digest",
        Gate::Version => "version",
        Gate::WayBack => "way-back",
        Gate::Provenance => "provenance",
        Gate::Required => "required",
        Gate::Preflight => "preflight",
        Gate::Rca => "rca",
    }
}

const fn health_name(health: Health) -> &'static str {
    match health {
        Health::Good => "good",
        Health::Degraded => "degraded",
        Health::Broken => "broken",
        Health::CannotTell => "cannot tell",
    }
}

/// Gives a verdict on screens.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Hold => "hold",
        Verdict::CannotTell => "cannot tell",
    }
}

fn tags(list: &[ReleaseTag]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Joins names for a sentence.
pub fn names<T: ToString>(list: &[T]) -> String {
    match list.len() {
        0 => "no instance".into(),
        _ => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Says what a restore drops: `1 row and 2 files`.
pub(crate) fn lost(loss: &Loss) -> String {
    format!("{} and {}", count(loss.rows, "row"), count(loss.files, "file"))
}

/// Says how many there are: `1 record`, `2 records`.
pub fn count(number: u64, one: &str) -> String {
    let plural = one.strip_suffix('y').map_or_else(|| format!("{one}s"), |stem| format!("{stem}ies"));
    if number == 1 { format!("1 {one}") } else { format!("{number} {plural}") }
}

/// Says a number of bytes: `1.4 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Says where an instance stands. A reason to wait is as old as the run that asked for it, so its age is said.
pub fn condition_words(condition: &Condition, now: Timestamp) -> String {
    match condition {
        Condition::Settled => "settled".into(),
        Condition::Between => "between releases".into(),
        Condition::Deferred { why, since, asked, .. } => {
            format!("waits {}: {} (when last asked, {} ago)", now.since(*since), one_line(why), now.since(*asked))
        }
        Condition::Stuck { failure } => one_line(&format!("STUCK: {failure}")),
        Condition::LossHeld { loss } => {
            format!("HELD: going back would drop {}", lost(loss))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::DeferReason, failure::Failure};

    #[test]
    fn a_reason_to_wait_says_how_old_it_is() {
        let minute = |count: i64| Timestamp(count * 60_000);
        let waits = Condition::Deferred {
            why: "busy: one session".into(),
            reason: DeferReason::Busy,
            since: minute(0),
            asked: minute(180),
        };
        assert_eq!(
            condition_words(&waits, minute(200)),
            "waits 3 h 20 min: busy: one session (when last asked, 20 min ago)"
        );
    }

    #[test]
    fn an_instance_that_is_named_already_is_not_named_twice() {
        let alice = InstanceName::new("alice").unwrap();
        let failure = Failure::new("start-died", "notes/alice: the program died: exit 1", None);
        assert_eq!(failure.about(&alice), "the program died: exit 1 [start-died]");
        let failure = Failure::new("start-died", "notes/bob: the program died", None);
        assert_eq!(failure.about(&alice), "notes/bob: the program died [start-died]");
        let cause = Cause::Candidate {
            instance: alice,
            failure: Failure::new("start-died", "notes/alice: the program died", None),
        };
        assert_eq!(cause_words(&cause), "alice failed: the program died [start-died]");
    }

    #[test]
    fn sizes_are_said_as_people_say_them() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(1_048_576), "1.0 MiB");
        assert_eq!(size(u64::MAX / 16), "1048575.9 TiB");
    }
}
