//! Who may change what. Tripping is always allowed; each refusal says what to type instead.

use super::{ALL, Definition, DefinitionError, Event, Flag, FlagKind, Standing, Switches};
use crate::{
    failure::Coded,
    operations::people::NotAllowed,
    terms::{Actor, FlagKey, Reason, SwitchName},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

/// What the configuration says of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The switches besides the one above all.
    pub subsystems: BTreeSet<SwitchName>,
    /// Whether a reset needs a second person.
    pub reset_needs_second: bool,
    /// Flags that programs may count on.
    pub flags: BTreeMap<FlagKey, Definition>,
}

impl Declared {
    /// Tells whether there is such a switch.
    pub fn knows(&self, switch: &SwitchName) -> bool {
        switch.as_str() == ALL || self.subsystems.contains(switch)
    }

    /// Gives every switch, the one above all first.
    pub fn switches(&self) -> Vec<SwitchName> {
        core::iter::once(super::all()).chain(self.subsystems.iter().cloned()).collect()
    }
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such switch is declared.
    #[error("there is no switch {switch}")]
    UnknownSwitch {
        /// The name.
        switch: SwitchName,
        /// Those there are.
        known: Vec<SwitchName>,
    },
    /// The switch is open.
    #[error("switch {switch} is not tripped")]
    NotTripped {
        /// Which.
        switch: SwitchName,
    },
    /// Somebody else has asked already.
    #[error("{by} has asked to reset {switch}: {reason}")]
    AlreadyRequested {
        /// Which switch.
        switch: SwitchName,
        /// Who asked.
        by: Actor,
        /// Why.
        reason: Reason,
    },
    /// Nobody has asked for a reset, or it was tripped again since.
    #[error("no reset of {switch} was requested since it was tripped")]
    NotRequested {
        /// Which switch.
        switch: SwitchName,
    },
    /// Who asked can't be the second person.
    #[error("{by} asked to reset {switch} and can't confirm it too")]
    OwnConfirmation {
        /// Which switch.
        switch: SwitchName,
        /// Who.
        by: Actor,
    },
    /// What was signed speaks against the records.
    #[error("nothing is opened while the switches' records are in doubt: {why}")]
    InDoubt {
        /// What speaks against them.
        why: String,
    },
    /// Somebody who may not.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// No such flag.
    #[error("there is no flag {flag}")]
    UnknownFlag {
        /// The key.
        flag: FlagKey,
    },
    /// The definition can't be used.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The flag has another type.
    #[error("flag {flag} is a {was} and can't become a {wanted}")]
    OtherKind {
        /// Which flag.
        flag: FlagKey,
        /// Its type.
        was: FlagKind,
        /// The type asked for.
        wanted: FlagKind,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownSwitch { .. } => "switch-unknown",
            Self::NotTripped { .. } => "switch-not-tripped",
            Self::AlreadyRequested { .. } => "switch-reset-requested",
            Self::NotRequested { .. } => "switch-reset-not-requested",
            Self::OwnConfirmation { .. } => "switch-own-confirmation",
            Self::InDoubt { .. } => "evidence-in-doubt",
            Self::NotAllowed(inner) => inner.code(),
            Self::UnknownFlag { .. } => "flag-unknown",
            Self::Definition(_) => "flag-wrong",
            Self::OtherKind { .. } => "flag-other-type",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotAllowed(inner) => return inner.hint(),
            Self::UnknownSwitch { known, .. } => {
                let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!("one of: {known}; more are declared in lastgood.toml: subsystems = [\"…\"]")
            }
            Self::InDoubt { .. } => "find out what is missing first: lastgood evidence verify".into(),
            Self::NotTripped { .. } => "see what is: lastgood switch list".into(),
            Self::AlreadyRequested { switch, .. } => {
                format!("confirm it: lastgood switch confirm {switch} --reason …")
            }
            Self::NotRequested { switch } => format!("ask for it: lastgood switch reset {switch} --reason …"),
            Self::OwnConfirmation { switch, .. } => {
                format!("have another person run: lastgood switch confirm {switch} --reason …")
            }
            Self::UnknownFlag { flag } => {
                format!(
                    "see which there are: lastgood flag list; make it: lastgood flag set {flag} --type boolean --reason …"
                )
            }
            Self::Definition(error) => format!("see how it is now: lastgood flag show {}", error.flag),
            Self::OtherKind { flag, .. } => {
                format!("programs count on the type; forget the flag first: lastgood flag remove {flag} --reason …")
            }
        })
    }
}

fn known_switch(declared: &Declared, switch: &SwitchName) -> Result<(), Refused> {
    match declared.knows(switch) {
        true => Ok(()),
        false => Err(Refused::UnknownSwitch { switch: switch.clone(), known: declared.switches() }),
    }
}

