//! Approvals: N of M people say yes to exactly one plan, never who asked, within a time.
//!
//! What runs out is *expired*, not rejected, and changes nothing: whatever was blocked stays blocked.

mod again;
mod door;
mod due;
mod refused;
mod terms;

pub use again::{answered, not_refused};
pub use door::Door;
pub use due::{REMINDED_AT, due};
pub use refused::Refused;
pub use terms::{Matter, Policy, Terms, bound, on_terms};

use crate::terms::{Actor, ApprovalId, Digest, Reason, Span, Timestamp};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// How long a request stands if nothing else is configured.
pub const EXPIRES_AFTER: Span = Span::minutes(24 * 60);
/// Longest time from now that a request may be given: who is away for longer is not who should be asked.
pub const EXTENDED_MAX: Span = Span::minutes(7 * 24 * 60);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What for, as one key: `incident/i3/plan`, `waiver/c4`. Two requests for the same subject replace each other.
    pub subject: String,
    /// What would happen, in one sentence.
    pub what: String,
    /// Digest of the plan that is approved; another plan is not.
    pub plan: Digest,
    /// How many must say yes; at least one.
    pub needed: u32,
    /// Who may; empty is anybody but who asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub of: BTreeSet<Actor>,
    /// When it runs out.
    pub expires: Timestamp,
}

/// Something that happened to a request for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ApprovalEvent {
    /// Somebody asks.
    Requested {
        /// Its id.
        approval: ApprovalId,
        /// What for.
        request: Request,
    },
    /// Somebody says yes.
    Approved {
        /// Which.
        approval: ApprovalId,
        /// Digest of the plan that was seen.
        plan: Digest,
        /// How it came in.
        #[serde(default, skip_serializing_if = "Door::is_command")]
        door: Door,
    },
    /// Somebody says no: that ends it.
    Rejected {
        /// Which.
        approval: ApprovalId,
        /// Why.
        reason: Reason,
        /// How it came in.
        #[serde(default, skip_serializing_if = "Door::is_command")]
        door: Door,
    },
    /// Somebody had a link printed by which a person can answer; the link itself is written nowhere.
    LinkGiven {
        /// Which.
        approval: ApprovalId,
        /// Whose answer it gives.
        person: Actor,
    },
    /// Half or four fifths of the time are over.
    Reminded {
        /// Which.
        approval: ApprovalId,
        /// Percent of the time that is over.
        percent: u8,
    },
    /// There is more time.
    Extended {
        /// Which.
        approval: ApprovalId,
        /// When it runs out now.
        expires: Timestamp,
    },
    /// What was approved was done; it is not done twice on one approval.
    Used {
        /// Which.
        approval: ApprovalId,
    },
    /// The time is over. Nothing was allowed.
    Expired {
        /// Which.
        approval: ApprovalId,
    },
    /// What was approved is no longer what would happen.
    Voided {
        /// Which.
        approval: ApprovalId,
        /// Why.
        because: String,
    },
}

impl ApprovalEvent {
    /// Gives which request it is about.
    pub const fn approval(&self) -> ApprovalId {
        match self {
            Self::Requested { approval, .. }
            | Self::Approved { approval, .. }
            | Self::Rejected { approval, .. }
            | Self::LinkGiven { approval, .. }
            | Self::Reminded { approval, .. }
            | Self::Extended { approval, .. }
            | Self::Used { approval }
            | Self::Expired { approval }
            | Self::Voided { approval, .. } => *approval,
        }
    }

    /// Says by which door an answer came in; what is no answer stays as it is.
    #[must_use]
    pub fn through(self, door: Door) -> Self {
        match self {
            Self::Approved { approval, plan, .. } => Self::Approved { approval, plan, door },
            Self::Rejected { approval, reason, .. } => Self::Rejected { approval, reason, door },
            other => other,
        }
    }

    /// Tells whether it can only block and never open.
    pub const fn only_blocks(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Expired { .. } | Self::Voided { .. } | Self::Used { .. })
    }
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// People are awaited.
    Pending,
    /// Enough said yes.
    Approved,
    /// Somebody said no.
    Rejected {
        /// Who.
        by: Actor,
        /// Why.
        reason: Reason,
    },
    /// What was approved was done.
    Used,
    /// The time ran out.
    Expired,
    /// The plan is another one.
    Voided {
        /// Why.
        because: String,
    },
}

/// A yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Yes {
    /// When it was said.
    pub at: Timestamp,
    /// How it came in.
    pub door: Door,
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What is asked for.
    pub request: Request,
    /// Who asks.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
    /// Who said yes.
    pub yes: BTreeMap<Actor, Yes>,
    /// Who had another person's link printed: that is their one word, because they could use it.
    pub given: BTreeSet<Actor>,
    /// Percent of the time at which people were reminded last.
    pub reminded: u8,
    /// Where it stands.
    pub standing: Standing,
    /// By which door the no came in, if somebody said no.
    pub rejected_through: Door,
    /// Since when it stands there, once it no longer waits.
    pub ended: Option<Timestamp>,
}

