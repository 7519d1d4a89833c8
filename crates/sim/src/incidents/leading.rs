//! What people do in an incident.

use super::{
    acts::Decided,
    hands::{Doing, Pretended},
    services::{good_of, reason},
    setting,
    world::{Pen, World, of},
};
use lastgood_domain::{
    operations::{
        Operations,
        incident::{
            self, IncidentEvent, Level, Role, State,
            checklist::{self, Evidence, EvidenceKind},
            closing::{self, ClosingEvent},
            level,
            message::{self, MessageKind},
            plan::Outcome,
            role,
            unfreeze::{self, Row},
            verify::{self, Check, Proof, Verification},
        },
    },
    terms::{Actor, ChainName, Digest, IncidentId, ItemName, ReleaseTag, ServiceName, Span},
};
use lastgood_engine::{
    incident::{Performer, Told, ask, carry_out, hash_of, needed, plan, take},
    operations::verify::required,
};
use std::{cell::RefCell, collections::BTreeMap};

impl World {
    /// Somebody does what comes next in an incident: its commander if there, or whoever it is.
    pub(crate) fn go_on(&self, who: &Actor) {
        let Some(id) = self.an_incident() else {
            match self.often(120) {
                true => self.declare(who),
                false => self.services_act(who),
            }
            return;
        };
        let state = self.state();
        let Some(found) = state.incidents.all.get(&id) else { return };
        let by = if self.is_here(&found.commander) && self.often(900) { &found.commander.clone() } else { who };
        if let Some(wanted) = &found.lowering
            && self.often(250)
        {
            // What a second person was asked for is done, or tried without.
            return self.change_level(by, id, wanted.level);
        }
        if !found.state.is_over() && self.often(12) {
            let to = self.pick(&[Level::L1, Level::L2, Level::L3]).unwrap_or(Level::L2);
            return self.change_level(by, id, to);
        }
        if matches!(found.state, State::Freezing | State::Planning | State::Executing) && self.often(25) {
            return self.stand_down(by, id);
        }
        let (at, planned) = (found.state, found.planned.is_some());
        // What somebody acts on is read again: the state is folded on in place.
        let by = &by.clone();
        drop(state);
        match at {
            State::Declared | State::Freezing => self.freeze(by, id),
            State::Planning if !planned || self.often(150) => self.make_plan(by, id),
            // Somebody sees in the middle of a step that it leads to the wrong place.
            State::Executing if self.running.borrow().contains(&id) && self.often(400) => {
                self.checks.borrow_mut().reached.insert("planned anew in the middle of a step");
                self.make_plan(by, id);
            }
            State::Planning | State::Executing => self.run_plan(by, id),
            State::Cleaning => match self.below(3) {
                0 => self.verify(by, id),
                1 => self.tell_people(by, id),
                _ => self.clean(by, id),
            },
            State::Verifying | State::UnfreezeReady | State::Monitoring => self.unfreeze(by, id),
            State::ClosedPendingRca => self.end(by, id),
            State::Done | State::StoodDown => {}
        }
    }

    /// Somebody does anything in an incident.
    pub(crate) fn anything(&self, by: &Actor) {
        let Some(id) = self.an_incident() else { return };
        let someone = self.pick(&setting::PEOPLE).and_then(setting::actor);
        let Some(someone) = someone else { return };
        let a_role = self.pick(&Role::ALL).unwrap_or(Role::Api);
        let to = self.pick(&[Level::L1, Level::L2, Level::L3]).unwrap_or(Level::L2);
        let commander = self.state().incidents.all.get(&id).map(|found| found.commander.clone());
        let by = &commander.filter(|who| self.is_here(who) && self.often(400)).unwrap_or_else(|| by.clone());
        match self.below(15) {
            0 => self.lift(by, id),
            1 => self.verify(by, id),
            2 => self.make_plan(by, id),
            3 => self.run_plan(by, id),
            4 | 5 => self.change_level(by, id, to),
            6 => {
                self.one(by, "hands over", id, &|state| role::hand_off(state, id, by, a_role, someone.clone()));
                if self.often(600) && self.is_here(&someone) {
                    self.one(&someone, "accepts", id, &|state| role::accept(state, id, &someone, a_role));
                }
            }
            7 => {
                let offers = self.state().incidents.all.get(&id).map(|found| found.roles.offers.clone());
                let offered = offers.unwrap_or_default().into_iter().next();
                let (role, who) = offered.filter(|_| self.often(800)).unwrap_or((a_role, by.clone()));
                self.one(&who, "accepts", id, &|state| role::accept(state, id, &who, role));
            }
            8 => self.one(by, "assigns", id, &|state| role::assign(state, id, by, a_role, someone.clone())),
            9 => self.stand_down(by, id),
            10 => self.accept_risk(by, id),
            11 => self.settle(by, id),
            12 => self.close(by, id, "over"),
            13 => self.clean(by, id),
            _ => self.tell_people(by, id),
        }
    }

