//! The unfreeze: a table of what must be true, and one kind of hold lifted after the other while it is.

use super::{
    Incident, IncidentEvent, Refused, Signature, Signed, State, checklist, commanded, held, message, moved, of, plan,
    signature::{self, Wanted},
    verify::Proof,
    words,
};
use crate::{
    operations::{
        self, Event, Operations,
        approval::Standing,
        hold::{HoldEvent, HoldKind},
    },
    terms::{Actor, IncidentId, Reason, ServiceName, Span, Timestamp, WideHoldId},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// The plan has run and its leftovers are being verified.
    Executed,
    /// What runs has not changed for a while.
    Stable,
    /// Every check passed on what runs now.
    Verified,
    /// Nothing is left to clean up.
    Checklist,
    /// What is still frozen is confirmed to be.
    Holds,
    /// Somebody owns the next delivery cycle.
    Ownership,
    /// People were told that it is over.
    Messages,
    /// Nobody is asked for anything.
    Approvals,
    /// The last stage was watched long enough.
    Watched,
}

impl Row {
    /// Every row, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::Executed,
        Self::Stable,
        Self::Verified,
        Self::Checklist,
        Self::Holds,
        Self::Ownership,
        Self::Messages,
        Self::Approvals,
        Self::Watched,
    ];

    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Stable => "stable",
            Self::Verified => "verified",
            Self::Checklist => "checklist",
            Self::Holds => "holds",
            Self::Ownership => "ownership",
            Self::Messages => "messages",
            Self::Approvals => "approvals",
            Self::Watched => "watched",
        }
    }
}

/// What is seen outside of the record at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What runs, by service.
    pub target: BTreeMap<ServiceName, String>,
    /// When it last changed; none if nothing ever ran.
    pub stable_since: Option<Timestamp>,
    /// What is not settled: a run under way, an instance behind.
    pub unsettled: Vec<String>,
    /// Where a hold is not confirmed by who enforces it.
    pub unconfirmed: Vec<String>,
    /// Messages that were given up.
    pub undelivered: Vec<String>,
}

/// How long things must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// For how long what runs must not have changed.
    pub stable_for: Span,
    /// For how long each stage is watched.
    pub watch: Span,
    /// How old a verification may be.
    pub fresh: Span,
}

/// One condition and whether it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub row: Row,
    /// Whether it is so.
    pub is_met: bool,
    /// Who signed that it need not be, until when.
    pub signed: Option<(Actor, Timestamp)>,
    /// Whether anybody may sign that; never where nothing can be told, or only time is missing.
    pub may_be_signed: bool,
    /// Whether nothing can be told, because a proof is missing.
    pub is_missing: bool,
    /// What is seen.
    pub detail: String,
    /// What exactly is not so, without what changes by itself; a signature is for this.
    pub basis: String,
}

impl Line {
    /// Tells whether it lets the unfreeze go on.
    pub const fn is_open(&self) -> bool {
        self.is_met || self.signed.is_some()
    }
}

/// Something that happened to an incident's freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum UnfreezeEvent {
    /// Somebody takes the risk of an unmet row.
    RiskAsked {
        /// Which.
        row: Row,
        /// What a second person signs.
        signature: Signature,
    },
    /// One kind is no longer held.
    Lifted {
        /// Which.
        hold: HoldKind,
    },
    /// What was lifted is held again.
    HeldAgain {
        /// Why.
        reason: Reason,
    },
}

impl UnfreezeEvent {
    pub(super) const fn only_blocks(&self) -> bool {
        matches!(self, Self::HeldAgain { .. })
    }
}

/// How far the unfreeze is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is lifted.
    pub lifted: BTreeSet<HoldKind>,
    /// When the last was.
    pub lifted_at: Option<Timestamp>,
    /// When things were held again.
    pub held_again_at: Option<Timestamp>,
    /// Risks that somebody takes, and who.
    pub risks: BTreeMap<Row, (Signature, Actor)>,
    /// How often something was lifted or held again; it only grows.
    pub steps: u64,
}

pub(super) fn apply(incident: &mut Incident, at: Timestamp, by: &Actor, event: &UnfreezeEvent) {
    let progress = &mut incident.unfreeze;
    match event {
        UnfreezeEvent::RiskAsked { row, signature } => {
            progress.risks.insert(*row, (signature.clone(), by.clone()));
        }
        UnfreezeEvent::Lifted { hold } => {
            progress.lifted.insert(*hold);
            progress.lifted_at = Some(at);
            progress.steps += 1;
        }
        UnfreezeEvent::HeldAgain { .. } => {
            let steps = progress.steps + 1;
            *progress = Progress { held_again_at: Some(at), steps, ..Progress::default() };
        }
    }
}

