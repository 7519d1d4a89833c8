//! `lastgood watch`: status, redrawn until the thing ends; a pipe gets one line a change.

use super::{
    Ended,
    log::Telling,
    status::{describe, undriven_words},
};
use crate::{
    app::{App, log_trouble},
    canvas::Canvas,
    drive,
    exit::Exit,
    progress::HEARTBEAT,
    screen::Trouble,
};
use clap::{Args, ValueEnum};
use lastgood_domain::{
    service::{Condition, Service},
    terms::{ServiceName, Span, Timestamp},
    words,
};
use lastgood_engine::{fold::Folded, letter::rfc3339};
use lastgood_store::READ_RECORDS_MAX;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often it is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// How long a wait goes on for a run that nobody drives: a daemon that is restarted is back by then.
const UNDRIVEN_MAX: Span = Span::seconds(10);

/// Show the status live, until a state is reached.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The service [default: all].
    service: Option<String>,
    /// Exit when every service is in this state [default: run until interrupted].
    #[arg(long, value_enum)]
    until: Option<Until>,
    /// Give up after this long.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

/// States to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Every instance runs last-good and no run is in progress.
    Healthy,
    /// Waiting for a person.
    Paused,
    /// No run is in progress.
    Terminal,
}

/// Whom it shows to, and how.
enum View {
    /// A terminal: the same lines drawn again.
    Live(Canvas),
    /// A pipe: what is new, line by line, and now and then what is awaited.
    Lines {
        /// One for each service; none before its first look.
        tellings: Vec<Telling>,
        /// When something was said last.
        said: Timestamp,
        /// Services whose run nobody drives, which was said.
        undriven: BTreeSet<ServiceName>,
    },
    /// A program: a JSON line for each change.
    Json {
        /// Lines so far.
        seq: u64,
        /// What was said last, without ages.
        last: Value,
    },
}

impl Watch {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let interrupted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted)).map_err(|error| {
            Trouble::say(
                Exit::Failed,
                "internal",
                format!("can't install signal handlers: {error}"),
                lastgood_domain::failure::REPORT,
            )
        })?;
        let began = app.now();
        let ends = self.timeout.map(|timeout| began.after(timeout));
        let services = app.services(self.service.as_deref())?;
        let mut looked: Vec<(ServiceName, Folded)> =
            services.into_iter().map(|name| (name, Folded::default())).collect();
        let mut view = if app.screen.json {
            View::Json { seq: 0, last: Value::Null }
        } else {
            Canvas::of_stdout()
                .map_or(View::Lines { tellings: Vec::new(), said: began, undriven: BTreeSet::new() }, View::Live)
        };
        let mut undriven_since = None;
        loop {
            if let Some(reader) = app.reader()? {
                for (name, folded) in &mut looked {
                    folded.read_on(&reader, name).map_err(|error| log_trouble(&error))?;
                }
            }
            self.show(app, &mut view, &looked, ends)?;
            if self.until.is_some_and(|until| looked.iter().all(|(_, folded)| is(&folded.service, until))) {
                return Ok(Exit::Done);
            }
            if self.until.is_some() {
                refuse_undriven(app, &looked, &mut undriven_since)?;
            }
            if ends.is_some_and(|ends| ends <= app.now()) {
                return Ok(Exit::TimedOut);
            }
            if sleep(&interrupted) {
                return Ok(Exit::Interrupted);
            }
        }
    }

    fn show(
        &self,
        app: &App,
        view: &mut View,
        looked: &[(ServiceName, Folded)],
        ends: Option<Timestamp>,
    ) -> Result<(), Trouble> {
        let now = app.now();
        match view {
            View::Live(canvas) => {
                let (_, text) = describe(app, looked)?;
                let mut lines = fitting(&text, canvas.lines_max().saturating_sub(1));
                lines.push(format!("{}; Ctrl-C ends", self.awaited(ends)));
                canvas.draw(&lines);
            }
            View::Json { seq, last } => {
                let (mut data, _) = describe(app, looked)?;
                let ageless = without_ages(&data);
                if *last != ageless {
                    data["seq"] = json!(seq);
                    data["time"] = json!(rfc3339(now));
                    data["kind"] = json!("status");
                    app.screen.line(&data, None);
                    *last = ageless;
                    *seq += 1;
                }
            }
            View::Lines { tellings, said, undriven } => {
                let told = tell(app, tellings, looked)?;
                if told | tell_undriven(app, undriven, looked)? {
                    *said = now;
                } else if now.since(*said) >= HEARTBEAT {
                    app.screen.tell(&format!("… {}: {}", self.awaited(ends), doing(looked, undriven)));
                    *said = now;
                }
            }
        }
        Ok(())
    }

    /// Says what ends the watching.
    fn awaited(&self, ends: Option<Timestamp>) -> String {
        let what = match self.until {
            None => "watching".into(),
            Some(until) => format!("waiting until {}", until.word()),
        };
        match ends {
            None => what,
            Some(ends) => format!("{what}, at most to {}", rfc3339(ends)),
        }
    }
}

impl Until {
    fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Paused => "paused",
            Self::Terminal => "terminal",
        }
    }
}

/// Sleeps until the next drawing; tells whether it was interrupted.
fn sleep(interrupted: &AtomicBool) -> bool {
    /// A person who typed Ctrl-C does not notice this long.
    const SLICE: Duration = Duration::from_millis(50);
    let mut slept = Duration::ZERO;
    while slept < DRAW_EVERY && !interrupted.load(Ordering::SeqCst) {
        std::thread::sleep(SLICE);
        slept += SLICE;
    }
    interrupted.load(Ordering::SeqCst)
}

