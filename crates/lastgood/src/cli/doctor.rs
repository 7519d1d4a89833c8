//! `lastgood doctor`: is everything here that lastgood needs? Each failure comes with its fix.

use super::{
    Ended, incident,
    preflight::{Chosen, Found, lines, verdict},
};
use crate::{app::App, drive, screen::Screen};
use clap::Args;
use lastgood_domain::{
    failure::Failure, operations::incident::recommend::Recommendation, service::Service, terms::ServiceName, words,
};
use lastgood_engine::{
    doctor::{self, Finding},
    preflight::Asker,
};
use lastgood_store::DriverLock;
use serde_json::json;
use std::{collections::BTreeMap, path::Path};

/// Check this machine and the configuration; print a fix for each problem.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    chosen: Chosen,
}

impl Doctor {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, config: Option<&Path>) -> Ended {
        let (app, placeholders) = App::open_unfinished(screen, config)?;
        let choice = self.chosen.choice(&app.config, &doctor::OWN)?;
        // Before anything that may take long: what is asked may answer after seconds.
        let services = words::count(app.config.service.len() as u64, "service");
        screen.tell(&format!("checking this machine and {services} …"));
        let program = drive::program()?;
        let mut services = BTreeMap::new();
        let mut findings: Vec<Finding> = placeholders.iter().map(|one| Finding::config(Failure::of(one))).collect();
        for name in app.services(None)? {
            match app.look(&name) {
                Ok(seen) => {
                    findings.extend(undriven(&app, &name, &seen.service));
                    findings.extend(outdated(&app, &name));
                    services.insert(name, seen.service);
                }
                Err(trouble) => findings.push(Finding::failing(&name, trouble.failure)),
            }
        }
        if choice.names("incident") {
            findings.extend(incident::recommended(&app)?.map(|one| Finding::incident(speaks(&one))));
        }
        findings.retain(|finding| choice.names(&finding.check));
        let examined = doctor::examine(&app.config, &services, &program, &choice, &Asker::default());
        // What is left of `init` comes first: the rest may follow from it.
        let first = findings.iter().take_while(|finding| finding.check == "config").count();
        findings.splice(first..first, examined);
        let required = |is_unknown| move |one: &&Finding| one.is_failure() && one.is_unknown == is_unknown;
        let found = Found {
            failures: findings.iter().filter(required(false)).count(),
            unknown: findings.iter().filter(required(true)).count(),
            warnings: findings.iter().filter(|finding| !finding.is_failure()).count(),
        };
        let mut text = String::new();
        for finding in &findings {
            let place = finding.service.as_ref().map_or(finding.check.as_str(), ServiceName::as_str);
            text += &lines(place, &finding.failure, finding.severity, finding.is_unknown);
        }
        let services = words::count(app.config.service.len() as u64, "service");
        let declared = words::count(app.config.preflight.len() as u64, "check");
        let well = match app.config.preflight.is_empty() {
            true => format!("{services} checked"),
            false => format!("{services} and {declared} of [preflight] looked at"),
        };
        let (verdict, exit) = verdict(&found, &well);
        text += &verdict;
        let data = json!({
            "verdict": verdict,
            "findings": findings.iter().map(|finding| json!({
                "check": finding.check, "service": finding.service, "code": finding.failure.code,
                "message": finding.failure.message, "fix": finding.failure.hint, "failure": finding.is_failure(),
                "state": if finding.is_unknown { "cannot-tell" } else { "fail" },
            })).collect::<Vec<_>>(),
        });
        screen.show("doctor", &data, &text);
        Ok(exit)
    }
}

/// Says what speaks for an incident.
fn speaks(one: &Recommendation) -> Failure {
    let message = format!("an incident at {} is recommended: {}", one.level.as_str(), one.why.join("; "));
    Failure::new("incident-recommended", message, Some("see what to type: lastgood incident recommend"))
}

/// Finds a daemon that goes by an older lastgood.toml.
fn outdated(app: &App, name: &ServiceName) -> Option<Finding> {
    let driver = DriverLock::holder(app.home.root(), name).ok()??;
    let what = || format!("lastgood.toml was changed since the daemon (process {}) read it", driver.pid);
    let fix = "restart it: systemctl restart lastgood, or end its lastgood serve and start it again";
    drive::is_outdated(app, &driver).then(|| Finding::warning(name, Failure::new("daemon-outdated", what(), Some(fix))))
}

/// Finds a run that nobody drives.
fn undriven(app: &App, name: &ServiceName, service: &Service) -> Option<Finding> {
    match drive::is_undriven(app, name, service) {
        Ok(true) => service.run.as_ref().map(|run| {
            let why = words::undriven(name, run, app.now());
            let fix = format!("go on: {}; or back: lastgood rollback {name}", why.how);
            Finding::warning(name, Failure::new("run-undriven", why.because, Some(&fix)))
        }),
        Ok(false) => None,
        Err(trouble) => Some(Finding::failing(name, trouble.failure)),
    }
}
