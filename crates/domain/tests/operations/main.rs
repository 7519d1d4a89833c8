//! Promises of what people decide beyond one service.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod check;
mod enforcing;
mod golden;

use lastgood_domain::{
    operations::{
        Event, Operations, Record,
        hold::{self, HoldKind, InFlight, Selector, Wanted},
    },
    terms::{Actor, EnforcerName, Reason, ServiceName, Timestamp},
};

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn reason(text: &str) -> Reason {
    Reason::new(text).unwrap()
}

fn actor(name: &str) -> Actor {
    Actor::new(&format!("person:{name}")).unwrap()
}

fn enforcer(name: &str) -> EnforcerName {
    EnforcerName::new(name).unwrap()
}

fn record(at: Timestamp, event: Event) -> Record {
    Record { v: Record::VERSION, at, by: actor("alice"), event }
}

fn wanted(kinds: &[HoldKind], services: &[&str], until: Option<Timestamp>) -> Wanted {
    Wanted {
        kinds: kinds.iter().copied().collect(),
        selector: Selector { services: services.iter().map(|one| name(one)).collect(), ..Selector::default() },
        reason: reason("an audit"),
        until,
        review: Some(Timestamp(i64::MAX)),
        in_flight: InFlight::Pause,
    }
}

fn set(operations: &mut Operations, at: Timestamp, wanted: Wanted) {
    let event = hold::set(&operations.holds, wanted).expect("it can be set");
    operations.take(&record(at, Event::Hold(event)));
}

fn take(operations: &mut Operations, at: Timestamp, events: Vec<hold::HoldEvent>) {
    for event in events {
        operations.take(&record(at, Event::Hold(event)));
    }
}
