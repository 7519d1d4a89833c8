//! Takes a plan that was made into the log, and asks people to approve it.

use lastgood_domain::{
    operations::{
        Event, Operations, Record, Refused, approval,
        incident::{
            self, IncidentEvent, State,
            plan::{self, Plan},
        },
    },
    terms::{Actor, Digest, IncidentId, Reason, Timestamp},
};

/// Takes a plan into the log and the incident to where it can be run. What was approved of another plan is void, and so is
/// what was approved of this one if anything of it was begun: an approval is for doing it once.
///
/// Errors: there is no such incident; it can't be planned as it stands; the plan is for another level, empty or too long.
pub fn take(
    state: &Operations,
    id: IncidentId,
    (made, hash): (&Plan, Digest),
    by: &Actor,
    now: Timestamp,
) -> Result<Vec<Event>, Refused> {
    let found = incident::find(state, id)?;
    let arrows: &[State] = match found.state {
        State::Declared => &[State::Freezing, State::Planning],
        State::Planning => &[],
        _ => &[State::Planning],
    };
    // The level may have been changed while the plan was made.
    if made.level != found.level {
        return Err(incident::Refused::from(plan::Refused::NoPlan { incident: id }).into());
    }
    let why = Reason::new("a plan is made").expect("a fixed valid reason");
    let (mut events, mut after) = (Vec::new(), state.clone());
    for to in arrows {
        let event = Event::Incident { incident: id, event: incident::advance(&after, id, *to, why.clone())? };
        after.take(&Record { v: Record::VERSION, at: now, by: by.clone(), event: event.clone() });
        events.push(event);
    }
    // Whatever was approved was another plan; or this one, and to be done once.
    if found.planned.as_ref().is_some_and(|planned| planned.hash != hash || !planned.steps.is_empty()) {
        let voided = approval::voided(&state.approvals, &plan::subject(id), "another plan was made");
        events.extend(voided.into_iter().map(Event::Approval));
    }
    for step in found.planned.iter().flat_map(|planned| planned.waivers.keys()) {
        let subject = incident::subject(id, &format!("step/{step}"));
        let voided = approval::voided(&state.approvals, &subject, "another plan was made");
        events.extend(voided.into_iter().map(Event::Approval));
    }
    let made = plan::made(id, made.clone(), hash).map_err(incident::Refused::from)?;
    events.push(Event::Incident { incident: id, event: IncidentEvent::Plan(made) });
    Ok(events)
}

/// Asks `needed` people besides `by` to approve a plan, unless as many are asked already.
///
/// Errors: there is no such incident; another plan was made since; somebody said no to this one.
pub fn ask(
    state: &Operations,
    id: IncidentId,
    (hash, needed): (Digest, u32),
    by: &Actor,
    now: Timestamp,
) -> Result<Vec<Event>, Refused> {
    let planned = incident::find(state, id)?.planned.as_ref();
    let planned = planned.ok_or(plan::Refused::NoPlan { incident: id }).map_err(incident::Refused::from)?;
    if planned.hash != hash {
        let (is, seen) = (planned.hash.short(), hash.short());
        return Err(incident::Refused::from(plan::Refused::OtherPlan { incident: id, is, seen }).into());
    }
    let subject = plan::subject(id);
    // What fewer people were asked is no answer to this.
    let is_as_strict = |one: &approval::Approval| one.request.needed >= needed;
    let answer = approval::answered(&state.approvals, &subject, &hash, now)
        .filter(|(_, one)| is_as_strict(one) || matches!(one.standing, approval::Standing::Rejected { .. }));
    if let Some((approval, one)) = answer {
        // A no is an answer: what comes after it is another plan.
        let approval::Standing::Rejected { by, reason } = &one.standing else { return Ok(Vec::new()) };
        let (approval, by, reason) = (*approval, by.clone(), reason.clone());
        return Err(approval::Refused::Rejected { approval, by, reason }.into());
    }
    let steps = planned.plan.steps.len();
    let severe = severe(&planned.plan);
    let what = format!("run plan {} of incident {id}, {steps} steps{severe}", hash.short());
    let expires = now.after(approval::EXPIRES_AFTER);
    let request = approval::Request { subject, what, plan: hash, needed, of: [].into(), expires };
    let events = approval::request(&state.approvals, by, request)?;
    Ok(events.into_iter().map(Event::Approval).collect())
}

/// Severe steps that an approval names; the rest are counted, and all stand in the plan.
const NAMED_MAX: usize = 5;

/// Names the steps whose risk is severe, for who is asked to approve them.
fn severe(plan: &Plan) -> String {
    let names: Vec<&str> = plan.severe().map(|step| step.id.as_str()).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    match names.is_empty() {
        true => String::new(),
        false => format!("; severe: {}{more}", names[..names.len().min(NAMED_MAX)].join(", ")),
    }
}