/// What a condition comes to, before signatures.
struct Seen {
    is_met: bool,
    is_missing: bool,
    may_be_signed: bool,
    detail: String,
    basis: String,
}

fn seen(is_met: bool, detail: String, basis: String) -> Seen {
    Seen { is_met, is_missing: false, may_be_signed: true, detail, basis }
}

/// Gives the whole table at `now`.
///
/// Errors: there is no such incident.
pub fn table(
    operations: &Operations,
    incident: IncidentId,
    facts: &Facts,
    terms: &Terms,
    now: Timestamp,
) -> Result<Vec<Line>, Refused> {
    let found = super::find(operations, incident)?;
    let line = |row: Row| {
        let Seen { is_met, is_missing, may_be_signed, detail, basis } = match row {
            Row::Executed => executed(found),
            Row::Stable => stable(facts, terms, now),
            Row::Verified => verified(found, facts, terms, now),
            Row::Checklist => cleaned(operations, found, now),
            Row::Holds => holds(operations, incident, found, facts, now),
            Row::Ownership => ownership(found),
            Row::Messages => messages(found, facts, now),
            Row::Approvals => approvals(operations, incident),
            Row::Watched => watched(found, terms, now),
        };
        let risk = found.unfreeze.risks.get(&row).filter(|_| !is_met && may_be_signed);
        let plan = |risk: &Signature| super::signature::Wanted {
            incident,
            matter: matter(row),
            what: String::new(),
            basis: &basis,
            risk: risk.risk.clone(),
            until: risk.until,
        };
        // Signed was exactly this: what became worse since needs another signature.
        let risk = risk.filter(|(risk, _)| {
            risk.standing(&operations.approvals, now) == Signed::Given && risk.plan == plan(risk).plan()
        });
        let signed = risk.map(|(risk, by)| (by.clone(), risk.until));
        Line { row, is_met, signed, may_be_signed, is_missing, detail, basis }
    };
    Ok(Row::ALL.map(line).into())
}

fn matter(row: Row) -> String {
    format!("risk/{}", row.as_str())
}

fn executed(found: &Incident) -> Seen {
    let is_met = matches!(found.state, State::Verifying | State::UnfreezeReady | State::Monitoring);
    Seen { may_be_signed: false, ..seen(is_met, format!("the incident is {}", found.state.as_str()), String::new()) }
}

fn stable(facts: &Facts, terms: &Terms, now: Timestamp) -> Seen {
    if !facts.unsettled.is_empty() {
        return seen(false, facts.unsettled.join(", "), facts.unsettled.join(", "));
    }
    let Some(since) = facts.stable_since else {
        return seen(false, "nothing runs".into(), "nothing runs".into());
    };
    let lasts = now.since(since);
    let detail = format!("unchanged for {lasts} ({} needed)", terms.stable_for);
    seen(lasts >= terms.stable_for, detail, "not long enough".into())
}

fn verified(found: &Incident, facts: &Facts, terms: &Terms, now: Timestamp) -> Seen {
    let missing =
        |detail: &str| Seen { is_missing: true, may_be_signed: false, ..seen(false, detail.into(), String::new()) };
    let Some((at, verification)) = &found.verified else { return missing("never verified") };
    if verification.worst() == Proof::Missing {
        let names = verification.checks.iter().filter(|check| check.proof == Proof::Missing);
        return missing(&format!(
            "no proof: {}",
            names.map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ")
        ));
    }
    if verification.target != facts.target {
        return missing("something else runs than what was verified");
    }
    let newest = found.unfreeze.lifted_at.max(found.unfreeze.held_again_at).max(found.recovered_at);
    if newest.is_some_and(|newest| *at <= newest) || *at > now {
        return missing("not verified since the last step");
    }
    let age = now.since(*at);
    if age > terms.fresh {
        return missing(&format!("verified {age} ago, at most {} are good", terms.fresh));
    }
    let bad = verification.checks.iter().filter(|check| !check.proof.counts());
    let bad: Vec<String> = bad.map(|check| format!("{} is {}", check.name, check.proof.as_str())).collect();
    let detail = match bad.as_slice() {
        [] => format!("{} checks passed {age} ago", verification.checks.len()),
        bad => bad.join(", "),
    };
    seen(bad.is_empty(), detail, bad.join(", "))
}

