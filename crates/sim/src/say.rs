//! A log as people read it: one line per record, releases by their tags.

use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Record},
    service::Service,
    terms::{Digest, Timestamp},
};
use std::fmt::Write as _;

/// Writes records as text, one line each, with the time since the first.
pub(crate) fn log(records: &[Record]) -> String {
    let mut service = Service::default();
    let mut text = String::new();
    let start = records.first().map_or(Timestamp(0), |record| record.at);
    // Tags are learned when a release is installed, so the whole log is folded before anything is named.
    let known = Service::fold(records);
    for record in records {
        service.apply(record);
        let seconds = (record.at.0 - start.0) / 1_000;
        let _ = writeln!(text, "{seconds:>6} s  {:<16} {}", record.by.as_str(), event(&record.event, &known));
    }
    text
}

fn name(service: &Service, release: &Digest) -> String {
    service.name_of(Some(release))
}

fn event(event: &Event, service: &Service) -> String {
    match event {
        Event::Analysis(event) => format!("analysis: {event:?}"),
        Event::RewindAcknowledged { reason, .. } => format!("rewind acknowledged: {reason}"),
        Event::SetupAccepted { instance, reason, .. } => format!("the setup of {instance} accepted: {reason}"),
        Event::WentOnWithout { failure } => format!("goes on without: {}", failure.code),
        Event::HoldSet { hold, reason, until: None, .. } => format!("hold {hold}: {reason}"),
        Event::HoldSet { hold, reason, until: Some(_), .. } => format!("hold {hold} for a time: {reason}"),
        Event::HoldExempted { hold, exemption, .. } => format!("{} may pass hold {hold}", exemption.tag),
        Event::HoldLifted { hold, reason } => format!("hold {hold} lifted: {reason}"),
        Event::Pinned { tag, reason } => format!("pinned to {tag}: {reason}"),
        Event::HoldReviewSet { hold, .. } => format!("hold {hold} is to be looked at"),
        Event::HoldReviewDue { hold, .. } => format!("hold {hold} is looked at by nobody"),
        Event::Annotated { incident } => format!("part of incident {incident}"),
        Event::Unpinned { reason } => format!("unpinned: {reason}"),
        Event::Rejected { tag, reason, .. } => format!("rejected {tag}: {reason}"),
        Event::Waived { release, reason } => format!("waived {}: {reason}", name(service, release)),
        Event::RunStarted { run, aim, .. } => format!("{run} begins: {}", self::aim(aim)),
        Event::Gated { gate, verdict, because } => format!("gate {gate:?}: {verdict:?}, {because}"),
        Event::Ordered { order, effect } => format!("  {order} do {}", self::effect(effect, service)),
        Event::Answered { order, answer } => format!("  {order} got {}", self::answer(answer)),
        Event::CandidateChosen { offer } => format!("candidate {}", offer.tag),
        Event::SnapshotsBegun { instances } => format!("snapshots of {}", list(instances)),
        Event::RehearsalBegun { instance, snapshot } => format!("rehearsal on {snapshot} of {instance}"),
        Event::WayBackProven { release, way_back, because } => {
            format!("way back of {} is {}: {because}", name(service, release), way_back.says())
        }
        Event::MoveBegun { release, instances, .. } => {
            format!("move of {} to {}", list(instances), name(service, release))
        }
        Event::WaveBegun { number, size } => format!("wave {number} of up to {size}"),
        Event::Deferred { instance, why, .. } => format!("{instance} deferred: {why}"),
        Event::SoakBegun { .. } => "soak".into(),
        Event::Moved { instance } => format!("{instance} moved"),
        Event::ReturnBegun { back, .. } => {
            let ways: Vec<String> = back
                .iter()
                .map(|one| {
                    let data = if one.with_data { " with its data" } else { "" };
                    format!("{} to {}{data}", one.instance, service.name_of(one.to.as_ref()))
                })
                .collect();
            format!("return of {}", ways.join(", "))
        }
        Event::ReturnWithData { instance, snapshot } => format!("{instance} needs its data {snapshot} too"),
        Event::Returned { instance } => format!("{instance} is back"),
        Event::ReturnHeld { instance, loss, .. } => format!("{instance} would lose {} rows: held", loss.rows),
        Event::ReturnFailed { instance, failure, .. } => format!("{instance} is stuck: {failure}"),
        Event::Promoted { release, behind } if behind.is_empty() => {
            format!("{} is last-good", name(service, release))
        }
        Event::Promoted { release, behind } => {
            format!("{} is last-good, without {}", name(service, release), list(behind))
        }
        Event::Demoted { release } => format!("last-good is {} again", service.name_of(release.as_ref())),
        Event::RunEnded { run, end } => format!("{run} ends: {}", self::end(end)),
        Event::Died { instance, why, .. } => format!("{instance} died: {why}"),
        Event::Revived { instance } => format!("{instance} runs again"),
        Event::NotRevived { instance, failure, .. } => format!("{instance} can't be started again: {}", failure.code),
        Event::OutcomesCounted { health, .. } => format!("outcomes are {health:?}"),
        Event::Traffic(event) => format!("traffic: {event:?}"),
        Event::WentStale { because, .. } => format!("stale: {because}"),
    }
}

