//! What enforcers make of holds: only changes are written, and who must know is told again, not on each look.

use crate::{NOW, enforcer, reason, record, set, take, wanted};
use lastgood_domain::{
    notice::{NoticeKind, Severity},
    operations::{
        self, Event, Operations,
        clock::{self, Circumstances},
        escalation::{self, PageEvent},
        hold::{self, CONFIRMS_WITHIN, Enforcement, HoldEvent, HoldKind, NAGS_EVERY, changed},
        people::{People, Person},
    },
    terms::{Actor, Span, Timestamp, WideHoldId},
};

const HOLD: WideHoldId = WideHoldId(0);

fn held() -> Operations {
    let mut operations = Operations::default();
    set(&mut operations, NOW, wanted(&[HoldKind::Merge], &[], None));
    operations
}

fn look(operations: &mut Operations, at: Timestamp, steps: &[Enforcement]) -> Vec<HoldEvent> {
    let events = changed(&operations.holds, &enforcer("repository"), &[(HOLD, steps.to_vec())]);
    take(operations, at, events.clone());
    events
}

fn drifted() -> Enforcement {
    Enforcement::Drifted { why: "it reads back without hold-0".into() }
}

fn urgency(operations: &Operations, event: &HoldEvent) -> Option<(NoticeKind, Severity)> {
    operations::notice(operations, &record(NOW, Event::Hold(event.clone())))
        .map(|notice| (notice.kind, notice.severity))
}

#[test]
fn a_look_that_finds_nothing_new_writes_nothing() {
    let mut operations = held();
    assert_eq!(look(&mut operations, NOW, &[Enforcement::Requested, Enforcement::Confirmed]).len(), 2);
    assert!(look(&mut operations, NOW, &[Enforcement::Confirmed]).is_empty());
    assert!(operations.holds.unconfirmed(NOW).is_empty());
    // A drift that was mended in the same look is written, and told.
    assert_eq!(look(&mut operations, NOW, &[drifted(), Enforcement::Confirmed]).len(), 2);
}

#[test]
fn what_drifts_is_red_and_told_again_while_it_lasts_but_not_on_each_look() {
    let mut operations = held();
    look(&mut operations, NOW, &[Enforcement::Confirmed]);
    let events = look(&mut operations, NOW, &[drifted()]);
    assert_eq!(urgency(&operations, &events[0]), Some((NoticeKind::HoldUnconfirmed, Severity::Critical)));
    assert_eq!(operations.holds.unconfirmed(NOW).len(), 1);
    let other_words = Enforcement::Drifted { why: "still without it".into() };
    assert!(look(&mut operations, NOW.after(Span::minutes(1)), &[other_words]).is_empty());
    let due = |operations: &Operations, now| operations.holds.due(now, Span::minutes(60));
    assert!(due(&operations, NOW.after(Span::minutes(29))).is_empty());
    let later = NOW.after(NAGS_EVERY);
    let again = due(&operations, later);
    assert_eq!(again, [HoldEvent::StillUnconfirmed { hold: HOLD, enforcer: enforcer("repository") }]);
    assert_eq!(urgency(&operations, &again[0]), Some((NoticeKind::HoldUnconfirmed, Severity::Critical)));
    take(&mut operations, later, again);
    assert!(due(&operations, later.after(Span::minutes(29))).is_empty());
    look(&mut operations, later, &[Enforcement::Confirmed]);
    assert!(due(&operations, later.after(NAGS_EVERY)).is_empty());
}

/// What the clock says at `now`, with bob at the end of the chain.
fn tick(operations: &mut Operations, now: Timestamp) -> Vec<Event> {
    let bob = Actor::new("person:bob").unwrap();
    let person = Person { notice: vec!["pager-bob".into()], ..Person::default() };
    let people = People { all: [(bob.clone(), person)].into(), ..People::default() };
    let step = escalation::Step { to: [bob.clone()].into(), roles: [].into(), within: Span::minutes(60) };
    let chains = [(escalation::DEFAULT.to_owned(), vec![step])].into();
    let known = Circumstances { people, chains, ..Circumstances::default() };
    let said = clock::due(operations, &known, &bob, now);
    for event in &said {
        operations.take(&record(now, event.clone()));
    }
    said
}

fn pages(said: &[Event]) -> Vec<String> {
    let each = said.iter().filter_map(|event| match event {
        Event::Page { event: PageEvent::Raised { about, .. }, .. } => Some(format!("raised {about}")),
        Event::Page { event: PageEvent::Paged { to, .. }, .. } => {
            Some(to.iter().fold("paged".to_owned(), |all, who| format!("{all} {who}")))
        }
        Event::Page { event: PageEvent::Ended { .. }, .. } => Some("ended".to_owned()),
        _ => None,
    });
    each.collect()
}