fn cleaned(operations: &Operations, found: &Incident, now: Timestamp) -> Seen {
    let items = checklist::open(found, &operations.approvals, now).map(|entry| entry.item.item.to_string());
    // Whose word for it ended, or never needed a second one.
    let steps = plan::unproven(found, &operations.approvals, now).map(|step| format!("proof of {}", step.id));
    let open: Vec<String> = items.chain(steps).collect();
    let detail = match open.as_slice() {
        [] => format!("{} items are closed", found.checklist.len()),
        open => format!("open: {}", open.join(", ")),
    };
    seen(open.is_empty(), detail, open.join(", "))
}

fn holds(operations: &Operations, incident: IncidentId, found: &Incident, facts: &Facts, now: Timestamp) -> Seen {
    if found.drill {
        return seen(true, "drill: nothing is held".into(), String::new());
    }
    let stands = |kind: &HoldKind| {
        let mut holds = operations.holds.standing(now);
        holds.any(|(_, hold)| hold.incident == Some(incident) && hold.kinds.contains(kind))
    };
    let kinds = HoldKind::ALL.iter().filter(|kind| !found.unfreeze.lifted.contains(kind));
    let gone = kinds.filter(|kind| !stands(kind)).map(|kind| format!("nothing holds {}", kind.as_str()));
    let bad: Vec<String> = gone.chain(facts.unconfirmed.iter().cloned()).collect();
    let detail = if bad.is_empty() { "each is confirmed".into() } else { bad.join(", ") };
    seen(bad.is_empty(), detail, bad.join(", "))
}

fn ownership(found: &Incident) -> Seen {
    let detail = match &found.closing.next_owner {
        Some(owner) => format!("{owner} owns the next delivery cycle"),
        None => "nobody owns the next delivery cycle".into(),
    };
    seen(found.closing.next_owner.is_some(), detail, "nobody".into())
}

fn messages(found: &Incident, facts: &Facts, now: Timestamp) -> Seen {
    let mut bad = facts.undelivered.clone();
    let told = found.messages.completed_at.filter(|at| found.unfreeze.held_again_at.is_none_or(|again| again <= *at));
    if told.is_none() {
        bad.push("the complete message is not sent".into());
    }
    if message::is_overdue(found, now) {
        bad.push("the next update is overdue".into());
    }
    let detail = if bad.is_empty() { "people know that it is over".into() } else { bad.join(", ") };
    seen(bad.is_empty(), detail, bad.join(", "))
}

fn approvals(operations: &Operations, incident: IncidentId) -> Seen {
    let begin = super::subject(incident, "");
    let pending = operations.approvals.all.iter().filter(|(_, one)| one.standing == Standing::Pending);
    // What is asked about this table itself opens nothing else.
    let table = format!("{begin}risk/");
    let of = pending.filter(|(_, one)| one.request.subject.starts_with(&begin));
    let open: Vec<String> =
        of.filter(|(_, one)| !one.request.subject.starts_with(&table)).map(|(id, _)| id.to_string()).collect();
    let detail = if open.is_empty() { "none is open".into() } else { format!("open: {}", open.join(", ")) };
    seen(open.is_empty(), detail, open.join(", "))
}

fn watched(found: &Incident, terms: &Terms, now: Timestamp) -> Seen {
    let seen = match found.unfreeze.lifted_at {
        None => seen(true, "nothing is lifted yet".into(), String::new()),
        Some(at) => {
            let lasts = now.since(at);
            let detail = format!("the last stage is open for {lasts} ({} needed)", terms.watch);
            seen(lasts >= terms.watch, detail, String::new())
        }
    };
    Seen { may_be_signed: false, ..seen }
}