impl Approval {
    /// Gives where it stands at `now`, whether or not anybody has written so yet.
    pub fn standing_at(&self, now: Timestamp) -> Standing {
        match self.standing {
            Standing::Pending | Standing::Approved if now >= self.request.expires => Standing::Expired,
            _ => self.standing.clone(),
        }
    }
}

/// All requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// By id.
    pub all: BTreeMap<ApprovalId, Approval>,
    /// The number that the next one takes.
    pub next: u64,
}

impl Approvals {
    pub(super) fn apply(&mut self, at: Timestamp, by: &Actor, event: &ApprovalEvent) {
        if let ApprovalEvent::Requested { approval, request } = event {
            self.next = self.next.max(approval.0 + 1);
            let (request, by) = (request.clone(), by.clone());
            let one = Approval {
                request,
                by,
                at,
                yes: BTreeMap::new(),
                given: BTreeSet::new(),
                reminded: 0,
                standing: Standing::Pending,
                rejected_through: Door::Command,
                ended: None,
            };
            self.all.insert(*approval, one);
            return;
        }
        let Some(one) = self.all.get_mut(&event.approval()) else { return };
        let before = one.standing.clone();
        match event {
            ApprovalEvent::Requested { .. } => {}
            ApprovalEvent::LinkGiven { .. } => {
                one.given.insert(by.clone());
            }
            ApprovalEvent::Approved { plan, door, .. } => {
                if *plan == one.request.plan && one.standing == Standing::Pending {
                    one.yes.insert(by.clone(), Yes { at, door: *door });
                    if one.yes.len() >= one.request.needed as usize {
                        one.standing = Standing::Approved;
                    }
                }
            }
            ApprovalEvent::Rejected { reason, door, .. } => {
                one.rejected_through = *door;
                one.standing = Standing::Rejected { by: by.clone(), reason: reason.clone() };
            }
            ApprovalEvent::Reminded { percent, .. } => one.reminded = *percent,
            ApprovalEvent::Extended { expires, .. } => {
                one.request.expires = *expires;
                // Less of the longer time is over: what comes again is said again, what is behind is not.
                one.reminded = one.reminded.min(due::over(one, at).unwrap_or(0));
            }
            ApprovalEvent::Used { .. } => one.standing = Standing::Used,
            ApprovalEvent::Expired { .. } => one.standing = Standing::Expired,
            ApprovalEvent::Voided { because, .. } => one.standing = Standing::Voided { because: because.clone() },
        }
        if one.standing != before {
            one.ended = Some(at);
        }
    }

    /// Tells whether exactly this plan was approved for the subject, by at least `needed` people, and still is at `now`: what
    /// fewer agreed to is no answer where more must.
    pub fn allows(&self, subject: &str, plan: &Digest, needed: u32, now: Timestamp) -> bool {
        self.of(subject).any(|(_, one)| {
            let enough = one.request.needed >= needed;
            one.standing == Standing::Approved && one.request.plan == *plan && enough && now < one.request.expires
        })
    }

    /// Gives the requests for a subject, oldest first.
    pub fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = (&'a ApprovalId, &'a Approval)> {
        self.all.iter().filter(move |(_, one)| one.request.subject == subject)
    }
}

impl Standing {
    /// Says it in one word, for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Voided { .. } => "void",
        }
    }

    /// Says it in a few words, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Pending => "pending".into(),
            Self::Approved => "approved".into(),
            Self::Rejected { by, .. } => format!("rejected by {by}"),
            Self::Used => "used".into(),
            Self::Expired => "expired".into(),
            Self::Voided { because } => format!("void: {because}"),
        }
    }
}

/// Asks. A request for the same subject that still waits is void then.
///
/// Errors: [`Refused::Impossible`].
pub fn request(approvals: &Approvals, by: &Actor, request: Request) -> Result<Vec<ApprovalEvent>, Refused> {
    let possible = request.of.iter().filter(|one| *one != by).count();
    if request.needed == 0 || (!request.of.is_empty() && possible < request.needed as usize) {
        return Err(Refused::Impossible { needed: request.needed, possible });
    }
    let mut events = voided(approvals, &request.subject, "it was asked anew");
    events.push(ApprovalEvent::Requested { approval: ApprovalId(approvals.next), request });
    Ok(events)
}

/// Voids what was asked or allowed for a subject.
pub fn voided(approvals: &Approvals, subject: &str, because: &str) -> Vec<ApprovalEvent> {
    let open = |one: &Approval| matches!(one.standing, Standing::Pending | Standing::Approved);
    let open = approvals.of(subject).filter(|(_, one)| open(one));
    open.map(|(approval, _)| ApprovalEvent::Voided { approval: *approval, because: because.to_string() }).collect()
}