    fn one(
        &self,
        by: &Actor,
        what: &str,
        id: IncidentId,
        decide: &dyn Fn(&Operations) -> Result<IncidentEvent, incident::Refused>,
    ) {
        self.command(by, what, &|state| Ok(vec![of(id, decide(state)?)]));
    }

    fn stand_down(&self, by: &Actor, id: IncidentId) {
        self.command(by, "stands down", &|state| Ok(incident::stand_down(state, id, by, reason("it was none"))?));
    }

    fn freeze(&self, by: &Actor, id: IncidentId) {
        self.command(by, "freezes", &|state| {
            let facts = self.facts(state, id);
            Ok(incident::freeze(state, id, &facts.unconfirmed)?)
        });
    }

    fn make_plan(&self, by: &Actor, id: IncidentId) {
        let state = self.state();
        let Some(found) = state.incidents.all.get(&id) else { return };
        let config = self.config();
        let about = config.service.keys().filter(|name| found.services.is_empty() || found.services.contains(*name));
        let services = about.map(|name| (name.clone(), self.service(name))).collect();
        let made = plan(config, found, &services, &BTreeMap::new(), &BTreeMap::new());
        let (hash, now) = (hash_of(&made), self.now());
        let before = found.planned.clone();
        drop(state);
        self.command(by, "plans", &|state| take(state, id, (&made, hash), by, now));
        if self.state().incidents.all.get(&id).map(|found| &found.planned) != Some(&before) {
            // It is a plan of its own, whose steps are all to be done; but what was cut off is what it was.
            let cut_off = self.checks.borrow().cut_off(id);
            let deeds = &mut self.outside.borrow_mut().deeds;
            let all = std::mem::take(deeds).into_iter();
            deeds.extend(all.filter_map(|((of, was, step), deed)| match of == id {
                false => Some(((of, was, step), deed)),
                true => cut_off.contains(&step).then_some(((of, hash, step), deed)),
            }));
        }
    }

    fn run_plan(&self, by: &Actor, id: IncidentId) {
        let state = self.state();
        let Some(found) = state.incidents.all.get(&id) else { return };
        let Some(hash) = found.planned.as_ref().map(|planned| planned.hash) else { return };
        if self.running.borrow().contains(&id) {
            return;
        }
        self.running.borrow_mut().push(id);
        let config = self.config();
        let about = config.service.keys().filter(|name| found.services.is_empty() || found.services.contains(*name));
        let hands = Pretended { world: self, id, hash, step: RefCell::default() };
        let performer = Performer {
            config,
            reader: self,
            incident: id,
            drill: found.drill,
            services: about.cloned().collect(),
            hands: &hands,
        };
        drop(state);
        let doing = Doing { hands: &hands, performer };
        let mut pen = Pen::new(self, (id, hash));
        let told = carry_out(&mut pen, &doing, by, Some(hash), &|| self.now(), &mut |_, _| {});
        self.running.borrow_mut().retain(|one| *one != id);
        match told {
            Ok(Told::NotApproved { hash, .. }) => {
                let now = self.now();
                let Some(needed) = self.state().incidents.all.get(&id).map(|found| needed(config, found)) else {
                    return;
                };
                self.command(by, "asks", &|state| ask(state, id, (hash, needed), by, now));
            }
            Ok(Told::Stuck { step, why }) => {
                self.tell(format!("    {step} is stuck: {why}"));
                if self.often(600) {
                    self.settle(by, id);
                }
            }
            Ok(Told::Done) => {}
            Err(error) => self.tell(format!("    {by} runs the plan of {id}: {error}")),
        }
    }

