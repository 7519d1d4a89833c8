//! What the pages behind people's links show and do: the same decision through the same desk as the command line's.

use crate::app::{App, scope};
use lastgood_domain::{
    operations::{
        Event, Operations,
        approval::{self, Approval, Door, Standing},
        incident::plan,
        people::Act,
    },
    terms::{ApprovalId, Reason, Timestamp},
};
use lastgood_engine::{
    bell,
    config::Config,
    letter::rfc3339,
    links::{Link, Links, parse_ticket},
    operations::{Desk, SayError},
    world,
};
use lastgood_server::answers::{Answers, Form, Shown};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Opens the pages, if there is an address for links; trouble with their key is told, and there are none.
pub(super) fn open(app: &App) -> Option<Answers> {
    let url = app.config.approvals.as_ref()?.url.clone()?;
    let opened = app.links().and_then(|_| app.desk());
    let desk = opened.map_err(|trouble| app.screen.trouble(&trouble)).ok()?;
    let office =
        Office { url, desk: Mutex::new(desk), home: app.home.root().to_path_buf(), config: app.config_path.clone() };
    Some(Arc::new(move |ticket, form| office.answer(ticket, form, world::now())))
}

/// What answers need; it outlives the command's own circumstances.
struct Office {
    url: String,
    desk: Mutex<Desk>,
    home: PathBuf,
    config: PathBuf,
}

fn says(status: u16, heading: &str, says: &str) -> Shown {
    Shown { status, heading: heading.into(), says: says.into(), ..Shown::default() }
}

/// A link that is wrong in any way is told nothing of what there is.
fn unknown() -> Shown {
    says(404, "This link is not valid", "Open it whole, as it was sent to you, or look for a newer one.")
}

impl Office {
    fn answer(&self, ticket: &str, form: Option<Form>, now: Timestamp) -> Shown {
        let Some((id, person, token)) = parse_ticket(ticket) else { return unknown() };
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        // Read each time: whoever removes the key after a leak ends every link with it, now.
        let Ok(links) = Links::open(&self.home, &self.url) else {
            return says(503, "It can't be told now", "The key of the links can't be read.");
        };
        let Ok(seen) = desk.look() else {
            return says(503, "It can't be told now", "The evidence can't be read.");
        };
        let Some(one) = seen.state.approvals.all.get(&id) else { return unknown() };
        let link = Link::of(id, one, &person);
        if !links.is_genuine(&link, token) {
            return unknown();
        }
        if let Some(over) = over(&link, one, now) {
            return over;
        }
        // Read each time too: whoever was taken out of it has no say from then on, and whoever lost a role not that one.
        let Ok(config) = Config::read(&self.config) else {
            return says(503, "It can't be told now", "The configuration can't be read.");
        };
        let scope = scope(&config);
        let may = scope.people.check(&person, Act::Approve);
        if may.is_err() || !scope.people.all.contains_key(&person) {
            return says(409, "You can't answer this", &format!("{person} may not approve. Nothing was decided."));
        }
        let Some(form) = form else { return look(&seen.state, &link, one, now) };
        let reason = match &form {
            Form::Approve => None,
            Form::Reject(text) => match Reason::new(text) {
                Ok(reason) => Some(reason),
                Err(error) => return says(400, "Say why not", &format!("{error}. Nothing was decided: go back.")),
            },
        };
        desk.decide_by(scope);
        let said = desk.say_one(&person, now, &|state| {
            let approvals = &state.approvals;
            let answer = match &reason {
                None => approval::approve(approvals, &person, id, link.plan, now)?,
                Some(reason) => approval::reject(approvals, &person, id, reason.clone(), now)?,
            };
            Ok(Event::Approval(answer.through(Door::Link)))
        });
        match said {
            Ok((_, after)) => {
                bell::ring(&self.home);
                let one = &after.state.approvals.all[&id];
                Shown { status: 200, ..over(&link, one, now).unwrap_or_else(unknown) }
            }
            Err(SayError::Refused(refused)) => says(409, "Nothing was decided", &format!("{refused}.")),
            Err(SayError::Append(_)) => says(503, "Nothing was decided", "The evidence can't be written now."),
        }
    }
}