/// Says what happened since; at first, how everything stands. Tells whether there was anything to say.
fn tell(app: &App, tellings: &mut Vec<Telling>, looked: &[(ServiceName, Folded)]) -> Result<bool, Trouble> {
    let Some(reader) = app.reader()? else { return Ok(false) };
    let mut any = false;
    if tellings.is_empty() {
        let (_, text) = describe(app, looked)?;
        app.screen.line(&(), Some(text.trim_end()));
        any = true;
        for (name, folded) in looked {
            tellings.push(Telling::begin(app, &reader, name, folded.head.size)?);
        }
    }
    for ((name, _), telling) in looked.iter().zip(tellings) {
        telling.take(&reader, READ_RECORDS_MAX, |_, context, record| {
            if let Some(sentence) = words::sentence(context, record) {
                app.screen.line(&(), Some(&format!("{} {name} {sentence}", rfc3339(record.at))));
                any = true;
            }
        })?;
    }
    Ok(any)
}

/// Says once of each run that nobody drives it: it would be watched for ever.
fn tell_undriven(
    app: &App,
    undriven: &mut BTreeSet<ServiceName>,
    looked: &[(ServiceName, Folded)],
) -> Result<bool, Trouble> {
    let mut any = false;
    for (name, folded) in looked {
        if !drive::is_undriven(app, name, &folded.service)? {
            undriven.remove(name);
        } else if undriven.insert(name.clone()) {
            app.screen.tell(&format!("{name}: {}", undriven_words(name)));
            any = true;
        }
    }
    Ok(any)
}

/// Ends a wait that nobody would end: for a run that nobody has driven for a while.
///
/// Errors: exit 11, with what to type.
fn refuse_undriven(
    app: &App,
    looked: &[(ServiceName, Folded)],
    since: &mut Option<(ServiceName, Timestamp)>,
) -> Result<(), Trouble> {
    let mut stands = None;
    for (name, folded) in looked {
        if drive::is_undriven(app, name, &folded.service)? {
            stands = Some(name);
            break;
        }
    }
    let Some(name) = stands else {
        *since = None;
        return Ok(());
    };
    let now = app.now();
    match since {
        Some((before, at)) if before == name && now.since(*at) >= UNDRIVEN_MAX => Err(Trouble::say(
            Exit::Unknown,
            "run-undriven",
            format!("{name}: nobody has driven its run for {UNDRIVEN_MAX}, so nobody can tell how it ends"),
            &format!("go on: lastgood run {name}; back: lastgood rollback {name}"),
        )),
        Some((before, _)) if before == name => Ok(()),
        _ => {
            *since = Some((name.clone(), now));
            Ok(())
        }
    }
}

fn is(service: &Service, until: Until) -> bool {
    let idle = service.run.is_none();
    match until {
        Until::Terminal => idle,
        Until::Healthy => {
            idle && service.last_good.is_some()
                && service
                    .instances
                    .values()
                    .all(|one| one.release == service.last_good && one.condition == Condition::Settled)
        }
        Until::Paused => {
            idle && service
                .instances
                .values()
                .any(|one| matches!(one.condition, Condition::LossHeld { .. } | Condition::Stuck { .. }))
        }
    }
}

/// Says what is under way, and who does it.
fn doing(looked: &[(ServiceName, Folded)], undriven: &BTreeSet<ServiceName>) -> String {
    let runs = looked.iter().filter_map(|(name, folded)| {
        let run = folded.service.run.as_ref()?;
        if undriven.contains(name) {
            return Some(format!("{name}: {}", undriven_words(name)));
        }
        let orders: Vec<String> = run.orders.values().take(3).map(words::doing).collect();
        let orders = if orders.is_empty() { "watching the wave".into() } else { orders.join("; ") };
        Some(format!("{name}: run {} by {}: {orders}", run.id, run.by))
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() { "no run is under way".into() } else { runs.join("; ") }
}

/// Leaves out what changes with the clock alone.
fn without_ages(data: &Value) -> Value {
    let mut data = data.clone();
    for service in data["services"].as_array_mut().into_iter().flatten() {
        for instance in service["instances"].as_array_mut().into_iter().flatten() {
            instance["says"] = Value::Null;
        }
    }
    data
}

/// Makes a text of at most `max` lines, leaving out first what needs nobody: instances that are settled.
fn fitting(text: &str, max: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let whole = lines.len();
    if whole <= max {
        return lines;
    }
    let mut at = lines.len();
    while lines.len() >= max && at > 0 {
        at -= 1;
        if lines[at].starts_with("  ") && lines[at].ends_with(" settled") {
            lines.remove(at);
        }
    }
    let settled = if lines.len() < max { ", settled" } else { "" };
    lines.truncate(max.saturating_sub(1));
    lines.push(format!("  … {} more{settled}: lastgood status", whole - lines.len()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_too_long_for_the_screen_leaves_out_what_is_settled_first() {
        let text = "web  last-good 2\n  a  2  settled\n  b  2  settled\n  c  1  STUCK: it broke\n  run r6: promoted\n";
        assert_eq!(fitting(text, 5).len(), 5);
        let said = |max| fitting(text, max).join("\n");
        assert_eq!(
            said(4),
            "web  last-good 2\n  c  1  STUCK: it broke\n  run r6: promoted\n  … 2 more, settled: lastgood status"
        );
        assert_eq!(said(2), "web  last-good 2\n  … 4 more: lastgood status");
    }
}
