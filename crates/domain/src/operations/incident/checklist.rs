//! The cleanup checklist: each item has an owner, a due time and a kind of evidence without which it stays open.

use super::{
    Incident, IncidentEvent, Level, Refused, Role, Signature, Signed, find, of, role,
    signature::{self, Wanted},
};
use crate::{
    operations::{self, Event, Operations, approval::Approvals},
    terms::{Actor, ChainName, Digest, IncidentId, ItemName, Reason, Span, Timestamp},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What proves that an item is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A command that we ran and that succeeded.
    Command,
    /// A file, by its digest.
    File,
    /// What lies at a URL, by its digest.
    Url,
    /// A record of one of our chains.
    Event,
    /// What a person states.
    Statement,
    /// What lastgood itself saw: by a step of the plan, or asked again.
    Proof,
}

impl EvidenceKind {
    /// Says it in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Command => "a command",
            Self::File => "a file",
            Self::Url => "a URL and its digest",
            Self::Event => "an event",
            Self::Statement => "a statement",
            Self::Proof => "a proof of lastgood's own",
        }
    }

    /// Gives what is typed for it.
    pub const fn typed(self) -> &'static str {
        match self {
            Self::Command => "--command …",
            Self::File => "--file …",
            Self::Url => "--url …",
            Self::Event => "--event CHAIN#NUMBER",
            Self::Statement => "--statement …",
            Self::Proof => "--proof",
        }
    }
}

/// One thing to do, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What.
    pub what: String,
    /// The level from which on it must be done.
    pub level: Level,
    /// Who owns it.
    pub role: Role,
    /// What proves it.
    pub evidence: EvidenceKind,
    /// How long after the incident got that level it is due.
    pub due_in: Span,
}

/// One thing to do, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub item: ItemName,
    /// What.
    pub text: String,
    /// The level from which on it must be done.
    pub level: Level,
    /// Who owns it.
    pub role: Role,
    /// What proves it.
    pub evidence: EvidenceKind,
    /// When it is due.
    pub due: Timestamp,
}

/// What was given as proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A command that we ran.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Its exit status.
        exit: i32,
        /// Digest of what it wrote.
        output: Digest,
        /// How many bytes that are.
        bytes: u64,
        /// How long it took.
        took: Span,
    },
    /// A file.
    File {
        /// Its path.
        path: String,
        /// Its digest.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// What somebody fetched.
    Url {
        /// From where.
        url: String,
        /// Its digest.
        digest: Digest,
        /// Bytes that we fetched and digested ourselves; without it the digest is what they say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fetched: Option<u64>,
    },
    /// A record.
    Event {
        /// Of which chain.
        chain: ChainName,
        /// Its number.
        number: u64,
        /// Its link, so that another record in its place is noticed.
        link: Digest,
    },
    /// What a person states.
    Statement {
        /// In their words.
        text: Reason,
    },
    /// What lastgood itself saw.
    Proof {
        /// What.
        what: String,
    },
}

impl Evidence {
    /// Tells its kind.
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Command { .. } => EvidenceKind::Command,
            Self::File { .. } => EvidenceKind::File,
            Self::Url { .. } => EvidenceKind::Url,
            Self::Event { .. } => EvidenceKind::Event,
            Self::Statement { .. } => EvidenceKind::Statement,
            Self::Proof { .. } => EvidenceKind::Proof,
        }
    }

    /// Says it in one line.
    pub fn words(&self) -> String {
        match self {
            Self::Command { argv, exit, output, took, .. } => {
                format!("`{}` ended with {exit} after {took}, output {}", argv.join(" "), output.short())
            }
            Self::File { path, digest, bytes } => format!("{path}, {bytes} bytes, {}", digest.short()),
            Self::Url { url, digest, fetched: Some(bytes) } => {
                format!("{url}, {bytes} bytes fetched, {}", digest.short())
            }
            Self::Url { url, digest, fetched: None } => {
                format!("{url} as {}, which is what was said: it was not fetched", digest.short())
            }
            Self::Event { chain, number, .. } => format!("event {number} of {chain}"),
            Self::Statement { text } => format!("stated: {text}"),
            Self::Proof { what } => format!("proved: {what}"),
        }
    }
}

