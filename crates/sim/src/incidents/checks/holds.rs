//! Holds over several services, as their records show them.

use super::{Around, Checks, pages::Pages};
use lastgood_domain::{
    operations::{
        Event,
        hold::{Enforcement, HoldEvent, HoldKind, InFlight, Selector, Subject},
        incident::{IncidentEvent, State, unfreeze::UnfreezeEvent},
    },
    terms::{Actor, ApprovalId, Digest, EnforcerName, IncidentId, ServiceName, Span, Timestamp, WideHoldId},
};
use lastgood_engine::config::{Config, ServiceConfig};
use std::collections::{BTreeMap, BTreeSet};

/// How long a hold may be unconfirmed before somebody is told again.
const TOLD_EVERY: Span = Span::minutes(30);

/// One hold.
#[derive(Debug, Clone)]
pub(crate) struct One {
    pub(crate) kinds: BTreeSet<&'static str>,
    selector: Selector,
    pub(crate) owner: Actor,
    pub(crate) incident: Option<IncidentId>,
    until: Option<Timestamp>,
    review: Option<Timestamp>,
    since: Timestamp,
    in_flight: InFlight,
    /// The services that there were when it was set.
    known: BTreeSet<ServiceName>,
}

impl One {
    pub(crate) fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Tells whether it ends, or its owner is asked whether it is needed.
    pub(super) const fn is_asked_after(&self) -> bool {
        self.until.is_some() || self.review.is_some()
    }

    /// Tells whether it is for a service.
    fn names(&self, name: &ServiceName, subject: &Subject) -> bool {
        let named = self.selector.services.is_empty() || self.selector.services.contains(name);
        named && self.selector.labels.iter().all(|(key, value)| subject.labels.get(key) == Some(value))
    }

    /// Tells whether a place of these kinds and services has to enforce it: some kind of it, for some service of it.
    fn is_for(&self, kinds: &[HoldKind], services: &[ServiceName], config: &Config) -> bool {
        let kinds = kinds.iter().any(|kind| self.kinds.contains(kind.as_str()));
        let named = |(name, service): (&ServiceName, &ServiceConfig)| {
            services.contains(name) && self.names(name, &service.subject())
        };
        kinds && (services.is_empty() || config.service.iter().any(named))
    }

    /// Tells whether it stops forward moves of a service.
    fn stops(&self, name: &ServiceName, subject: &Subject) -> bool {
        self.kinds.contains("deploy") && self.names(name, subject)
    }
}

/// One release that somebody asked to let pass.
#[derive(Debug, Clone)]
pub(crate) struct Exemption {
    pub(crate) approval: ApprovalId,
    pub(crate) by: Actor,
    hold: WideHoldId,
    service: ServiceName,
    release: Digest,
    until: Timestamp,
}

/// All holds that were set and not lifted.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) all: BTreeMap<WideHoldId, One>,
    ever: BTreeSet<WideHoldId>,
    exemptions: Vec<Exemption>,
    /// What enforcers make of them, and when somebody was told.
    pub(crate) enforced: BTreeMap<(WideHoldId, EnforcerName), (Enforcement, Timestamp)>,
}

impl Held {
    /// Compares with the holds that the code that decides knows.
    pub(crate) fn same_as(&self, known: &[WideHoldId]) -> Option<String> {
        let ours: Vec<WideHoldId> = self.all.keys().copied().collect();
        (ours != known).then(|| format!("by the records {ours:?} are held, by the state {known:?}"))
    }

    /// Tells whether an incident holds a kind.
    pub(super) fn holds_kind(&self, incident: IncidentId, kind: &str, now: Timestamp) -> bool {
        let ours = |one: &&One| one.incident == Some(incident) && one.kinds.contains(kind);
        self.all.values().filter(ours).any(|one| one.stands(now))
    }

    /// Gives what enforcers have to confirm and have not, of the holds of an incident: those that said otherwise, and those
    /// that are for a hold by the configuration and were never asked, such as after a kill.
    pub(super) fn unconfirmed(&self, incident: IncidentId, now: Timestamp, around: &Around<'_>) -> BTreeSet<String> {
        let of: Vec<_> = self.all.iter().filter(|(_, one)| one.incident == Some(incident)).collect();
        let asked = self.enforced.keys().filter(|(hold, _)| of.iter().any(|(ours, _)| *ours == hold)).cloned();
        let standing = of.iter().filter(|(_, one)| one.stands(now));
        let wanted = standing.flat_map(|(hold, one)| {
            let concerned = around
                .config
                .enforcers()
                .filter(|(_, enforcer)| one.is_for(&enforcer.kinds, &enforcer.services, around.config));
            concerned.map(|(name, _)| (**hold, name.clone()))
        });
        let red = asked
            .chain(wanted)
            .filter(|key| self.enforced.get(key).is_none_or(|(state, _)| *state != Enforcement::Confirmed));
        red.map(|(hold, enforcer)| format!("{hold} is not confirmed at {enforcer}")).collect()
    }

