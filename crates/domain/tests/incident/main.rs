//! The life of an incident: what each step needs, and that nothing is opened without it.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod asking;
mod golden;
mod items;
mod life;
mod needs;
mod proof_steps;
mod random;
mod recommended;
mod updates;

use lastgood_domain::{
    operations::{
        Event, Operations, Record, Refused, approval,
        hold::HoldKind,
        incident::{
            self, Declaration, Incident, Level, Role, State,
            checklist::{self, Evidence, EvidenceKind, Template},
            closing::{self, ClosingEvent},
            message::{self, MessageKind},
            unfreeze::{self, Facts, Terms},
            verify::{self, Check, Proof, Verification},
        },
    },
    terms::{Actor, ApprovalId, IncidentId, ItemName, Reason, ServiceName, Span, Timestamp},
};

pub(crate) const ID: IncidentId = IncidentId(0);
pub(crate) const TERMS: Terms =
    Terms { stable_for: Span::minutes(10), watch: Span::minutes(5), fresh: Span::minutes(30) };

pub(crate) fn actor(name: &str) -> Actor {
    Actor::new(&format!("person:{name}")).unwrap()
}

pub(crate) fn reason(text: &str) -> Reason {
    Reason::new(text).unwrap()
}

pub(crate) fn item(name: &str) -> ItemName {
    ItemName::new(name).unwrap()
}

pub(crate) fn statement() -> Evidence {
    Evidence::Statement { text: reason("seen") }
}

/// A record that only grows, a clock that only goes on, and what is seen outside.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) operations: Operations,
    pub(crate) now: Timestamp,
    pub(crate) facts: Facts,
    pub(crate) log: Vec<Record>,
}

impl World {
    pub(crate) fn new() -> Self {
        let target = [(ServiceName::new("notes").unwrap(), "1.0.0 abc".to_owned())].into();
        let facts = Facts { target, stable_since: Some(Timestamp(0)), ..Facts::default() };
        Self { operations: Operations::default(), now: Timestamp(1_000_000), facts, log: Vec::new() }
    }

    /// Declares an incident that alice leads, with its checklist.
    pub(crate) fn declared(level: Level, drill: bool) -> Self {
        let mut world = Self::new();
        let (trigger, services, commander) = (reason("orders are doubled"), [].into(), actor("alice"));
        let declaration = Declaration { level, trigger, services, commander, drill };
        let events = incident::declare(&world.operations, declaration);
        world.take("alice", events);
        let added = checklist::added(&[], level, &items(), world.now).unwrap();
        world.take("alice", vec![Event::Incident { incident: ID, event: added }]);
        world
    }

    /// Brings it to its verification, with everything done that is needed besides.
    pub(crate) fn verifying(level: Level, drill: bool) -> Self {
        let mut world = Self::declared(level, drill);
        world.say("alice", |state, _| incident::freeze(state, ID, &[]).map_err(Into::into)).unwrap();
        for to in [State::Executing, State::Cleaning] {
            world.advance(to);
        }
        world.clean();
        world.own_and_tell();
        world.pass(1);
        world.verify(&[("smoke/notes", Proof::Pass)]);
        world
    }

    pub(crate) fn advance(&mut self, to: State) {
        self.one(|state| incident::advance(state, ID, to, reason("work goes on"))).unwrap();
    }

    pub(crate) fn clean(&mut self) {
        let names: Vec<ItemName> = self.incident().checklist.keys().cloned().collect();
        for name in names {
            let evidence = match self.incident().checklist[&name].item.evidence {
                EvidenceKind::Statement => statement(),
                _ => command(0),
            };
            self.one(|state| checklist::done(state, ID, &actor("alice"), &name, evidence.clone())).unwrap();
        }
    }

    pub(crate) fn own_and_tell(&mut self) {
        self.one(|state| closing::say(state, ID, ClosingEvent::NextOwner { to: actor("bob") })).unwrap();
        self.tell(MessageKind::Complete);
    }