/// Takes the risk of an unmet row: asks a second person, unless that one has taken exactly this risk or is asked to.
///
/// Errors: there is no such incident; somebody else leads it; the row is met or can't be signed; no time is given.
#[expect(clippy::too_many_arguments, reason = "who takes which risk of what is seen, until when")]
pub fn accept_risk(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    row: Row,
    risk: Reason,
    until: Timestamp,
    (facts, terms): (&Facts, &Terms),
    now: Timestamp,
) -> Result<Vec<Event>, operations::Refused> {
    let found = commanded(operations, incident, by)?;
    let table = table(operations, incident, facts, terms, now)?;
    let line = table.iter().find(|line| line.row == row).filter(|line| !line.is_met && line.may_be_signed);
    let Some(line) = line else {
        let why = match table.iter().find(|line| line.row == row) {
            Some(line) if line.is_met => "it is met".to_string(),
            Some(line) => line.detail.clone(),
            None => "there is none".to_string(),
        };
        return Err(Refused::NoRisk { incident, row: row.as_str().into(), why }.into());
    };
    if until <= now {
        return Err(Refused::NoTime { incident }.into());
    }
    let again = |one: &Signature| {
        let same = Wanted {
            incident,
            matter: matter(row),
            what: String::new(),
            basis: &line.basis,
            risk: one.risk.clone(),
            until: one.until,
        };
        one.is_wanted_again(&operations.approvals, (&risk, until), now) && one.plan == same.plan()
    };
    if found.unfreeze.risks.get(&row).is_some_and(|(signature, _)| again(signature)) {
        return Ok(Vec::new());
    }
    let what = format!("unfreeze incident {incident} although {}: {risk}", line.detail);
    let wanted = Wanted { incident, matter: matter(row), what, basis: &line.basis, risk, until };
    let (signature, mut events) = signature::ask(operations, by, now, wanted)?;
    events.push(of(incident, IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { row, signature })));
    Ok(events)
}

/// Lifts the next kind of hold, least risky first; once none is left, what remains is the analysis.
///
/// Invariant: nothing is lifted while a row is neither met nor signed.
/// Errors: there is no such incident; somebody else leads it; a row is unmet.
pub fn lift_next(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    (facts, terms): (&Facts, &Terms),
    now: Timestamp,
) -> Result<Vec<Event>, Refused> {
    let found = commanded(operations, incident, by)?;
    let table = table(operations, incident, facts, terms, now)?;
    let unmet: Vec<&Line> = table.iter().filter(|line| !line.is_open()).collect();
    if !unmet.is_empty() {
        let rows = unmet.iter().map(|line| format!("{}: {}", line.row.as_str(), line.detail)).collect();
        return Err(Refused::Unmet { incident, rows, missing: unmet.iter().any(|line| line.is_missing) });
    }
    let mut events = Vec::new();
    let mut state = found.state;
    let mut go = |events: &mut Vec<Event>, to, why: &str| {
        events.push(of(incident, moved(state, incident, to, words::reason(why))?));
        state = to;
        Ok::<_, Refused>(())
    };
    if found.state == State::Verifying {
        go(&mut events, State::UnfreezeReady, "every row is met or signed")?;
    }
    let Some(kind) = HoldKind::ALL.into_iter().find(|kind| !found.unfreeze.lifted.contains(kind)) else {
        go(&mut events, State::ClosedPendingRca, "nothing is held any more")?;
        return Ok(events);
    };
    if found.state != State::Monitoring {
        go(&mut events, State::Monitoring, "the freeze is lifted one stage after the other")?;
    }
    let reason = words::reason(&format!("incident {incident} no longer holds {}", kind.as_str()));
    let ours = operations.holds.all.iter().filter(|(_, hold)| hold.incident == Some(incident));
    let lifted = ours.filter(|(_, hold)| hold.kinds.contains(&kind));
    events.extend(lifted.map(|(hold, _)| Event::Hold(HoldEvent::Lifted { hold: *hold, reason: reason.clone() })));
    events.push(of(incident, IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { hold: kind })));
    Ok(events)
}

/// Sets what was lifted again; what was signed is void. Nothing if nothing was.
pub(super) fn frozen_again(
    operations: &Operations,
    incident: IncidentId,
    found: &Incident,
    reason: &Reason,
) -> Vec<Event> {
    let lifted = &found.unfreeze.lifted;
    if lifted.is_empty() {
        return Vec::new();
    }
    let mut events = Vec::new();
    if !found.drill {
        for (number, kind) in (operations.holds.next..).zip(lifted) {
            events.push(held(WideHoldId(number), *kind, incident, found.services.clone(), reason.clone()));
        }
    }
    events.push(of(incident, IncidentEvent::Unfreeze(UnfreezeEvent::HeldAgain { reason: reason.clone() })));
    events
}
