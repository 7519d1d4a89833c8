//! On what terms others are asked: how many, who and for how long, as configured; and how often a day one may ask.

use crate::{ID, World, actor, item, last_approval, life::code, reason};
use lastgood_domain::{
    operations::{
        Event, Operations, Refused,
        approval::{self, Matter, Request, Standing, Terms, due},
        cap::Risky,
        hold::{self, HoldKind, MergeExemption, Selector, Wanted},
        incident::{self, Level, State, checklist, level, standing_down},
        people::{Act, People, Person},
    },
    terms::{CommitId, RoleName, Span, Timestamp, WideHoldId},
};

/// Two of alice, bob and carol within eight hours, for everything.
fn people() -> People {
    let from = ["alice", "bob", "carol"].map(actor).into();
    let terms = Terms { needed: 2, from: Some(from), expires: Span::minutes(8 * 60) };
    let matters = [
        Matter::Exempt,
        Matter::Waive,
        Matter::AcceptRisk,
        Matter::Lower,
        Matter::StandDown,
        Matter::Plan,
        Matter::Ask,
    ];
    People { asking: matters.map(|matter| (matter, terms.clone())).into(), ..People::default() }
}

/// Says something as the one desk does: on the terms of `people`, and only what they permit.
fn say(
    world: &mut World,
    people: &People,
    by: &str,
    decide: impl Fn(&Operations, Timestamp) -> Result<Vec<Event>, Refused>,
) -> Result<(), Refused> {
    let events = people.on_terms(&actor(by), decide(&world.operations, world.now)?, world.now)?;
    for event in &events {
        people.permit(&world.operations, &actor(by), event, world.now)?;
    }
    world.take(by, events);
    Ok(())
}

fn waive(minutes: u64) -> impl Fn(&Operations, Timestamp) -> Result<Vec<Event>, Refused> {
    move |state, now| {
        let until = now.after(Span::minutes(minutes));
        checklist::waive(state, ID, &actor("alice"), &item("errors"), reason("noise"), until, now)
    }
}

fn lower(state: &Operations, now: Timestamp) -> Result<Vec<Event>, Refused> {
    level::lower(state, ID, &actor("alice"), Level::L1, reason("only code"), now)
}

fn exempt(state: &Operations, now: Timestamp) -> Result<Vec<Event>, Refused> {
    let commit = CommitId::new(&"9b".repeat(20)).unwrap();
    let until = now.after(Span::minutes(24 * 60));
    let exemption = MergeExemption { commit, reason: reason("the fix"), until };
    hold::ask_merge(state, &actor("alice"), WideHoldId(4), exemption, now)
}

fn down(state: &Operations, _: Timestamp) -> Result<Vec<Event>, Refused> {
    Ok(incident::stand_down(state, ID, &actor("alice"), reason("a false alarm"))?)
}

fn held(world: &mut World) {
    let wanted = Wanted {
        kinds: [HoldKind::Merge].into(),
        selector: Selector::default(),
        reason: reason("orders are doubled"),
        until: None,
        review: Some(Timestamp(i64::MAX)),
        in_flight: hold::InFlight::Pause,
    };
    world.say("alice", |state, _| Ok(vec![Event::Hold(hold::set(&state.holds, wanted.clone())?)])).unwrap();
}

/// Gives the last request: how many, of how many, and how many minutes it has.
fn asked(world: &World) -> (u32, usize, u64) {
    let one = &world.operations.approvals.all[&last_approval(world)];
    let minutes = one.request.expires.since(world.now).0 / Span::minutes(1).0;
    (one.request.needed, one.request.of.len(), minutes)
}

/// How somebody asks for something.
type Ask<'a> = &'a dyn Fn(&Operations, Timestamp) -> Result<Vec<Event>, Refused>;

