//! The daemon's side of watched gates: each is asked on its interval by a thread of its own, so that one that hangs delays no
//! other.

use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_domain::{
    event::Verdict,
    failure::Failure,
    operations::overrule,
    terms::{GateName, ServiceName, Span},
    words,
};
use lastgood_drivers::{
    gate::{self, Asked, GateConfig},
    probe::Secrets,
};
use lastgood_engine::{
    watched::{self, Failing},
    world,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How often a thread looks whether it was told to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks a gate every `every` about last-good of each service that requires it, until the daemon ends.
pub(super) fn watch(app: &App, name: &GateName, config: &GateConfig, every: Span, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let asked = Instant::now();
        if let Err(trouble) = ask(app, name, config) {
            app.screen.trouble(&trouble);
        }
        while asked.elapsed() < every.duration() && !stop.load(Ordering::SeqCst) {
            thread::sleep(LOOK_EVERY);
        }
    }
}

fn ask(app: &App, name: &GateName, config: &GateConfig) -> Result<(), Trouble> {
    let before = watched::read(&app.home, name);
    let mut red = watched::Red::new();
    for service in app.config.requiring(name) {
        let failing = match about(app, name, config, service)? {
            Says::Passes => None,
            Says::Fails(failing) => Some(failing),
            // Who can't tell says nothing new.
            Says::CannotTell => before.get(service).cloned(),
        };
        red.extend(failing.map(|failing| (service.clone(), failing)));
    }
    if red == before {
        return Ok(());
    }
    watched::keep(&app.home, name, &red).map_err(|error| {
        let what = format!("what gate {name} says can't be kept: {error}");
        Trouble::say(Exit::Failed, "state-dir-unusable", what, "check owner and free space of the state folder")
    })
}

/// What a gate says of what runs.
enum Says {
    /// It passes, was passed all the same by a person, or there is nothing to ask about yet.
    Passes,
    Fails(Failing),
    CannotTell,
}

/// Asks about last-good of a service.
fn about(app: &App, name: &GateName, config: &GateConfig, service: &ServiceName) -> Result<Says, Trouble> {
    let folded = app.look(service)?.service;
    let Some(release) = folded.last_good else { return Ok(Says::Passes) };
    let secrets = Secrets::load(&app.config.secret, &app.config.folder)
        .map_err(|error| Trouble { exit: Exit::Failed, failure: Failure::of(&error) })?;
    // Its proof was young when it was moved; it is asked what it says now.
    let asked = Asked { folder: &app.config.folder, secrets: &secrets, now: app.now(), any_age: true };
    let subject = world::subject(service, &folded, &release, app.config.service[service].commit.as_deref());
    let (verdict, because) = gate::ask(config, &subject, &asked);
    Ok(match verdict {
        Verdict::Pass => Says::Passes,
        Verdict::Hold | Verdict::CannotTell => Says::CannotTell,
        Verdict::Fail => {
            let operations = app.operations()?;
            let tag = folded.tag(&release);
            let stands = tag
                .and_then(|tag| overrule::stands(&operations, name.as_str(), service, tag, Some(&release), app.now()));
            let because = words::one_line(&because).chars().take(Failure::MESSAGE_CHARS_MAX / 2).collect();
            match stands {
                // Who let it pass all the same knows.
                Some(_) => Says::Passes,
                None => Says::Fails(Failing { release, because }),
            }
        }
    })
}
