//! What is wrong right now, as a state and not as an event: what metrics show and an Alertmanager is told.
//!
//! A notice is sent once, when something happens; an alarm stands until its cause is gone. Both use the kinds
//! of notices, so that a person who reads one finds the other.

use crate::{
    event::{End, Health},
    notice::NoticeKind,
    service::{Condition, Instance, Service, Streak},
    terms::{InstanceName, ServiceName, Timestamp},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Every kind of alarm, in the order screens and metrics list them.
pub const KINDS: [NoticeKind; 9] = [
    NoticeKind::Broken,
    NoticeKind::Degraded,
    NoticeKind::RolledBack,
    NoticeKind::RollbackFailed,
    NoticeKind::RollbackHeld,
    NoticeKind::Frozen,
    NoticeKind::Stale,
    NoticeKind::GateBroken,
    NoticeKind::Died,
];

/// Deaths in one streak that make a crash loop: as many as send a release on watch back.
const LOOP_DEATHS: u32 = 3;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What kind of thing; one of [`KINDS`].
    pub kind: NoticeKind,
    /// The service it concerns.
    pub service: ServiceName,
    /// Since when.
    pub since: Timestamp,
    /// One line for a pager. It does not change while the cause is the same, so that nobody is paged twice.
    pub summary: String,
}

/// Gives what is wrong with `service` at `now`: at most one alarm of each kind, in the order of [`KINDS`].
pub fn alarms(name: &ServiceName, service: &Service, now: Timestamp) -> Vec<Alarm> {
    let found = |kind| match kind {
        NoticeKind::Broken => verdict(service, Health::Broken),
        NoticeKind::Degraded => verdict(service, Health::Degraded),
        NoticeKind::RolledBack => rolled_back(service, now),
        NoticeKind::RollbackFailed => stuck(service),
        NoticeKind::RollbackHeld => loss_held(service),
        NoticeKind::Frozen => frozen(service, now),
        NoticeKind::Stale => stale(service),
        NoticeKind::GateBroken => gate_broken(service),
        NoticeKind::Died => died(service, now),
        // Told once, when they happen: nothing stands afterwards.
        NoticeKind::Promoted
        | NoticeKind::RehearsalFailed
        | NoticeKind::TagMoved
        | NoticeKind::RunFailed
        | NoticeKind::Waiting => None,
    };
    KINDS
        .into_iter()
        .filter_map(|kind| {
            let (since, summary) = found(kind)?;
            Some(Alarm { kind, service: name.clone(), since, summary: format!("{name}: {summary}") })
        })
        .collect()
}

fn verdict(service: &Service, wanted: Health) -> Option<(Timestamp, String)> {
    let (health, outcomes) = service.health?;
    if health != wanted {
        return None;
    }
    let release = service.name_of(service.last_good.as_ref());
    let text = format!(
        "users' outcomes on {release}: {} good, {} by a fallback, {} broken",
        outcomes.good, outcomes.degraded, outcomes.broken
    );
    Some((service.health_at.or(service.promoted_at)?, text))
}

/// A later run that was held changes nothing about it: the alarm ends with the hold by which the service stopped itself.
fn rolled_back(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let back = service.rolled_back.as_ref()?;
    service
        .standing_holds(now)
        .any(|(hold, _)| *hold == back.hold)
        .then(|| (back.at, format!("rolled back by itself: {}", back.because)))
}

fn stuck(service: &Service) -> Option<(Timestamp, String)> {
    let stuck = |(name, one): (&InstanceName, &Instance)| match &one.condition {
        Condition::Stuck { failure } => Some((one.stuck_since?, format!("{name}: {failure}"))),
        _ => None,
    };
    joined(service.instances.iter().filter_map(stuck), "could not be brought back")
}

fn loss_held(service: &Service) -> Option<(Timestamp, String)> {
    let held = |(name, one): (&InstanceName, &Instance)| match &one.condition {
        Condition::LossHeld { loss } => {
            Some((one.stuck_since?, format!("{name}: {} rows and {} files", loss.rows, loss.files)))
        }
        _ => None,
    };
    joined(service.instances.iter().filter_map(held), "a restore would lose too much and waits for a person")
}

fn frozen(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let holds = service
        .standing_holds(now)
        .map(|(id, hold)| (hold.since, format!("{id} by {}: {}", hold.owner, hold.reason)));
    joined(holds, "held")
}

fn stale(service: &Service) -> Option<(Timestamp, String)> {
    let (since, because) = service.behind.as_ref()?;
    service.stale.then(|| (*since, format!("no release was accepted for too long; last time: {because}")))
}

fn gate_broken(service: &Service) -> Option<(Timestamp, String)> {
    match service.last_end.as_ref()? {
        (_, at, End::GateBroken { failure }) => {
            Some((*at, format!("the gate is broken, nothing was rejected: {failure}")))
        }
        _ => None,
    }
}

/// A crash loop, or a program that died and was not started again.
fn died(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let dying = |(name, one): (&InstanceName, &Instance)| {
        let streak = one.streak?;
        let looping = streak.deaths >= LOOP_DEATHS
            && (one.again_at.is_some() || now.since(streak.last) <= Streak::GAP_MAX);
        let down = one.again_at.is_some_and(|due| now.since(due) > Streak::GAP_MAX);
        match (looping, down) {
            (_, true) => Some((streak.since, format!("{name} died and was not started again"))),
            (true, false) => Some((streak.since, format!("{name} dies again and again"))),
            (false, false) => None,
        }
    };
    joined(service.instances.iter().filter_map(dying), "instances die")
}

/// Makes one alarm of several causes: since the first of them, naming all up to a limit.
fn joined(causes: impl Iterator<Item = (Timestamp, String)>, what: &str) -> Option<(Timestamp, String)> {
    /// Most causes named in one line: a pager shows little more.
    const NAMED_MAX: usize = 5;
    let causes: Vec<(Timestamp, String)> = causes.collect();
    let since = causes.iter().map(|(since, _)| *since).min()?;
    let mut named: Vec<String> = causes.iter().take(NAMED_MAX).map(|(_, text)| text.to_string()).collect();
    if causes.len() > NAMED_MAX {
        named.push(format!("and {} more", causes.len() - NAMED_MAX));
    }
    Some((since, format!("{what}: {}", named.join("; "))))
}