    /// A person says what becomes of a step that is stuck.
    fn settle(&self, by: &Actor, id: IncidentId) {
        let state = self.state();
        let Some(planned) = state.incidents.all.get(&id).and_then(|found| found.planned.as_ref()) else { return };
        let steps: Vec<String> = match planned.next() {
            incident::plan::Next::Stuck { step, .. } if self.often(900) => vec![step.id.clone()],
            _ => planned.plan.steps.iter().map(|step| step.id.clone()).collect(),
        };
        let Some(step) = self.pick(&steps) else { return };
        let again = self.often(600);
        let outcome = match again {
            true => Outcome::Again { reason: reason("it did nothing") },
            false => Outcome::Settled { reason: reason("it is seen") },
        };
        let hash = planned.hash;
        let is_proof = planned.plan.steps.iter().any(|one| one.id == step && one.act.proves());
        if is_proof && !again && !self.often(50) {
            let now = self.now();
            let until = now.after(Span::minutes(30 + self.below(3_000)));
            self.command(by, "waives", &|state| {
                incident::plan::waive(state, id, by, &step, (reason("noise"), until), now)
            });
            return;
        }
        let said = self.say(by, &|state| {
            let planned = incident::find(state, id)?.planned.as_ref();
            let event =
                incident::plan::settled(id, planned, &step, outcome.clone()).map_err(incident::Refused::from)?;
            Ok(vec![of(id, IncidentEvent::Plan(event))])
        });
        let key = (id, hash, step.clone());
        let word = said.is_ok() || self.state().incidents.all.get(&id) != state.incidents.all.get(&id);
        if word && again {
            self.outside.borrow_mut().deeds.remove(&key);
        }
    }

    fn clean(&self, by: &Actor, id: IncidentId) {
        let state = self.state();
        let Some(found) = state.incidents.all.get(&id) else { return };
        let open = checklist::open(found, &state.approvals, self.now());
        let open: Vec<(ItemName, EvidenceKind)> =
            open.map(|entry| (entry.item.item.clone(), entry.item.evidence)).collect();
        let Some((item, kind)) = self.pick(&open) else { return };
        drop(state);
        let now = self.now();
        if self.often(150) {
            let until = now.after(Span::minutes(30 + self.below(3_000)));
            self.command(by, "waives", &|state| checklist::waive(state, id, by, &item, reason("noise"), until, now));
            return;
        }
        let kinds = [EvidenceKind::Command, EvidenceKind::File, EvidenceKind::Statement];
        let kind = if self.often(100) { self.pick(&kinds).unwrap_or(kind) } else { kind };
        let exit = i32::from(self.often(200));
        let proof = proof(kind, exit);
        self.one(by, "cleans", id, &|state| checklist::done(state, id, by, &item, proof.clone()));
    }

    fn tell_people(&self, by: &Actor, id: IncidentId) {
        let kind = if self.often(500) { MessageKind::Complete } else { MessageKind::Update };
        let next = self.now().after(Span::minutes(30 + self.below(600)));
        self.command(by, "tells", &|state| {
            Ok(vec![message::send(state, id, kind, BTreeMap::new(), "so it is", Some(next))?])
        });
    }

    /// Proves that all is well, as far as it is.
    pub(crate) fn verify(&self, by: &Actor, id: IncidentId) {
        let state = self.state();
        let Some(found) = state.incidents.all.get(&id) else { return };
        let facts = self.facts(&state, id);
        let drill = found.drill;
        drop(state);
        let mut checks = Vec::new();
        for name in facts.target.keys() {
            checks.push(self.asked(format!("health/{name}")));
        }
        let frozen = if drill || facts.unconfirmed.is_empty() { Proof::Pass } else { Proof::Fail };
        checks.push(Check { name: "freeze".into(), proof: frozen, detail: String::new() });
        if !self.often(40) {
            checks.push(self.asked("check/ci".into()));
        }
        let checks = required(self.config(), checks);
        let began = |checks: &mut super::checks::Checks| {
            if let Some(life) = checks.lives.get_mut(&id) {
                life.verifying.insert(by.clone(), life.epoch);
            }
        };
        began(&mut self.checks.borrow_mut());
        let marker = Digest::of(format!("{id} {}", self.now().0).as_bytes());
        if !self.command(by, "marks", &|state| Ok(vec![verify::marked(state, id, marker)?])) {
            return;
        }
        // Asking takes a while, and others go on.
        self.race();
        let verification = Verification { target: facts.target, checks };
        self.command(by, "verifies", &|state| Ok(verify::verified(state, id, verification.clone())?));
    }

