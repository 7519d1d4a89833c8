//! What is seen and may call for an incident: its level, its rule, and who hears of it.

use crate::{ID, World, actor, reason};
use lastgood_domain::{
    operations::{
        Event, Operations,
        incident::{
            self, Level,
            recommend::{self, Observation, Sign, recommend},
        },
    },
    terms::ServiceName,
};

#[test]
fn what_is_seen_is_recommended_with_its_rule_unless_an_incident_covers_it() {
    let seen = |sign, service: &str| Observation {
        sign,
        service: Some(ServiceName::new(service).unwrap()),
        name: String::new(),
        what: "r7 could not bring back alice".into(),
    };
    let all = [seen(Sign::RollbackFailed, "notes"), seen(Sign::UsersBroken, "web")];
    let one = recommend(&Operations::default(), &all).unwrap();
    assert_eq!(one.level, Level::L2);
    assert_eq!(one.services.len(), 2);
    assert_eq!(one.why[0], "users are broken: web: r7 could not bring back alice");
    assert_eq!(one.why[1], "a rollback failed: notes: r7 could not bring back alice");
    // One of too low a level does not cover it, one of its level does, a drill never.
    let covered = |level, drill| recommend(&World::declared(level, drill).operations, &all[..1]).is_none();
    assert_eq!([covered(Level::L1, false), covered(Level::L2, false), covered(Level::L2, true)], [false, true, false]);
    assert_eq!(recommend(&Operations::default(), &[]), None);
}

#[test]
fn every_thing_that_may_call_for_an_incident_has_its_level_and_its_rule() {
    let said = |sign| {
        let one = Observation { sign, service: None, name: "n".into(), what: "7 of 9".into() };
        let said = recommend(&Operations::default(), &[one]).unwrap();
        (said.level, said.why.concat(), said.signs.into_iter().collect::<String>())
    };
    let text = |level, why: &str, sign: &str| (level, format!("{why}: all services: 7 of 9"), format!("{sign}/n"));
    let all = [
        (Sign::CiFailing, text(Level::L1, "a required gate does not say yes", "ci-failing")),
        (Sign::UsersBroken, text(Level::L1, "users are broken", "users-broken")),
        (Sign::SignalFiring, text(Level::L2, "a signal fires", "signal-firing")),
        (Sign::RollbackFailed, text(Level::L2, "a rollback failed", "rollback-failed")),
        (Sign::SecurityRisk, text(Level::L3, "security is at risk", "security-risk")),
        (Sign::EvidenceUncertain, text(Level::L3, "the evidence is uncertain", "evidence-uncertain")),
    ];
    for (sign, expected) in all {
        assert_eq!(said(sign), expected);
    }
}

#[test]
fn what_lasts_is_told_once_and_declared_once_even_if_a_person_ends_the_incident() {
    let of = |name: &str| Observation {
        sign: Sign::SignalFiring,
        service: None,
        name: name.into(),
        what: format!("{name}: 3 is above 2"),
    };
    let mut world = World::new();
    let take = |world: &mut World, seen: &[Observation]| {
        let news = recommend::news(&world.operations, seen);
        let events = news.iter().flat_map(|news| {
            let told = news.told.clone().map(|recommendation| Event::Recommended { recommendation });
            news.seen.clone().map(|signs| Event::Seen { signs }).into_iter().chain(told)
        });
        world.take("lastgood", events.collect());
        news.map(|news| (news.told.map(|told| told.map(|one| one.why)), news.declare.is_some()))
    };
    let (a, b) = (of("a"), of("b"));
    let why = |text: &str| Some(Some(vec![format!("a signal fires: all services: {text}: 3 is above 2")]));
    assert_eq!(take(&mut world, std::slice::from_ref(&a)), Some((why("a"), true)));
    let moved = Observation { what: "a: 4 is above 2".into(), ..a.clone() };
    assert_eq!(take(&mut world, std::slice::from_ref(&moved)), None, "its numbers move all the time");
    // Another one in its place is news, although the count is the same.
    assert_eq!(take(&mut world, std::slice::from_ref(&b)), Some((why("b"), true)));
    let declaration = incident::Declaration {
        level: Level::L2,
        trigger: reason("rules speak for it"),
        services: [].into(),
        commander: actor("alice"),
        drill: false,
    };
    world.take("lastgood", incident::declare(&world.operations, declaration));
    assert_eq!(take(&mut world, std::slice::from_ref(&b)), Some((Some(None), false)), "the incident covers it");
    world
        .say("alice", |state, _| Ok(incident::stand_down(state, ID, &actor("alice"), reason("a false alarm"))?))
        .unwrap();
    // It is told again, because nobody works on it any more, but not declared again.
    assert_eq!(take(&mut world, std::slice::from_ref(&b)), Some((why("b"), false)));
    assert_eq!(take(&mut world, &[]), Some((Some(None), false)));
    assert_eq!(take(&mut world, &[b]), Some((why("b"), true)), "it was quiet in between");
}

#[test]
fn what_is_new_is_declared_at_its_own_level_whatever_else_still_stands() {
    let of = |sign: Sign, service: Option<&str>| Observation {
        sign,
        service: service.map(|name| ServiceName::new(name).unwrap()),
        name: "n".into(),
        what: "7 of 9".into(),
    };
    let mut world = World::new();
    let (lasts, new) = (of(Sign::SecurityRisk, None), of(Sign::CiFailing, Some("web")));
    let first = recommend::news(&world.operations, std::slice::from_ref(&lasts)).unwrap();
    assert_eq!(first.declare.map(|one| one.level), Some(Level::L3));
    world.take("lastgood", vec![Event::Seen { signs: first.seen.unwrap() }]);
    let second = recommend::news(&world.operations, &[lasts, new]).unwrap();
    let declared = second.declare.unwrap();
    assert_eq!((declared.level, declared.services.len()), (Level::L1, 1));
    assert_eq!(second.told.unwrap().unwrap().level, Level::L3, "people hear of all that stands");
}
