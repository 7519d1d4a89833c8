//! Flags and kill switches of one environment: what was written, what it folds to, and who may change what.
//!
//! A flag is off until somebody turns it on. A switch that is tripped stays tripped until somebody resets it; no old,
//! doubled or reordered record or message does, and none that can't be read: while one can't, every switch counts as tripped
//! of which no readable record behind it says otherwise. The number of records folded is the *epoch*: it only grows, and whoever
//! hears of switches takes nothing of a lower one.

mod decide;
mod evaluate;
mod event;
mod flag;
mod fold;
mod salted;
pub mod typed;
mod value;
mod words;

pub use decide::{Declared, Refused, confirm, remove, reset, set, trip, turn_off, turn_on};
pub use evaluate::{Attribute, Compiled, Context, Failed, Outcome, Why};
pub use event::{Event, Record};
pub use flag::{
    Comparison, Condition, Definition, DefinitionError, FlagKind, Part, RULES_MAX, Rule, Serve, Test, VARIANTS_MAX,
};
pub use fold::{Doubt, Flag, Live, Request, Standing, Switches, Trip};
pub use value::{FlagValue, ValueError};
pub use words::{notice, sentence};

use crate::terms::SwitchName;

/// The switch above all others: while it is tripped, every other counts as tripped and every flag is off.
pub const ALL: &str = "all";

/// Gives the name of the switch above all others.
pub fn all() -> SwitchName {
    SwitchName::new(ALL).expect("a fixed valid name")
}
