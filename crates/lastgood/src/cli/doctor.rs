//! `lastgood doctor`: is everything here that lastgood needs? Each failure comes with its fix.

use super::Ended;
use crate::{app::App, drive, exit::Exit, screen::Screen};
use clap::Args;
use lastgood_domain::{failure::Failure, service::Service, terms::ServiceName, words};
use lastgood_engine::doctor::{self, Finding};
use serde_json::json;
use std::path::Path;

/// Check that everything lastgood needs is here; each failure comes with its fix.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Leave out what asks the network (the channels).
    #[arg(long)]
    offline: bool,
}

impl Doctor {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, config: Option<&Path>) -> Ended {
        let app = App::open(screen, config)?;
        let mut findings = doctor::examine(&app.config, !self.offline);
        let program = drive::program()?;
        for name in app.services(None)? {
            match app.look(&name) {
                Ok(seen) => {
                    findings.extend(undriven(&app, &name, &seen.service));
                    findings.extend(doctor::examine_running(&app.config, &name, &seen.service, &program));
                }
                Err(trouble) => findings.push(Finding::failing(name, trouble.failure)),
            }
        }
        let failures = findings.iter().filter(|finding| finding.is_failure()).count();
        let warnings = findings.len() - failures;
        let mut text = String::new();
        for Finding { service, failure, .. } in &findings {
            let place = service.as_ref().map_or_else(String::new, |service| format!("{service}: "));
            text += &format!("{place}{failure}\n");
            if let Some(hint) = &failure.hint {
                text += &format!("  fix   {hint}\n");
            }
            text += &format!("  page  docs/errors/{}.md\n", failure.code);
        }
        let services = words::count(app.config.service.len() as u64, "service");
        let count = |number: usize, one: &str| words::count(number as u64, one);
        let (verdict, exit) = match (failures, warnings) {
            (0, 0) => (format!("all is well: {services} checked"), Exit::Done),
            (0, n) => (format!("{}, nothing fails", count(n, "warning")), Exit::Warnings),
            (n, _) => (count(n, "failure"), Exit::Failed),
        };
        text += &verdict;
        let data = json!({
            "verdict": verdict,
            "findings": findings.iter().map(|finding| json!({
                "service": finding.service, "code": finding.failure.code, "message": finding.failure.message,
                "fix": finding.failure.hint, "failure": finding.is_failure(),
            })).collect::<Vec<_>>(),
        });
        screen.show("doctor", &data, &text);
        Ok(exit)
    }
}

/// Finds a run that nobody drives.
fn undriven(app: &App, name: &ServiceName, service: &Service) -> Option<Finding> {
    match drive::is_undriven(app, name, service) {
        Ok(true) => service.run.as_ref().map(|run| {
            let why = words::undriven(name, run, app.now());
            let fix = format!("go on: {}; or back: lastgood rollback {name}", why.how);
            Finding::warning(name.clone(), Failure::new("run-undriven", why.because, Some(&fix)))
        }),
        Ok(false) => None,
        Err(trouble) => Some(Finding::failing(name.clone(), trouble.failure)),
    }
}