/// Names how a run ended, in a word or two.
pub fn end_word(end: &End) -> &'static str {
    match end {
        End::Held { .. } => "held",
        End::UpToDate => "up to date",
        End::Refused { .. } => "refused",
        End::Stopped { .. } => "stopped",
        End::GateBroken { .. } => "gate broken",
        End::RehearsalFailed { .. } => "rehearsal failed",
        End::Rehearsed { .. } => "rehearsed",
        End::Promoted => "promoted",
        End::Waiting { .. } => "waiting",
        End::RolledBack { .. } => "rolled back",
        End::RollbackFailed { .. } => "rollback failed",
        End::RollbackHeld { .. } => "rollback held",
        End::Superseded => "superseded",
        End::Cooled => "cooled",
        End::Unproven { .. } => "unproven",
    }
}

/// Names how a run ended, with why.
pub(crate) fn end(end: &End) -> String {
    let word = end_word(end);
    match end.because() {
        because if because.is_empty() => word.into(),
        because => format!("{word}, {because}"),
    }
}

fn list(names: &[lastgood_domain::terms::InstanceName]) -> String {
    if names.is_empty() {
        return "nobody".into();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn aim(aim: &Aim) -> String {
    match aim {
        Aim::Track => "follow the channel".into(),
        Aim::Drain => "move those left behind".into(),
        Aim::Cool => "stop what stands by".into(),
        Aim::DryRun => "dry run".into(),
        Aim::Back { to, instances, reason, .. } => {
            let to = to.as_ref().map_or_else(|| "what was before".into(), ToString::to_string);
            let who = if instances.is_empty() { "all".into() } else { list(instances) };
            format!("{who} back to {to}: {reason}")
        }
    }
}

fn effect(effect: &Effect, service: &Service) -> String {
    match effect {
        Effect::Check { tag: Some(tag), .. } => format!("check the channel for {tag}"),
        Effect::Check { tag: None, except } if except.is_empty() => "check the channel".into(),
        Effect::Check { tag: None, except } => {
            let except: Vec<&str> = except.iter().map(|tag| tag.as_str()).collect();
            format!("check the channel for the newest but {}", except.join(", "))
        }
        Effect::Install { offer } => format!("install {}", offer.tag),
        Effect::Verify { release } => format!("verify {}", name(service, release)),
        Effect::AskGate { gate, .. } => format!("ask the gate {gate}"),
        Effect::Snapshot { instance, snapshot } => format!("snapshot {snapshot} of {instance}"),
        Effect::Rehearse { leg, .. } => format!("rehearse {}", leg.says()),
        Effect::ClearRehearsal => "clear the rehearsal".into(),
        Effect::AskBusy { instance } => format!("ask whether {instance} is busy"),
        Effect::Stop { instance } => format!("stop {instance}"),
        Effect::SnapshotStopped { instance, snapshot } => format!("keep {instance} as {snapshot}"),
        Effect::Start { instance, release } => format!("start {instance} on {}", name(service, release)),
        Effect::Probe { instance, release } => format!("probe {instance} on {}", name(service, release)),
        Effect::Measure { instance, snapshot } => format!("measure {instance} against {snapshot}"),
        Effect::Restore { instance, snapshot } => format!("restore {snapshot} of {instance}"),
        Effect::LayReady { instance, snapshot } => format!("lay {snapshot} of {instance} ready"),
        Effect::Route { route } => format!("route {} to the candidate", route.share),
        Effect::TryResume { .. } => "try to resume sessions".into(),
        Effect::TurnOn { .. } => "turn flags on".into(),
        Effect::TurnOff { .. } => "turn flags off".into(),
        Effect::Trip { .. } => "trip switches".into(),
        Effect::Prune { snapshots, releases } => {
            let snapshots: Vec<String> = snapshots.iter().map(ToString::to_string).collect();
            let releases: Vec<String> = releases.iter().map(|one| name(service, one)).collect();
            format!("prune all but [{}] and [{}]", snapshots.join(" "), releases.join(" "))
        }
    }
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Offered { offer, foreign: None, .. } => format!("{} offered", offer.tag),
        Answer::Offered { foreign: Some(why), .. } => format!("something foreign: {why}"),
        Answer::NothingElse => "nothing else offered".into(),
        Answer::NotAsAnnounced { fetched, .. } => format!("something else: {fetched}"),
        Answer::Installed { installation, .. } => format!("{} installed", installation.release.tag),
        Answer::Verified => "verified".into(),
        Answer::GateAsked { facts } => format!("{:?}: {}", facts.verdict, facts.because),
        Answer::Snapshotted { facts } => format!("{} with {} rows", facts.id, facts.rows),
        Answer::RehearsalPassed { .. } => "passed".into(),
        Answer::RehearsalFailed { failure } => format!("failed: {failure}"),
        Answer::BusyAsked { busyness } => format!("{busyness:?}"),
        Answer::Stopped => "stopped".into(),
        Answer::NotStopped { failure } => format!("not stopped: {failure}"),
        Answer::Started { .. } => "started".into(),
        Answer::ProbePassed { .. } => "probe passed".into(),
        Answer::Measured { loss } => format!("{} rows would be lost", loss.rows),
        Answer::Restored { .. } => "restored".into(),
        Answer::Cleared => "cleared".into(),
        Answer::Routed { .. } => "routed".into(),
        Answer::ResumePassed { .. } => "resumed".into(),
        Answer::FlagsOn { .. } => "on".into(),
        Answer::FlagsOff { .. } => "off".into(),
        Answer::Tripped { .. } => "tripped".into(),
        Answer::LaidReady { .. } => "laid ready".into(),
        Answer::Failed { failure } => format!("failed: {failure}"),
        Answer::Hindered { failure } => format!("hindered: {failure}"),
    }
}
