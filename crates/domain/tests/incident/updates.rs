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
        matches!(&paged[..], [Event::Page { event: PageEvent::Raised { about, .. }, .. }, Event::Page { event: PageEvent::Paged { step: 0, .. }, .. }] if about.starts_with("incident/i0/update/")),
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
fn nobody_is_paged_about_the_updates_of_a_drill() {
    let mut world = World::declared(Level::L1, true);
    world.tell(MessageKind::Update);
    world.pass(601);
    let chains = [(escalation::DEFAULT.to_owned(), Vec::new())].into();
    let known = Circumstances { chains, ..Circumstances::default() };
    assert_eq!(clock::due(&world.operations, &known, &actor("bob"), world.now), []);
}
