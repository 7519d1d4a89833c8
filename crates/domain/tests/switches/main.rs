//! Flags and kill switches: who may change what, what records fold to, who gets which value, and the records' form.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod deciding;
mod evaluating;
mod folding;
mod golden;

use lastgood_domain::{
    switches::{Event, Record},
    terms::{Actor, EnvironmentName, FlagKey, Reason, SwitchName, Timestamp, VariantName},
};

pub(crate) fn switch(name: &str) -> SwitchName {
    SwitchName::new(name).unwrap()
}

pub(crate) fn flag(key: &str) -> FlagKey {
    FlagKey::new(key).unwrap()
}

pub(crate) fn variant(name: &str) -> VariantName {
    VariantName::new(name).unwrap()
}

pub(crate) fn reason(text: &str) -> Reason {
    Reason::new(text).unwrap()
}

pub(crate) fn actor(name: &str) -> Actor {
    Actor::new(&format!("person:{name}")).unwrap()
}

pub(crate) fn environment() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

pub(crate) fn record(by: &str, event: Event) -> Record {
    Record { v: Record::VERSION, at: Timestamp(1_767_225_600_000), by: actor(by), event }
}
