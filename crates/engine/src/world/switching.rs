//! Flags that a run turns on and off, and switches that a guard trips.
//!
//! The environment's chain is another than the service's, so an order may be done and its answer lost. What was said once
//! for a run is found again by its reason, and never said a second time: who changed it since has the last word.

use super::Site;
use crate::{
    bell,
    config::SwitchesConfig,
    fold,
    switches::{Beside, Desk, SayError, Scope, records, trip as trip_in},
    traffic,
};
use lastgood_domain::{
    effect::Answer,
    facts::KeptFlag,
    failure::{Failure, REPORT},
    service::Service,
    switches::{self, Declared, Event, Record, Refused, Switches},
    terms::{Actor, FlagKey, Reason, RunId, ServiceName, SwitchName},
};
use lastgood_store::{Reader, Store, StoreError};

/// Times that the chain may move on while a flag is turned: people type, they don't race.
const TRIES: u32 = 20;

/// Makes an event of the environment's state and of the records that led to it, or none.
type Turn<'a> = dyn Fn(&Switches, &[Record]) -> Result<Option<Event>, Refused> + 'a;

/// The environment's chain, for one order.
struct Switchboard<'a> {
    site: &'a Site,
    config: &'a SwitchesConfig,
    desk: Desk,
    by: Actor,
}

/// Turns on what a release brings.
///
/// `is_wanted` tells whether the log still asks for it: what was decided meanwhile may have turned it off already.
pub(super) fn turn_on(
    site: &Site,
    run: RunId,
    flags: &[FlagKey],
    is_wanted: &dyn Fn() -> bool,
) -> Result<Answer, Failure> {
    let mut board = Switchboard::open(site, "lastgood:engine")?;
    let reason = brings(&site.name, run)?;
    let (mut on, mut were_on) = (Vec::new(), Vec::new());
    for flag in flags {
        let declared = board.config.declared();
        let turn = |state: &Switches, known: &[Record]| -> Result<Option<Event>, Refused> {
            let done = known.iter().any(|record| turns_on(record, flag, &reason));
            match done || is_on(state, flag) || !is_wanted() {
                true => Ok(None),
                false => switches::turn_on(state, &declared, flag, &reason).map(Some),
            }
        };
        board.say(&turn)?;
        let known = board.records()?;
        // One that is neither is not wanted any more.
        if known.iter().any(|record| turns_on(record, flag, &reason)) {
            on.push(flag.clone());
        } else if is_on(&board.state()?, flag) {
            were_on.push(flag.clone());
        }
    }
    if !is_wanted() {
        take_back(&mut board, run, flags)?;
    }
    bell::ring(&site.state_dir);
    Ok(Answer::FlagsOn { on, were_on })
}

/// Turns off what `run` has turned on, but for what somebody else has turned since.
pub(super) fn turn_off(site: &Site, run: RunId, flags: &[FlagKey]) -> Result<Answer, Failure> {
    let mut board = Switchboard::open(site, "lastgood:engine")?;
    take_back(&mut board, run, flags)?;
    let (brought, gone) = (brings(&site.name, run)?, taken_back(&site.name, run)?);
    let known = board.records()?;
    let (mut off, mut kept) = (Vec::new(), Vec::new());
    for flag in flags {
        // One that was never turned on by the run is nobody's business here.
        let ours = known.iter().any(|record| turns_on(record, flag, &brought));
        let last = known.iter().rev().find(|record| turns(record, flag)).filter(|_| ours);
        match last.map(|record| (&record.event, &record.by)) {
            None => {}
            Some((Event::FlagTurnedOff { reason, .. }, _)) if *reason == gone => off.push(flag.clone()),
            Some((event, by)) => {
                let on = matches!(event, Event::FlagTurnedOn { .. });
                kept.push(KeptFlag { flag: flag.clone(), on, by: by.clone() });
            }
        }
    }
    bell::ring(&site.state_dir);
    Ok(Answer::FlagsOff { off, kept })
}

/// Trips switches in the guard's name, and has the service's router close what they close.
pub(super) fn trip(site: &Site, run: RunId, names: &[SwitchName], because: &str) -> Result<Answer, Failure> {
    let reason = reason(&format!("run {run} of {}: {because}", site.name))?;
    let mut board = Switchboard::open(site, "lastgood:guard");
    for name in names {
        let is_ours = |record: &Record| matches!(&record.event, Event::Tripped { switch, reason: why } if switch == name && *why == reason);
        // One that a person has reset since stays as they left it.
        let turn = |declared: &Declared, known: &[Record]| match known.iter().any(is_ours) {
            true => Ok(None),
            false => switches::trip(declared, name, &reason).map(Some),
        };
        let said = match &mut board {
            Ok(board) => {
                let declared = board.config.declared();
                board.say(&|_: &Switches, known: &[Record]| turn(&declared, known))
            }
            Err(failure) => Err(failure.clone()),
        };
        let Err(failure) = said else { continue };
        // A chain that takes no record keeps nothing from being blocked.
        let config = site.switches.as_ref().ok_or_else(|| failure.clone())?;
        let beside = Beside::of(&site.state_dir, &config.environment);
        let by = Actor::new("lastgood:guard").expect("a fixed valid name");
        trip_in(Err(failure), &beside, &config.declared(), (&by, crate::world::now()), (name, &reason))?;
    }
    bell::ring(&site.state_dir);
    close(site)?;
    Ok(Answer::Tripped { switches: names.to_vec() })
}

