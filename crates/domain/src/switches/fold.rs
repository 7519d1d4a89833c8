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

/// What nobody can know because a record can't be read: it may have tripped any switch, or turned off any flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubt {
    /// The newest record that can't be read.
    pub seq: u64,
    /// Switches that a readable record behind it has tripped or reset: of these it is known again.
    pub settled: BTreeSet<SwitchName>,
    /// Resets that wait for a second person, of switches that count as tripped only because of this.
    pub requests: BTreeMap<SwitchName, Request>,
}

/// How a switch stands by itself, whatever the one above all does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Nothing is blocked.
    Open,
    /// It was tripped.
    Tripped(&'a Trip),
    /// It counts as tripped, because record `seq` can't be read and nobody has said since how the switch stands.
    Doubtful {
        /// The record.
        seq: u64,
        /// A reset that waits for a second person.
        request: Option<&'a Request>,
    },
}

impl<'a> Standing<'a> {
    /// Tells whether it blocks.
    pub const fn blocks(&self) -> bool {
        !matches!(self, Self::Open)
    }

    /// Gives the trip, where one is recorded.
    pub const fn trip(&self) -> Option<&'a Trip> {
        match self {
            Self::Tripped(trip) => Some(*trip),
            _ => None,
        }
    }

    /// Gives a reset that waits for a second person.
    pub const fn request(&self) -> Option<&'a Request> {
        match self {
            Self::Open => None,
            Self::Tripped(trip) => trip.request.as_ref(),
            Self::Doubtful { request, .. } => *request,
        }
    }
}

/// A flag as it was set by records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its values and rules; `None` for one that is only turned on or off and declared in the configuration.
    pub definition: Option<Definition>,
    /// Whether it is on.
    pub on: bool,
    /// The record because of which one that was on counts as off: it can't be read and may have turned it off.
    pub doubt: Option<u64>,
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
    /// What can't be known, if a record could not be read.
    pub doubt: Option<Doubt>,
    /// The switches that are tripped.
    pub tripped: BTreeMap<SwitchName, Trip>,
    /// The flags that were set or turned on or off.
    pub flags: BTreeMap<FlagKey, Flag>,
    /// What was signed speaks against these records, so that any trip may be missing: all counts as tripped. No record says
    /// so; whoever reads them compares.
    pub rewound: Option<String>,
}

impl Switches {
    /// Refuses what could open something while what was signed speaks against the records.
    ///
    /// Errors: why they are.
    pub fn may_be_said(&self, event: &Event) -> Result<(), Refused> {
        let opens = !event.only_blocks() && !matches!(event, Event::RewindAcknowledged { .. });
        match &self.rewound {
            Some(why) if opens => Err(Refused::InDoubt { why: why.clone() }),
            _ => Ok(()),
        }
    }

    /// Folds record number `seq`. `None` is one that can't be read: from there on every switch counts as tripped, and every
    /// flag as off, until a readable record behind it says otherwise.
    ///
    /// Gives whether it was taken: a record that was folded before, or one behind a gap, never is.
    pub fn apply(&mut self, seq: u64, record: Option<&Record>) -> bool {
        if seq != self.epoch {
            return false;
        }
        self.epoch += 1;
        match record {
            Some(record) => self.take(record),
            None => self.doubt(seq),
        }
        true
    }

    /// Folds record number `seq`, which reads as one that only blocks and does not follow from the chain: what it was before
    /// somebody changed it nobody knows, so it is in doubt, and is believed besides.
    pub fn apply_in_doubt(&mut self, seq: u64, record: &Record) {
        if self.apply(seq, None) {
            self.take(record);
        }
    }

    /// Trips a switch by what stands beside the chain, which did not take the record. It raises no epoch.
    pub fn trip_beside(&mut self, switch: &SwitchName, at: Timestamp, by: &Actor, reason: &Reason) {
        let trip = self.tripped.entry(switch.clone()).or_insert_with(|| Trip {
            since: at,
            by: by.clone(),
            reason: reason.clone(),
            times: 0,
            request: None,
        });
        trip.times += 1;
        // Who asked for the reset did not know of this.
        trip.request = None;
    }