    /// Gives what of an incident's holds is not in the chain of a service that they stop: one that came later.
    pub(super) fn unknown(&self, incident: IncidentId, around: &Around<'_>) -> impl Iterator<Item = String> {
        let ours = self.all.iter().filter(move |(_, one)| one.incident == Some(incident));
        ours.flat_map(move |(hold, one)| {
            let stopped = around.config.service.iter().filter(|(name, service)| one.stops(name, &service.subject()));
            let has = |look: &Look| look.parts.contains_key(hold) || look.let_go.contains(hold);
            let lacks = |name: &ServiceName| around.looks.get(name).is_some_and(|look| !has(look));
            let missing = stopped.filter(|(name, _)| lacks(name));
            missing.map(move |(name, _)| format!("{hold} is not in the chain of {name}")).collect::<Vec<_>>()
        })
    }

    /// After a look owners were asked whether their holds are needed, and red holds were told of.
    pub(super) fn nothing_due(&self, now: Timestamp, pages: &Pages, wrong: &mut Vec<String>) {
        for (hold, one) in &self.all {
            if one.stands(now) && one.review.is_some_and(|review| review <= now) {
                wrong.push(format!("{hold} of {} is to be reviewed and nobody was asked", one.owner));
            }
        }
        for ((hold, enforcer), (state, told)) in &self.enforced {
            let stands = self.all.get(hold).is_some_and(|one| one.stands(now));
            if (!stands || *state != Enforcement::Confirmed) && now.since(*told) >= TOLD_EVERY {
                wrong.push(format!("{hold} is {} at {enforcer} and nobody was told again", state.as_str()));
            }
            let is_red = matches!(state, Enforcement::Drifted { .. } | Enforcement::Failed { .. });
            let is_paged = pages.stands(&format!("hold/{hold}/{enforcer}"));
            // What was only asked for has a while to be read back.
            if *state != Enforcement::Requested && is_red != is_paged {
                wrong.push(format!("{hold} is {} at {enforcer}, and paged about: {is_paged}", state.as_str()));
            }
        }
    }
}

impl Checks {
    pub(super) fn hold(
        &mut self,
        at: Timestamp,
        by: &Actor,
        event: &HoldEvent,
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        match event {
            HoldEvent::Set { hold, kinds, selector, incident, until, review, in_flight, .. } => {
                let one = One {
                    kinds: kinds.iter().map(|kind| kind.as_str()).collect(),
                    selector: selector.clone(),
                    owner: by.clone(),
                    incident: *incident,
                    until: *until,
                    review: *review,
                    since: at,
                    in_flight: *in_flight,
                    known: around.config.service.keys().cloned().collect(),
                };
                if incident.is_none() && until.is_none() && review.is_none() {
                    wrong.push(format!("{hold} has neither an end nor a time of review"));
                }
                if !self.holds.ever.insert(*hold) {
                    wrong.push(format!("{hold} was given twice"));
                }
                self.holds.all.insert(*hold, one);
            }
            HoldEvent::Lifted { hold, .. } => {
                // From now on it is red where it is enforced.
                let of = self.holds.enforced.iter_mut().filter(|((of, _), _)| of == hold);
                of.for_each(|(_, (_, told))| *told = at);
                self.lifted(*hold, by, around, wrong);
            }
            HoldEvent::ReviewDue { hold, again } => {
                if let Some(one) = self.holds.all.get_mut(hold) {
                    one.review = Some(*again);
                }
            }
            HoldEvent::ExemptionAsked { hold, approval, service, exemption } => {
                self.holds.exemptions.push(Exemption {
                    approval: *approval,
                    by: by.clone(),
                    hold: *hold,
                    service: service.clone(),
                    release: exemption.release,
                    until: exemption.until,
                });
            }
            // No place of these worlds lets a commit through.
            HoldEvent::MergeExemptionAsked { .. } => {}
            HoldEvent::Enforced { hold, enforcer, state } => {
                let key = (*hold, enforcer.clone());
                match state {
                    Enforcement::Released => {
                        self.holds.enforced.remove(&key);
                    }
                    state => {
                        self.holds.enforced.insert(key, (state.clone(), at));
                    }
                }
            }
            HoldEvent::StillUnconfirmed { hold, enforcer } => {
                match self.holds.enforced.get_mut(&(*hold, enforcer.clone())) {
                    Some((_, told)) => *told = at,
                    None => wrong.push(format!("{hold} is told of, and was never asked of {enforcer}")),
                }
            }
        }
    }