    /// Asks one check.
    fn asked(&self, name: String) -> Check {
        let trouble = self.outside.borrow().trouble;
        let proof = match self.often(trouble / 2) {
            false => Proof::Pass,
            true => self.pick(&[Proof::Fail, Proof::Error, Proof::Missing, Proof::Stale]).unwrap_or(Proof::Fail),
        };
        Check { name, proof, detail: String::new() }
    }

    /// Does what the table of the unfreeze wants next.
    fn unfreeze(&self, by: &Actor, id: IncidentId) {
        let (state, now) = (self.state(), self.now());
        let Some(completed) = state.incidents.all.get(&id).map(|found| found.messages.completed_at) else { return };
        let facts = self.facts(&state, id);
        let terms = self.config().incident.terms();
        let Ok(table) = unfreeze::table(&state, id, &facts, &terms, now) else { return };
        drop(state);
        let unmet: Vec<Row> = table.iter().filter(|line| !line.is_open()).map(|line| line.row).collect();
        let Some(row) = self.pick(&unmet) else {
            if self.often(120) {
                self.move_away(by, id);
            }
            return self.lift(by, id);
        };
        let bob = setting::actor("bob").unwrap_or_else(|| by.clone());
        match row {
            _ if self.often(60) => self.accept_risk(by, id),
            _ if self.often(40) => self.lift(by, id),
            Row::Verified => self.verify(by, id),
            Row::Checklist => self.clean(by, id),
            Row::Ownership => {
                self.one(by, "names", id, &|state| {
                    closing::say(state, id, ClosingEvent::NextOwner { to: bob.clone() })
                });
            }
            Row::Messages if completed.is_none() || self.often(300) => {
                let next = now.after(Span::minutes(60 + self.below(600)));
                self.command(by, "tells", &|state| {
                    let kind = MessageKind::Complete;
                    Ok(vec![message::send(state, id, kind, BTreeMap::new(), "it is over", Some(next))?])
                });
            }
            Row::Messages => self.tell_people(by, id),
            Row::Stable if self.often(500) => self.settle_services(by, id),
            Row::Stable | Row::Watched => self.wait(Span::minutes(5 + self.below(10))),
            Row::Executed | Row::Holds | Row::Approvals => {}
        }
    }

    /// Takes a service of an incident to another release, which nobody verifies, and waits until it is calm.
    fn move_away(&self, by: &Actor, id: IncidentId) {
        let about = self.state().incidents.all.get(&id).map(|found| found.services.clone()).unwrap_or_default();
        let names = self.config().service.keys().filter(|name| about.is_empty() || about.contains(*name));
        let names: Vec<ServiceName> = names.cloned().collect();
        let Some(name) = self.pick(&names) else { return };
        let ever: Vec<ReleaseTag> = self.service(&name).tags.keys().cloned().collect();
        self.go_back(by, &name, self.pick(&ever));
        self.wait(Span::minutes(11));
    }

    /// Takes back what an incident is about and is somewhere else than it should be.
    fn settle_services(&self, by: &Actor, id: IncidentId) {
        let about = self.state().incidents.all.get(&id).map(|found| found.services.clone()).unwrap_or_default();
        let names = self.config().service.keys().filter(|name| about.is_empty() || about.contains(*name));
        for name in names {
            let service = self.service(name);
            let elsewhere = service.instances.values().any(|one| one.release != service.last_good);
            if service.run.is_some() || elsewhere {
                self.go_back(by, name, good_of(&service));
            }
        }
    }

    fn lift(&self, by: &Actor, id: IncidentId) {
        let (facts, now) = (self.facts(&self.state(), id), self.now());
        let terms = self.config().incident.terms();
        self.command(by, "lifts a stage", &|state| Ok(unfreeze::lift_next(state, id, by, (&facts, &terms), now)?));
    }

