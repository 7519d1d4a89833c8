//! What lies outside of lastgood: places that enforce holds and commands that do things, honest or not.

use super::world::World;
use lastgood_domain::terms::{Digest, EnforcerName, IncidentId, WideHoldId};
use lastgood_engine::enforce::{Found, Held, Place};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How a place behaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Honest,
    /// Says that it did what it was asked, and does nothing.
    Lies,
    /// Answers nothing.
    Silent,
    /// Refuses to set and to lift.
    Refuses,
    /// Sets and lifts, and can't be read.
    Unreadable,
}

/// What a place is and does.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) mood: Mood,
    pub(crate) holds: BTreeSet<String>,
    /// What it said when it was read last.
    pub(crate) read: Option<BTreeSet<String>>,
}

/// One place that enforces holds.
#[derive(Debug, Default)]
pub(crate) struct Enforcing(Mutex<Inside>);

impl Enforcing {
    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether its last reading had a hold.
    pub(crate) fn showed(&self, hold: WideHoldId) -> bool {
        self.inside().read.as_ref().is_some_and(|read| read.contains(&hold.to_string()))
    }
}

impl Place for Enforcing {
    fn read(&self, _: &[Held]) -> Result<Found, String> {
        let mut inside = self.inside();
        inside.read = match inside.mood {
            Mood::Silent | Mood::Unreadable => None,
            Mood::Honest | Mood::Lies | Mood::Refuses => Some(inside.holds.clone()),
        };
        let holds = inside.read.clone().ok_or_else(|| "it does not answer".to_owned())?;
        Ok(Found { holds, ..Found::default() })
    }

    fn set(&self, hold: &Held) -> Result<(), String> {
        let mut inside = self.inside();
        match inside.mood {
            Mood::Lies => Ok(()),
            Mood::Silent => Err("it does not answer".into()),
            Mood::Refuses => Err("it refuses".into()),
            Mood::Honest | Mood::Unreadable => {
                inside.holds.insert(hold.id.clone());
                Ok(())
            }
        }
    }

    fn lift(&self, id: &str) -> Result<(), String> {
        let mut inside = self.inside();
        match inside.mood {
            Mood::Lies => Ok(()),
            Mood::Silent => Err("it does not answer".into()),
            Mood::Refuses => Err("it refuses".into()),
            Mood::Honest | Mood::Unreadable => {
                inside.holds.remove(id);
                Ok(())
            }
        }
    }
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Passes,
    Fails,
    /// It did it, and says that it failed.
    FailsAfterwards,
    /// It did it or not, and never ends.
    Hangs,
}

/// What of a step was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deed {
    /// How often it was begun since somebody gave their word, without having been told to have failed.
    pub(crate) begun: u32,
    pub(crate) is_so: bool,
}

/// Everything outside.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    pub(crate) enforcers: BTreeMap<EnforcerName, Enforcing>,
    /// By incident, plan and step.
    pub(crate) deeds: BTreeMap<(IncidentId, Digest, String), Deed>,
    /// What was said last of what a step needs, by incident, plan and step.
    pub(crate) needs: BTreeMap<(IncidentId, Digest, String), bool>,
    pub(crate) dead_messages: BTreeSet<String>,
    /// Whether commands fail, in a thousand.
    pub(crate) trouble: u64,
}

impl World {
    /// Lets places change their mood, and lose holds.
    pub(crate) fn outside_changes(&self) {
        let names: Vec<EnforcerName> = self.outside.borrow().enforcers.keys().cloned().collect();
        for name in names {
            if self.often(100) {
                let moods = [Mood::Honest, Mood::Honest, Mood::Lies, Mood::Silent, Mood::Refuses, Mood::Unreadable];
                let mood = self.pick(&moods).unwrap_or_default();
                self.with_enforcer(&name, |inside| inside.mood = mood);
                self.tell(format!("    {name} is {mood:?}"));
            }
            if self.often(40) {
                let lost = self.with_enforcer(&name, |inside| inside.holds.pop_first());
                if let Some(Some(lost)) = lost {
                    self.tell(format!("    {name} lost {lost}"));
                }
            }
        }
        if self.often(30) {
            let mut outside = self.outside.borrow_mut();
            if !outside.dead_messages.remove("notice 1 is dead") {
                outside.dead_messages.insert("notice 1 is dead".into());
            }
        }
    }

    /// Every place is honest from now on.
    pub(crate) fn outside_is_calm(&self) {
        let mut outside = self.outside.borrow_mut();
        outside.dead_messages.clear();
        outside.trouble = 0;
        for place in outside.enforcers.values() {
            place.inside().mood = Mood::Honest;
        }
    }

    fn with_enforcer<T>(&self, name: &EnforcerName, change: impl FnOnce(&mut Inside) -> T) -> Option<T> {
        let outside = self.outside.borrow();
        let place = outside.enforcers.get(name)?;
        let mut inside = place.inside();
        Some(change(&mut inside))
    }

    /// Says how a command ends this time.
    pub(crate) fn ending(&self) -> Ending {
        let trouble = self.outside.borrow().trouble;
        if !self.often(trouble) {
            return Ending::Passes;
        }
        self.pick(&[Ending::Fails, Ending::FailsAfterwards, Ending::Hangs]).unwrap_or(Ending::Fails)
    }
}