    fn doubt(&mut self, seq: u64) {
        self.doubt = Some(Doubt { seq, ..Doubt::default() });
        // It may have been a trip, of which whoever asked for a reset did not know.
        self.tripped.values_mut().for_each(|trip| trip.request = None);
        for flag in self.flags.values_mut().filter(|flag| flag.on) {
            (flag.on, flag.doubt) = (false, Some(seq));
        }
    }

    /// Notes that it is known again how a switch stands.
    fn settle(&mut self, switch: &SwitchName) {
        if let Some(doubt) = &mut self.doubt {
            doubt.settled.insert(switch.clone());
            doubt.requests.remove(switch);
        }
    }

    fn take(&mut self, record: &Record) {
        let Record { at, by, event, .. } = record;
        match event {
            Event::Tripped { switch, reason } => {
                self.settle(switch);
                self.trip_beside(switch, *at, by, reason);
            }
            Event::ResetRequested { switch, reason } => {
                let request = Request { by: by.clone(), at: *at, reason: reason.clone() };
                if let Some(trip) = self.tripped.get_mut(switch) {
                    trip.request = Some(request);
                } else if let Some(doubt) = self.doubt.as_mut().filter(|doubt| !doubt.settled.contains(switch)) {
                    doubt.requests.insert(switch.clone(), request);
                }
            }
            Event::Reset { switch, .. } => {
                self.settle(switch);
                self.tripped.remove(switch);
            }
            Event::FlagSet { flag, definition, reason } => {
                let flag = self.changed(flag, record, reason);
                flag.definition = Some(definition.clone());
            }
            Event::FlagTurnedOn { flag, reason } => self.turned(flag, record, reason, true),
            Event::FlagTurnedOff { flag, reason } => self.turned(flag, record, reason, false),
            Event::FlagRemoved { flag, .. } => {
                self.flags.remove(flag);
            }
            Event::RewindAcknowledged { .. } => {}
        }
    }

    fn turned(&mut self, flag: &FlagKey, record: &Record, reason: &Reason, on: bool) {
        let flag = self.changed(flag, record, reason);
        (flag.on, flag.doubt) = (on, None);
    }

    fn changed(&mut self, flag: &FlagKey, record: &Record, reason: &Reason) -> &mut Flag {
        let (at, by) = (record.at, record.by.clone());
        let flag = self.flags.entry(flag.clone()).or_insert_with(|| Flag {
            definition: None,
            on: false,
            doubt: None,
            at,
            by: by.clone(),
            reason: reason.clone(),
        });
        (flag.at, flag.by, flag.reason) = (at, by, reason.clone());
        flag
    }

    /// Tells how a switch stands by itself.
    pub fn standing(&self, switch: &SwitchName) -> Standing<'_> {
        match (self.tripped.get(switch), &self.doubt) {
            (Some(trip), _) => Standing::Tripped(trip),
            (None, Some(doubt)) if !doubt.settled.contains(switch) => {
                Standing::Doubtful { seq: doubt.seq, request: doubt.requests.get(switch) }
            }
            (None, _) => Standing::Open,
        }
    }

    /// Tells whether what `switch` names is blocked: by itself or by the one above all, tripped or in doubt, or
    /// because what was signed speaks against the records.
    pub fn is_tripped(&self, switch: &str) -> bool {
        let settled = |name: &str| {
            self.doubt.as_ref().is_none_or(|doubt| doubt.settled.iter().any(|settled| settled.as_str() == name))
        };
        self.rewound.is_some()
            || self.tripped.keys().any(|name| name.as_str() == switch || name.as_str() == ALL)
            || !settled(switch)
            || !settled(ALL)
    }

    /// Gives those of `known` that count as tripped only because a record can't be read, in order.
    pub fn doubtful<'a>(&self, known: impl IntoIterator<Item = &'a SwitchName>) -> Vec<&'a SwitchName> {
        let is_doubtful = |name: &&SwitchName| matches!(self.standing(name), Standing::Doubtful { .. });
        known.into_iter().filter(is_doubtful).collect()
    }

    /// Gives every switch that blocks now, in order: those tripped, and those of `known` that are in doubt or blocked by the
    /// one above all.
    pub fn blocked<'a>(&'a self, known: impl IntoIterator<Item = &'a SwitchName>) -> BTreeSet<SwitchName> {
        let known = known.into_iter().filter(|name| self.is_tripped(name.as_str()));
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
