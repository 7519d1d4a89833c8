//! Shows a run while it goes: a live view for people, one line a change for pipes, JSON lines for programs.

use crate::screen::Screen;
use indicatif::{ProgressBar, ProgressStyle};
use lastgood_domain::{
    event::{Event, Record},
    service::{Phase, Service},
    terms::{ServiceName, Span, Timestamp},
    words::{self, Brief},
};
use lastgood_engine::{
    drive::{Log, LogError},
    letter::rfc3339,
    log::ServiceLog,
    world,
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A pipe hears at least this often what is awaited.
pub(crate) const HEARTBEAT: Span = Span::seconds(10);

/// Shows records as they are written.
#[derive(Clone)]
pub(crate) struct Progress {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    screen: Screen,
    name: ServiceName,
    service: Service,
    began: Option<Timestamp>,
    live: Option<ProgressBar>,
    /// Whether only what a daemon's log should have is shown: what begins, ends and dies.
    is_daemon: bool,
    brief: Brief,
}

impl Progress {
    /// Makes a view that shows what comes after `service`, the state before it.
    pub(crate) fn new(screen: Screen, name: ServiceName, service: Service) -> Self {
        let live = screen.is_live().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self::of(screen, name, service, live, false)
    }

    /// Makes the view of a daemon: a line for each run that begins or ends and each death, as `log` says it.
    pub(crate) fn of_daemon(screen: Screen, name: ServiceName, service: Service) -> Self {
        Self::of(screen, name, service, None, true)
    }

    fn of(screen: Screen, name: ServiceName, service: Service, live: Option<ProgressBar>, is_daemon: bool) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                screen,
                name,
                service,
                began: None,
                live,
                is_daemon,
                brief: Brief::default(),
            })),
        }
    }

    /// Takes in records, in order.
    pub(crate) fn take(&self, records: &[Record]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            inner.service.apply(record);
            inner.show(record);
        }
        inner.refresh();
    }

    /// Says what is awaited: a line into a pipe, what is left of the time in a live view.
    pub(crate) fn heartbeat(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.refresh();
        if inner.live.is_none() && !inner.screen.json {
            let waits = inner.awaited();
            inner.screen.tell(&format!("      … {waits}"));
        }
    }

    /// Ends the live view; what it said stays.
    pub(crate) fn end(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = &inner.live {
            live.finish_and_clear();
        }
    }
}

impl Inner {
    fn show(&mut self, record: &Record) {
        let is_landmark =
            matches!(record.event, Event::RunStarted { .. } | Event::RunEnded { .. } | Event::Died { .. });
        if self.is_daemon && !is_landmark {
            return;
        }
        let began = *self.began.get_or_insert(record.at);
        let sentence = words::sentence(&self.service, record);
        if self.screen.json {
            let seq = self.service.records - 1;
            let kind = serde_json::to_value(&record.event).unwrap_or_default()["kind"].clone();
            let entry = json!({
                "seq": seq, "time": rfc3339(record.at), "kind": kind, "service": self.name,
                "sentence": sentence, "event": record.event,
            });
            self.screen.line(&entry, None);
            return;
        }
        let Some(sentence) = sentence else { return };
        if self.is_daemon {
            let seq = self.service.records - 1;
            return self.screen.tell(&format!("{} {}#{seq} {sentence}", rfc3339(record.at), self.name));
        }
        let sentence = self.brief.of(record, &sentence);
        let elapsed = record.at.since(began);
        let line = format!("{:>5}.{} s  {sentence}", elapsed.0 / 1_000, elapsed.0 % 1_000 / 100);
        match &self.live {
            Some(live) => live.println(line),
            None => self.screen.tell(&line),
        }
    }

    fn refresh(&self) {
        if let Some(live) = &self.live {
            live.set_message(self.awaited());
        }
    }

    fn awaited(&self) -> String {
        let Some(run) = &self.service.run else { return "done".into() };
        if let Phase::Moving { soak_until: Some(until), .. } = &run.phase
            && run.orders.is_empty()
        {
            return format!("watching the wave until {}", rfc3339(*until));
        }
        if matches!(run.phase, Phase::Shifting { .. }) && run.orders.is_empty() {
            return words::awaited(&self.service, run, world::now());
        }
        let mut doing: Vec<String> = run.orders.values().map(words::doing).collect();
        let more = doing.len().saturating_sub(3);
        doing.truncate(3);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", doing.join("; "))
    }
}

/// A service's log whose records are shown as they are written or read.
pub(crate) struct Shown {
    log: ServiceLog,
    progress: Option<Progress>,
}

impl Shown {
    /// Shows what goes through `log`.
    pub(crate) fn new(log: ServiceLog, progress: Option<Progress>) -> Self {
        Self { log, progress }
    }

    fn show(&self, records: &[Record]) {
        if let Some(progress) = &self.progress {
            progress.take(records);
        }
    }
}

impl Log for Shown {
    fn news(&mut self) -> Result<Vec<Record>, LogError> {
        let records = self.log.news()?;
        self.show(&records);
        Ok(records)
    }

    fn append(&mut self, before: &Service, records: &[Record]) -> Result<(), LogError> {
        self.log.append(before, records)?;
        self.show(records);
        Ok(())
    }

    fn keep(&mut self, service: &Service) -> Result<(), LogError> {
        self.log.keep(service)
    }
}
