//! `lastgood hold`: named, owned, reasoned stops of forward moves.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_domain::{
    event::Event,
    service,
    terms::{HoldId, Reason, Span},
};
use serde_json::json;

/// Stop forward moves of a service, for a reason.
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Set a hold; it stops forward moves only, never a way back.
    Set {
        /// The service; may be left out if there is only one.
        service: Option<String>,
        /// Why.
        #[arg(long)]
        reason: Reason,
        /// How long, such as 2h; without it the hold stands until it is lifted.
        #[arg(long = "for", value_name = "TIME")]
        span: Option<Span>,
    },
    /// Lift one hold; others stay.
    Lift {
        /// The service.
        service: String,
        /// The hold, such as h0.
        hold: HoldId,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// List the holds that stand.
    List {
        /// The service; all if left out.
        service: Option<String>,
    },
}

impl Hold {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Set { service, reason, span } => set(app, service.as_deref(), reason, span),
            Self::Lift { service, hold, reason } => lift(app, &service, hold, reason),
            Self::List { service } => list(app, service.as_deref()),
        }
    }
}

fn set(app: &App, service: Option<&str>, reason: Reason, span: Option<Span>) -> Ended {
    let service = app.service(service)?;
    let until = span.map(|span| app.now().after(span));
    let id = std::cell::Cell::new(HoldId(0));
    app.say(&service, |folded| {
        id.set(HoldId(folded.next.hold));
        Ok(vec![Event::HoldSet { hold: id.get(), reason: reason.clone(), until, origin: None }])
    })?;
    let hold = id.get();
    app.screen.show(
        "hold",
        &json!({ "service": service, "hold": hold, "reason": reason, "until": until }),
        &format!("{service} is held by {hold}\nlift it: lastgood hold lift {service} {hold} --reason …"),
    );
    Ok(Exit::Done)
}

fn lift(app: &App, service: &str, hold: HoldId, reason: Reason) -> Ended {
    let service = app.service(Some(service))?;
    let after = app.say(&service, |folded| match folded.holds.get(&hold) {
        Some(service::Hold { origin: Some(origin), .. }) => Err(Trouble::say(
            Exit::Refused,
            "hold-of-several",
            format!("{hold} is {service}'s part of {origin}"),
            &format!("lift it for every service: lastgood hold lift {origin} --reason …"),
        )),
        Some(_) => Ok(vec![Event::HoldLifted { hold, reason: reason.clone() }]),
        None => Err(Trouble::say(
            Exit::Failed,
            "hold-unknown",
            format!("{service} has no hold {hold}"),
            &format!("see which stand: lastgood hold list {service}"),
        )),
    })?;
    let left = after.standing_holds(app.now()).count();
    let next = match left {
        0 => format!("forward moves are open again: lastgood run {service} --now"),
        n => format!("{n} more stand: lastgood hold list {service}"),
    };
    app.screen.show(
        "hold-lifted",
        &json!({ "service": service, "hold": hold, "left": left }),
        &format!("{hold} is lifted\n{next}"),
    );
    Ok(Exit::Done)
}

fn list(app: &App, service: Option<&str>) -> Ended {
    let mut rows = Vec::new();
    let mut text = String::new();
    for service in app.services(service)? {
        let folded = app.look(&service)?.service;
        for (id, hold) in folded.standing_holds(app.now()) {
            text += &format!("{service} {id} by {}: {}\n", hold.owner, hold.reason);
            rows.push(json!({
                "service": service, "hold": id, "owner": hold.owner, "reason": hold.reason,
                "since": hold.since, "until": hold.until,
            }));
        }
    }
    if let Some(frozen) = app.frozen() {
        text += &format!("every service: {frozen}\n");
        rows.push(json!({ "service": null, "reason": frozen }));
    }
    if text.is_empty() {
        text = "no hold stands\n".into();
    }
    app.screen.show("holds", &rows, &text);
    Ok(Exit::Done)
}