#[test]
fn two_of_three_within_eight_hours_are_asked_whatever_it_is_about() {
    let mut world = World::declared(Level::L2, false);
    held(&mut world);
    let people = people();
    assert_eq!(world.operations.holds.next, 5, "the incident's four, and one for merges");
    let matters: [(&str, Ask<'_>); 3] =
        [("a waiver", &waive(24 * 60)), ("a lower level", &lower), ("a commit", &exempt)];
    for (what, ask) in matters {
        say(&mut world, &people, "alice", ask).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(asked(&world), (2, 3, 8 * 60), "{what}");
    }
    // What nothing is configured for is asked of one, of anybody, for a day.
    let mut world = World::declared(Level::L2, false);
    say(&mut world, &People::default(), "alice", waive(2 * 24 * 60)).unwrap();
    assert_eq!(asked(&world), (1, 0, 24 * 60));
}

#[test]
fn one_yes_of_two_lowers_nothing_and_who_is_not_asked_has_no_word() {
    let mut world = World::declared(Level::L2, false);
    let people = people();
    let yes = |by: &'static str| {
        move |state: &Operations, now| {
            let (id, one) = state.approvals.all.last_key_value().unwrap();
            Ok(vec![Event::Approval(approval::approve(&state.approvals, &actor(by), *id, one.request.plan, now)?)])
        }
    };
    say(&mut world, &people, "alice", lower).unwrap();
    assert_eq!(code(say(&mut world, &people, "dave", yes("dave"))), "approval-not-asked");
    assert_eq!(code(say(&mut world, &people, "alice", yes("alice"))), "approval-own");
    say(&mut world, &people, "bob", yes("bob")).unwrap();
    say(&mut world, &people, "alice", lower).unwrap();
    assert_eq!(world.incident().level, Level::L2, "one of two has agreed");
    say(&mut world, &people, "carol", yes("carol")).unwrap();
    say(&mut world, &people, "alice", lower).unwrap();
    assert_eq!(world.incident().level, Level::L1);
}

#[test]
fn a_request_ends_with_what_it_is_for_reminds_by_its_own_time_and_expired_is_not_rejected() {
    let mut world = World::declared(Level::L2, false);
    let people = people();
    say(&mut world, &people, "alice", waive(100)).unwrap();
    assert_eq!(asked(&world), (2, 3, 100), "the waiver itself lasts no longer");
    let reminded = |world: &mut World, minutes: u64| {
        world.pass(minutes);
        let events = due(&world.operations.approvals, world.now).into_iter().map(Event::Approval).collect::<Vec<_>>();
        world.take("bob", events.clone());
        events
    };
    assert_eq!(reminded(&mut world, 49), []);
    let approval = last_approval(&world);
    let at = |percent| vec![Event::Approval(approval::ApprovalEvent::Reminded { approval, percent })];
    assert_eq!(reminded(&mut world, 1), at(50));
    assert_eq!(reminded(&mut world, 30), at(80));
    assert_eq!(reminded(&mut world, 20), vec![Event::Approval(approval::ApprovalEvent::Expired { approval })]);
    assert_eq!(world.operations.approvals.all[&approval].standing, Standing::Expired);
    // What ran out may be asked for again; what was said no to may not.
    say(&mut world, &people, "alice", waive(100)).unwrap();
}

#[test]
fn fewer_than_must_agree_are_told_at_once() {
    let mut world = World::declared(Level::L2, false);
    let mut people = people();
    let terms = people.asking.get_mut(&Matter::Waive).unwrap();
    terms.needed = 3;
    assert_eq!(code(say(&mut world, &people, "alice", waive(60))), "approval-impossible");
    // Nobody is not everybody.
    let nobody = Terms { from: Some([].into()), ..Terms::default() };
    people.asking.insert(Matter::Waive, nobody);
    assert_eq!(code(say(&mut world, &people, "alice", waive(60))), "approval-impossible");
    assert!(world.operations.approvals.all.is_empty());
    // Who is named and may not, has no yes to give; nor has who asks.
    let role = RoleName::new("security").unwrap();
    let having = |roles: &[&RoleName]| Person { roles: roles.iter().copied().cloned().collect(), notice: Vec::new() };
    let all = [("alice", having(&[&role])), ("bob", having(&[&role])), ("carol", having(&[]))];
    people.all = all.map(|(name, person)| (actor(name), person)).into();
    held(&mut world);
    for (may, needed, fits) in [
        (Act::Exempt, 1, true),
        (Act::Exempt, 2, false),
        (Act::Approve, 1, true),
        (Act::Approve, 2, false),
        (Act::Waive, 2, true),
    ] {
        people.may = [(may, [role.clone()].into())].into();
        people.asking = [(Matter::Exempt, Terms { needed, ..Terms::default() })].into();
        let asked = people.on_terms(&actor("alice"), exempt(&world.operations, world.now).unwrap(), world.now);
        assert_eq!(asked.is_ok(), fits, "{may:?}, {needed} of bob and carol");
    }
}

#[test]
fn an_incident_is_none_only_once_as_many_agree_as_are_configured() {
    let mut world = World::declared(Level::L1, false);
    let people = people();
    assert_eq!(code(say(&mut world, &people, "alice", down)), "approval-missing");
    let (subject, plan) = standing_down::asked(ID, &reason("a false alarm"));
    let ask = |state: &Operations, now: Timestamp| {
        let (subject, what) = (subject.clone(), "it is none".to_owned());
        let request = Request { subject, what, plan, needed: 1, of: [].into(), expires: now.after(Span::minutes(60)) };
        let events = approval::request(&state.approvals, &actor("alice"), request)?;
        Ok(events.into_iter().map(Event::Approval).collect())
    };
    say(&mut world, &people, "alice", ask).unwrap();
    world.approve();
    assert_eq!(code(say(&mut world, &people, "alice", down)), "approval-missing");
    let (id, now) = (last_approval(&world), world.now);
    let yes = approval::approve(&world.operations.approvals, &actor("carol"), id, plan, now).unwrap();
    world.take("carol", vec![Event::Approval(yes)]);
    // What they agreed to is this reason.
    let other = |state: &Operations, _| Ok(incident::stand_down(state, ID, &actor("alice"), reason("never mind"))?);
    assert_eq!(code(say(&mut world, &people, "alice", other)), "approval-missing");
    say(&mut world, &people, "alice", down).unwrap();
    assert_eq!(world.incident().state, State::StoodDown);
    assert_eq!(world.operations.approvals.all[&id].standing, Standing::Used);
    // A drill holds nothing, and asks nobody.
    let mut drill = World::declared(Level::L1, true);
    say(&mut drill, &people, "alice", down).unwrap();
}

#[test]
fn who_asks_too_often_a_day_is_refused_with_the_numbers() {
    let mut people =
        People { caps: [Risky::Waive, Risky::Lower, Risky::StandDown].map(|act| (act, 1)).into(), ..people() };
    people.asking.clear();
    let mut world = World::declared(Level::L3, false);
    say(&mut world, &people, "alice", waive(60)).unwrap();
    say(&mut world, &people, "alice", lower).unwrap();
    let another = |state: &Operations, now| level::lower(state, ID, &actor("alice"), Level::L2, reason("data"), now);
    assert_eq!(code(say(&mut world, &people, "alice", another)), "cap-reached");
    say(&mut world, &people, "alice", down).unwrap();
    let again = incident::Declaration {
        level: Level::L1,
        trigger: reason("again"),
        services: [].into(),
        commander: actor("alice"),
        drill: false,
    };
    let declared = incident::declare(&world.operations, again);
    world.take("alice", declared);
    let id = *world.operations.incidents.open().next().unwrap().0;
    let second = |state: &Operations, _| Ok(incident::stand_down(state, id, &actor("alice"), reason("none"))?);
    assert_eq!(code(say(&mut world, &people, "alice", second)), "cap-reached");
    world.pass(24 * 60);
    say(&mut world, &people, "alice", second).unwrap();
    // A drill is ended as often as there is one.
    let mut drill = World::declared(Level::L1, true);
    drill.operations.caps = world.operations.caps.clone();
    say(&mut drill, &people, "alice", down).unwrap();
}

#[test]
fn a_no_is_for_the_subject_whatever_the_words_and_for_no_other() {
    let mut world = World::declared(Level::L3, false);
    let no = |by: &'static str| {
        move |state: &Operations, now| {
            let (id, _) = state.approvals.all.last_key_value().unwrap();
            Ok(vec![Event::Approval(approval::reject(&state.approvals, &actor(by), *id, reason("no"), now)?)])
        }
    };
    world.say("alice", lower).unwrap();
    world.say("bob", no("bob")).unwrap();
    let to = |level, why: &'static str| {
        move |state: &Operations, now| level::lower(state, ID, &actor("alice"), level, reason(why), now)
    };
    assert_eq!(code(world.say("alice", to(Level::L1, "only code, see the 7 traces"))), "approval-rejected");
    // Another level is another question.
    world.say("alice", to(Level::L2, "no credential is touched")).unwrap();
    // What who asked took back was not said no to.
    world.say("alice", no("alice")).unwrap();
    world.say("alice", to(Level::L2, "no credential is touched, see the audit")).unwrap();
    world.pass(24 * 60);
    world.say("alice", to(Level::L1, "only code")).unwrap();
}