/// Says what was decided, if a genuine link has nothing to answer any more.
fn over(link: &Link, one: &Approval, now: Timestamp) -> Option<Shown> {
    let id = link.approval;
    let when = one.ended.map_or_else(String::new, |at| format!(" at {}", rfc3339(at)));
    let (yes, needed) = (one.yes.len(), one.request.needed);
    let standing = match one.standing_at(now) {
        Standing::Pending => format!("{yes} of {needed} have said yes."),
        Standing::Approved => format!("{id} is approved since{}.", when.trim_start_matches(" at")),
        Standing::Rejected { by, reason } => format!("{by} rejected {id}{when}: {reason}."),
        Standing::Used => format!("{id} was approved, and was done{when}."),
        Standing::Expired => format!("{id} expired at {}. Nothing was allowed.", rfc3339(one.request.expires)),
        Standing::Voided { because } => {
            format!("{id} is void{when}: {because}. A newer request has a link of its own.")
        }
    };
    let heading = match (one.yes.get(&link.person), one.standing_at(now)) {
        (Some(yes), _) => format!("You approved {id} at {}", rfc3339(yes.at)),
        (None, Standing::Pending) => return None,
        (None, Standing::Rejected { by, .. }) if by == link.person => format!("You rejected {id}"),
        (None, other) => format!("{id} is {}", other.word()),
    };
    let facts = vec![("What was asked", one.request.what.clone()), ("By", one.by.to_string())];
    Some(Shown { status: 410, heading, says: standing, facts, ..Shown::default() })
}

fn look(operations: &Operations, link: &Link, one: &Approval, now: Timestamp) -> Shown {
    let request = &one.request;
    let mut facts = vec![
        ("What is asked", request.what.clone()),
        ("By", format!("{} at {}", one.by, rfc3339(one.at))),
        ("You are", link.person.to_string()),
        ("Digest of the plan", request.plan.to_string()),
        ("Until", format!("{} ({} left)", rfc3339(request.expires), request.expires.since(now))),
        ("Yes so far", format!("{} of {}", one.yes.len(), request.needed)),
    ];
    let (steps, stays) = steps(operations, link.approval, one);
    facts.push(("Can't be undone", stays));
    Shown {
        status: 200,
        heading: format!("{} asks you to approve {}", one.by, link.approval),
        says: "Nothing happens before you choose.".into(),
        facts,
        steps,
        open: true,
    }
}

/// Gives what would be done and what of it stays, as far as lastgood itself knows.
fn steps(operations: &Operations, id: ApprovalId, one: &Approval) -> (Vec<(String, bool)>, String) {
    let planned = operations.incidents.all.iter().find_map(|(incident, found)| {
        let planned = found.planned.as_ref().filter(|planned| planned.hash == one.request.plan)?;
        (plan::subject(*incident) == one.request.subject).then_some(planned)
    });
    if let Some(planned) = planned {
        let stays = |step: &plan::Step| matches!(step.undo, plan::Undo::None { .. });
        let says = |step: &plan::Step| {
            let risk = step.risk.as_ref().map_or_else(String::new, |risk| format!(" (risk {})", risk.says()));
            format!("{}: {}{risk}", step.id, step.says)
        };
        let steps = planned.plan.steps.iter().map(|step| (says(step), stays(step)));
        let why = planned.plan.irreversible().filter_map(|step| match &step.undo {
            plan::Undo::None { why } => Some(format!("{}: {why}", step.id)),
            plan::Undo::Nothing | plan::Undo::By { .. } => None,
        });
        let why = why.collect::<Vec<_>>().join("; ");
        return (steps.collect(), if why.is_empty() { "nothing: each step has a way back".into() } else { why });
    }
    if let Some(asked) = operations.holds.asked.get(&id) {
        let until = rfc3339(asked.exemption.until);
        return (Vec::new(), format!("lets exactly this release pass until {until}; a rollback stays possible"));
    }
    if let Some(asked) = operations.holds.merges.get(&id) {
        let until = rfc3339(asked.exemption.until);
        return (Vec::new(), format!("lets a held branch be moved to exactly this commit until {until}"));
    }
    let ask = format!("nobody here knows its steps: look at the plan whose digest this is, or ask {}", one.by);
    (Vec::new(), ask)
}