/// Trips a switch. One that is tripped already is tripped once more: a reset that was asked for is void then.
///
/// Errors: [`Refused::UnknownSwitch`] only.
pub fn trip(declared: &Declared, switch: &SwitchName, reason: &Reason) -> Result<Event, Refused> {
    known_switch(declared, switch)?;
    Ok(Event::Tripped { switch: switch.clone(), reason: reason.clone() })
}

/// Gives how a switch stands that is to be reset. One in doubt must be declared or named by a flag: a name that is only
/// mistyped stands for nothing.
///
/// Errors: nothing is blocked by it; it is not known.
fn resettable<'a>(switches: &'a Switches, declared: &Declared, switch: &SwitchName) -> Result<Standing<'a>, Refused> {
    let standing = switches.standing(switch);
    let named = |flag: &Flag| flag.definition.as_ref().and_then(|one| one.subsystem.as_ref()) == Some(switch);
    if standing.trip().is_none() && !switches.flags.values().any(named) {
        known_switch(declared, switch)?;
    }
    match standing {
        Standing::Open => Err(Refused::NotTripped { switch: switch.clone() }),
        _ => Ok(standing),
    }
}

/// Resets a switch, or asks for it where a second person is needed. What is no longer declared can be reset too.
///
/// Errors: it is not tripped; somebody else has asked already.
pub fn reset(
    switches: &Switches,
    declared: &Declared,
    by: &Actor,
    switch: &SwitchName,
    reason: &Reason,
) -> Result<Event, Refused> {
    let standing = resettable(switches, declared, switch)?;
    let (switch, reason) = (switch.clone(), reason.clone());
    if !declared.reset_needs_second {
        return Ok(Event::Reset { switch, reason, requested_by: None });
    }
    match standing.request() {
        Some(request) if request.by != *by => {
            let (by, reason) = (request.by.clone(), request.reason.clone());
            Err(Refused::AlreadyRequested { switch, by, reason })
        }
        _ => Ok(Event::ResetRequested { switch, reason }),
    }
}

/// Resets a switch as the second person.
///
/// Errors: it is not tripped; nobody has asked since it was tripped last; who asks is who confirms.
pub fn confirm(
    switches: &Switches,
    declared: &Declared,
    by: &Actor,
    switch: &SwitchName,
    reason: &Reason,
) -> Result<Event, Refused> {
    let standing = resettable(switches, declared, switch)?;
    let (switch, reason) = (switch.clone(), reason.clone());
    match standing.request() {
        None => Err(Refused::NotRequested { switch }),
        Some(request) if request.by == *by => Err(Refused::OwnConfirmation { switch, by: by.clone() }),
        Some(request) => Ok(Event::Reset { switch, reason, requested_by: Some(request.by.clone()) }),
    }
}

/// Gives a flag values and rules.
///
/// Errors: they don't fit each other, the flag has another type, or its switch is not declared.
pub fn set(
    switches: &Switches,
    declared: &Declared,
    flag: &FlagKey,
    definition: Definition,
    reason: &Reason,
) -> Result<Event, Refused> {
    definition.check(flag)?;
    if let Some(switch) = &definition.subsystem {
        known_switch(declared, switch)?;
    }
    let was = declared.flags.get(flag).or_else(|| switches.flags.get(flag)?.definition.as_ref());
    if let Some(was) = was.filter(|was| was.kind != definition.kind) {
        return Err(Refused::OtherKind { flag: flag.clone(), was: was.kind, wanted: definition.kind });
    }
    Ok(Event::FlagSet { flag: flag.clone(), definition, reason: reason.clone() })
}

fn known_flag(switches: &Switches, declared: &Declared, flag: &FlagKey) -> Result<(), Refused> {
    match switches.flags.contains_key(flag) || declared.flags.contains_key(flag) {
        true => Ok(()),
        false => Err(Refused::UnknownFlag { flag: flag.clone() }),
    }
}

/// Turns a flag on.
///
/// Errors: there is none of that key.
pub fn turn_on(switches: &Switches, declared: &Declared, flag: &FlagKey, reason: &Reason) -> Result<Event, Refused> {
    known_flag(switches, declared, flag)?;
    Ok(Event::FlagTurnedOn { flag: flag.clone(), reason: reason.clone() })
}

/// Turns a flag off.
///
/// Errors: there is none of that key.
pub fn turn_off(switches: &Switches, declared: &Declared, flag: &FlagKey, reason: &Reason) -> Result<Event, Refused> {
    known_flag(switches, declared, flag)?;
    Ok(Event::FlagTurnedOff { flag: flag.clone(), reason: reason.clone() })
}

/// Forgets what was set of a flag. One that is declared stays, and is off.
///
/// Errors: nothing was set of it.
pub fn remove(switches: &Switches, flag: &FlagKey, reason: &Reason) -> Result<Event, Refused> {
    match switches.flags.contains_key(flag) {
        true => Ok(Event::FlagRemoved { flag: flag.clone(), reason: reason.clone() }),
        false => Err(Refused::UnknownFlag { flag: flag.clone() }),
    }
}
