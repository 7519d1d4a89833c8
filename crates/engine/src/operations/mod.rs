//! The operations chain as people write to it, and its parts in the chains of services.

mod facts;
mod letter;
pub mod message;
pub mod observe;
pub mod report;
mod timeline;
mod told;
pub mod verify;

pub use facts::{Dead, facts, facts_of};
pub use timeline::{Entry, timeline};
pub use told::{Line, Told, told};

use crate::{
    desk, fold,
    letter::kind_name,
    links::Link,
    log::{self, Route},
};
use lastgood_domain::{
    event,
    notice::NoticeKind,
    operations::{
        self, Event, Mirror, Operations, Record, Refused,
        approval::{self, ApprovalEvent},
        escalation::PageEvent,
        hold, mirrored,
        people::People,
        rca,
    },
    rollout::{self, Input},
    service::Service,
    terms::{Actor, ChainName, HoldId, ServiceName, Timestamp},
};
use lastgood_store::{Append, AppendError, NewNotice, NewRecord, Reader};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Names the chain.
pub fn chain() -> ChainName {
    ChainName::new("operations").expect("a fixed valid name")
}

/// The services that decisions may concern and the people who may take them, from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// What holds look at, by service.
    pub services: BTreeMap<ServiceName, hold::Subject>,
    /// Who may do what.
    pub people: People,
    /// Whether people get links of their own to answer requests by.
    pub has_links: bool,
}

/// The state as of one place in the chain.
pub type Folded = desk::Folded<Scope>;
/// The chain, open for writing.
pub type Desk = desk::Desk<Scope>;
/// Why nothing was said.
pub type SayError = desk::SayError<Refused>;

impl desk::Subject for Scope {
    type State = Operations;
    type Record = Record;
    type Event = Event;
    type Refused = Refused;

    fn chain(&self) -> ChainName {
        chain()
    }

    fn parse(bytes: &[u8]) -> Result<Record, String> {
        desk::parse(bytes, |entry| {
            let event = Event::RewindAcknowledged { reason: entry.reason.to_string() };
            Self::record(entry.at, entry.actor, event)
        })
    }

    fn record(at: Timestamp, by: Actor, event: Event) -> Record {
        Record { v: Record::VERSION, at, by, event }
    }

    fn apply(state: &mut Operations, seq: u64, record: Option<&Record>) {
        state.apply(seq, record);
    }

    fn only_blocks(record: &Record) -> bool {
        record.event.only_blocks()
    }

    fn on_terms(&self, by: &Actor, events: Vec<Event>, now: Timestamp) -> Result<Vec<Event>, Refused> {
        self.people.on_terms(by, events, now)
    }

    fn permit(&self, before: &Operations, by: &Actor, event: &Event, now: Timestamp) -> Result<(), Refused> {
        self.people.permit(before, by, event, now)
    }

    fn notices(&self, routes: &[Route], after: &Operations, seq: u64, record: &Record) -> Vec<NewNotice> {
        let Some(notice) = operations::notice(after, record) else { return Vec::new() };
        let mut personal = self.personal(after, &record.event);
        if notice.kind == NoticeKind::Drill {
            // Nobody is reached by a drill who did not ask for it.
            personal.retain(|endpoint, _| routes.iter().any(|one| one.endpoint == *endpoint && one.wants(notice.kind)));
        }
        let is_page = matches!(record.event, Event::Page { event: PageEvent::Paged { .. }, .. });
        let general = routes.iter().filter(|route| route.wants(notice.kind) && !is_page).map(|route| &route.endpoint);
        // Who is reached by name gets it whatever else goes there, and once.
        let all: BTreeSet<&String> = personal.keys().chain(general).collect();
        let notices = all.into_iter().map(|endpoint| NewNotice {
            endpoint: endpoint.clone(),
            subject: letter::subject(&record.event),
            kind: kind_name(notice.kind),
            body: letter::body(seq, record, &notice, personal.get(endpoint).and_then(Option::as_ref)),
            at: record.at,
        });
        notices.collect()
    }

    fn elsewhere(
        &self,
        store: &Reader,
        routes: &[Route],
        before: &Operations,
        records: &[Record],
    ) -> Result<Vec<Append>, AppendError> {
        let lifts = records.iter().any(|record| matches!(record.event, Event::Hold(hold::HoldEvent::Lifted { .. })));
        let others = if lifts { others(store, &self.services)? } else { Vec::new() };
        let appends = self.parts(before, records, &others).into_iter().filter_map(|(service, parts)| {
            // A service whose chain can't be read moves nowhere either; what it misses is asked for when it begins.
            let folded = fold::Folded::read(store, &service).ok()?;
            let records = said(folded.service.clone(), &parts);
            // The hold itself is told of once, where it was set; what it does to a run is told of here.
            let notices = log::notices(&service, routes, &folded.service, &records);
            let new = |record| NewRecord { at: records[0].at, bytes: log::canonical(record) };
            (!records.is_empty()).then(|| Append {
                chain: log::chain_of(&service),
                expected: folded.head,
                records: records.iter().map(new).collect(),
                notices,
            })
        });
        Ok(appends.collect())
    }
}