fn pending(approvals: &Approvals, approval: ApprovalId, now: Timestamp) -> Result<&Approval, Refused> {
    let one = approvals.all.get(&approval).ok_or(Refused::Unknown { approval })?;
    match &one.standing {
        Standing::Pending if now < one.request.expires => Ok(one),
        // Whether or not anybody has written so yet.
        Standing::Pending => Err(Refused::Over { approval, standing: Standing::Expired.words() }),
        over => Err(Refused::Over { approval, standing: over.words() }),
    }
}

fn asked(one: &Approval, approval: ApprovalId, by: &Actor) -> Result<(), Refused> {
    if one.by == *by {
        return Err(Refused::Own { approval, by: by.clone() });
    }
    if !one.request.of.is_empty() && !one.request.of.contains(by) {
        let of = one.request.of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Refused::NotAsked { approval, by: by.clone(), of });
    }
    Ok(())
}

/// Says yes to the plan that was seen.
///
/// Errors: it is over or unknown; who asks approves; not among those asked; the plan is another; said before.
pub fn approve(
    approvals: &Approvals,
    by: &Actor,
    approval: ApprovalId,
    plan: Digest,
    now: Timestamp,
) -> Result<ApprovalEvent, Refused> {
    let one = pending(approvals, approval, now)?;
    asked(one, approval, by)?;
    if one.request.plan != plan {
        let (asked, seen) = (one.request.plan.short(), plan.short());
        return Err(Refused::OtherPlan { approval, asked, seen });
    }
    said_nothing(one, approval, by)?;
    Ok(ApprovalEvent::Approved { approval, plan, door: Door::Command })
}

/// Says no. Who asked may take it back so.
///
/// Errors: it is over or unknown; not among those asked.
pub fn reject(
    approvals: &Approvals,
    by: &Actor,
    approval: ApprovalId,
    reason: Reason,
    now: Timestamp,
) -> Result<ApprovalEvent, Refused> {
    let one = pending(approvals, approval, now)?;
    if one.by != *by {
        asked(one, approval, by)?;
    }
    Ok(ApprovalEvent::Rejected { approval, reason, door: Door::Command })
}

/// Gives those of `who` whose answer is still awaited: among those asked, not who asks, and not answered yet.
pub fn awaited(one: &Approval, who: BTreeSet<Actor>) -> BTreeSet<Actor> {
    let is_asked = |person: &Actor| one.request.of.is_empty() || one.request.of.contains(person);
    who.into_iter().filter(|person| is_asked(person) && one.by != *person && !one.yes.contains_key(person)).collect()
}

/// Refuses a second word of the same person: a yes, or the link of another person that they could use.
fn said_nothing(one: &Approval, approval: ApprovalId, by: &Actor) -> Result<(), Refused> {
    match (one.yes.contains_key(by), one.given.contains(by)) {
        (true, _) => Err(Refused::SaidAlready { approval, by: by.clone() }),
        (false, true) => Err(Refused::GaveLink { approval, by: by.clone() }),
        (false, false) => Ok(()),
    }
}

/// Says that somebody has a link printed by which `person` can answer. Never who asks: the link would be an answer in the
/// hands of the one who may not give it. For the same reason who has one printed must be able to answer, and has then.
///
/// Errors: it is over or unknown; who asks wants one; one of them could not answer, or has answered.
pub fn give_link(
    approvals: &Approvals,
    by: &Actor,
    approval: ApprovalId,
    person: &Actor,
    now: Timestamp,
) -> Result<ApprovalEvent, Refused> {
    let one = pending(approvals, approval, now)?;
    asked(one, approval, person)?;
    if one.by == *by {
        return Err(Refused::OwnLink { approval, by: by.clone() });
    }
    asked(one, approval, by)?;
    said_nothing(one, approval, by)?;
    match one.yes.contains_key(person) {
        true => Err(Refused::SaidAlready { approval, by: person.clone() }),
        false => Ok(ApprovalEvent::LinkGiven { approval, person: person.clone() }),
    }
}

/// Gives a request that still waits for people more time, from now.
///
/// Errors: it is over or unknown; neither who asked nor one of those asked; more than [`EXTENDED_MAX`].
pub fn extend(
    approvals: &Approvals,
    by: &Actor,
    approval: ApprovalId,
    span: Span,
    now: Timestamp,
) -> Result<ApprovalEvent, Refused> {
    let one = pending(approvals, approval, now)?;
    if one.by != *by {
        asked(one, approval, by)?;
    }
    let expires = now.after(span);
    match span <= EXTENDED_MAX && expires > one.request.expires {
        true => Ok(ApprovalEvent::Extended { approval, expires }),
        false => Err(Refused::NoExtension { approval, expires: one.request.expires.since(now) }),
    }
}

/// Says that what was approved for a subject is done now, so that it is not done twice. Goes with the act itself.
pub fn used(approvals: &Approvals, subject: &str, plan: &Digest) -> Vec<ApprovalEvent> {
    let allowing = approvals.of(subject).filter(|(_, one)| one.standing == Standing::Approved);
    let of_plan = allowing.filter(|(_, one)| one.request.plan == *plan);
    of_plan.map(|(approval, _)| ApprovalEvent::Used { approval: *approval }).collect()
}
