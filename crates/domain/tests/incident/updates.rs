//! Word that is due of an incident and does not come.

use crate::{ID, World, actor};
use lastgood_domain::{
    operations::{
        Event,
        clock::{self, Circumstances},
        escalation::{self, PageEvent, Step},
        incident::{
            Level,
            message::{self, MessageKind},
        },
        people::{People, Person},
    },
    terms::Span,
};

#[test]
fn an_overdue_update_pages_through_the_chain_until_word_is_sent() {
    let mut world = World::declared(Level::L1, false);
    let next = world.now.after(Span::minutes(30));
    world
        .say("alice", |state, _| {
            Ok(vec![message::send(state, ID, MessageKind::Declared, [].into(), "it is bad", Some(next))?])
        })
        .unwrap();
    let bob = Person { notice: vec!["pager-bob".into()], ..Person::default() };
    let people = People { all: [(actor("bob"), bob)].into(), ..People::default() };
    let step = Step { to: [actor("bob")].into(), roles: [].into(), within: Span::minutes(5) };
    let chains = [(escalation::DEFAULT.to_owned(), vec![step])].into();
    let known = Circumstances { people, chains, ..Circumstances::default() };
    let due = |world: &World| clock::due(&world.operations, &known, &actor("bob"), world.now);
    world.pass(29);
    assert_eq!(due(&world), []);
    world.pass(1);
    let paged = due(&world);
    assert!(
        matches!(&paged[..], [Event::Page { event: PageEvent::Raised { about, .. }, .. }, Event::Page { event: PageEvent::Skipped { step: 0 }, .. }, Event::Page { event: PageEvent::Paged { step: 1, .. }, .. }] if about.starts_with("incident/i0/update/")),
        "{paged:?}"
    );
    world.take("bob", paged);
    assert_eq!(due(&world), []);
    // Nobody answers: the chain goes on to its end.
    world.pass(5);
    let gone = due(&world);
    assert!(matches!(&gone[..], [Event::Page { event: PageEvent::Exhausted, .. }]), "{gone:?}");
    world.take("bob", gone);
    world.tell(MessageKind::Update);
    let ended = due(&world);
    assert!(matches!(&ended[..], [Event::Page { event: PageEvent::Ended { .. }, .. }]), "{ended:?}");
    world.take("bob", ended);
    assert_eq!(due(&world), []);
}

#[test]
fn an_overdue_update_pages_who_leads_the_incident_before_the_chain_and_without_any() {
    let mut world = World::declared(Level::L1, false);
    world.tell(MessageKind::Update);
    world.pass(601);
    let reached = |name: &str| (actor(name), Person { notice: vec![format!("pager-{name}")], ..Person::default() });
    let people = People { all: [reached("alice"), reached("bob")].into(), ..People::default() };
    let step = Step { to: [actor("bob")].into(), roles: [].into(), within: Span::minutes(5) };
    let default = || (escalation::DEFAULT.to_owned(), vec![step.clone()]);
    for chains in [[default()].into(), escalation::Chains::new()] {
        let mut world = world.clone();
        let has_chain = !chains.is_empty();
        let known = Circumstances { people: people.clone(), chains, ..Circumstances::default() };
        let mut paged = Vec::new();
        for _ in 0..3 {
            let said = clock::due(&world.operations, &known, &actor("bob"), world.now);
            paged.extend(said.iter().filter_map(|event| match event {
                Event::Page { event: PageEvent::Paged { to, .. }, .. } => to.first().map(ToString::to_string),
                _ => None,
            }));
            world.take("bob", said);
            world.pass(10);
        }
        let whom: &[&str] = if has_chain { &["person:alice", "person:bob"] } else { &["person:alice"] };
        assert_eq!(paged, whom);
    }
}

#[test]
fn nobody_is_paged_about_the_updates_of_a_drill() {
    let mut world = World::declared(Level::L1, true);
    world.tell(MessageKind::Update);
    world.pass(601);
    let chains = [(escalation::DEFAULT.to_owned(), Vec::new())].into();
    let known = Circumstances { chains, ..Circumstances::default() };
    assert_eq!(clock::due(&world.operations, &known, &actor("bob"), world.now), []);
}
