//! What services' own chains tell of the time of an incident: one line a record with its place, so that whoever reads a report
//! can hold it against the evidence.

use crate::{
    drive::LogError,
    letter::rfc3339,
    log::{self, chain_of},
};
use lastgood_domain::{
    event::{Event, Record},
    operations::incident::Incident,
    service::Service,
    terms::{Actor, ChainName, RunId, ServiceName, Span, Timestamp},
    traffic::TrafficEvent,
    words,
};
use lastgood_store::{READ_RECORDS_MAX, Reader};

/// How long before its first sign an incident's last rollout is looked for: what moved earlier was noticed by nobody for a day.
const BEFORE_MAX: Span = Span::minutes(24 * 60);
/// Lines of one service that a report tells: more than a person reads of it.
const LINES_MAX: usize = 300;

/// One record of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its chain.
    pub chain: ChainName,
    /// Its number there.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What, in one sentence.
    pub text: String,
}

/// What the services of an incident tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Record by record, in the order of their chains.
    pub lines: Vec<Line>,
    /// Which time is told, and what of it is not: for people, before they read the lines.
    pub window: String,
}

/// Reads what the chains of `names` tell of an incident: from its first sign, or the start of the rollout before that, up to its
/// end or `now`. A chain that can't be read is said, and keeps no other from being told.
pub fn told(store: &Reader, incident: &Incident, names: &[ServiceName], now: Timestamp) -> Told {
    let sign = incident.began_at.map_or(incident.declared_at, |began| began.min(incident.declared_at));
    let to = if incident.state.is_over() { incident.since } else { now };
    let mut told = Told::default();
    let (mut from, mut because, mut not_told) = (sign, first_sign(incident).to_owned(), Vec::new());
    for name in names {
        match of_service(store, name, sign, to) {
            Err(error) => not_told.push(format!("{name} can't be read: {error}")),
            Ok(Chapter { run, mut lines }) => {
                if let (Some(run), Some(first)) = (run, lines.first().filter(|first| first.at < from)) {
                    (from, because) = (first.at, format!("{run} of {name} began"));
                }
                let more = lines.len().saturating_sub(LINES_MAX);
                if more > 0 {
                    not_told.push(format!("{more} earlier records of {name}: lastgood log {name}"));
                }
                told.lines.extend(lines.drain(more..));
            }
        }
    }
    let end = if incident.state.is_over() { "its end" } else { "now" };
    told.window = format!("{} ({because}) to {} ({end})", rfc3339(from), rfc3339(to));
    if !not_told.is_empty() {
        told.window += &format!("; not told: {}", not_told.join("; "));
    }
    told
}

const fn first_sign(incident: &Incident) -> &'static str {
    match incident.began_at {
        Some(_) => "it began, as was said",
        None => "it was declared",
    }
}

/// What one service tells, and the run that its telling begins with.
struct Chapter {
    run: Option<RunId>,
    lines: Vec<Line>,
}

fn of_service(store: &Reader, name: &ServiceName, sign: Timestamp, to: Timestamp) -> Result<Chapter, LogError> {
    let chain = chain_of(name);
    let earliest = Timestamp(sign.0.saturating_sub_unsigned(BEFORE_MAX.0));
    let (mut context, mut seq) = (Service::default(), 0);
    let (mut lines, mut begin): (Vec<Line>, Option<(RunId, usize)>) = (Vec::new(), None);
    loop {
        let records = log::read(store, name, seq, READ_RECORDS_MAX)?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            context.apply(record);
            if (earliest..=to).contains(&record.at) {
                if let Event::RunStarted { run, .. } = &record.event
                    && record.at <= sign
                {
                    begin = Some((*run, lines.len()));
                }
                let text = words::sentence(&context, record).filter(|_| is_told(record));
                let (chain, at, by) = (chain.clone(), record.at, record.by.clone());
                lines.extend(text.map(|text| Line { chain, seq, at, by, text }));
            }
            seq += 1;
        }
    }
    let run = match begin {
        Some((run, first)) => {
            lines.drain(..first);
            Some(run)
        }
        None => {
            lines.retain(|line| line.at >= sign);
            None
        }
    };
    Ok(Chapter { run, lines })
}

/// Tells whether a record is a rollout, a way back, a failure, a hold, or what people decided of a service.
const fn is_told(record: &Record) -> bool {
    match &record.event {
        Event::HoldSet { .. }
        | Event::HoldExempted { .. }
        | Event::HoldLifted { .. }
        | Event::HoldReviewDue { .. }
        | Event::Pinned { .. }
        | Event::Unpinned { .. }
        | Event::Rejected { .. }
        | Event::Waived { .. }
        | Event::Annotated { .. }
        | Event::RunStarted { .. }
        | Event::MoveBegun { .. }
        | Event::ReturnBegun { .. }
        | Event::ReturnWithData { .. }
        | Event::ReturnHeld { .. }
        | Event::ReturnFailed { .. }
        | Event::Promoted { .. }
        | Event::Demoted { .. }
        | Event::RunEnded { .. }
        | Event::Died { .. }
        | Event::Revived { .. }
        | Event::NotRevived { .. }
        | Event::RewindAcknowledged { .. }
        | Event::WentStale { .. }
        | Event::Analysis(_) => true,
        Event::Traffic(event) => {
            matches!(
                event,
                TrafficEvent::ShiftBegun { .. } | TrafficEvent::ReturnBegun { .. } | TrafficEvent::Returned { .. }
            )
        }
        Event::Gated { .. }
        | Event::HoldReviewSet { .. }
        | Event::Ordered { .. }
        | Event::Answered { .. }
        | Event::CandidateChosen { .. }
        | Event::SnapshotsBegun { .. }
        | Event::RehearsalBegun { .. }
        | Event::WayBackProven { .. }
        | Event::WaveBegun { .. }
        | Event::Deferred { .. }
        | Event::SoakBegun { .. }
        | Event::Moved { .. }
        | Event::Returned { .. }
        | Event::WentOnWithout { .. }
        | Event::SetupAccepted { .. }
        | Event::OutcomesCounted { .. } => false,
    }
}
