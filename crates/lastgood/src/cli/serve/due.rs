//! What becomes due by itself: reminders and ends of requests, pages, overdue analyses.

use crate::{app::App, screen::Trouble};
use lastgood_domain::{
    operations::{
        clock::{self, Circumstances},
        escalation,
    },
    terms::{Actor, ServiceName, Timestamp},
};
use lastgood_engine::bell;
use lastgood_engine::operations::Desk;
use std::collections::BTreeMap;

/// Says what is due now. Nothing due writes nothing; trouble is told, and it is tried again at the next look. `desk` is kept
/// from look to look, so that only what is new is read.
pub(super) fn say(app: &App, services: &[ServiceName], desk: &mut Option<Desk>) {
    if let Err(trouble) = try_say(app, services, desk) {
        app.screen.trouble(&trouble);
        *desk = None;
    }
}

fn try_say(app: &App, services: &[ServiceName], desk: &mut Option<Desk>) -> Result<(), Trouble> {
    // Nothing was ever written: nothing can be due.
    if desk.is_none() && app.reader()?.is_none() {
        return Ok(());
    }
    let desk = match desk {
        Some(desk) => desk,
        none => none.insert(app.desk()?),
    };
    let now = app.now();
    let by = Actor::new("lastgood:clock").expect("a fixed valid name");
    let known = Circumstances {
        people: app.config.people(),
        chains: app.config.chains(),
        approvals: app
            .config
            .approvals
            .as_ref()
            .and_then(|approvals| approvals.escalation.clone())
            .unwrap_or_else(|| escalation::DEFAULT.into()),
        overdue: overdue(app, services),
    };
    let said = desk.say(&by, now, &|state| Ok(clock::due(state, &known, &by, now)));
    let (records, _) = said.map_err(|error| Trouble::new(crate::exit::Exit::Failed, error.coded()))?;
    if !records.is_empty() {
        bell::ring(app.home.root());
    }
    Ok(())
}

/// Finds overdue analyses. A service whose log can't be read is told of, and keeps nobody else's clock from running.
fn overdue(app: &App, services: &[ServiceName]) -> BTreeMap<ServiceName, Timestamp> {
    let mut all = BTreeMap::new();
    for service in services {
        match app.look(service) {
            Ok(seen) => {
                let owed = seen.service.analysis.filter(|owed| owed.is_overdue(app.now()));
                all.extend(owed.map(|owed| (service.clone(), owed.since)));
            }
            Err(trouble) => app.screen.trouble(&trouble),
        }
    }
    all
}
