//! Would it be allowed? The answer against one that is written down another way, over many random sets of holds.

use crate::{NOW, name, reason, record, set, wanted};
use lastgood_domain::{
    event,
    operations::{
        Event, Operations,
        hold::{self, Exemption, HoldKind, InFlight, Question, Selector, Subject, Wanted, effective},
        people::{Act, People, Person},
        rca,
    },
    service::Service,
    terms::{Actor, Digest, HoldId, ReleaseTag, ServiceName, Timestamp, WideHoldId},
};
use proptest::prelude::*;

/// A hold as it is drawn: kinds, services, label, since, until, lifted.
#[derive(Debug, Clone)]
struct Drawn {
    kinds: Vec<HoldKind>,
    services: Vec<&'static str>,
    tier: Option<&'static str>,
    since: i64,
    until: Option<i64>,
    lifted: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        proptest::sample::subsequence(HoldKind::ALL.to_vec(), 1..=4),
        proptest::sample::subsequence(vec!["web", "notes", "mail"], 0..=3),
        proptest::option::of(proptest::sample::select(vec!["api", "batch"])),
        0_i64..10,
        proptest::option::of(0_i64..20),
        any::<bool>(),
    )
        .prop_map(|(kinds, services, tier, since, until, lifted)| Drawn {
            kinds,
            services,
            tier,
            since,
            until,
            lifted,
        })
}

fn at(ticks: i64) -> Timestamp {
    Timestamp(NOW.0 + ticks)
}

/// Asks whether any release of a service may be deployed.
fn deploys<'a>(
    (name, subject): (&'a ServiceName, &'a Subject),
    service: &'a Service,
    people: &'a People,
) -> Question<'a> {
    Question { name, subject, service, kind: HoldKind::Deploy, release: None, people }
}

fn operations(all: &[Drawn]) -> Operations {
    let mut operations = Operations::default();
    for one in all {
        let labels = one.tier.map(|tier| ("tier".to_owned(), tier.to_owned())).into_iter().collect();
        let selector = Selector { services: one.services.iter().map(|one| name(one)).collect(), labels };
        let wanted = Wanted { selector, ..wanted(&one.kinds, &[], one.until.map(at)) };
        set(&mut operations, at(one.since), wanted);
    }
    for (number, _) in all.iter().enumerate().filter(|(_, one)| one.lifted) {
        let lifted = hold::lift(&operations.holds, WideHoldId(number as u64), reason("over")).unwrap();
        operations.take(&record(at(9), Event::Hold(lifted)));
    }
    operations
}

fn stops(operations: &Operations, service: &ServiceName, tier: &str, kind: HoldKind, now: Timestamp) -> Vec<String> {
    let subject = Subject { labels: [("tier".to_owned(), tier.to_owned())].into(), promoted: false };
    let question = Question {
        name: service,
        subject: &subject,
        service: &Service::default(),
        kind,
        release: None,
        people: &People::default(),
    };
    effective(&operations.holds, question, now).into_iter().map(|stop| stop.hold).collect()
}

