//! Proving that all is well.

use super::find;
use crate::{app::App, cli::Ended, drive, exit::Exit, screen::Trouble};
use lastgood_domain::{
    notice::NoticeKind,
    operations::{
        Event, Operations,
        incident::{
            Incident,
            unfreeze::Facts,
            verify::{self, Proof, Verification},
        },
    },
    terms::{Digest, IncidentId},
};
use lastgood_engine::operations as engine;
use serde_json::json;

/// Looks at what an incident's unfreeze depends on.
pub(super) fn facts(app: &App, operations: &Operations, id: IncidentId, incident: &Incident) -> Result<Facts, Trouble> {
    let reader = app.reader()?;
    Ok(engine::facts(reader.as_ref(), &app.config, operations, id, incident, app.now()))
}

/// Makes every check and writes down what came.
pub(super) fn verification(app: &App, id: IncidentId) -> Result<(Verification, Operations), Trouble> {
    if !find(&app.operations()?, id)?.drill {
        crate::enforce::read_back(app);
    }
    let operations = app.operations()?;
    let incident = find(&operations, id)?;
    let steps = incident.unfreeze.steps;
    let facts = facts(app, &operations, id, incident)?;
    let reader = app.reader()?;
    let program = drive::program()?;
    let mut checks = engine::verify::checks(&app.config, &app.home, &program, reader.as_ref(), (id, incident), &facts);
    // No chance is needed: the time and the incident make a marker that was never made.
    let marker = Digest::of(format!("{id} {} {}", app.now().0, operations.records).as_bytes());
    app.say_operations(&|state| Ok(vec![verify::marked(state, id, marker)?]))?;
    let kind = if incident.drill { NoticeKind::Drill } else { NoticeKind::Incident };
    let wanting = app.routes().into_iter().filter(|route| route.wants(kind));
    let endpoints: Vec<String> = wanting.map(|route| route.endpoint).collect();
    checks.push(engine::verify::round_trip(app.home.root(), id, marker, &endpoints));
    let checks = engine::verify::required(&app.config, checks);
    let verification = Verification { target: facts.target, checks };
    let (records, after) =
        app.say_operations(&|state| Ok(verify::verified_since(state, id, verification.clone(), steps)?))?;
    if records.iter().any(|record| matches!(record.event, Event::Hold(_))) {
        // What was lifted is held again, and must be where it is enforced.
        crate::enforce::at_once(app);
    }
    Ok((verification, after))
}

/// Runs the command.
pub(super) fn run(app: &App, id: IncidentId) -> Ended {
    let (verification, after) = verification(app, id)?;
    let found = find(&after, id)?;
    let mut text = String::new();
    for check in &verification.checks {
        text += &format!("{:<8}{}  {}\n", check.proof.as_str().to_uppercase(), check.name, check.detail);
    }
    let worst = verification.worst();
    text += &match worst.counts() {
        true => format!("all of it holds; incident {id} is {}\n", found.state.as_str()),
        false => format!("incident {id} is {} and can't be unfrozen so\n", found.state.as_str()),
    };
    text += &format!("see what keeps it frozen: lastgood incident show {id}");
    let data = json!({
        "incident": id, "state": found.state, "worst": worst, "target": verification.target,
        "checks": verification.checks,
    });
    app.screen.show("incident-verification", &data, &text);
    Ok(exit_of(worst))
}

/// Gives the exit code of the worst proof: cannot-tell is never 0.
pub(super) const fn exit_of(worst: Proof) -> Exit {
    match worst {
        Proof::Pass | Proof::Waived => Exit::Done,
        Proof::Missing | Proof::Stale | Proof::Error => Exit::CannotTell,
        Proof::Fail => Exit::Refused,
    }
}
