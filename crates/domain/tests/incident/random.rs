//! Whatever people do in whatever order: nothing is opened while a row is unmet.

use crate::{ID, TERMS, World, actor, command, item, items, reason, statement};
use lastgood_domain::{
    operations::{
        Event, approval,
        hold::{HoldEvent, HoldKind},
        incident::{
            self, IncidentEvent, Level, State,
            checklist::{self, ChecklistEvent},
            closing::{self, ClosingEvent},
            level,
            message::{self, MessageEvent, MessageKind},
            unfreeze::{self, Row, UnfreezeEvent},
            verify::{self, Check, Proof, Verification, VerifyEvent},
        },
    },
    terms::{ServiceName, Span, Timestamp},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Freeze,
    Advance(State),
    Verify(Vec<Proof>),
    Lift,
    Done(bool),
    Waive(bool, u64),
    Risk(usize, u64),
    Answer(bool),
    Raise,
    Lower,
    StandDown,
    Own,
    Tell(MessageKind),
    Change,
    Close,
    Due,
}

fn act() -> impl Strategy<Value = Act> {
    let proof = prop_oneof![
        6 => Just(Proof::Pass),
        1 => Just(Proof::Fail),
        1 => Just(Proof::Missing),
        1 => Just(Proof::Error),
    ];
    prop_oneof![
        4 => (1_u64..15).prop_map(Act::Pass),
        1 => Just(Act::Freeze),
        3 => (0_usize..11).prop_map(|at| Act::Advance(State::ALL[at])),
        4 => proptest::collection::vec(proof, 1..3).prop_map(Act::Verify),
        6 => Just(Act::Lift),
        2 => any::<bool>().prop_map(Act::Done),
        1 => (any::<bool>(), 1_u64..90).prop_map(|(which, minutes)| Act::Waive(which, minutes)),
        2 => (0_usize..9, 1_u64..90).prop_map(|(row, minutes)| Act::Risk(row, minutes)),
        3 => any::<bool>().prop_map(Act::Answer),
        1 => Just(Act::Raise),
        1 => Just(Act::Lower),
        1 => Just(Act::StandDown),
        1 => Just(Act::Own),
        2 => prop_oneof![Just(MessageKind::Update), Just(MessageKind::Complete)].prop_map(Act::Tell),
        1 => Just(Act::Change),
        1 => Just(Act::Close),
        1 => Just(Act::Due),
    ]
}

fn name(which: bool) -> lastgood_domain::terms::ItemName {
    item(if which { "errors" } else { "queues" })
}

