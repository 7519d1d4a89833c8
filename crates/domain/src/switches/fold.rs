//! What an environment's records fold to.

use super::{ALL, Definition, Event, FlagKind, Record, Refused};
use crate::terms::{Actor, FlagKey, Reason, SwitchName, Timestamp};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// A switch that is tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// Since when.
    pub since: Timestamp,
    /// Who tripped it first.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
    /// How often it was tripped since it was open.
    pub times: u64,
    /// A reset that waits for a second person.
    pub request: Option<Request>,
}

/// A reset that waits for a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// A flag as it was set by records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its values and rules; `None` for one that is only turned on or off and declared in the configuration.
    pub definition: Option<Definition>,
    /// Whether it is on.
    pub on: bool,
    /// When it was changed last.
    pub at: Timestamp,
    /// Who changed it last.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
}

/// A flag as it is given now: what was declared, what was set, and what is tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live<'a> {
    /// Its values and rules.
    pub definition: &'a Definition,
    /// Whether it was turned on.
    pub on: bool,
    /// The switch that turns it off all the same.
    pub tripped: Option<SwitchName>,
    /// Whether it is declared with another type than it was set with; then nothing is given.
    pub conflict: bool,
    /// How it was changed last; `None` if it is only declared.
    pub set: Option<&'a Flag>,
}

/// The flags and switches of one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    /// How many records are folded: grows with every change and never falls.
    pub epoch: u64,
    /// Records that could not be read and were passed over.
    pub unreadable: u64,
    /// The switches that are tripped.
    pub tripped: BTreeMap<SwitchName, Trip>,
    /// The flags that were set or turned on or off.
    pub flags: BTreeMap<FlagKey, Flag>,
    /// What was signed speaks against these records, so that any trip may be missing: all counts as tripped. No record says
    /// so; whoever reads them compares.
    pub doubt: Option<String>,
}

impl Switches {
    /// Refuses what could open something while the records are in doubt.
    ///
    /// Errors: why they are.
    pub fn may_be_said(&self, event: &Event) -> Result<(), Refused> {
        let opens = !event.only_blocks() && !matches!(event, Event::RewindAcknowledged { .. });
        match &self.doubt {
            Some(why) if opens => Err(Refused::InDoubt { why: why.clone() }),
            _ => Ok(()),
        }
    }

    /// Folds record number `seq`; `None` is one that can't be read: it changes nothing, and is counted.
    ///
    /// Gives whether it was taken: a record that was folded before, or one behind a gap, never is.
    pub fn apply(&mut self, seq: u64, record: Option<&Record>) -> bool {
        if seq != self.epoch {
            return false;
        }
        self.epoch += 1;
        match record {
            Some(record) => self.take(record),
            None => self.unreadable += 1,
        }
        true
    }

    fn take(&mut self, record: &Record) {
        let Record { at, by, event, .. } = record;
        match event {
            Event::Tripped { switch, reason } => {
                let trip = self.tripped.entry(switch.clone()).or_insert_with(|| Trip {
                    since: *at,
                    by: by.clone(),
                    reason: reason.clone(),
                    times: 0,
                    request: None,
                });
                trip.times += 1;
                // Who asked for the reset did not know of this.
                trip.request = None;
            }
            Event::ResetRequested { switch, reason } => {
                if let Some(trip) = self.tripped.get_mut(switch) {
                    trip.request = Some(Request { by: by.clone(), at: *at, reason: reason.clone() });
                }
            }
            Event::Reset { switch, .. } => {
                self.tripped.remove(switch);
            }
            Event::FlagSet { flag, definition, reason } => {
                let flag = self.changed(flag, record, reason);
                flag.definition = Some(definition.clone());
            }
            Event::FlagTurnedOn { flag, reason } => self.changed(flag, record, reason).on = true,
            Event::FlagTurnedOff { flag, reason } => self.changed(flag, record, reason).on = false,
            Event::FlagRemoved { flag, .. } => {
                self.flags.remove(flag);
            }
            Event::RewindAcknowledged { .. } => {}
        }
    }

    fn changed(&mut self, flag: &FlagKey, record: &Record, reason: &Reason) -> &mut Flag {
        let (at, by) = (record.at, record.by.clone());
        let flag = self.flags.entry(flag.clone()).or_insert_with(|| Flag {
            definition: None,
            on: false,
            at,
            by: by.clone(),
            reason: reason.clone(),
        });
        (flag.at, flag.by, flag.reason) = (at, by, reason.clone());
        flag
    }

    /// Tells whether what `switch` names is blocked: by itself or by the one above all, or because nobody can tell.
    pub fn is_tripped(&self, switch: &str) -> bool {
        self.doubt.is_some() || self.tripped.keys().any(|name| name.as_str() == switch || name.as_str() == ALL)
    }

    /// Gives every switch that blocks now, in order: those tripped, and all of `known` while the one above all is, or while
    /// nobody can tell.
    pub fn blocked<'a>(&'a self, known: impl IntoIterator<Item = &'a SwitchName>) -> BTreeSet<SwitchName> {
        let everything = self.is_tripped(ALL);
        let known = known.into_iter().filter(|_| everything);
        self.tripped.keys().chain(known).cloned().collect()
    }

    /// Gives every flag that is declared or was set, as it is given now, in order of their keys.
    pub fn live<'a>(&'a self, declared: &'a BTreeMap<FlagKey, Definition>) -> Vec<(&'a FlagKey, Live<'a>)> {
        let all = super::all();
        let keys: BTreeSet<&FlagKey> = declared.keys().chain(self.flags.keys()).collect();
        let live = keys.into_iter().filter_map(|key| {
            let (declaration, set) = (declared.get(key), self.flags.get(key));
            let definition = set.and_then(|flag| flag.definition.as_ref()).or(declaration)?;
            let kind = |one: &Definition| -> FlagKind { one.kind };
            let conflict = declaration.is_some_and(|one| kind(one) != kind(definition));
            let tripped = super::evaluate::tripped_by(definition, |name| self.is_tripped(name), &all).cloned();
            let on = set.is_some_and(|flag| flag.on);
            Some((key, Live { definition, on, tripped, conflict, set }))
        });
        live.collect()
    }
}
