//! Holds over several services: set and lifted.

use super::{Flight, Kind, Set};
use crate::{app::App, cli::Ended, enforce, exit::Exit, screen::Trouble};
use lastgood_domain::{
    operations::{
        Event,
        hold::{self, HoldEvent, Selector, Wanted},
    },
    terms::{Reason, Timestamp, WideHoldId},
};
use serde_json::json;
use std::collections::BTreeSet;

/// Sets one over several services and tries to have it enforced at once.
pub(super) fn set(app: &App, asked: Set) -> Ended {
    let Set { all, services, labels, kinds, reason, span, review, in_flight, .. } = asked;
    if !all && services.is_empty() && labels.is_empty() {
        return Err(Trouble::say(
            Exit::Usage,
            "hold-unscoped",
            "say which services are meant",
            "--all, --services a,b or --label tier=api",
        ));
    }
    for service in &services {
        app.service(Some(service.as_str()))?;
    }
    let carries = |one: &&(String, String)| app.config.service.values().any(|s| s.labels.get(&one.0) == Some(&one.1));
    if let Some((key, value)) = labels.iter().find(|one| !carries(one)) {
        let known: BTreeSet<String> = app
            .config
            .service
            .values()
            .flat_map(|service| service.labels.iter().map(|(key, value)| format!("{key}={value}")))
            .collect();
        let hint = match known.is_empty() {
            true => "no service has labels; name services: --services a,b".to_owned(),
            false => format!("one of: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let what = format!("no service has the label {key}={value}: the hold would stop nobody");
        return Err(Trouble::say(Exit::Usage, "hold-label-unknown", what, &hint));
    }
    let now = app.now();
    let until = span.map(|span| now.after(span));
    let review = review.map(|review| review.ahead(now)).transpose()?;
    let review = review.or_else(|| until.is_none().then(|| now.after(app.config.holds.review_after.0)));
    let kinds = if kinds.is_empty() { vec![Kind::Deploy] } else { kinds };
    let wanted = Wanted {
        kinds: kinds.into_iter().map(Into::into).collect(),
        selector: Selector { services: services.into_iter().collect(), labels: labels.into_iter().collect() },
        reason,
        until,
        review,
        in_flight: in_flight.map_or_else(Default::default, Into::into),
    };
    let (records, _) = app.say_operations(&|state| Ok(vec![Event::Hold(hold::set(&state.holds, wanted.clone())?)]))?;
    let id = records.iter().find_map(|record| match record.event {
        Event::Hold(HoldEvent::Set { hold, .. }) => Some(hold),
        _ => None,
    });
    let id = id.expect("a hold was set");
    enforce::at_once(app);
    let operations = app.operations()?;
    let set = &operations.holds.all[&id];
    let mut text = format!("{id} stops {} of {}\n", set.kinds_words(), set.selector.words());
    text += &super::list::enforcers_text(&operations.holds, id);
    text += &format!("lift it: lastgood hold lift {id} --reason …");
    app.screen.show("hold", &super::list::row(&operations.holds, id, set), &text);
    Ok(Exit::Done)
}

/// Lifts one, everywhere.
pub(super) fn lift(app: &App, id: WideHoldId, reason: Reason) -> Ended {
    app.say_operations(&|state| Ok(vec![Event::Hold(hold::lift(&state.holds, id, reason.clone())?)]))?;
    enforce::at_once(app);
    let operations = app.operations()?;
    let left = operations.holds.standing(app.now()).count();
    let mut text = format!("{id} is lifted\n");
    text += &super::list::enforcers_text(&operations.holds, id);
    text += &match left {
        0 => "no other hold over several services stands: lastgood hold check".to_owned(),
        n => format!("{n} more over several services are active: lastgood hold list"),
    };
    let enforcers = super::list::enforcers(&operations.holds, id);
    app.screen.show("hold-lifted", &json!({ "hold": id, "left": left, "enforcers": enforcers }), &text);
    Ok(Exit::Done)
}

/// Reads `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write it like tier=api".into()),
    }
}

/// Reads a time such as `2026-12-01T08:00:00Z`.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| Timestamp(time.as_millisecond())).map_err(|_| "write it like 2026-12-01T08:00:00Z".into())
}

impl From<Kind> for hold::HoldKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Merge => Self::Merge,
            Kind::Claim => Self::Claim,
            Kind::Promote => Self::Promote,
            Kind::Deploy => Self::Deploy,
        }
    }
}

impl From<Flight> for hold::InFlight {
    fn from(flight: Flight) -> Self {
        match flight {
            Flight::Finish => Self::Finish,
            Flight::Pause => Self::Pause,
            Flight::Abort => Self::Abort,
        }
    }
}