/// Tells the service's router the newest table; those of other services are told by the daemon.
fn close(site: &Site) -> Result<(), Failure> {
    let Some(router) = &site.router else { return Ok(()) };
    let look = || {
        let reader = Reader::open(&site.state_dir).map_err(|error| Failure::of(&error))?;
        let folded = fold::Folded::read(&reader, &site.name);
        folded.map(|folded| folded.service).map_err(|error| error.failure())
    };
    let service = look()?;
    let Some(route) = &service.traffic.route else { return Ok(()) };
    let table_of = |service: &Service| {
        let switches = traffic::switches_of(site.switches.as_ref(), &site.state_dir);
        traffic::table(&site.name, service, route, &site.config, switches.as_ref(), site.switches.as_ref(), &|one| {
            site.listens(one)
        })
    };
    let newest = || {
        let now = look().ok().filter(|now| now.traffic.route.as_ref() == Some(route))?;
        table_of(&now).ok()
    };
    match traffic::tell(router.as_ref(), table_of(&service)?, &newest) {
        // Whoever moved the log on has told it with the switches as they are now.
        Ok(_) | Err(lastgood_drivers::traffic::RouterError::TableOlder { .. }) => Ok(()),
        Err(error) => Err(Failure::of(&error)),
    }
}

/// Turns off each of `flags` that `run` was the last to turn on.
fn take_back(board: &mut Switchboard<'_>, run: RunId, flags: &[FlagKey]) -> Result<(), Failure> {
    let (brought, gone) = (brings(&board.site.name, run)?, taken_back(&board.site.name, run)?);
    for flag in flags {
        let declared = board.config.declared();
        let turn = |state: &Switches, known: &[Record]| {
            let last = known.iter().rev().find(|record| turns(record, flag));
            match last.is_some_and(|record| turns_on(record, flag, &brought)) && may_be_on(state, flag) {
                true => switches::turn_off(state, &declared, flag, &gone).map(Some),
                false => Ok(None),
            }
        };
        board.say(&turn)?;
    }
    Ok(())
}

impl<'a> Switchboard<'a> {
    fn open(site: &'a Site, by: &str) -> Result<Self, Failure> {
        let config = site.switches.as_ref().ok_or_else(|| {
            let hint = "write [switches] into lastgood.toml";
            Failure::new("switches-none", "the configuration has no [switches]", Some(hint))
        })?;
        let store = Store::open(&site.state_dir).map_err(|error| Failure::of(&error))?;
        let desk = Desk::new(store, Scope::of(&config.environment), site.routes.clone());
        let by = Actor::new(by).expect("a fixed valid name");
        Ok(Self { site, config, desk, by })
    }

    fn records(&self) -> Result<Vec<Record>, Failure> {
        let read = |reader: &Reader| records(reader, &self.config.environment);
        let read = Reader::open(&self.site.state_dir).and_then(|reader| read(&reader));
        read.map_err(|error: StoreError| Failure::of(&error))
    }

    fn state(&mut self) -> Result<Switches, Failure> {
        self.desk.look().map(|folded| folded.state.clone()).map_err(|error| Failure::of(&error))
    }

    /// Says what `turn` makes of the chain, as it is at the moment of saying it; nothing if it makes nothing.
    fn say(&mut self, turn: &Turn<'_>) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let known = self.records()?;
            let seen = self.desk.look().map_err(|error| Failure::of(&error))?.state.epoch;
            let moved = std::cell::Cell::new(false);
            let decide = |state: &Switches| {
                // The records must be those that the state is of.
                moved.set(state.epoch != seen);
                if moved.get() { Ok(Vec::new()) } else { turn(state, &known).map(|event| event.into_iter().collect()) }
            };
            let said = self.desk.say(&self.by, crate::world::now(), &decide);
            said.map_err(|error: SayError| Failure::of(error.coded()))?;
            if !moved.get() {
                return Ok(());
            }
        }
        Err(Failure::new(
            "store-busy",
            "the switches change all the time",
            Some("see who changes them: lastgood switch list"),
        ))
    }
}

fn is_on(state: &Switches, flag: &FlagKey) -> bool {
    state.flags.get(flag).is_some_and(|flag| flag.on)
}

/// Tells whether a flag is on, or only counts as off because a record can't be read.
fn may_be_on(state: &Switches, flag: &FlagKey) -> bool {
    state.flags.get(flag).is_some_and(|flag| flag.on || flag.doubt.is_some())
}

/// Tells whether a record turns a flag on or off, or forgets it.
fn turns(record: &Record, wanted: &FlagKey) -> bool {
    match &record.event {
        Event::FlagTurnedOn { flag, .. } | Event::FlagTurnedOff { flag, .. } | Event::FlagRemoved { flag, .. } => {
            flag == wanted
        }
        _ => false,
    }
}

fn turns_on(record: &Record, wanted: &FlagKey, why: &Reason) -> bool {
    matches!(&record.event, Event::FlagTurnedOn { flag, reason } if flag == wanted && reason == why)
}

/// The reason by which what a run turned on is known again.
fn brings(service: &ServiceName, run: RunId) -> Result<Reason, Failure> {
    reason(&format!("run {run} of {service} brings it"))
}

fn taken_back(service: &ServiceName, run: RunId) -> Result<Reason, Failure> {
    reason(&format!("what run {run} of {service} brought goes back"))
}

/// Makes a reason of what may be too long for one; the whole is in the service's log.
fn reason(text: &str) -> Result<Reason, Failure> {
    let mut text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    while text.len() > 500 {
        text.pop();
    }
    Reason::new(&text).map_err(|error| Failure::new("internal", error.to_string(), Some(REPORT)))
}