    fn accept_risk(&self, by: &Actor, id: IncidentId) {
        let (state, now) = (self.state(), self.now());
        let facts = self.facts(&state, id);
        let terms = self.config().incident.terms();
        let table = unfreeze::table(&state, id, &facts, &terms, now).unwrap_or_default();
        let unmet: Vec<Row> = table.iter().filter(|line| !line.is_met).map(|line| line.row).collect();
        drop(state);
        let rows = if unmet.is_empty() || self.often(300) { Row::ALL.to_vec() } else { unmet };
        let row = self.pick(&rows).unwrap_or(Row::Stable);
        let until = now.after(Span::minutes(10 + self.below(2_000)));
        self.command(by, "takes a risk", &|state| {
            unfreeze::accept_risk(state, id, by, row, reason("so be it"), until, (&facts, &terms), now)
        });
        // A second person sits beside.
        if let Some(second) = self.somebody().filter(|who| who != by && self.often(500)) {
            let risk = incident::subject(id, &format!("risk/{}", row.as_str()));
            self.agree(&second, &|subject| subject == risk);
        }
    }

    fn change_level(&self, by: &Actor, id: IncidentId, to: Level) {
        let (state, now) = (self.state(), self.now());
        let Some(found) = state.incidents.all.get(&id) else { return };
        let rises = found.level < to;
        drop(state);
        let items = self.config().incident.items();
        self.command(by, "changes the level", &|state| -> Decided {
            if !rises {
                return level::lower(state, id, by, to, reason("code only"), now);
            }
            let mut events = level::raise(state, id, to, reason("rows are wrong too"))?;
            let known: Vec<_> = incident::find(state, id)?.checklist.keys().cloned().collect();
            events.extend(checklist::added(&known, to, &items, now).map(|event| of(id, event)));
            Ok(events)
        });
    }

    /// Writes what is owed at the end, and ends it.
    fn end(&self, by: &Actor, id: IncidentId) {
        let Some(follow_up) = self.state().incidents.all.get(&id).map(closing::next_follow_up) else { return };
        let say = |event: ClosingEvent| self.one(by, "says", id, &|state| closing::say(state, id, event.clone()));
        let due = self.now().after(Span::minutes(60 * 24 * 14));
        match self.below(5) {
            0 => say(ClosingEvent::RootCause { text: reason("a retry without a key") }),
            1 => {
                say(ClosingEvent::FollowUpAdded { follow_up, text: reason("give it a key"), owner: by.clone(), due });
            }
            2 => say(ClosingEvent::Safeguard { text: reason("the probe sends it twice") }),
            3 => say(ClosingEvent::Reported { digest: Digest::of(b"report") }),
            _ => self.close(by, id, "all is said"),
        }
    }

    fn close(&self, by: &Actor, id: IncidentId, why: &str) {
        let mut services = self.services.borrow_mut();
        let owe = services.iter_mut().filter_map(|(name, one)| {
            let owed = one.folded().analysis.as_ref()?;
            (owed.incident == Some(id)).then(|| name.clone())
        });
        let owe: Vec<ServiceName> = owe.collect();
        drop(services);
        self.one(by, "closes", id, &|state| closing::close(state, id, by, reason(why), &owe));
    }
}

fn proof(kind: EvidenceKind, exit: i32) -> Evidence {
    let digest = Digest::of(b"seen");
    match kind {
        EvidenceKind::Command => {
            Evidence::Command { argv: vec!["check".into()], exit, output: digest, bytes: 4, took: Span::seconds(1) }
        }
        EvidenceKind::File => Evidence::File { path: "/seen".into(), digest, bytes: 4 },
        EvidenceKind::Url => Evidence::Url { url: "https://example.com/seen".into(), digest, fetched: None },
        EvidenceKind::Event => {
            let chain = ChainName::new("operations").expect("a fixed valid name");
            Evidence::Event { chain, number: 1, link: digest }
        }
        EvidenceKind::Statement => Evidence::Statement { text: reason("seen") },
        EvidenceKind::Proof => Evidence::Proof { what: "seen".into() },
    }
}