/// What of some records stands in one service's chain too.
pub type Parts<'a> = Vec<(Mirror, &'a Record)>;

impl Scope {
    /// Gives what of `records`, which were decided on `before`, stands in the chains of services too.
    ///
    /// `others` have a chain and are not configured: a hold that is lifted is lifted there as well, because they may be
    /// configured again.
    pub fn parts<'a>(
        &self,
        before: &Operations,
        records: &'a [Record],
        others: &[ServiceName],
    ) -> BTreeMap<ServiceName, Parts<'a>> {
        // Most often there is one record, and the state is not copied.
        let mut state = Cow::Borrowed(before);
        let mut parts: BTreeMap<ServiceName, Parts<'a>> = BTreeMap::new();
        for (at, record) in (1..).zip(records) {
            if let Event::Hold(hold::HoldEvent::Lifted { hold, reason }) = &record.event {
                for service in others {
                    let lift = Mirror::Lift { origin: *hold, reason: reason.clone() };
                    parts.entry(service.clone()).or_default().push((lift, record));
                }
            }
            for (service, mirror) in mirrored(&state, record, &self.services) {
                parts.entry(service).or_default().push((mirror, record));
            }
            if at < records.len() {
                state.to_mut().take(record);
            }
        }
        parts
    }

    /// Gives the endpoints of those whom an event is for by name, each with the link that its person gets.
    fn personal(&self, after: &Operations, event: &Event) -> BTreeMap<String, Option<Link>> {
        let (to, asked) = match event {
            Event::Page { event: PageEvent::Paged { to, .. }, .. } => (to.clone(), None),
            Event::Approval(ApprovalEvent::Requested { approval, .. } | ApprovalEvent::Reminded { approval, .. })
                if self.has_links =>
            {
                let Some(one) = after.approvals.all.get(approval) else { return BTreeMap::new() };
                (approval::awaited(one, self.people.who_may_answer(after, *approval)), Some((*approval, one)))
            }
            _ => return BTreeMap::new(),
        };
        let mut all = BTreeMap::new();
        for person in &to {
            let link = asked.map(|(approval, one)| Link::of(approval, one, person));
            let places = self.people.all.get(person).into_iter().flat_map(|person| &person.notice);
            all.extend(places.map(|place| (place.clone(), link.clone())));
        }
        all
    }
}

/// Gives the services that have a chain and are not configured.
fn others(store: &Reader, configured: &BTreeMap<ServiceName, hold::Subject>) -> Result<Vec<ServiceName>, AppendError> {
    let chains = store.chains()?;
    let names = chains.iter().filter_map(|chain| ServiceName::new(chain.name.as_str().strip_prefix("service/")?).ok());
    Ok(names.filter(|name| !configured.contains_key(name)).collect())
}

/// Says in a service's chain what its parts of the records come to.
pub fn said(mut service: Service, parts: &[(Mirror, &Record)]) -> Vec<event::Record> {
    let mut all = Vec::new();
    for (mirror, record) in parts {
        let events = match mirror {
            Mirror::Hold { origin, reason, until, in_flight } => {
                let (reason, origin, in_flight) = (reason.clone(), Some(*origin), *in_flight);
                Vec::from([event::Event::HoldSet { hold: HoldId(0), reason, until: *until, origin, in_flight }])
            }
            Mirror::Exempt { origin, exemption, asked_by } => {
                let part = service.holds.iter().find(|(_, hold)| hold.origin == Some(*origin));
                let part = part.map(|(hold, _)| event::Event::HoldExempted {
                    hold: *hold,
                    exemption: exemption.clone(),
                    asked_by: asked_by.clone(),
                });
                part.into_iter().collect()
            }
            Mirror::Owe { incident, because, level, owner } => {
                let because = format!("incident {incident}: {because}");
                Vec::from([rca::owe(because, Some(*level), Some(*incident), Some(owner.clone()), record.at)])
            }
            Mirror::Lift { origin, reason } => {
                let parts = service.holds.iter().filter(|(_, hold)| hold.origin == Some(*origin));
                parts.map(|(hold, _)| event::Event::HoldLifted { hold: *hold, reason: reason.clone() }).collect()
            }
        };
        for event in events {
            let said = rollout::step(&service, Input::Say(event), &record.by, record.at);
            for one in said.expect("what is only said has a place in every state") {
                service.apply(&one);
                all.push(one);
            }
        }
    }
    all
}

/// Gives the first hold over several services that stops `name` and is not yet in its own chain: the service was added
/// to the configuration, or given a label, after the hold was set.
pub fn unmirrored(
    operations: &Operations,
    name: &ServiceName,
    subject: &hold::Subject,
    service: &Service,
    now: Timestamp,
) -> Option<String> {
    let known = |id| service.holds.values().any(|hold| hold.origin == Some(id));
    let mut holds = operations.holds.standing(now).filter(|(id, hold)| hold.stops(name, subject) && !known(**id));
    holds.next().map(|(id, hold)| format!("{id} by {}: {}", hold.owner, hold.reason))
}

#[cfg(test)]
mod tests;
