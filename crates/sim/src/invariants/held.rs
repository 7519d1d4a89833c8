//! Holds as the records show them: which stand, and what passes them.

use super::{AWAKE, Checker};
use lastgood_domain::{
    event::{Event, Record},
    operations::hold::{Exemption, InFlight},
    terms::{Actor, Digest, HoldId, Timestamp},
    traffic::TrafficEvent,
};

/// One hold that was set and not lifted.
#[derive(Debug)]
pub(super) struct Held {
    until: Option<Timestamp>,
    /// The run that was under way may end.
    finishes: bool,
    /// Which bytes pass it, until when.
    exempt: Vec<(Digest, Timestamp)>,
}

impl Held {
    pub(super) fn new(until: Option<Timestamp>, in_flight: InFlight) -> Self {
        Self { until, finishes: in_flight == InFlight::Finish, exempt: Vec::new() }
    }

    fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Checker {
    pub(super) fn exempted(
        &mut self,
        hold: HoldId,
        exemption: &Exemption,
        (asked, approved): (&Actor, &Actor),
        wrong: &mut Vec<String>,
    ) {
        if asked == approved {
            wrong.push(format!("{hold} was opened for {} by {asked} alone", exemption.tag));
        }
        match self.holds.get_mut(&hold) {
            Some(held) => held.exempt.push((exemption.release, exemption.until)),
            None => wrong.push(format!("{hold} was opened for {} and does not stand", exemption.tag)),
        }
    }

    /// Notes the hold with which a way back stops the service: written with the end of its run, or, where people are moved, with
    /// their return. A hold of somebody's own says nothing of the failure, and this one may be lifted before the run ends.
    pub(super) fn stops_itself(&mut self, event: &Event, rest: &[Record]) {
        let Some(run) = self.run.as_mut().filter(|run| run.back.is_some()) else { return };
        let lasting = |event: &Event| match event {
            Event::HoldSet { hold, until: None, origin: None, .. } => Some(*hold),
            _ => None,
        };
        let hold = match event {
            Event::Traffic(TrafficEvent::Returned { .. }) => rest.iter().find_map(|record| lasting(&record.event)),
            event => {
                let ends = rest.iter().any(|record| matches!(record.event, Event::RunEnded { .. }));
                lasting(event).filter(|_| ends)
            }
        };
        run.stopped_by = hold.or(run.stopped_by);
    }

    /// Tells whether some hold stands.
    pub(super) fn held(&self) -> bool {
        self.holds.values().any(|held| held.stands(self.at))
    }

    pub(super) fn expired_just_now(&self) -> bool {
        let ends = self.holds.values().filter_map(|held| held.until);
        ends.into_iter().any(|until| until <= self.at && self.at.since(until) < AWAKE)
    }

    /// Tells whether some hold stands that lets no bytes pass.
    pub(super) fn closed(&self) -> bool {
        let open = |held: &Held| held.exempt.iter().any(|(_, until)| self.at < *until);
        self.holds.values().any(|held| held.stands(self.at) && !open(held))
    }

    /// Tells whether some hold keeps the run under way from moving on with a release.
    pub(super) fn stops(&self, release: Option<Digest>) -> bool {
        let since = self.run.as_ref().map(|run| run.holds_since);
        self.holds.iter().any(|(id, held)| {
            let finishes = held.finishes && since.is_some_and(|since| *id >= since);
            let passes = held.exempt.iter().any(|(bytes, until)| Some(*bytes) == release && self.at < *until);
            held.stands(self.at) && !finishes && !passes
        })
    }

    /// Gives the id that the next hold takes.
    pub(super) fn next_hold(&self) -> HoldId {
        HoldId(self.holds_ever.last().map_or(0, |last| last.0 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::Machine, play::settings, shared::Shared};
    use lastgood_domain::{
        event::{Aim, Cause, End},
        terms::{Reason, RunId},
        traffic::Share,
    };

    const HOLD: HoldId = HoldId(1);

    fn reason() -> Reason {
        Reason::new("so it is").unwrap()
    }

    fn cause() -> Cause {
        Cause::Guard { share: Share::percent(5), because: "it fails".into() }
    }

    fn hold(hold: HoldId, until: Option<Timestamp>) -> Event {
        Event::HoldSet { hold, reason: reason(), until, origin: None, in_flight: InFlight::Pause }
    }

    fn lifted(hold: HoldId) -> Event {
        Event::HoldLifted { hold, reason: reason() }
    }

    /// Observes a run that goes back, where people are moved or not, with these appends between its beginning and its end;
    /// gives what is said of how the service stopped itself.
    fn said(shared: bool, appends: &[(&str, Vec<Event>)], with_the_end: Vec<Event>) -> Vec<String> {
        let mut machine = Machine::new(1, Vec::new(), &[]);
        machine.shared = Shared::new(true, true).filter(|_| shared).map(Box::new);
        let (left, to) = (Digest::of(b"2"), Some(Digest::of(b"1")));
        let begun = match shared {
            true => Event::Traffic(TrafficEvent::ReturnBegun { cause: cause(), left, to, raise: Vec::new() }),
            false => Event::ReturnBegun { cause: cause(), back: Vec::new(), left: Some(left) },
        };
        let started = Event::RunStarted { run: RunId(1), aim: Aim::Track, settings: settings(&[]) };
        // What is last-good then is what an instance leaves.
        let mut all = vec![("lastgood:daemon", vec![started, Event::Demoted { release: Some(left) }, begun])];
        all.extend_from_slice(appends);
        let ended = Event::RunEnded { run: RunId(1), end: End::RolledBack { cause: cause() } };
        all.push(("lastgood:daemon", with_the_end.into_iter().chain([ended]).collect()));
        let mut checker = Checker::default();
        for (by, events) in all {
            let by = Actor::new(by).unwrap();
            let record = |event| Record { v: Record::VERSION, at: Timestamp(5_000), by: by.clone(), event };
            let records: Vec<Record> = events.into_iter().map(record).collect();
            checker.observe(&records, &mut machine);
        }
        let about = |wrong: &String| wrong.contains("stop itself") || wrong.contains("stopped itself");
        machine.violations.into_iter().filter(about).collect()
    }

    fn returned(hold: Event) -> (&'static str, Vec<Event>) {
        ("lastgood:daemon", vec![Event::Traffic(TrafficEvent::Returned { to: Some(Digest::of(b"1")) }), hold])
    }

    #[test]
    fn a_service_that_stopped_itself_may_be_opened_by_a_person_before_its_run_ends() {
        let opened = ("person:operator", vec![lifted(HOLD)]);
        assert_eq!(said(true, &[returned(hold(HOLD, None)), opened], Vec::new()), [""; 0]);
        assert_eq!(said(false, &[], vec![hold(HOLD, None)]), [""; 0]);
    }

    #[test]
    fn a_service_that_did_not_stop_itself_is_found_also_where_somebody_elses_hold_stands() {
        const FOUND: [&str; 1] = ["the service did not stop itself after a failure"];
        let persons = || ("person:operator", vec![hold(HOLD, None)]);
        for shared in [true, false] {
            assert_eq!(said(shared, &[], Vec::new()), FOUND);
            assert_eq!(said(shared, &[persons()], Vec::new()), FOUND);
        }
        let ends_by_itself = hold(HOLD, Some(Timestamp(60_000)));
        assert_eq!(said(true, &[returned(ends_by_itself.clone())], Vec::new()), FOUND);
        assert_eq!(said(false, &[], vec![ends_by_itself]), FOUND);
        let by_itself = ("lastgood:daemon", vec![lifted(HOLD)]);
        let found = said(true, &[returned(hold(HOLD, None)), by_itself], Vec::new());
        assert_eq!(found, ["lastgood:daemon lifted h1, with which the service had stopped itself"]);
    }
}
