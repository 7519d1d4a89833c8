//! What people do: most often the sensible next thing, now and then anything.

use super::{
    services::reason,
    world::{Unsaid, World, of},
};
use lastgood_domain::{
    operations::{
        Event, Operations, Refused, approval, escalation,
        hold::{self, Exemption, HoldKind, InFlight, Selector, Wanted},
        incident::{self, Declaration, IncidentEvent, Level, checklist, message::MessageKind},
        overrule::Overrule,
    },
    terms::{Actor, Digest, IncidentId, ServiceName, Span, WideHoldId},
};
use std::collections::BTreeMap;

/// What a decision comes to.
pub(super) type Decided = Result<Vec<Event>, Refused>;

/// Somebody who is there does something.
pub(crate) fn somebody_acts(world: &World) {
    let Some(who) = world.somebody() else { return };
    match world.below(100) {
        0..52 => world.go_on(&who),
        52..66 => world.answer(&who),
        66..74 => world.holds(&who),
        74..85 => world.services_act(&who),
        85..88 => world.declare(&who),
        88..92 => world.see_pages(&who),
        92..94 => world.overrule(&who),
        94..96 => world.configure_otherwise(),
        _ => world.anything(&who),
    }
}

impl World {
    /// Says something as one command; what is refused is told.
    pub(crate) fn command(&self, by: &Actor, what: &str, decide: &dyn Fn(&Operations) -> Decided) -> bool {
        match self.say(by, decide) {
            Ok(_) => true,
            Err(Unsaid::Refused(refused)) => {
                self.tell(format!("    {by} {what}: {refused}"));
                false
            }
            Err(_) => false,
        }
    }

    pub(crate) fn a_service(&self) -> Option<ServiceName> {
        let names: Vec<ServiceName> = self.config().service.keys().cloned().collect();
        self.pick(&names)
    }

    /// Gives an incident that goes on.
    pub(crate) fn an_incident(&self) -> Option<IncidentId> {
        let open: Vec<IncidentId> = self.state().incidents.open().map(|(id, _)| *id).collect();
        self.pick(&open)
    }

    pub(crate) fn declare(&self, by: &Actor) {
        if self.state().incidents.open().count() >= 2 {
            return;
        }
        let level = self.pick(&[Level::L1, Level::L2, Level::L3]).unwrap_or(Level::L1);
        let services = if self.often(400) { None } else { self.a_service() };
        let ic = if self.often(200) { super::setting::actor("bob") } else { None };
        let declaration = Declaration {
            level,
            trigger: reason("orders are doubled"),
            services: services.into_iter().collect(),
            commander: ic.unwrap_or_else(|| by.clone()),
            drill: self.often(150),
        };
        let (now, config) = (self.now(), self.config());
        self.command(by, "declares", &|state| {
            let id = IncidentId(state.incidents.next);
            let mut events = incident::declare(state, declaration.clone());
            events.extend(checklist::added(&[], level, &config.incident.items(), now).map(|event| of(id, event)));
            let next = Some(now.after(config.incident.update_every.0));
            let sent = incident::message::MessageEvent::Sent {
                message: MessageKind::Declared,
                fields: BTreeMap::new(),
                text: "it is looked at".into(),
                next_update_by: next,
            };
            events.push(of(id, IncidentEvent::Message(sent)));
            Ok(events)
        });
    }

    /// Somebody answers a request, their own or another's, for the plan that is asked or for one that was.
    pub(crate) fn answer(&self, by: &Actor) {
        let state = self.state();
        let ids: Vec<_> = state.approvals.all.keys().rev().take(4).copied().collect();
        let Some(id) = self.pick(&ids) else { return };
        let Some(plan) = state.approvals.all.get(&id).map(|one| one.request.plan) else { return };
        let plan = if self.often(50) { Digest::of(b"another plan") } else { plan };
        let now = self.now();
        match self.below(10) {
            0 => self.command(by, "rejects", &|state| {
                Ok(vec![Event::Approval(approval::reject(&state.approvals, by, id, reason("no"), now)?)])
            }),
            1 => {
                let span = Span::minutes(60 * (1 + self.below(200)));
                self.command(by, "extends", &|state| {
                    Ok(vec![Event::Approval(approval::extend(&state.approvals, by, id, span, now)?)])
                })
            }
            _ => self.command(by, "approves", &|state| {
                Ok(vec![Event::Approval(approval::approve(&state.approvals, by, id, plan, now)?)])
            }),
        };
    }

