//! What people do: most often the sensible next thing, now and then anything.

use super::{
    services::reason,
    world::{Unsaid, World, of},
};
use lastgood_domain::{
    operations::{
        Event, Operations, Refused,
        approval::{self, Approval, Standing},
        escalation,
        hold::{self, Exemption, HoldKind, InFlight, Selector, Wanted, WideHold},
        incident::{self, Declaration, IncidentEvent, Level, checklist, message::MessageKind},
        overrule::Overrule,
    },
    terms::{Actor, ApprovalId, Digest, IncidentId, ServiceName, Span, WideHoldId},
};
use std::collections::BTreeMap;

/// What a decision comes to.
pub(super) type Decided = Result<Vec<Event>, Refused>;

/// Somebody who is there does something.
pub(crate) fn somebody_acts(world: &World) {
    let Some(who) = world.somebody() else { return };
    match world.below(100) {
        0..46 => world.go_on(&who),
        46..60 => world.answer(&who),
        60..67 => world.holds(&who),
        67..72 => world.pass_by_a_lane(&who),
        72..84 => world.services_act(&who),
        84..87 => world.declare(&who),
        87..90 => world.see_pages(&who),
        90..92 => world.overrule(&who),
        92..94 => world.configure_otherwise(),
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

    /// Gives a service with a run under way.
    fn a_busy_service(&self) -> Option<ServiceName> {
        let names: Vec<ServiceName> = self.config().service.keys().filter(|name| self.runs(name)).cloned().collect();
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
        let last: Vec<_> = state.approvals.all.keys().rev().take(4).copied().collect();
        let waits = |id: &ApprovalId| state.approvals.all.get(id).is_some_and(|one| one.standing == Standing::Pending);
        let open: Vec<_> = state.approvals.all.keys().filter(|id| waits(id)).copied().collect();
        let ids = if open.is_empty() || self.often(300) { last } else { open };
        let Some(id) = self.pick(&ids) else { return };
        let Some(plan) = state.approvals.all.get(&id).map(|one| one.request.plan) else { return };
        drop(state);
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

    /// Somebody does something with a service.
    pub(crate) fn services_act(&self, by: &Actor) {
        if let Some(name) = self.a_busy_service().filter(|_| self.often(300)) {
            return self.roll_back(by, &name);
        }
        let Some(name) = self.a_service() else { return };
        if self.service(&name).analysis.is_some() && self.often(400) {
            return self.follow(by, &name);
        }
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
                let busy = self.a_busy_service().filter(|_| self.often(600));
                let deploys = busy.is_some();
                match self.below(3) {
                    _ if deploys => selector.services.extend(busy),
                    0 => selector.services.extend(self.a_service()),
                    1 => drop(selector.labels.insert("tier".into(), "front".into())),
                    _ => {}
                }
                let kinds = self.pick(&[HoldKind::Deploy, HoldKind::Deploy, HoldKind::Merge, HoldKind::Claim]);
                let kinds = if deploys { Some(HoldKind::Deploy) } else { kinds };
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
            _ => {
                let (Some(hold), Some(name)) = (self.pick(&all), self.a_service()) else { return };
                self.exempt(by, hold, &name);
            }
        }
    }

    /// Somebody wants one release past what holds a service: asks for it, or has it and goes.
    fn pass_by_a_lane(&self, by: &Actor) {
        let (state, now) = (self.state(), self.now());
        let config = self.config();
        let stops = |(hold, one): (&WideHoldId, &WideHold)| {
            let stopped = config.service.iter().filter(|(name, service)| one.stops(name, &service.subject()));
            stopped.map(|(name, _)| (*hold, name.clone())).collect::<Vec<_>>()
        };
        let held: Vec<(WideHoldId, ServiceName)> = state.holds.standing(now).flat_map(stops).collect();
        let busy: Vec<_> = held.iter().filter(|(_, name)| self.runs(name)).cloned().collect();
        let wanted = if busy.is_empty() || self.often(400) { &held } else { &busy };
        let Some((hold, name)) = self.pick(wanted) else { return };
        drop(state);
        let folded = self.service(&name);
        let opened = folded.holds.values().any(|part| part.exempt_at(now).next().is_some());
        if opened && self.often(700) {
            // What comes in between is another release.
            if self.often(300) {
                self.release(&name);
            }
            return self.follow(by, &name);
        }
        if self.often(300) {
            self.release(&name);
        }
        // A service may be held more than once; all must let it pass.
        let all = held.iter().filter(|(_, of)| *of == name).map(|(hold, _)| *hold);
        let asked: Vec<WideHoldId> = if self.often(600) { all.collect() } else { Vec::from([hold]) };
        for hold in asked {
            self.exempt(by, hold, &name);
        }
        // A second person sits beside.
        let second = self.somebody().filter(|who| who != by && self.often(500));
        if let Some(second) = second {
            let lane = format!("/exempt/{name}");
            self.agree(&second, &|subject| subject.ends_with(&lane));
        }
    }

    /// Somebody says yes to every request for a subject.
    pub(crate) fn agree(&self, by: &Actor, is_meant: &dyn Fn(&str) -> bool) {
        let (state, now) = (self.state(), self.now());
        let waits = |one: &Approval| one.standing == Standing::Pending && is_meant(&one.request.subject);
        let open = state.approvals.all.iter().filter(|(_, one)| waits(one));
        let open: Vec<_> = open.map(|(id, one)| (*id, one.request.plan)).collect();
        drop(state);
        for (id, plan) in open {
            self.command(by, "agrees", &|state| {
                Ok(vec![Event::Approval(approval::approve(&state.approvals, by, id, plan, now)?)])
            });
        }
    }

    /// Somebody asks that one release may pass.
    fn exempt(&self, by: &Actor, hold: WideHoldId, name: &ServiceName) {
        let Some((tag, release)) = self.newest(name) else { return };
        let now = self.now();
        let minutes = if self.often(300) { 10 + self.below(60) } else { 60 + self.below(2_000) };
        let until = now.after(Span::minutes(minutes));
        let exemption = Exemption { release, tag, reason: reason("the fix itself"), until };
        let Some(subject) = self.config().service.get(name).map(|service| service.subject()) else { return };
        self.command(by, "asks for a lane", &|state| {
            hold::ask(state, by, (hold, name, &subject), exemption.clone(), now)
        });
    }
}
