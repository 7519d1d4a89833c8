//! What becomes due without anybody typing: overdue messages, waivers that ran out, what the logs say about declaring.

use crate::{app::App, cli::incident, exit::Exit, leftovers, screen::Trouble};
use lastgood_domain::{
    operations::{
        Operations,
        incident::{self as rules, recommend},
    },
    terms::Actor,
};
use lastgood_engine::{
    config::Declares,
    deliver::Wake,
    operations::{Desk, observe},
    signals,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// How often it is looked: a deadline of minutes is noticed in a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two looks at all the logs: users' outcomes are counted every 10 s.
const OBSERVE_EVERY: u32 = 10;
/// Looks between two readings of the whole chains of operations and of signals: in between only what is new is read, and damage in what was read
/// before is not seen.
const READ_WHOLE_EVERY: u32 = 30;
/// Looks between two sweeps of what killed dry runs left.
const SWEEP_EVERY: u32 = 600;

/// Tells whether there is nothing to do without a service: nobody to page, nothing to hold or to look at.
pub(super) fn are_none(app: &App) -> bool {
    let config = &app.config;
    let people = config.person.is_empty() && config.escalation.is_empty() && config.notice.is_empty();
    let incidents = config.enforcer.is_empty() && config.incident.is_default();
    people && incidents && config.switches.is_none() && config.signal.is_empty()
}

/// Looks after what is due until the daemon ends; trouble is said and looked at again.
pub(super) fn attend(app: &App, stop: &AtomicBool, delivery: &Wake) {
    let by = Actor::new("lastgood:clock").expect("a fixed valid name");
    let (mut desk, mut signals) = (None, signals::Folded::default());
    let mut looks = 0;
    while !stop.load(Ordering::SeqCst) {
        if looks % SWEEP_EVERY == 0 {
            leftovers::sweep(app);
        }
        if looks % READ_WHOLE_EVERY == 0 {
            (desk, signals) = (None, signals::Folded::default());
        }
        let observed = (looks % OBSERVE_EVERY == 0).then_some(&mut signals);
        match attend_once(app, &by, &mut desk, observed) {
            Ok(true) => delivery.ring(),
            Ok(false) => {}
            Err(trouble) => {
                app.screen.trouble(&trouble);
                desk = None;
            }
        }
        looks = looks.wrapping_add(1);
        thread::sleep(LOOK_EVERY);
    }
}

/// Writes what is due; looks at all the logs too where what is known of signals is given. Tells whether anything was due.
fn attend_once(
    app: &App,
    by: &Actor,
    desk: &mut Option<Desk>,
    signals: Option<&mut signals::Folded>,
) -> Result<bool, Trouble> {
    // Nothing was ever written: nothing can be due.
    let Some(reader) = app.reader()? else { return Ok(false) };
    if desk.is_none() {
        *desk = Some(app.desk()?);
    }
    let Some(desk) = desk else { return Ok(false) };
    let failed = |error: &lastgood_engine::operations::SayError| Trouble::new(Exit::Failed, error.coded());
    let now = app.now();
    let due = |state: &Operations| Ok(rules::due(state, now));
    let mut wrote = !desk.say(by, now, &due).map_err(|error| failed(&error))?.0.is_empty();
    if let Some(signals) = signals {
        let seen = observe::observe(&reader, &app.config, signals, desk.damaged());
        let automatic = app.config.incident.declare == Declares::Automatic;
        let said = |state: &Operations| match recommend::news(state, &seen) {
            Some(news) => Ok(incident::recommendation(app, by, state, news, automatic)),
            None => Ok(Vec::new()),
        };
        wrote |= !desk.say(by, now, &said).map_err(|error| failed(&error))?.0.is_empty();
    }
    Ok(wrote)
}