    fn see_pages(&self, by: &Actor) {
        let open = self.checks.borrow().pages.open();
        let Some(page) = self.pick(&open) else { return };
        self.command(by, "is there", &|state| {
            Ok(vec![Event::Page { page, event: escalation::acknowledge(&state.pages, page)? }])
        });
    }

    /// The gate's owner, or somebody else, lets a release past it.
    fn overrule(&self, by: &Actor) {
        let Some((service, (tag, digest))) =
            self.a_service().and_then(|name| Some((name.clone(), self.newest(&name)?)))
        else {
            return;
        };
        let alice = super::setting::actor("alice");
        let by = if self.often(700) { alice.as_ref().filter(|who| self.is_here(who)).unwrap_or(by) } else { by };
        let until = self.now().after(Span::minutes(60));
        let one = Overrule {
            gate: "preflight".into(),
            service,
            tag,
            digest: Some(digest),
            reason: reason("the disk is being grown"),
            until,
        };
        self.command(by, "overrides", &|_| Ok(vec![Event::Overruled(one.clone())]));
    }

    fn services_act(&self, by: &Actor) {
        let Some(name) = self.a_service() else { return };
        match self.below(10) {
            0..2 => self.release(&name),
            2..5 => {
                self.release(&name);
                self.follow(by, &name);
            }
            5..7 => self.roll_back(by, &name),
            7 => self.waive_analysis(by, &name),
            _ => self.analyse(by, &name),
        }
    }

    fn holds(&self, by: &Actor) {
        let now = self.now();
        let all: Vec<WideHoldId> = self.state().holds.all.keys().copied().collect();
        match self.below(10) {
            0..4 => {
                let ends = self.often(500).then(|| now.after(Span::minutes(10 + self.below(3_000))));
                let mut selector = Selector::default();
                match self.below(3) {
                    0 => selector.services.extend(self.a_service()),
                    1 => drop(selector.labels.insert("tier".into(), "front".into())),
                    _ => {}
                }
                let kinds = self.pick(&[HoldKind::Deploy, HoldKind::Deploy, HoldKind::Merge, HoldKind::Claim]);
                let wanted = Wanted {
                    kinds: kinds.into_iter().collect(),
                    selector,
                    reason: reason("a move of the database"),
                    until: ends,
                    review: (ends.is_none() || self.often(200)).then(|| now.after(Span::minutes(60 * 24))),
                    in_flight: self.pick(&[InFlight::Pause, InFlight::Finish, InFlight::Abort]).unwrap_or_default(),
                };
                self.command(by, "holds", &|state| Ok(vec![Event::Hold(hold::set(&state.holds, wanted.clone())?)]));
            }
            4..7 => {
                let Some(hold) = self.pick(&all) else { return };
                self.command(by, "lifts", &|state| {
                    Ok(vec![Event::Hold(hold::lift(&state.holds, hold, reason("the bug is found"))?)])
                });
            }
            _ => self.exempt(by, &all),
        }
    }

    /// Somebody asks that one release may pass; later it is tried.
    fn exempt(&self, by: &Actor, all: &[WideHoldId]) {
        let (Some(hold), Some(name)) = (self.pick(all), self.a_service()) else { return };
        let Some((tag, release)) = self.newest(&name) else { return };
        let now = self.now();
        let until = now.after(Span::minutes(60 + self.below(2_000)));
        let exemption = Exemption { release, tag, reason: reason("the fix itself"), until };
        let Some(subject) = self.config().service.get(&name).map(|service| service.subject()) else { return };
        self.command(by, "asks for a lane", &|state| {
            hold::ask(state, by, (hold, &name, &subject), exemption.clone(), now)
        });
    }
}
