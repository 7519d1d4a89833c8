//! `lastgood emergency`: everything off in one command, and what was seen kept.
//!
//! Each act stands alone: one that fails keeps no other from being done, and is said.

use super::{Ended, evidence, switch};
use crate::{app::App, enforce, exit::Exit, preserve, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    failure::Failure,
    operations::{
        Event,
        emergency::{Act, EmergencyEvent, Row},
        hold::{self, HoldEvent, HoldKind, InFlight, Selector},
    },
    switches,
    terms::Reason,
    words::count,
};
use lastgood_engine::incident::emergency_step;
use serde_json::json;

/// What has to be typed, because it stops everybody.
const NAME: &str = "everything";

/// Stop everything now: trip the global switch, hold all changes, run the runbook's emergency commands, verify the
/// evidence and preserve logs. Rollbacks stay possible.
#[derive(Debug, Args)]
pub(crate) struct Emergency {
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Type `everything` to confirm: this affects all users.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

impl Emergency {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        if self.confirm.as_deref() != Some(NAME) {
            return Err(Trouble::say(
                Exit::Declined,
                "emergency-unconfirmed",
                "nothing was done: this stops everybody",
                &format!("type: lastgood emergency --reason … --confirm {NAME}"),
            ));
        }
        let _kept_open = crate::room::make(app);
        let now = app.now();
        let mut rows = Vec::new();
        let mut row = |act: Act, done: Result<String, Failure>| {
            let (done, says) = match done {
                Ok(says) => (true, says),
                Err(failure) => (false, failure.to_string()),
            };
            app.screen.tell(&format!("{}  {}: {says}", if done { "done  " } else { "FAILED" }, act.words()));
            rows.push(Row { act, done, says });
        };
        // By safety: what keeps harm from going on comes before what is only looked at.
        if app.config.switches.is_some() {
            row(Act::TripAll, trip(app, &self.reason));
        }
        row(Act::HoldAll, hold_all(app, &self.reason));
        for name in app.config.runbook.emergency.keys() {
            row(Act::Command { name: name.clone() }, emergency_step(&app.config, name));
        }
        row(Act::VerifyEvidence, verify(app));
        row(Act::PreserveLogs, preserve::apart(app, now));
        let reason = self.reason.clone();
        let event = Event::Emergency(EmergencyEvent { reason: reason.clone(), rows: rows.clone() });
        app.say_operations(&|_| Ok(vec![event.clone()]))?;
        let failed = rows.iter().filter(|row| !row.done).count() as u64;
        let verdict = match failed {
            0 => "all of it is done".to_owned(),
            n => format!("{} FAILED; do those steps by hand", count(n, "act")),
        };
        let text = format!("{verdict}\nlead it from here: lastgood incident declare --level L3 --trigger …");
        app.screen.show("emergency", &json!({ "reason": reason, "acts": rows, "failed": failed }), &text);
        Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
    }
}

fn trip(app: &App, reason: &Reason) -> Result<String, Failure> {
    let all = switches::all();
    let said = switch::say(app, &|_, declared, _| switches::trip(declared, &all, reason));
    said.map(|_| "every switch counts as tripped, every flag is off".to_owned()).map_err(|trouble| trouble.failure)
}

fn hold_all(app: &App, reason: &Reason) -> Result<String, Failure> {
    let said = app.say_operations(&|state| {
        let wanted = hold::Wanted {
            kinds: HoldKind::ALL.into(),
            selector: Selector::default(),
            reason: reason.clone(),
            until: None,
            review: Some(app.now().after(app.config.holds.review_after.0)),
            in_flight: InFlight::Pause,
        };
        let set = hold::set(&state.holds, wanted)?;
        Ok(vec![Event::Hold(set)])
    });
    let (records, _) = said.map_err(|trouble| trouble.failure)?;
    let set = records.iter().find_map(|record| match record.event {
        Event::Hold(HoldEvent::Set { hold, .. }) => Some(hold),
        _ => None,
    });
    let hold = set.expect("a hold was set");
    // Nobody else may be there to ask those outside.
    enforce::in_emergency(app);
    let operations = app.operations().map_err(|trouble| trouble.failure)?;
    let open = lastgood_engine::enforce::unconfirmed(&app.config, &operations, app.now());
    let open: Vec<String> =
        open.into_iter().filter(|(_, holds)| holds.contains(&hold)).map(|(name, _)| name.to_string()).collect();
    let kinds = HoldKind::ALL.map(HoldKind::as_str).join(", ");
    match open.is_empty() {
        true => Ok(format!("{kinds} of every service are held")),
        false => {
            let what = format!(
                "{hold} stands, and is not confirmed by {}: close it there by hand, and ask again: lastgood hold sync",
                open.join(", ")
            );
            Err(Failure::new("emergency-not-held", what, Some("ask it again: lastgood hold sync")))
        }
    }
}

fn verify(app: &App) -> Result<String, Failure> {
    let run = evidence::verified(app).map_err(|trouble| trouble.failure)?;
    match run.findings.first() {
        None => Ok(format!("{} verified", count(run.records, "record"))),
        Some(finding) => {
            Err(Failure::new("evidence-broken", evidence::says(finding), Some("lastgood evidence verify")))
        }
    }
}
