//! What the daemon does without anybody's word: reminders, pages, reviews, enforcers.

use super::world::World;
use lastgood_domain::{
    operations::{
        Event,
        clock::{self, Circumstances},
        hold::{Enforcement, HoldEvent, changed},
        incident,
    },
    terms::{Actor, EnforcerName, ServiceName, Span, Timestamp},
};
use lastgood_engine::enforce::{asked, look};
use std::collections::BTreeMap;

/// The longest time between two looks of the daemon of these worlds. The real one looks more often.
const LOOKS_EVERY: Span = Span::minutes(25);

/// Looks of one wait; more time passes in longer steps.
const LOOKS_MAX: u64 = 24;

impl World {
    /// Lets time pass while the daemon looks now and then.
    pub(crate) fn wait(&self, span: Span) {
        let step = LOOKS_EVERY.0.max(span.0 / LOOKS_MAX);
        let mut left = span.0;
        while left > 0 {
            let now = left.min(step);
            left -= now;
            self.pass(Span(now));
            self.drive_on();
            if self.daemon_runs() {
                self.process(|| self.look_once());
            }
        }
    }

    /// One look of the daemon; a killed one is started again at the next.
    pub(crate) fn look_once(&self) {
        let Some(keeper) = Actor::new("lastgood:enforcers").ok() else { return };
        let Some(clock) = Actor::new("lastgood:clock").ok() else { return };
        let now = self.now();
        let review_after = self.config().holds.review_after.0;
        let held =
            self.say(&keeper, &|state| Ok(state.holds.due(now, review_after).into_iter().map(Event::Hold).collect()));
        let enforced = self.enforce(&keeper);
        let said = self.say(&clock, &|state| Ok(incident::due(state, now)));
        let paged =
            self.with_circumstances(now, |known| self.say(&clock, &|state| Ok(clock::due(state, known, &clock, now))));
        let whole = enforced && [held.is_ok(), said.is_ok(), paged.is_ok()].into_iter().all(|done| done);
        if whole && self.now() == now {
            let told = self.checks.borrow_mut().after_a_look(now);
            told.into_iter().for_each(|what| self.violated(what));
        }
    }

    /// Looks at what the clock knows besides the chain; people and chains are the configuration's and stay.
    fn with_circumstances<T>(&self, now: Timestamp, look: impl FnOnce(&Circumstances) -> T) -> T {
        let overdue = self.overdue(now);
        let kept = self.circumstances.take().filter(|(count, _)| *count == self.count.get());
        let made = || {
            let config = self.config();
            let approvals = config.approvals.as_ref().and_then(|one| one.escalation.clone()).unwrap_or_default();
            let (people, chains) = (self.scope().people.clone(), config.chains());
            (self.count.get(), Circumstances { people, chains, approvals, overdue: BTreeMap::new() })
        };
        let (count, known) = kept.unwrap_or_else(made);
        let known = Circumstances { overdue, ..known };
        let told = look(&known);
        self.circumstances.set(Some((count, known)));
        told
    }

    fn overdue(&self, now: Timestamp) -> BTreeMap<ServiceName, Timestamp> {
        let config = self.config();
        let mut services = self.services.borrow_mut();
        let overdue = config.service.keys().filter_map(|name| {
            let owed = services.get_mut(name)?.folded().analysis.as_ref()?;
            owed.is_overdue(now).then(|| (name.clone(), owed.since))
        });
        overdue.collect()
    }

    /// Asks every enforcer; tells whether all of it was written.
    fn enforce(&self, by: &Actor) -> bool {
        let scope = self.scope();
        for (name, config) in self.config().enforcers() {
            let asked = asked(&self.state(), &name, config, &scope, self.now());
            if asked.is_nothing() {
                continue;
            }
            let write = |outcomes: &[_]| {
                self.say(by, &|state| Ok(changed(&state.holds, &name, outcomes).into_iter().map(Event::Hold).collect()))
            };
            if write(&asked.requested()).is_err() || self.point() {
                return false;
            }
            let outcomes = {
                let outside = self.outside.borrow();
                let Some(place) = outside.enforcers.get(&name) else { continue };
                look(place, &asked.wanted, &asked.known)
            };
            match write(&outcomes) {
                Err(_) => return false,
                Ok(records) => records.iter().for_each(|record| self.confirmed(&name, &record.event)),
            }
        }
        true
    }

    /// What is said to be confirmed was read back.
    fn confirmed(&self, name: &EnforcerName, event: &Event) {
        let Event::Hold(HoldEvent::Enforced { hold, state: Enforcement::Confirmed, .. }) = event else { return };
        let showed = self.outside.borrow().enforcers.get(name).is_some_and(|place| place.showed(*hold));
        if !showed {
            self.violated(format!("{hold} counts as confirmed and {name} does not show it"));
        }
    }
}
