//! Which holds stand, and whether what should enforce them does.

use crate::{app::App, cli::Ended, exit::Exit};
use lastgood_domain::{
    operations::hold::{self, Enforcement, Holds, MergeExemption, WideHold},
    service,
    terms::{Actor, Timestamp, WideHoldId},
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// Shows a service's own, and those over several, each with what enforces it.
pub(super) fn list(app: &App, service: Option<&str>) -> Ended {
    let mut rows = Vec::new();
    let mut text = String::new();
    let (now, operations) = (app.now(), app.operations()?);
    let services = app.services(service)?;
    let concerns = |hold: &WideHold| {
        service.is_none()
            || services.iter().any(|name| hold.selector.matches(name, &app.config.service[name].subject()))
    };
    for (id, hold) in operations.holds.standing(now).filter(|(_, hold)| concerns(hold)) {
        text += &said(&operations.holds, *id, hold);
        rows.push(row(&operations.holds, *id, hold));
        for (approval, asked) in hold::merges_let_through(&operations, *id, now) {
            let MergeExemption { commit, reason, until } = &asked.exemption;
            let yes: Vec<&Actor> = operations.approvals.all[&approval].yes.keys().collect();
            let by = yes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (until_words, asked_by) = (rfc3339(*until), &asked.by);
            text += &format!(
                "  commit {commit} may pass until {until_words}, asked by {asked_by}, approved by {by}: {reason}\n"
            );
            rows.push(json!({
                "passes": id, "commit": commit, "until": until, "asked_by": asked_by, "approved_by": yes,
                "reason": reason,
            }));
        }
    }
    // What is over is shown only where somebody enforces it still.
    for id in operations.holds.enforced.keys() {
        if !operations.holds.all.get(id).is_some_and(|hold| hold.stands(now)) {
            text += &format!("{id} is closed\n{}", enforcers_text(&operations.holds, *id));
            rows.push(json!({ "hold": id, "over": true, "enforcers": enforcers(&operations.holds, *id) }));
        }
    }
    for service in &services {
        let folded = app.look(service)?.service;
        for (id, hold) in folded.standing_holds(now).filter(|(_, hold)| hold.origin.is_none()) {
            text += &format!("{service} {id} by {}: {}{}\n", hold.owner, hold.reason, review_words(hold, now));
            rows.push(json!({
                "service": service, "hold": id, "owner": hold.owner, "reason": hold.reason,
                "since": hold.since, "until": hold.until, "review": hold.review, "overdue": hold.overdue_at(now),
                "in_flight": hold.in_flight,
            }));
        }
        for (_, hold) in folded.standing_holds(now).filter(|(_, hold)| hold.origin.is_some()) {
            for one in hold.exempt_at(now) {
                let (origin, exemption) = (hold.origin.expect("it has one"), &one.exemption);
                text += &format!(
                    "{service} {} ({}) may pass {origin} until {}, asked by {}, approved by {}: {}\n",
                    exemption.tag,
                    exemption.release.short(),
                    rfc3339(exemption.until),
                    one.asked_by,
                    one.approved_by,
                    exemption.reason
                );
                rows.push(json!({
                    "service": service, "passes": origin, "release": exemption.tag, "digest": exemption.release,
                    "until": exemption.until, "asked_by": one.asked_by, "approved_by": one.approved_by,
                    "reason": exemption.reason,
                }));
            }
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

/// Says when the owner of a service's own hold is asked after it. What is overdue is in capitals: colour is no signal here.
pub(crate) fn review_words(hold: &service::Hold, now: Timestamp) -> String {
    match (hold.overdue_at(now), hold.review) {
        (Some(since), _) => format!("; REVIEW OVERDUE since {}: {} is asked", rfc3339(since), hold.owner),
        (None, Some(review)) => format!("; its owner is asked after it {}", rfc3339(review)),
        (None, None) => String::new(),
    }
}

fn said(holds: &Holds, id: WideHoldId, hold: &WideHold) -> String {
    let (kinds, services) = (hold.kinds_words(), hold.selector.words());
    let end = match (hold.incident, hold.until, hold.review) {
        (Some(incident), ..) => format!("until incident {incident} lifts it"),
        (None, Some(until), _) => format!("until {}", rfc3339(until)),
        (None, None, Some(review)) => format!("until lifted; its owner is asked after it {}", rfc3339(review)),
        (None, None, None) => "until lifted".into(),
    };
    let mut text = format!("{id} stops {kinds} of {services}, by {}: {}\n", hold.owner, hold.reason);
    text += &format!("  since {}, {end}; work in flight: {}\n", rfc3339(hold.since), hold.in_flight.as_str());
    text + &enforcers_text(holds, id)
}

/// Says how a hold stands at each enforcer, one a line. What is not confirmed is in capitals: colour is no signal here.
pub(crate) fn enforcers_text(holds: &Holds, id: WideHoldId) -> String {
    let mut text = String::new();
    for (name, one) in holds.enforced.get(&id).into_iter().flatten() {
        let why = one.state.why().map(|why| format!(": {why}")).unwrap_or_default();
        let state = match (&one.state, holds.all.contains_key(&id)) {
            (Enforcement::Confirmed, true) => "confirmed".to_owned(),
            (Enforcement::Confirmed, false) => "STILL ENFORCED".to_owned(),
            (state, true) => format!("NOT CONFIRMED, {}", state.as_str()),
            (state, false) => format!("NOT LET GO, {}", state.as_str()),
        };
        text += &format!("  {name} {state} since {}{why}\n", rfc3339(one.since));
    }
    text
}

/// Makes the data of how a hold stands at each enforcer.
pub(super) fn enforcers(holds: &Holds, id: WideHoldId) -> Vec<Value> {
    let of = holds.enforced.get(&id).into_iter().flatten();
    of.map(|(name, one)| {
        let (state, since, why) = (one.state.as_str(), one.since, one.state.why());
        json!({ "enforcer": name, "state": state, "since": since, "why": why })
    })
    .collect()
}

/// Makes the data of a hold.
pub(super) fn row(holds: &Holds, id: WideHoldId, hold: &WideHold) -> Value {
    json!({
        "hold": id, "kinds": hold.kinds, "selector": hold.selector, "services": hold.selector.words(),
        "owner": hold.owner, "reason": hold.reason, "incident": hold.incident, "since": hold.since,
        "until": hold.until, "review": hold.review, "in_flight": hold.in_flight, "enforcers": enforcers(holds, id),
    })
}