/// Does one thing; what is refused changes nothing.
fn perform(world: &mut World, act: &Act) {
    let alice = actor("alice");
    let facts = world.facts.clone();
    let until = |now: Timestamp, minutes: &u64| now.after(Span::minutes(*minutes));
    let _refused = match act {
        Act::Pass(minutes) => {
            world.pass(*minutes);
            Ok(())
        }
        Act::Change => {
            let other = format!("1.0.{} abc", world.now.0 % 7);
            world.facts.target.insert(ServiceName::new("notes").unwrap(), other);
            world.facts.stable_since = Some(world.now);
            Ok(())
        }
        Act::Freeze => world.say("alice", |state, _| Ok(incident::freeze(state, ID, &[])?)),
        Act::Advance(to) => world.say("alice", |state, _| {
            let event = incident::advance(state, ID, *to, reason("on"))?;
            Ok(vec![Event::Incident { incident: ID, event }])
        }),
        Act::Verify(proofs) => {
            let checks = proofs.iter().enumerate();
            let checks =
                checks.map(|(at, proof)| Check { name: format!("c{at}"), proof: *proof, detail: String::new() });
            let verification = Verification { target: facts.target.clone(), checks: checks.collect() };
            world.say("alice", |state, _| Ok(verify::verified(state, ID, verification.clone())?))
        }
        Act::Lift => world.lift(),
        Act::Done(which) => world.say("alice", |state, _| {
            let evidence = if *which { statement() } else { command(0) };
            let event = checklist::done(state, ID, &alice, &name(*which), evidence)?;
            Ok(vec![Event::Incident { incident: ID, event }])
        }),
        Act::Waive(which, minutes) => world.say("alice", |state, now| {
            checklist::waive(state, ID, &alice, &name(*which), reason("noise"), until(now, minutes), now)
        }),
        Act::Risk(row, minutes) => world.say("alice", |state, now| {
            let (row, until) = (Row::ALL[*row], until(now, minutes));
            unfreeze::accept_risk(state, ID, &alice, row, reason("so be it"), until, (&facts, &TERMS), now)
        }),
        Act::Answer(yes) => world.say("bob", |state, now| {
            let Some((id, one)) = state.approvals.all.last_key_value() else { return Ok(Vec::new()) };
            let event = match yes {
                true => approval::approve(&state.approvals, &actor("bob"), *id, one.request.plan, now)?,
                false => approval::reject(&state.approvals, &actor("bob"), *id, reason("no"), now)?,
            };
            Ok(vec![Event::Approval(event)])
        }),
        Act::Raise => world.say("bob", |state, now| {
            let mut events = level::raise(state, ID, Level::L2, reason("rows"))?;
            let known: Vec<_> = incident::find(state, ID)?.checklist.keys().cloned().collect();
            let added = checklist::added(&known, Level::L2, &items(), now);
            events.extend(added.map(|event| Event::Incident { incident: ID, event }));
            Ok(events)
        }),
        Act::Lower => world.say("alice", |state, now| level::lower(state, ID, &alice, Level::L1, reason("code"), now)),
        Act::StandDown => world.say("alice", |state, _| Ok(incident::stand_down(state, ID, &alice, reason("no"))?)),
        Act::Own => world.say("alice", |state, _| {
            let event = closing::say(state, ID, ClosingEvent::NextOwner { to: actor("bob") })?;
            Ok(vec![Event::Incident { incident: ID, event }])
        }),
        Act::Tell(kind) => world.say("alice", |state, now| {
            let next = now.after(Span::minutes(60));
            Ok(vec![message::send(state, ID, *kind, [].into(), "so it is", Some(next))?])
        }),
        Act::Close => world.say("alice", |state, _| {
            let event = closing::close(state, ID, &alice, reason("over"), &[])?;
            Ok(vec![Event::Incident { incident: ID, event }])
        }),
        Act::Due => {
            let due = incident::due(&world.operations, world.now);
            world.take("alice", due);
            Ok(())
        }
    };
}

/// What an honest bystander remembers, without the code that decides.
#[derive(Default)]
struct Bystander {
    /// Target, time and checks of the last verification.
    verified: Option<(Timestamp, Verification)>,
    /// When something was last lifted, held again or finished.
    newest: Option<Timestamp>,
    lifted_at: Option<Timestamp>,
    executed: bool,
    owner: bool,
    completed: Option<Timestamp>,
    held_again: Option<Timestamp>,
    next_update: Option<Timestamp>,
    done: Vec<String>,
}