#[test]
fn what_an_enforcer_does_not_confirm_pages_once_until_it_is_confirmed_and_again_when_it_drifts() {
    let mut operations = held();
    let paged = ["raised hold/hold-0/repository", "paged person:bob"];
    look(&mut operations, NOW, &[Enforcement::Requested, drifted()]);
    assert_eq!(pages(&tick(&mut operations, NOW)), paged);
    assert!(tick(&mut operations, NOW.after(Span::minutes(1))).is_empty());
    look(&mut operations, NOW, &[Enforcement::Confirmed]);
    assert_eq!(pages(&tick(&mut operations, NOW)), ["ended"]);
    look(&mut operations, NOW, &[Enforcement::Failed { why: "no answer".into() }]);
    assert_eq!(pages(&tick(&mut operations, NOW)), paged);
    // It is over, and the place still stops people.
    let lifted = hold::lift(&operations.holds, HOLD, reason("over")).unwrap();
    take(&mut operations, NOW, vec![lifted]);
    assert!(tick(&mut operations, NOW).is_empty());
    look(&mut operations, NOW, &[Enforcement::Released]);
    assert_eq!(pages(&tick(&mut operations, NOW)), ["ended"]);
}

#[test]
fn what_is_only_asked_for_has_its_time_to_be_read_back_before_anybody_is_paged() {
    let mut operations = held();
    look(&mut operations, NOW, &[Enforcement::Requested]);
    assert!(tick(&mut operations, NOW.after(Span::minutes(4))).is_empty());
    assert_eq!(pages(&tick(&mut operations, NOW.after(CONFIRMS_WITHIN))).len(), 2);
}

#[test]
fn a_lifted_hold_is_red_until_the_enforcer_has_let_go_of_it() {
    let mut operations = held();
    look(&mut operations, NOW, &[Enforcement::Confirmed]);
    let lifted = hold::lift(&operations.holds, HOLD, reason("over")).unwrap();
    take(&mut operations, NOW, vec![lifted]);
    assert_eq!(operations.holds.unconfirmed(NOW).len(), 1);
    assert_eq!(
        look(&mut operations, NOW, &[Enforcement::Released]),
        [HoldEvent::Enforced { hold: HOLD, enforcer: enforcer("repository"), state: Enforcement::Released }]
    );
    assert!(operations.holds.unconfirmed(NOW).is_empty() && operations.holds.enforced.is_empty());
    assert!(look(&mut operations, NOW, &[Enforcement::Released]).is_empty());
}

#[test]
fn an_owner_is_asked_after_a_hold_without_an_end_and_an_incident_never_is() {
    let mut operations = Operations::default();
    let review = Some(NOW.after(Span::minutes(60)));
    set(&mut operations, NOW, hold::Wanted { review, ..wanted(&[HoldKind::Deploy], &[], None) });
    let of_incident = HoldEvent::Set {
        hold: WideHoldId(1),
        kinds: [HoldKind::Deploy].into(),
        selector: hold::Selector::default(),
        reason: reason("orders are doubled"),
        incident: Some(lastgood_domain::terms::IncidentId(0)),
        until: None,
        review: None,
        in_flight: hold::InFlight::Pause,
    };
    take(&mut operations, NOW, vec![of_incident]);
    let week = Span::minutes(7 * 24 * 60);
    assert!(operations.holds.due(NOW.after(Span::minutes(59)), week).is_empty());
    let then = NOW.after(Span::minutes(60));
    let asked = operations.holds.due(then, week);
    assert_eq!(asked, [HoldEvent::ReviewDue { hold: HOLD, again: then.after(week) }]);
    let notice = operations::notice(&operations, &record(then, Event::Hold(asked[0].clone()))).unwrap();
    assert!(notice.summary.contains("person:alice") && notice.summary.contains("hold-0"), "{}", notice.summary);
    take(&mut operations, then, asked);
    assert!(operations.holds.due(then.after(Span::minutes(60)), week).is_empty(), "asked once a week");
    let year = NOW.after(Span::minutes(365 * 24 * 60));
    assert!(operations.holds.all[&WideHoldId(1)].stands(year));
    assert!(
        !operations
            .holds
            .due(year, week)
            .iter()
            .any(|event| matches!(event, HoldEvent::ReviewDue { hold, .. } if hold.0 == 1))
    );
}

#[test]
fn a_hold_that_nothing_would_ever_end_is_refused() {
    let holds = Operations::default().holds;
    let wanted = hold::Wanted { review: None, ..wanted(&[HoldKind::Deploy], &[], None) };
    assert_eq!(hold::set(&holds, wanted), Err(hold::Refused::NoReview));
}
