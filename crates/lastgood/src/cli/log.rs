//! `lastgood log`: what happened, one line an event.

use super::Ended;
use crate::{app::App, exit::Exit};
use clap::Args;
use lastgood_domain::{event::Record, service::Service, terms::ServiceName, words};
use lastgood_engine::letter::rfc3339;
use serde_json::json;
use std::time::Duration;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Show what happened.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The service; all if left out.
    service: Option<String>,
    /// Wait for more until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Show only the last N events. Default: all.
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    /// Show orders to drivers as well.
    #[arg(long)]
    all: bool,
}

impl Log {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let services = app.services(self.service.as_deref())?;
        let mut shown = vec![0; services.len()];
        loop {
            for (service, shown) in services.iter().zip(&mut shown) {
                let (records, _) = app.look(service)?;
                let from = match (self.lines, *shown) {
                    (Some(lines), 0) => records.len().saturating_sub(lines),
                    (_, shown) => shown,
                };
                self.show(app, service, &records, from);
                *shown = records.len();
            }
            if !self.follow {
                return Ok(Exit::Done);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn show(&self, app: &App, service: &ServiceName, records: &[Record], from: usize) {
        let mut folded = Service::default();
        for (seq, record) in records.iter().enumerate() {
            folded.apply(record);
            if seq < from {
                continue;
            }
            let sentence = words::sentence(&folded, record);
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
}

fn kind_of(record: &Record) -> String {
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    event["kind"].as_str().unwrap_or_default().to_owned()
}
