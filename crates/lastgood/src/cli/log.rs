//! `lastgood log`: what happened, one line an event.

use super::Ended;
use crate::{
    app::{App, log_trouble},
    exit::Exit,
    screen::Trouble,
};
use clap::Args;
use lastgood_domain::{
    event::{Event, Record},
    service::Service,
    terms::ServiceName,
    words,
};
use lastgood_engine::{letter::rfc3339, log};
use lastgood_store::{READ_RECORDS_MAX, Reader};
use serde_json::json;
use std::time::Duration;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Records read at once while the beginning of a run is looked for: a run of some instances.
const STRIDE: usize = 512;

/// Show the event log.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The service [default: all].
    service: Option<String>,
    /// Keep printing new events until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Show only the last N events [default: all].
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    /// Include orders to drivers.
    #[arg(long)]
    all: bool,
}

/// Records of one service told one after the other, read as they are told.
pub(crate) struct Telling {
    service: ServiceName,
    /// What sentences need: names, which the state of now knows, and whom an answer is about, which its run tells.
    context: Service,
    next: u64,
}

impl Telling {
    /// Begins before record `from`, with the run that it belongs to.
    pub(crate) fn begin(app: &App, reader: &Reader, service: &ServiceName, from: u64) -> Result<Self, Trouble> {
        let mut context = if from == 0 { Service::default() } else { app.look(service)?.service };
        (context.run, context.answered) = (None, None);
        let next = run_begin(reader, service, from)?;
        let mut telling = Self { service: service.clone(), context, next };
        while telling.next < from {
            let limit = usize::try_from(from - telling.next).unwrap_or(usize::MAX);
            if telling.take(reader, limit, |_, _, _| {})? == 0 {
                break;
            }
        }
        Ok(telling)
    }

    /// Tells up to `limit` records, each with its number and the context after it; gives how many there were.
    pub(crate) fn take(
        &mut self,
        reader: &Reader,
        limit: usize,
        mut tell: impl FnMut(u64, &Service, &Record),
    ) -> Result<usize, Trouble> {
        let records = log::read(reader, &self.service, self.next, limit).map_err(|error| log_trouble(&error))?;
        for record in &records {
            self.context.apply(record);
            tell(self.next, &self.context, record);
            self.next += 1;
        }
        Ok(records.len())
    }
}

/// Finds the newest record before `from` that begins or ends a run; 0 if there is none.
fn run_begin(reader: &Reader, service: &ServiceName, from: u64) -> Result<u64, Trouble> {
    let mut end = from;
    while end > 0 {
        let begin = end.saturating_sub(STRIDE as u64);
        let limit = usize::try_from(end - begin).unwrap_or(STRIDE);
        let records = log::read(reader, service, begin, limit).map_err(|error| log_trouble(&error))?;
        let bounds = |one: &Record| matches!(one.event, Event::RunStarted { .. } | Event::RunEnded { .. });
        if let Some(at) = records.iter().rposition(bounds) {
            return Ok(begin + at as u64);
        }
        end = begin;
    }
    Ok(0)
}

impl Log {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let services = match self.service.as_deref() {
            named @ Some(_) => vec![app.recorded(named)?],
            None => app.services(None)?,
        };
        let mut tellings: Vec<Option<Telling>> = services.iter().map(|_| None).collect();
        loop {
            if let Some(reader) = app.reader()? {
                for (service, telling) in services.iter().zip(&mut tellings) {
                    let telling = match telling {
                        Some(telling) => telling,
                        None => telling.insert(Telling::begin(app, &reader, service, self.first(&reader, service)?)?),
                    };
                    while telling.take(&reader, READ_RECORDS_MAX, |seq, context, record| {
                        self.show(app, service, seq, context, record);
                    })? > 0
                    {}
                }
            }
            if !self.follow {
                return Ok(Exit::Done);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Gives the number of the first record to show.
    fn first(&self, reader: &Reader, service: &ServiceName) -> Result<u64, Trouble> {
        let Some(lines) = self.lines else { return Ok(0) };
        let head = reader.head(&log::chain_of(service)).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        if self.all {
            return Ok(head.size.saturating_sub(lines as u64));
        }
        // Orders that are not shown are no lines.
        let (mut end, mut left) = (head.size, lines);
        while end > 0 && left > 0 {
            let begin = end.saturating_sub(STRIDE as u64);
            let count = usize::try_from(end - begin).unwrap_or(STRIDE);
            let records = log::read(reader, service, begin, count).map_err(|error| log_trouble(&error))?;
            for record in records.iter().rev() {
                end -= 1;
                left -= usize::from(words::sentence(&Service::default(), record).is_some());
                if left == 0 {
                    return Ok(end);
                }
            }
        }
        Ok(end)
    }

    fn show(&self, app: &App, service: &ServiceName, seq: u64, context: &Service, record: &Record) {
        let sentence = words::sentence(context, record);
        let sentence = match (sentence, self.all) {
            (None, true) => Some(format!("{:?}", record.event)),
            (sentence, _) => sentence,
        };
        let text = sentence.as_ref().map(|sentence| format!("{} {service}#{seq} {sentence}", rfc3339(record.at)));
        let entry = json!({
            "seq": seq, "time": rfc3339(record.at), "kind": kind_of(record), "service": service,
            "by": record.by, "sentence": sentence, "event": record.event,
        });
        app.screen.line(&entry, text.as_deref());
    }
}

fn kind_of(record: &Record) -> String {
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    event["kind"].as_str().unwrap_or_default().to_owned()
}