    pub(crate) fn tell(&mut self, kind: MessageKind) {
        let next = Some(self.now.after(Span::minutes(600)));
        self.say("alice", |state, _| Ok(vec![message::send(state, ID, kind, [].into(), "it is over", next)?])).unwrap();
    }

    pub(crate) fn verify(&mut self, checks: &[(&str, Proof)]) {
        let checks = checks
            .iter()
            .map(|(name, proof)| Check { name: (*name).into(), proof: *proof, detail: "1 of 1".into() })
            .collect();
        let verification = Verification { target: self.facts.target.clone(), checks };
        self.say("alice", |state, _| Ok(verify::verified(state, ID, verification.clone())?)).unwrap();
    }

    pub(crate) fn lift(&mut self) -> Result<(), Refused> {
        let facts = self.facts.clone();
        self.say("alice", |state, now| Ok(unfreeze::lift_next(state, ID, &actor("alice"), (&facts, &TERMS), now)?))
    }

    /// Approves the newest request as bob.
    pub(crate) fn approve(&mut self) {
        self.say("bob", |state, now| {
            let (id, one) = state.approvals.all.last_key_value().unwrap();
            Ok(vec![Event::Approval(approval::approve(&state.approvals, &actor("bob"), *id, one.request.plan, now)?)])
        })
        .unwrap();
    }

    pub(crate) fn pass(&mut self, minutes: u64) {
        self.now = self.now.after(Span::minutes(minutes));
    }

    pub(crate) fn incident(&self) -> &Incident {
        &self.operations.incidents.all[&ID]
    }

    /// Gives the kinds that the incident still holds.
    pub(crate) fn held(&self) -> Vec<HoldKind> {
        let standing = |kind: &HoldKind| {
            let mut holds = self.operations.holds.all.values();
            holds.any(|hold| hold.incident == Some(ID) && hold.kinds.contains(kind))
        };
        HoldKind::ALL.into_iter().filter(standing).collect()
    }

    pub(crate) fn one(
        &mut self,
        decide: impl Fn(&Operations) -> Result<incident::IncidentEvent, incident::Refused>,
    ) -> Result<(), incident::Refused> {
        let event = decide(&self.operations)?;
        self.take("alice", vec![Event::Incident { incident: ID, event }]);
        Ok(())
    }

    pub(crate) fn say(
        &mut self,
        by: &str,
        decide: impl Fn(&Operations, Timestamp) -> Result<Vec<Event>, Refused>,
    ) -> Result<(), Refused> {
        let events = decide(&self.operations, self.now)?;
        self.take(by, events);
        Ok(())
    }

    /// Writes events down: each is written and read again, as the chain does it.
    pub(crate) fn take(&mut self, by: &str, events: Vec<Event>) {
        for event in events {
            let record = Record { v: Record::VERSION, at: self.now, by: actor(by), event };
            let bytes = serde_json::to_vec(&serde_json::to_value(&record).unwrap()).unwrap();
            let read: Record = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read, record, "{}", String::from_utf8_lossy(&bytes));
            assert!(self.operations.apply(self.log.len() as u64, Some(&record)));
            self.log.push(record);
        }
    }
}

pub(crate) fn command(exit: i32) -> Evidence {
    let output = lastgood_domain::terms::Digest::of(b"fine");
    Evidence::Command { argv: vec!["check".into()], exit, output, bytes: 4, took: Span::seconds(1) }
}

pub(crate) fn items() -> Vec<(ItemName, Template)> {
    let one = |name: &str, level, role, evidence| {
        let template = Template { what: "as it was".into(), level, role, evidence, due_in: Span::minutes(60) };
        (item(name), template)
    };
    vec![
        one("errors", Level::L1, Role::Api, EvidenceKind::Statement),
        one("queues", Level::L2, Role::Data, EvidenceKind::Command),
    ]
}

pub(crate) fn last_approval(world: &World) -> ApprovalId {
    *world.operations.approvals.all.last_key_value().unwrap().0
}