/// Something that happened to the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum ChecklistEvent {
    /// Things have to be done.
    Added {
        /// Which.
        items: Vec<Item>,
    },
    /// One is done.
    Done {
        /// Which.
        item: ItemName,
        /// What proves it.
        evidence: Evidence,
    },
    /// Somebody asks to leave one undone.
    WaiverAsked {
        /// Which.
        item: ItemName,
        /// What a second person signs.
        signature: Signature,
    },
    /// The time of a waiver is over: it must be done.
    WaiverOver {
        /// Which.
        item: ItemName,
    },
}

/// An item and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is to be done.
    pub item: Item,
    /// What proves that it is done, by whom and when.
    pub done: Option<(Evidence, Actor, Timestamp)>,
    /// A risk that somebody takes instead, and who.
    pub waiver: Option<(Signature, Actor)>,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemStanding {
    /// It must be done.
    Open,
    /// It must be done, and its time is over.
    Overdue,
    /// It must be done unless a second person signs.
    WaiverAwaited,
    /// It is done.
    Done,
    /// It need not be done, for a time.
    Waived,
    /// It belongs to a higher level.
    NotNeeded,
}

impl ItemStanding {
    /// Tells whether it keeps the incident frozen.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Overdue | Self::WaiverAwaited)
    }

    /// Says it in a word or two.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Overdue => "OVERDUE",
            Self::WaiverAwaited => "open, waiver awaited",
            Self::Done => "done",
            Self::Waived => "waived",
            Self::NotNeeded => "not needed",
        }
    }
}

impl Entry {
    /// Tells where it stands at `now` in an incident of `level`.
    pub fn standing(&self, level: Level, approvals: &Approvals, now: Timestamp) -> ItemStanding {
        if self.done.is_some() {
            return ItemStanding::Done;
        }
        if self.item.level > level {
            return ItemStanding::NotNeeded;
        }
        match self.waiver.as_ref().map(|(signature, _)| signature.standing(approvals, now)) {
            Some(Signed::Given) => ItemStanding::Waived,
            Some(Signed::Awaited) => ItemStanding::WaiverAwaited,
            Some(Signed::Gone) | None if now >= self.item.due => ItemStanding::Overdue,
            Some(Signed::Gone) | None => ItemStanding::Open,
        }
    }
}

/// Gives the items that keep the incident frozen at `now`.
pub fn open<'a>(
    incident: &'a Incident,
    approvals: &'a Approvals,
    now: Timestamp,
) -> impl Iterator<Item = &'a Entry> + 'a {
    incident.checklist.values().filter(move |entry| entry.standing(incident.level, approvals, now).is_open())
}

pub(super) fn apply(incident: &mut Incident, at: Timestamp, by: &Actor, event: &ChecklistEvent) {
    match event {
        ChecklistEvent::Added { items } => {
            for item in items {
                let entry = Entry { item: item.clone(), done: None, waiver: None };
                incident.checklist.entry(item.item.clone()).or_insert(entry);
            }
        }
        ChecklistEvent::Done { item, evidence } => {
            if let Some(entry) = incident.checklist.get_mut(item) {
                entry.done = Some((evidence.clone(), by.clone(), at));
                entry.waiver = None;
            }
        }
        ChecklistEvent::WaiverAsked { item, signature } => {
            if let Some(entry) = incident.checklist.get_mut(item) {
                entry.waiver = Some((signature.clone(), by.clone()));
            }
        }
        ChecklistEvent::WaiverOver { item } => {
            if let Some(entry) = incident.checklist.get_mut(item) {
                entry.waiver = None;
            }
        }
    }
}