impl Bystander {
    fn sees(&mut self, at: Timestamp, event: &Event) {
        let Event::Incident { event, .. } = event else { return };
        match event {
            IncidentEvent::Verify(VerifyEvent::Verified { verification }) => {
                self.verified = Some((at, verification.clone()));
            }
            IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { .. }) => {
                self.newest = Some(at);
                self.lifted_at = Some(at);
            }
            IncidentEvent::Unfreeze(UnfreezeEvent::HeldAgain { .. }) => {
                self.newest = Some(at);
                self.held_again = Some(at);
                self.lifted_at = None;
            }
            IncidentEvent::Moved { to: State::Executing, .. } => self.executed = true,
            IncidentEvent::Closing(ClosingEvent::NextOwner { .. }) => self.owner = true,
            IncidentEvent::Message(MessageEvent::Sent { message, next_update_by, .. }) => {
                self.next_update = *next_update_by;
                if *message == MessageKind::Complete {
                    self.completed = Some(at);
                }
            }
            IncidentEvent::Checklist(ChecklistEvent::Done { item, .. }) => self.done.push(item.to_string()),
            _ => {}
        }
    }

    /// Says what speaks against opening anything now; `signed` tells whether two people signed for a matter.
    fn objections(&self, world: &World, signed: &dyn Fn(&str) -> bool) -> Vec<String> {
        let now = world.now;
        let mut all = Vec::new();
        let mut object = |holds: bool, what: &str, matter: &str| {
            if !holds && !signed(matter) {
                all.push(what.to_owned());
            }
        };
        let none = "nobody may sign this";
        let long = |since: Option<Timestamp>, span: Span| since.is_none_or(|since| now.since(since) >= span);
        object(self.executed, "nothing was executed", none);
        object(long(world.facts.stable_since, TERMS.stable_for), "not stable", "risk/stable");
        object(long(self.lifted_at, TERMS.watch), "not watched", none);
        object(self.owner, "no owner", "risk/ownership");
        let told = self.completed.is_some_and(|at| self.held_again.is_none_or(|again| again <= at));
        object(told && self.next_update.is_none_or(|by| now < by), "not told", "risk/messages");
        match &self.verified {
            None => object(false, "never verified", none),
            Some((at, verification)) => {
                object(verification.target == world.facts.target, "another target", none);
                object(self.newest.is_none_or(|newest| newest < *at), "verified before", none);
                object(now.since(*at) <= TERMS.fresh, "verified long ago", none);
                let is = |proof: Proof| verification.checks.iter().any(|check| check.proof == proof);
                object(!is(Proof::Missing), "a proof is missing", none);
                object(!is(Proof::Fail) && !is(Proof::Error), "a check failed", "risk/verified");
            }
        }
        let level = world.incident().level;
        for (item, entry) in &world.incident().checklist {
            let is_done = self.done.contains(&item.to_string()) || entry.item.level > level;
            if !is_done && !signed(&format!("waiver/{item}")) {
                object(false, &format!("{item} is open"), "risk/checklist");
            }
        }
        all
    }
}

/// Tells whether bob approved some request for a matter that was made for no longer than until now.
fn signed(world: &World, matter: &str) -> bool {
    let subject = incident::subject(ID, matter);
    let mut asked = world.log.iter().filter_map(|record| match &record.event {
        Event::Incident { event: IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { signature, .. }), .. }
        | Event::Incident { event: IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { signature, .. }), .. } => {
            Some(signature)
        }
        _ => None,
    });
    asked.any(|signature| {
        let one = &world.operations.approvals.all[&signature.approval];
        one.request.subject == subject
            && one.standing == approval::Standing::Approved
            && one.yes.contains_key(&actor("bob"))
            && world.now < signature.until
    })
}

fn opens(event: &Event) -> bool {
    match event {
        Event::Hold(HoldEvent::Lifted { .. }) => true,
        Event::Incident { event: IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { .. }), .. } => true,
        Event::Incident { event: IncidentEvent::Moved { to, .. }, .. } => *to == State::ClosedPendingRca,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_opened_with_an_unmet_row_and_nothing_is_frozen_without_an_owner(
        drill in any::<bool>(),
        begun in any::<bool>(),
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut world = match begun {
            true => World::verifying(Level::L1, drill),
            false => World::declared(Level::L1, drill),
        };
        let mut bystander = Bystander::default();
        for record in &world.log {
            bystander.sees(record.at, &record.event);
        }
        let mut since = world.incident().since;
        for act in acts {
            let before = world.clone();
            perform(&mut world, &act);
            let news = &world.log[before.log.len()..];
            if news.iter().any(|record| opens(&record.event)) {
                let stood_down = matches!(act, Act::StandDown);
                if stood_down {
                    prop_assert!(!bystander.executed, "stood down after something was executed");
                } else {
                    prop_assert!(matches!(act, Act::Lift), "{act:?} has opened something");
                    let objections = bystander.objections(&before, &|matter| signed(&before, matter));
                    prop_assert!(objections.is_empty(), "opened although {objections:?}");
                }
            }
            for record in news {
                bystander.sees(record.at, &record.event);
            }
            let incident = world.incident();
            prop_assert!(since <= incident.since);
            since = incident.since;
            // What is held belongs to an incident that goes on, and every kind not lifted is held.
            let is_held = !drill && !incident.state.is_over() && incident.state != State::ClosedPendingRca;
            let held: Vec<HoldKind> =
                HoldKind::ALL.into_iter().filter(|kind| is_held && !incident.unfreeze.lifted.contains(kind)).collect();
            prop_assert_eq!(world.held(), held);
            let owner = incident.owner(incident::Role::Commander);
            prop_assert!(owner.is_some());
        }
    }
}