proptest! {
    #[test]
    fn every_standing_hold_that_matches_stops_it_and_no_other_does(
        all in proptest::collection::vec(drawn(), 0..6),
        service in proptest::sample::select(vec!["web", "notes", "mail"]),
        tier in proptest::sample::select(vec!["api", "batch"]),
        kind in proptest::sample::select(HoldKind::ALL.to_vec()),
        now in 0_i64..25,
    ) {
        let found = stops(&operations(&all), &name(service), tier, kind, at(now));
        let wanted: Vec<String> = all.iter().enumerate().filter(|(_, one)| {
            !one.lifted
                && one.kinds.contains(&kind)
                && (one.services.is_empty() || one.services.contains(&service))
                && one.tier.is_none_or(|wanted| wanted == tier)
                && one.since <= now
                && one.until.is_none_or(|until| now < until)
        }).map(|(number, _)| format!("hold-{number}")).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn one_hold_more_never_allows_anything_and_lifting_one_takes_away_that_one_only(
        all in proptest::collection::vec(drawn(), 1..6),
        kind in proptest::sample::select(HoldKind::ALL.to_vec()),
        now in 0_i64..25,
    ) {
        let ask = |all: &[Drawn]| stops(&operations(all), &name("web"), "api", kind, at(now));
        let (fewer, more) = (ask(&all[..all.len() - 1]), ask(&all));
        prop_assert!(fewer.iter().all(|hold| more.contains(hold)));
        let mut lifted = all.clone();
        lifted[0].lifted = true;
        let left: Vec<String> = more.into_iter().filter(|hold| hold != "hold-0").collect();
        prop_assert_eq!(ask(&lifted), left);
    }
}

#[test]
fn each_stop_names_its_owner_and_who_can_lift_it() {
    let mut operations = Operations::default();
    set(&mut operations, NOW, wanted(&[HoldKind::Deploy], &[], None));
    let (web, subject, people) = (name("web"), Subject::default(), People::default());
    let mut service = Service::default();
    let own = event::Event::HoldSet {
        hold: HoldId(4),
        reason: reason("a move of the database"),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    };
    service.apply(&event::Record { v: 1, at: NOW, by: Actor::new("person:bob").unwrap(), event: own });
    let question = deploys((&web, &subject), &service, &people);
    let stops = effective(&operations.holds, question, NOW);
    let words: Vec<_> = stops.iter().map(|stop| format!("{} {} {}", stop.hold, stop.owner, stop.how)).collect();
    assert_eq!(
        words,
        [
            "h4 person:bob lastgood hold lift web h4 --reason …",
            "hold-0 person:alice lastgood hold lift hold-0 --reason …"
        ]
    );
    let who = |people: &People| {
        let stops = effective(&operations.holds, Question { people, ..question }, NOW);
        stops.into_iter().map(|stop| stop.who).collect::<Vec<_>>()
    };
    assert_eq!(who(&people), ["anyone, with a reason"; 2]);
    let keeper = lastgood_domain::terms::RoleName::new("keeper").unwrap();
    let mut some = People {
        all: [("alice", vec![]), ("bob", vec![keeper.clone()])]
            .map(|(name, roles)| {
                let person = Person { roles: roles.into_iter().collect(), ..Person::default() };
                (Actor::new(&format!("person:{name}")).unwrap(), person)
            })
            .into(),
        ..People::default()
    };
    assert_eq!(who(&some), ["person:alice, person:bob"; 2]);
    some.may = [(Act::Lift, [keeper].into())].into();
    assert_eq!(who(&some), ["person:bob"; 2]);
    let merge = Question { kind: HoldKind::Merge, ..question };
    assert!(effective(&operations.holds, merge, NOW).is_empty(), "a hold of a service's own stops its moves only");
}

#[test]
fn a_pin_and_an_analysis_that_is_owed_stop_forward_moves_and_nothing_else() {
    let (web, subject, people) = (name("web"), Subject::default(), People::default());
    let mut service = Service::default();
    let mut say = |at, event| {
        service.apply(&event::Record { v: 1, at, by: Actor::new("person:bob").unwrap(), event });
        service.clone()
    };
    let stops = |service: &Service, kind, now| {
        let question = Question { name: &web, subject: &subject, service, kind, release: None, people: &people };
        hold::owned(&question, now).into_iter().map(|stop| format!("{} {}", stop.hold, stop.how)).collect::<Vec<_>>()
    };
    let now = say(NOW, rca::owe("incident i0: orders are doubled".into(), None, None, None, NOW));
    assert_eq!(stops(&now, HoldKind::Deploy, NOW), ["analysis lastgood rca submit web --file analysis.md"]);
    assert!(stops(&now, HoldKind::Merge, NOW).is_empty());
    let now = say(NOW, rca::submit(&now, Digest::of(b"it was the cache")).unwrap());
    assert_eq!(stops(&now, HoldKind::Deploy, NOW), ["analysis lastgood rca accept web"]);
    let waived =
        event::Event::Analysis(rca::AnalysisEvent::Waived { reason: reason("hotfix"), until: at(5), release: None });
    let now = say(NOW, waived);
    assert!(stops(&now, HoldKind::Deploy, at(4)).is_empty());
    assert_eq!(stops(&now, HoldKind::Deploy, at(5)).len(), 1);
    let now = say(NOW, event::Event::Pinned { tag: ReleaseTag::new("1.0").unwrap(), reason: reason("an audit") });
    assert_eq!(stops(&now, HoldKind::Promote, at(4)), ["pin lastgood unpin web --reason …"]);
}

#[test]
fn a_service_whose_releases_come_from_another_environment_is_stopped_by_a_hold_on_promotions() {
    let mut operations = Operations::default();
    let people = People::default();
    set(&mut operations, NOW, wanted(&[HoldKind::Promote], &[], None));
    let (web, service) = (name("web"), Service::default());
    for (promoted, stopped) in [(false, 0), (true, 1)] {
        let subject = Subject { promoted, ..Subject::default() };
        let question = deploys((&web, &subject), &service, &people);
        assert_eq!(effective(&operations.holds, question, NOW).len(), stopped);
    }
}

#[test]
fn only_the_exempted_release_is_allowed_and_only_until_its_end() {
    let people = People::default();
    let mut operations = Operations::default();
    set(&mut operations, NOW, wanted(&[HoldKind::Deploy], &[], None));
    let (web, subject) = (name("web"), Subject::default());
    let mut service = Service::default();
    let fix = Digest::of(b"fix");
    let part = event::Event::HoldSet {
        hold: HoldId(0),
        reason: reason("an audit"),
        until: None,
        origin: Some(WideHoldId(0)),
        in_flight: InFlight::Pause,
    };
    let exemption =
        Exemption { release: fix, tag: ReleaseTag::new("2.0").unwrap(), reason: reason("the fix"), until: at(5) };
    let asked_by = Actor::new("person:alice").unwrap();
    for event in [part, event::Event::HoldExempted { hold: HoldId(0), exemption, asked_by }] {
        service.apply(&event::Record { v: 1, at: NOW, by: Actor::new("person:bob").unwrap(), event });
    }
    let allowed = |release: Option<Digest>, now| {
        let question = Question { release, ..deploys((&web, &subject), &service, &people) };
        effective(&operations.holds, question, now).is_empty()
    };
    assert!(allowed(Some(fix), NOW));
    assert!(!allowed(Some(fix), at(5)));
    assert!(!allowed(Some(Digest::of(b"other")), NOW));
    assert!(!allowed(None, NOW));
}