    fn lifted(&mut self, hold: WideHoldId, by: &Actor, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Some(one) = self.holds.all.remove(&hold) else {
            return wrong.push(format!("{hold} was lifted and did not stand"));
        };
        if by.as_str() == "person:mallory" {
            wrong.push(format!("mallory lifted {hold}"));
        }
        let Some(incident) = one.incident else { return };
        // Only the unfreeze of its stage, or the end of an incident that was none, lifts an incident's hold.
        let opened = around.says(|event| match event {
            Event::Incident { incident: of, event } if *of == incident => match event {
                IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { hold }) => one.kinds.contains(hold.as_str()),
                IncidentEvent::Moved { to, .. } => *to == State::StoodDown,
                _ => false,
            },
            _ => false,
        });
        if !opened {
            wrong.push(format!("{hold} of {incident} was lifted by {by} without a stage of it"));
        }
    }

    /// The parts of holds in the chains of services are exactly the holds that stop them.
    pub(super) fn mirrors(&self, around: &Around<'_>, wrong: &mut Vec<String>) {
        for (name, service) in &around.config.service {
            let Some(look) = around.looks.get(name) else { continue };
            let subject = service.subject();
            let wanted = |(hold, one): (&WideHoldId, &One)| {
                one.stops(name, &subject).then_some((*hold, one.known.contains(name)))
            };
            let wanted: BTreeMap<WideHoldId, bool> = self.holds.all.iter().filter_map(wanted).collect();
            for (hold, was_known) in &wanted {
                // One that came later is told of the hold when it wants to move.
                if *was_known && !look.parts.contains_key(hold) {
                    wrong.push(format!("{hold} stands and is not in the chain of {name}"));
                }
            }
            for hold in look.parts.keys().filter(|hold| !wanted.contains_key(hold)) {
                wrong.push(format!("{hold} is in the chain of {name} and stands nowhere else"));
            }
            for (hold, release) in
                look.parts.iter().flat_map(|(hold, exempt)| exempt.iter().map(move |one| (hold, one)))
            {
                if !self.is_exempt(*hold, name, release) {
                    wrong.push(format!("{name} may pass {hold}, and nobody agreed to that"));
                }
            }
        }
    }

    fn is_exempt(&self, hold: WideHoldId, name: &ServiceName, release: &Digest) -> bool {
        let mut all = self.holds.exemptions.iter();
        all.any(|one| one.hold == hold && one.service == *name && one.release == *release && self.agreed(one))
    }

    /// Checks the forward moves that a service's chain shows: each hold that stood lets them pass.
    pub(crate) fn moved(
        &mut self,
        name: &ServiceName,
        look: &Look,
        config: &lastgood_engine::config::Config,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        self.reached.extend(&look.marks);
        let Some(service) = config.service.get(name) else { return wrong };
        let subject = service.subject();
        for step in &look.forward {
            for (hold, one) in self.holds.all.iter().filter(|(_, one)| one.stops(name, &subject)) {
                let stood = one.since <= step.at && one.stands(step.at);
                let finishes = one.in_flight == InFlight::Finish && step.run_began <= one.since;
                let passes = self.holds.exemptions.iter().any(|exemption| {
                    exemption.hold == *hold
                        && exemption.service == *name
                        && exemption.release == step.release
                        && step.at < exemption.until
                        && self.agreed(exemption)
                });
                if stood && !finishes && !passes {
                    wrong.push(format!("{name} moved on although {hold} stands"));
                }
                if stood && passes {
                    self.reached.insert("a lane passed");
                }
                if stood && finishes {
                    self.reached.insert("a run finished under a hold");
                }
            }
            if step.owed {
                wrong.push(format!("{name} moved on and owes an analysis"));
            }
        }
        wrong
    }
}

use super::Look;
