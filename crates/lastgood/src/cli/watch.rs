//! `lastgood watch`: status, redrawn until the thing ends.

use super::{Ended, status::describe};
use crate::{app::App, exit::Exit};
use clap::{Args, ValueEnum};
use lastgood_domain::{
    service::{Condition, Service},
    terms::Span,
};
use std::time::{Duration, Instant};

/// How often it is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// Show status again and again until it ends or reaches a state.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The service; all if left out.
    service: Option<String>,
    /// End when every service is in this state. Default: never by itself.
    #[arg(long, value_enum)]
    until: Option<Until>,
    /// Give up waiting after this long.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

/// States to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Every instance runs last-good and no run is under way.
    Healthy,
    /// A person is awaited.
    Paused,
    /// No run is under way.
    Terminal,
}

impl Watch {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let began = Instant::now();
        let mut last = String::new();
        loop {
            let (data, text) = describe(app, self.service.as_deref())?;
            if text != last {
                if app.screen.is_live() && !last.is_empty() {
                    app.screen.tell("");
                }
                app.screen.line(&data, Some(text.trim_end()));
                last = text;
            }
            if let Some(until) = self.until
                && self.reached(app, until)?
            {
                return Ok(Exit::Done);
            }
            if self.timeout.is_some_and(|timeout| began.elapsed() >= timeout.duration()) {
                return Ok(Exit::TimedOut);
            }
            std::thread::sleep(DRAW_EVERY);
        }
    }

    fn reached(&self, app: &App, until: Until) -> Result<bool, crate::screen::Trouble> {
        for service in app.services(self.service.as_deref())? {
            let folded = app.look(&service)?.service;
            if !is(&folded, until) {
                return Ok(false);
            }
        }
        Ok(true)
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
