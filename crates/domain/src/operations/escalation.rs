//! Paging people one after the other until somebody says that they are there.
//!
//! Who is paged when is a pure function of the chain, the people and what was written. A step that reaches nobody is passed
//! at once: waiting for nobody helps nobody. How long a step may take counts from when it was really paged, so a machine
//! that slept over a weekend pages the next step once, and not all that it missed.

use super::people::People;
use crate::{
    failure::Coded,
    terms::{Actor, PageId, RoleName, Span, Timestamp},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// The chain that is used where none is named.
pub const DEFAULT: &str = "default";

/// How long whose matter it is has before the chain begins: who is there answers a pager within minutes.
pub const FIRST_WITHIN: Span = Span::minutes(10);

/// One step of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Who is paged by name.
    pub to: BTreeSet<Actor>,
    /// Who is paged by role.
    pub roles: BTreeSet<RoleName>,
    /// How long they have before the next step is paged.
    pub within: Span,
}

impl Step {
    /// Gives those of the step who can be reached: configured, and with an endpoint of their own.
    pub fn reached(&self, people: &People) -> BTreeSet<Actor> {
        let meant =
            |actor: &Actor, roles: &BTreeSet<RoleName>| self.to.contains(actor) || !self.roles.is_disjoint(roles);
        let all = people.all.iter().filter(|(actor, person)| meant(actor, &person.roles) && !person.notice.is_empty());
        all.map(|(actor, _)| actor.clone()).collect()
    }
}

/// Chains by name.
pub type Chains = BTreeMap<String, Vec<Step>>;

/// Something that happened to a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum PageEvent {
    /// Somebody is needed.
    Raised {
        /// What it is about, as one key: `approval/a3`, `incident/i0`. One page a key is open.
        about: String,
        /// What is the matter, in one sentence.
        text: String,
        /// The chain by which people are paged.
        chain: String,
        /// Whose matter it is: they are paged before the chain begins.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        first: BTreeSet<Actor>,
    },
    /// A step was paged.
    Paged {
        /// Which step, from 0.
        step: u32,
        /// Who.
        to: BTreeSet<Actor>,
    },
    /// A step was passed at once, because it reaches nobody.
    Skipped {
        /// Which step, from 0.
        step: u32,
    },
    /// Nobody is left to page, and nobody answered.
    Exhausted,
    /// Somebody is there: nobody else is paged.
    Acknowledged,
    /// What it was about is over.
    Ended {
        /// Why.
        because: String,
    },
}

/// A page and how far it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What it is about.
    pub about: String,
    /// What is the matter.
    pub text: String,
    /// By which chain.
    pub chain: String,
    /// Who is paged before the chain begins.
    pub first: BTreeSet<Actor>,
    /// Since when.
    pub at: Timestamp,
    /// The step that was paged last, and when.
    pub reached: Option<(u32, Timestamp)>,
    /// Who is there.
    pub acknowledged: Option<Actor>,
    /// Whether nobody is left to page.
    pub exhausted: bool,
    /// Whether what it was about is over.
    pub ended: bool,
}

impl Page {
    /// Tells whether somebody is still to be found.
    pub const fn is_open(&self) -> bool {
        self.acknowledged.is_none() && !self.ended
    }

    /// Says how far it went.
    pub fn words(&self) -> String {
        match (&self.acknowledged, self.reached) {
            (Some(by), _) => format!("acknowledged by {by}"),
            (None, _) if self.ended => "over".into(),
            (None, _) if self.exhausted => "nobody answered".into(),
            (None, Some((step, _))) => format!("step {} was paged", step + 1),
            (None, None) => "nobody was paged yet".into(),
        }
    }
}

/// All pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// By id.
    pub all: BTreeMap<PageId, Page>,
    /// The number that the next one takes.
    pub next: u64,
}

impl Pages {
    pub(super) fn apply(&mut self, at: Timestamp, by: &Actor, id: PageId, event: &PageEvent) {
        if let PageEvent::Raised { about, text, chain, first } = event {
            self.next = self.next.max(id.0 + 1);
            let (about, text, chain, first) = (about.clone(), text.clone(), chain.clone(), first.clone());
            let (acknowledged, reached, exhausted, ended) = (None, None, false, false);
            let page = Page { about, text, chain, first, at, reached, acknowledged, exhausted, ended };
            self.all.insert(id, page);
            return;
        }
        let Some(page) = self.all.get_mut(&id) else { return };
        match event {
            PageEvent::Raised { .. } | PageEvent::Skipped { .. } => {}
            PageEvent::Paged { step, .. } => page.reached = Some((*step, at)),
            PageEvent::Exhausted => page.exhausted = true,
            PageEvent::Acknowledged => page.acknowledged = Some(by.clone()),
            PageEvent::Ended { .. } => page.ended = true,
        }
    }

