//! Requests for a second person, as their records show them.

use super::{Around, Checks, pages::Pages};
use crate::incidents::checks::holds::Exemption;
use lastgood_domain::{
    operations::approval::ApprovalEvent,
    terms::{Actor, ApprovalId, Digest, IncidentId, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Open,
    Yes,
    No,
    Void,
    Expired,
    Used,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct One {
    pub(crate) subject: String,
    pub(crate) plan: Digest,
    needed: u32,
    of: BTreeSet<Actor>,
    pub(crate) by: Actor,
    at: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) yes: BTreeSet<Actor>,
    pub(crate) answer: Answer,
    /// Whether it was ever approved.
    was_yes: bool,
    /// Whether what it allowed was done.
    spent: bool,
}

/// All requests.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) all: BTreeMap<ApprovalId, One>,
    /// Those that were said to have expired in this transaction.
    pub(super) expired_now: Vec<ApprovalId>,
}

impl Asked {
    pub(super) fn record(
        &mut self,
        at: Timestamp,
        by: &Actor,
        event: &ApprovalEvent,
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        if let ApprovalEvent::Requested { approval, request } = event {
            let one = One {
                subject: request.subject.clone(),
                plan: request.plan,
                needed: request.needed,
                of: request.of.clone(),
                by: by.clone(),
                at,
                expires: request.expires,
                yes: BTreeSet::new(),
                answer: Answer::Open,
                was_yes: false,
                spent: false,
            };
            if request.needed == 0 || request.expires <= at {
                wrong.push(format!("{approval} needs nobody or no time"));
            }
            if self.all.insert(*approval, one).is_some() {
                wrong.push(format!("{approval} was given twice"));
            }
            let same = |(id, one): &(&ApprovalId, &One)| *id != approval && one.subject == request.subject;
            let open = self.all.iter().filter(same).any(|(_, one)| one.answer == Answer::Open);
            if open {
                wrong.push(format!("{approval} asks beside another request for {}", request.subject));
            }
            return;
        }
        let id = event.approval();
        let Some(one) = self.all.get_mut(&id) else { return wrong.push(format!("{id} was never asked")) };
        let open = one.answer == Answer::Open;
        let over = at >= one.expires;
        match event {
            ApprovalEvent::Requested { .. } | ApprovalEvent::LinkGiven { .. } | ApprovalEvent::Reminded { .. } => {}
            ApprovalEvent::Approved { plan, .. } => {
                if !open || over {
                    wrong.push(format!(
                        "{by} approved {id}, which was {:?} and had {} left",
                        one.answer,
                        one.expires.since(at)
                    ));
                }
                if *by == one.by {
                    wrong.push(format!("{by} approved {id}, which they asked for"));
                }
                if *plan != one.plan {
                    wrong.push(format!("{by} approved {id} for another plan"));
                }
                let known = around.config.people().all.contains_key(by);
                if !known || (!one.of.is_empty() && !one.of.contains(by)) {
                    wrong.push(format!("{by} approved {id} and was not asked"));
                }
                if !one.yes.insert(by.clone()) {
                    wrong.push(format!("{by} approved {id} twice"));
                }
                if one.yes.len() >= one.needed as usize {
                    one.answer = Answer::Yes;
                    one.was_yes = true;
                }
            }
            ApprovalEvent::Rejected { .. } => {
                if !open || over {
                    wrong.push(format!("{id} was {:?} or over, and is rejected", one.answer));
                }
                one.answer = Answer::No;
            }
            ApprovalEvent::Extended { expires, .. } => {
                if !open || over || *expires <= one.expires {
                    wrong.push(format!("{id} was {:?} or over, and has more time", one.answer));
                }
                one.expires = *expires;
            }
            ApprovalEvent::Used { .. } => one.answer = Answer::Used,
            ApprovalEvent::Voided { .. } => one.answer = Answer::Void,
            ApprovalEvent::Expired { .. } => {
                if !open || !over {
                    wrong.push(format!("{id} was {:?} with time left, and is expired", one.answer));
                }
                one.answer = Answer::Expired;
                self.expired_now.push(id);
            }
        }
    }