/// Gives the items that an incident of `level` has to have and `known` has not; empty is nothing to add.
pub fn added(
    known: &[ItemName],
    level: Level,
    templates: &[(ItemName, Template)],
    now: Timestamp,
) -> Option<IncidentEvent> {
    let needed = templates.iter().filter(|(name, one)| one.level <= level && !known.contains(name));
    let items: Vec<Item> = needed
        .map(|(name, one)| Item {
            item: name.clone(),
            text: one.what.clone(),
            level: one.level,
            role: one.role,
            evidence: one.evidence,
            due: now.after(one.due_in),
        })
        .collect();
    (!items.is_empty()).then_some(IncidentEvent::Checklist(ChecklistEvent::Added { items }))
}

fn undone<'a>(found: &'a Incident, incident: IncidentId, item: &ItemName, by: &Actor) -> Result<&'a Entry, Refused> {
    if found.state.is_over() {
        return Err(Refused::Over { incident, state: found.state });
    }
    let entry = found.checklist.get(item).ok_or_else(|| Refused::ItemUnknown { incident, item: item.clone() })?;
    if entry.done.is_some() {
        return Err(Refused::ItemDone { incident, item: item.clone() });
    }
    match role::may_act(found, entry.item.role, by) {
        true => Ok(entry),
        false => Err(Refused::NotOwner { incident, role: entry.item.role, by: by.clone() }),
    }
}

/// Closes an item with its evidence.
///
/// Errors: there is none; it is done; somebody else owns it; the evidence is of another kind or proves nothing.
pub fn done(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    item: &ItemName,
    evidence: Evidence,
) -> Result<IncidentEvent, Refused> {
    let entry = undone(find(operations, incident)?, incident, item, by)?;
    let (needed, given) = (entry.item.evidence, evidence.kind());
    if needed != given {
        return Err(Refused::OtherEvidence { incident, item: item.clone(), needed, given });
    }
    if let Evidence::Command { exit, .. } = evidence
        && exit != 0
    {
        return Err(Refused::CommandFailed { incident, item: item.clone(), exit });
    }
    Ok(IncidentEvent::Checklist(ChecklistEvent::Done { item: item.clone(), evidence }))
}

/// Tells whether an item may be closed with such evidence by `by`, before it is gathered.
///
/// Errors: as [`done`].
pub fn may_close(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    item: &ItemName,
    given: EvidenceKind,
) -> Result<(), Refused> {
    let needed = undone(find(operations, incident)?, incident, item, by)?.item.evidence;
    match needed == given {
        true => Ok(()),
        false => Err(Refused::OtherEvidence { incident, item: item.clone(), needed, given }),
    }
}

/// Asks a second person to leave an item undone for a time; nothing where that is so already, or asked.
///
/// Errors: there is none; it is done; somebody else owns it; no time is given.
pub fn waive(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    item: &ItemName,
    risk: Reason,
    until: Timestamp,
    now: Timestamp,
) -> Result<Vec<Event>, operations::Refused> {
    let entry = undone(find(operations, incident)?, incident, item, by)?;
    if until <= now {
        return Err(Refused::NoTime { incident }.into());
    }
    let again = |one: &Signature| one.is_wanted_again(&operations.approvals, (&risk, until), now);
    if entry.waiver.as_ref().is_some_and(|(signature, _)| again(signature)) {
        return Ok(Vec::new());
    }
    let wanted = Wanted {
        incident,
        matter: format!("waiver/{item}"),
        what: format!("leave {item} of incident {incident} undone ({}): {risk}", entry.item.text),
        basis: &item.to_string(),
        risk,
        until,
    };
    let (signature, mut events) = signature::ask(operations, by, now, wanted)?;
    let asked = ChecklistEvent::WaiverAsked { item: item.clone(), signature };
    events.push(of(incident, IncidentEvent::Checklist(asked)));
    Ok(events)
}

/// Gives the waivers whose time is over.
pub(super) fn due(incident: &Incident, approvals: &Approvals, now: Timestamp) -> Vec<ChecklistEvent> {
    let entries = incident.checklist.iter().filter(|(_, entry)| {
        let waiver = entry.waiver.as_ref();
        waiver.is_some_and(|(signature, _)| signature.standing(approvals, now) == Signed::Gone)
    });
    entries.map(|(item, _)| ChecklistEvent::WaiverOver { item: item.clone() }).collect()
}