    /// Gives the newest page about something.
    pub fn about(&self, about: &str) -> Option<(&PageId, &Page)> {
        self.all.iter().rev().find(|(_, page)| page.about == about)
    }
}

/// Why a page was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such page.
    #[error("there is no page {page}")]
    Unknown {
        /// Which.
        page: PageId,
    },
    /// It needs nobody any more.
    #[error("page {page} is already closed: {standing}")]
    Over {
        /// Which.
        page: PageId,
        /// How it ended.
        standing: String,
    },
    /// Who says so is nobody who is paged.
    #[error("page {page} can be acknowledged by configured people only, and {by} is not one")]
    Stranger {
        /// Which.
        page: PageId,
        /// Who.
        by: Actor,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "page-unknown",
            Self::Over { .. } => "page-over",
            Self::Stranger { .. } => "page-stranger",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } | Self::Over { .. } => "see which are open: lastgood page list".into(),
            Self::Stranger { .. } => "have one of them say that they are there".into(),
        })
    }
}

/// Raises a page, unless one about the same is open or somebody was there already.
pub fn raise(pages: &Pages, about: &str, text: String, chain: &str) -> Option<(PageId, PageEvent)> {
    raise_first(pages, about, text, chain, BTreeSet::new())
}

/// Raises a page as [`raise`] does, of which `first` hear before the chain begins.
pub fn raise_first(
    pages: &Pages,
    about: &str,
    text: String,
    chain: &str,
    first: BTreeSet<Actor>,
) -> Option<(PageId, PageEvent)> {
    let known = pages.about(about).is_some_and(|(_, page)| !page.ended);
    let event = || PageEvent::Raised { about: about.to_string(), text, chain: chain.to_string(), first };
    (!known).then(|| (PageId(pages.next), event()))
}

/// Says that somebody is there.
///
/// Errors: there is no such page, or it is over.
pub fn acknowledge(pages: &Pages, page: PageId) -> Result<PageEvent, Refused> {
    let one = pages.all.get(&page).ok_or(Refused::Unknown { page })?;
    match one.is_open() {
        true => Ok(PageEvent::Acknowledged),
        false => Err(Refused::Over { page, standing: one.words() }),
    }
}

/// Gives what is due of one page at `now`: the steps passed because they reach nobody, then one step paged, or that
/// nobody is left.
///
/// Whose matter it is comes before the chain, as its step 0. An unknown or empty chain has nobody left from the start, which
/// is said at once.
pub fn due(page: &Page, chains: &Chains, people: &People, now: Timestamp) -> Vec<PageEvent> {
    if !page.is_open() || page.exhausted {
        return Vec::new();
    }
    let first = Step { to: page.first.clone(), roles: BTreeSet::new(), within: FIRST_WITHIN };
    let first = (!page.first.is_empty()).then_some(&first);
    let steps: Vec<&Step> = first.into_iter().chain(chains.get(&page.chain).into_iter().flatten()).collect();
    let mut next = match page.reached {
        None => 0,
        Some((step, at)) => {
            let waits = steps.get(step as usize).is_some_and(|one| now < at.after(one.within));
            if waits {
                return Vec::new();
            }
            step + 1
        }
    };
    let mut events = Vec::new();
    loop {
        let Some(step) = steps.get(next as usize) else {
            events.push(PageEvent::Exhausted);
            return events;
        };
        let to = step.reached(people);
        if !to.is_empty() {
            events.push(PageEvent::Paged { step: next, to });
            return events;
        }
        events.push(PageEvent::Skipped { step: next });
        next += 1;
    }
}

/// Gives the names of chains that reach nobody: the check that `doctor` makes.
pub fn ending_at_nobody<'a>(chains: &'a Chains, people: &People) -> Vec<&'a str> {
    let nobody = |steps: &[Step]| steps.last().is_none_or(|step| step.reached(people).is_empty());
    chains.iter().filter(|(_, steps)| nobody(steps)).map(|(name, _)| name.as_str()).collect()
}