    /// Tells whether people besides who asked, as many as must, said yes to exactly this plan, and it is not over.
    pub(crate) fn allows(&self, subject: &str, plan: &Digest, needed: u32, now: Timestamp) -> bool {
        let fits = |one: &One| one.subject == subject && one.plan == *plan && one.answer == Answer::Yes && !one.spent;
        self.all.values().any(|one| {
            let others = one.yes.iter().filter(|who| **who != one.by).count();
            fits(one) && others >= needed as usize && now < one.expires
        })
    }

    /// What was approved for a subject so far was done: it counts no more.
    pub(super) fn spend(&mut self, subject: &str) {
        let of = self.all.values_mut().filter(|one| one.subject == subject);
        of.for_each(|one| one.spent = true);
    }

    /// Tells whether somebody else said yes to exactly this request, for exactly this plan.
    pub(crate) fn said_yes(&self, id: ApprovalId, plan: &Digest) -> bool {
        self.all.get(&id).is_some_and(|one| {
            one.answer == Answer::Yes && one.plan == *plan && one.yes.iter().any(|who| *who != one.by)
        })
    }

    /// Gives the requests that wait, for a subject that begins so.
    pub(crate) fn open<'a>(&'a self, begin: &'a str) -> impl Iterator<Item = (&'a ApprovalId, &'a One)> {
        self.all.iter().filter(move |(_, one)| one.answer == Answer::Open && one.subject.starts_with(begin))
    }

    /// After a look nobody waits for what is over, and people were paged before it.
    pub(super) fn nothing_due(&self, now: Timestamp, pages: &Pages, wrong: &mut Vec<String>) {
        for (id, one) in self.all.iter().filter(|(_, one)| one.answer == Answer::Open) {
            if now >= one.expires {
                wrong.push(format!("{id} is over and still waits"));
            }
            let whole = one.expires.since(one.at);
            let late = one.at.after(lastgood_domain::terms::Span(whole.0 / 10 * 9));
            if now >= late && !pages.about(&format!("approval/{id}")) {
                wrong.push(format!("{id} is almost over and nobody was paged"));
            }
        }
    }
}

impl Checks {
    /// What was approved of one plan is nothing for another: a changed plan and another level void it.
    pub(super) fn plans_and_approvals(&self, around: &Around<'_>, wrong: &mut Vec<String>) {
        for (id, life) in &self.lives {
            let subject = format!("incident/{id}/plan");
            let stands = |one: &One| matches!(one.answer, Answer::Open | Answer::Yes);
            let mut of_plan = self.asked.all.iter().filter(|(_, one)| one.subject == subject && stands(one));
            let plan = life.plan.as_ref().map(|plan| plan.hash);
            if let Some((approval, _)) = of_plan.find(|(_, one)| plan.is_some_and(|plan| plan != one.plan)) {
                wrong.push(format!("{approval} is for another plan of {id} and still counts"));
            }
            if around.says(|event| life::lowers(event, *id)) {
                let of_plan = self.asked.all.iter().find(|(_, one)| one.subject == subject && stands(one));
                if let Some((approval, _)) = of_plan {
                    wrong.push(format!("{id} was lowered and {approval} still counts for its plan"));
                }
            }
            if around.says(|event| life::raises(event, *id)) {
                let begin = format!("incident/{id}/");
                let left = self.asked.all.iter().find(|(_, one)| one.subject.starts_with(&begin) && stands(one));
                if let Some((approval, _)) = left {
                    wrong.push(format!("{id} was raised and {approval} still counts"));
                }
            }
        }
    }

    /// Tells whether a second person agreed to an exemption: what is asked later closes no lane that is open.
    pub(super) fn agreed(&self, exemption: &Exemption) -> bool {
        self.asked
            .all
            .get(&exemption.approval)
            .is_some_and(|one| one.was_yes && one.yes.iter().any(|who| *who != one.by && *who != exemption.by))
    }
}

use super::life;

/// Names the subject of an incident's matter.
pub(crate) fn subject(id: IncidentId, matter: &str) -> String {
    format!("incident/{id}/{matter}")
}
