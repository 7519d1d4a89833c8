//! What has become due: reminders, ends and pages. The daemon asks at least each minute; asking late or twice does no more
//! than asking once.

use super::{
    Event, Operations, Record,
    approval::{self, ApprovalEvent, Standing},
    escalation::{self, Chains, PageEvent},
    hold, incident,
    people::People,
};
use crate::terms::{Actor, ApprovalId, ServiceName, Timestamp};
use alloc::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

/// What the clock knows besides the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Who there is.
    pub people: People,
    /// By which chains they are paged.
    pub chains: Chains,
    /// The chain for approvals.
    pub approvals: String,
    /// Analyses that are overdue, and since when they are owed.
    pub overdue: BTreeMap<ServiceName, Timestamp>,
}

/// Gives everything that is due at `now`, in order; each is decided on what the ones before lead to.
pub fn due(operations: &Operations, known: &Circumstances, by: &Actor, now: Timestamp) -> Vec<Event> {
    let mut clock = Clock { state: Cow::Borrowed(operations), said: Vec::new(), by, now };
    for event in approval::due(&operations.approvals, now) {
        let page = match &event {
            ApprovalEvent::Reminded { approval, percent: 80 } => Some((*approval, "has a fifth of its time left")),
            ApprovalEvent::Expired { approval } => {
                Some((*approval, "expired; nothing was allowed, all stays as it is"))
            }
            _ => None,
        };
        let is_end = matches!(event, ApprovalEvent::Expired { .. });
        clock.say(Event::Approval(event));
        if let Some((approval, what)) = page {
            let about = format!("approval/{approval}");
            if is_end {
                // Whoever was there for the request still has to hear of its end.
                clock.end(&about, "the request expired");
            }
            let asked = &operations.approvals.all[&approval].request.what;
            clock.page(&about, format!("{approval} {what}: {asked}"), &known.approvals);
        }
    }
    clock.end_answered();
    clock.page_of_updates(known);
    clock.page_of_holds(known);
    for (service, since) in &known.overdue {
        let about = format!("rca/{service}/{}", since.0);
        clock.page(&about, format!("the analysis that {service} owes is overdue"), escalation::DEFAULT);
    }
    let open: Vec<_> = clock.state.pages.all.keys().copied().collect();
    for page in open {
        for event in escalation::due(&clock.state.pages.all[&page], &known.chains, &known.people, now) {
            clock.say(Event::Page { page, event });
        }
    }
    clock.said
}

struct Clock<'a> {
    /// Most often nothing is due, and nothing is copied.
    state: Cow<'a, Operations>,
    said: Vec<Event>,
    by: &'a Actor,
    now: Timestamp,
}

impl Clock<'_> {
    fn say(&mut self, event: Event) {
        let record = Record { v: Record::VERSION, at: self.now, by: self.by.clone(), event };
        self.state.to_mut().take(&record);
        self.said.push(record.event);
    }

    fn page(&mut self, about: &str, text: String, chain: &str) {
        self.page_first(about, text, chain, BTreeSet::new());
    }

    fn page_first(&mut self, about: &str, text: String, chain: &str, first: BTreeSet<Actor>) {
        let raised = escalation::raise_first(&self.state.pages, about, text, chain, first);
        if let Some((page, event)) = raised {
            self.say(Event::Page { page, event });
        }
    }

    fn end(&mut self, about: &str, because: &str) {
        let open = self.state.pages.about(about).filter(|(_, page)| !page.ended);
        if let Some((page, _)) = open.map(|(page, one)| (*page, one.ended)) {
            self.say(Event::Page { page, event: PageEvent::Ended { because: because.to_string() } });
        }
    }

    /// Pages about updates of incidents that are overdue, first who leads them, where somebody can be paged, until word is
    /// sent.
    fn page_of_updates(&mut self, known: &Circumstances) {
        let overdue = self.state.incidents.open().filter(|(_, one)| !one.drill).filter_map(|(id, one)| {
            let since = one.messages.next_update_by.filter(|_| incident::message::is_overdue(one, self.now))?;
            let text = format!("the next update of incident {id}, led by {}, is overdue", one.commander);
            Some((format!("incident/{id}/update/{}", since.0), (text, one.commander.clone())))
        });
        let overdue: BTreeMap<String, (String, Actor)> = overdue.collect();
        let sent = self.state.pages.all.values().filter(|page| {
            let is_update = page.about.starts_with("incident/") && page.about.contains("/update/");
            is_update && !page.ended && !overdue.contains_key(&page.about)
        });
        let sent: Vec<String> = sent.map(|page| page.about.clone()).collect();
        for about in sent {
            self.end(&about, "word was sent, or the incident is over");
        }
        for (about, (text, commander)) in overdue {
            let is_reached = known.people.all.get(&commander).is_some_and(|one| !one.notice.is_empty());
            if is_reached || known.chains.contains_key(escalation::DEFAULT) {
                self.page_first(&about, text, escalation::DEFAULT, [commander].into());
            }
        }
    }

    /// Pages about holds that are not as they must be where they are enforced, where somebody can be paged, until they are.
    fn page_of_holds(&mut self, known: &Circumstances) {
        let red = self.state.holds.paging(self.now);
        let open =
            self.state.pages.all.values().filter(|page| !page.ended && page.about.starts_with(hold::PAGES_ABOUT));
        let mended = open.filter(|page| !red.contains_key(&page.about)).map(|page| page.about.clone());
        for about in mended.collect::<Vec<_>>() {
            self.end(&about, "it was read back as it must be");
        }
        if known.chains.contains_key(escalation::DEFAULT) {
            for (about, text) in red {
                self.page(&about, text, escalation::DEFAULT);
            }
        }
    }

    /// Ends the pages about requests that people answered.
    fn end_answered(&mut self) {
        // From the pages that are open, of which there are few: requests and pages are kept for ever.
        let is_answered = |about: &str| {
            let id = about.strip_prefix("approval/").and_then(|id| id.parse::<ApprovalId>().ok());
            let one = id.and_then(|id| self.state.approvals.all.get(&id));
            one.is_some_and(|one| !matches!(one.standing, Standing::Pending | Standing::Expired))
        };
        let open = self.state.pages.all.values().filter(|page| !page.ended && is_answered(&page.about));
        let about: Vec<String> = open.map(|page| page.about.clone()).collect();
        for about in about {
            self.end(&about, "the request is answered");
        }
    }
}
