//! Who is paged one after the other, from the configuration of these worlds as people read it.

use lastgood_domain::{
    operations::{Event, escalation::PageEvent},
    terms::{Actor, PageId, Span, Timestamp},
};
use std::collections::BTreeMap;

/// Who is reached at each step, and how many minutes they have.
type Steps = [(Option<&'static str>, u64); 3];

/// By chain; [`super::super::setting`] says the same in the product's own words.
const CHAINS: [(&str, Steps); 2] = [
    ("default", [(Some("person:alice"), 15), (None, 30), (Some("person:bob"), 20)]),
    ("approvals", [(None, 5), (Some("person:carol"), 30), (None, 10)]),
];

/// Who can be paged.
const PAGERS: [&str; 3] = ["person:alice", "person:bob", "person:carol"];

/// How many rollbacks a day a person may ask for before others are paged.
const ROLLBACKS: u32 = 2;

/// One page.
#[derive(Debug)]
struct One {
    about: String,
    /// Who is reached at each step, and how many minutes they have.
    steps: Vec<(Option<&'static str>, u64)>,
    /// The next step that is not behind, and when the one before it was paged, with its time.
    next: usize,
    reached: Option<(Timestamp, u64)>,
    acknowledged: bool,
    exhausted: bool,
    ended: bool,
}

impl One {
    const fn is_open(&self) -> bool {
        !self.acknowledged && !self.ended
    }

    fn waits(&self, now: Timestamp) -> bool {
        self.reached.is_some_and(|(at, minutes)| now < at.after(Span::minutes(minutes)))
    }
}

/// All pages.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    all: BTreeMap<PageId, One>,
    /// Rollbacks by person and day.
    rollbacks: BTreeMap<(Actor, i64), u32>,
}

/// Tells whether an event pages about something.
pub(super) fn raises(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Page { event: PageEvent::Raised { about, .. }, .. } if about == wanted)
}

impl Pages {
    /// Tells whether people were ever paged about something.
    pub(crate) fn about(&self, about: &str) -> bool {
        self.all.values().any(|one| one.about.starts_with(about))
    }

    /// Tells whether people are paged about something, or were and it is not over.
    pub(super) fn stands(&self, about: &str) -> bool {
        self.all.values().any(|one| one.about == about && !one.ended)
    }

    /// Gives those that still want somebody.
    pub(crate) fn open(&self) -> Vec<PageId> {
        self.all.iter().filter(|(_, one)| one.is_open()).map(|(page, _)| *page).collect()
    }

    pub(super) fn risky(&mut self, by: &Actor, at: Timestamp) {
        *self.rollbacks.entry((by.clone(), at.0.div_euclid(super::DAY))).or_default() += 1;
    }

    pub(super) fn record(&mut self, at: Timestamp, id: PageId, event: &PageEvent, wrong: &mut Vec<String>) {
        if let PageEvent::Raised { about, chain, first, .. } = event {
            let steps = CHAINS.iter().find(|(name, _)| name == chain);
            let Some((_, steps)) = steps else { return wrong.push(format!("{id} goes to {chain}, which is none")) };
            let open = self.all.values().any(|one| one.about == *about && one.is_open());
            if open {
                wrong.push(format!("{about} is paged about twice"));
            }
            // Whose matter it is hears of it first, as far as there is a pager for them.
            let pager = |one: &Actor| PAGERS.into_iter().find(|name| *name == one.as_str());
            let own = first.iter().map(|one| (pager(one), 10));
            let (about, steps) = (about.clone(), own.chain(*steps).collect());
            let one = One { about, steps, next: 0, reached: None, acknowledged: false, exhausted: false, ended: false };
            self.all.insert(id, one);
            return;
        }
        let Some(one) = self.all.get_mut(&id) else { return wrong.push(format!("{id} was never raised")) };
        if !one.is_open() && !matches!(event, PageEvent::Ended { .. }) {
            wrong.push(format!("{id} wants nobody any more, and {event:?}"));
        }
        let step = usize::try_from(match event {
            PageEvent::Paged { step, .. } | PageEvent::Skipped { step } => *step,
            _ => 0,
        })
        .unwrap_or(usize::MAX);
        match event {
            PageEvent::Raised { .. } => {}
            PageEvent::Paged { to, .. } => {
                let who: Vec<&str> = to.iter().map(Actor::as_str).collect();
                let (wanted, minutes) = one.steps.get(step).copied().unwrap_or((None, 0));
                if step != one.next || one.waits(at) || wanted.is_none() || who != Vec::from_iter(wanted) {
                    wrong.push(format!("{id} pages {who:?} as step {step}, {} was next", one.next));
                }
                (one.next, one.reached) = (step + 1, Some((at, minutes)));
            }
            PageEvent::Skipped { .. } => {
                let empty = one.steps.get(step).is_some_and(|(who, _)| who.is_none());
                if step != one.next || one.waits(at) || !empty {
                    wrong.push(format!("{id} passes step {step}, {} was next", one.next));
                }
                one.next = step + 1;
            }
            PageEvent::Exhausted => {
                if one.next < one.steps.len() || one.waits(at) {
                    wrong.push(format!("{id} gives up before step {}", one.next));
                }
                one.exhausted = true;
            }
            PageEvent::Acknowledged => one.acknowledged = true,
            PageEvent::Ended { .. } => one.ended = true,
        }
    }

    /// After a look each page was answered, waits for somebody who was just paged, or was told to everybody.
    pub(super) fn nothing_due(&self, now: Timestamp, wrong: &mut Vec<String>) {
        for (id, one) in self.all.iter().filter(|(_, one)| one.is_open() && !one.exhausted) {
            if !one.waits(now) {
                wrong.push(format!("{id} ({}) waits for nobody at step {}", one.about, one.next));
            }
        }
        for ((by, day), count) in &self.rollbacks {
            if *count > ROLLBACKS && !self.about(&format!("cap/rollback/{by}/{day}")) {
                wrong.push(format!("{by} rolled back {count} times in a day and nobody was paged"));
            }
        }
    }
}
