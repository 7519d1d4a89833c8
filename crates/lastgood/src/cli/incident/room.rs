//! The incident room: where one stands, what keeps it frozen, what to type next.

use super::{data, find, plan, services_words, unfreeze, verify};
use crate::{
    app::App,
    cli::{Ended, hold},
    exit::Exit,
    screen::Trouble,
};
use lastgood_domain::{
    operations::{
        Operations,
        incident::{
            Incident, Role, State,
            closing::owed,
            message::is_overdue,
            role::is_leaderless,
            unfreeze::{Line, Row},
        },
    },
    terms::{IncidentId, Timestamp},
};
use lastgood_engine::{
    letter::rfc3339,
    operations::{self as engine, Entry},
};
use serde_json::{Value, json};

/// Entries of the timeline that the room shows.
const TAIL: usize = 6;

/// Lists incidents.
pub(super) fn list(app: &App, all: bool) -> Ended {
    let incidents = app.operations()?.incidents;
    let chosen: Vec<_> = incidents.all.iter().filter(|(_, one)| all || !one.state.is_over()).collect();
    let line = |(id, one): &(&IncidentId, &Incident)| {
        let drill = if one.drill { "  drill" } else { "" };
        let (level, state) = (one.level.as_str(), one.state.as_str());
        format!("{id}  {level}  {state}  {}  led by {}{drill}: {}\n", services_words(one), one.commander, one.trigger)
    };
    let mut text: String = chosen.iter().map(line).collect();
    if text.is_empty() {
        text = "no incident is open\n".into();
    }
    let rows: Vec<Value> = chosen.iter().map(|(id, one)| data(**id, one)).collect();
    app.screen.show("incidents", &rows, &text);
    Ok(Exit::Done)
}

/// Reads the timeline.
fn entries(app: &App, id: IncidentId) -> Result<Vec<Entry>, Trouble> {
    let Some(reader) = app.reader()? else { return Ok(Vec::new()) };
    engine::timeline(&reader, id).map_err(|error| Trouble::new(Exit::Failed, &error))
}

fn entry_words(entry: &Entry) -> String {
    format!("  {}  {}\n", rfc3339(entry.at), entry.text)
}

/// Shows everything that happened.
pub(super) fn timeline(app: &App, id: IncidentId) -> Ended {
    find(&app.operations()?, id)?;
    let entries = entries(app, id)?;
    let text: String = entries.iter().map(entry_words).collect();
    let rows: Vec<Value> = entries
        .iter()
        .map(|one| json!({ "seq": one.seq, "at": one.at, "by": one.by, "text": one.text, "event": one.event }))
        .collect();
    app.screen.show("incident-timeline", &rows, &text);
    Ok(Exit::Done)
}

/// Shows the room.
pub(super) fn show(app: &App, id: IncidentId) -> Ended {
    let operations = app.operations()?;
    let found = find(&operations, id)?;
    let now = app.now();
    let facts = verify::facts(app, &operations, id, found)?;
    let (table, rows, table_text) = unfreeze::table(app, &operations, id, &facts)?;
    let entries = entries(app, id)?;
    let drill = if found.drill { "DRILL  " } else { "" };
    let mut text = format!("{drill}incident {id}  {}  {}\n", found.level.as_str(), found.trigger);
    text += &format!("  {}\n", rail(found.state));
    text += &format!(
        "  since {}; declared {} by {}\n",
        rfc3339(found.since),
        rfc3339(found.declared_at),
        found.declared_by
    );
    text += &format!("  about {}\n", services_words(found));
    text += &roles(found);
    text += &holds(&operations, id, found, &facts.unconfirmed, now);
    text += &checklist(&operations, found, now);
    let planned = found.planned.as_ref().map(plan::progress);
    text += planned.as_ref().map_or("", |(_, text)| text);
    text += "unfreeze\n";
    text += &table_text;
    text += &messages(found, now);
    text += "timeline\n";
    let tail = entries.len().saturating_sub(TAIL);
    text.extend(entries[tail..].iter().map(entry_words));
    let next = match is_leaderless(found, &app.config.people()) && !found.state.is_over() {
        true => format!("lastgood incident take-over {id} --reason …"),
        false => next(id, found, &table, now),
    };
    text += &format!("next: {next}\n");
    let mut all = data(id, found);
    all["roles"] = json!(Role::ALL.map(|role| json!({
        "role": role, "owner": found.owner(role), "offered_to": found.roles.offers.get(&role),
    })));
    all["checklist"] = checklist_data(&operations, found, now);
    all["unfreeze"] = rows;
    if let Some((plan, _)) = planned {
        all["plan"] = plan;
    }
    all["unconfirmed"] = json!(facts.unconfirmed);
    all["next_update_by"] = json!(found.messages.next_update_by);
    all["owed"] = json!(owed(found));
    all["next"] = json!(next);
    app.screen.show("incident", &all, &text);
    Ok(Exit::Done)
}

/// Writes every state on the way, the one of now in capitals.
fn rail(now: State) -> String {
    let way = State::ALL.into_iter().filter(|state| (*state == State::StoodDown) == (now == State::StoodDown));
    let way = way.map(|state| if state == now { state.as_str().to_uppercase() } else { state.as_str().into() });
    way.collect::<Vec<_>>().join(" > ")
}

fn roles(found: &Incident) -> String {
    let mut text = "roles\n".to_owned();
    for role in Role::ALL {
        let owner = found.owner(role).map_or_else(|| "nobody".into(), ToString::to_string);
        let offer = found.roles.offers.get(&role).map(|to| format!(", offered to {to}")).unwrap_or_default();
        text += &format!("  {:<15}{owner}{offer}\n", role.as_str());
    }
    text
}

fn holds(operations: &Operations, id: IncidentId, found: &Incident, unconfirmed: &[String], now: Timestamp) -> String {
    let mut text = "holds\n".to_owned();
    if found.drill {
        return text + "  drill: nothing is held\n";
    }
    for (hold, one) in operations.holds.standing(now).filter(|(_, hold)| hold.incident == Some(id)) {
        let kinds = one.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        text += &format!("  {hold:<8} {kinds}\n{}", hold::enforcers_text(&operations.holds, *hold));
    }
    let lifted = found.unfreeze.lifted.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    if !lifted.is_empty() {
        text += &format!("  lifted: {lifted}\n");
    }
    for one in unconfirmed {
        text += &format!("  NOT CONFIRMED: {one}\n");
    }
    text
}

/// Writes the checklist by owner.
pub(in crate::cli) fn checklist(operations: &Operations, found: &Incident, now: Timestamp) -> String {
    let mut text = "checklist\n".to_owned();
    for role in Role::ALL {
        for (name, entry) in found.checklist.iter().filter(|(_, entry)| entry.item.role == role) {
            let standing = entry.standing(found.level, &operations.approvals, now);
            let owner = found.owner(role).map_or_else(|| "nobody".into(), ToString::to_string);
            let needs = match standing.is_open() {
                true => format!(", needs {} by {}", entry.item.evidence.words(), rfc3339(entry.item.due)),
                false => String::new(),
            };
            let (role, standing, what) = (role.as_str(), standing.words(), &entry.item.text);
            text += &format!("  {name}  {standing}  {role} ({owner}): {what}{needs}\n");
        }
    }
    text
}

/// Gives the checklist as data.
pub(in crate::cli) fn checklist_data(operations: &Operations, found: &Incident, now: Timestamp) -> Value {
    let rows = found.checklist.iter().map(|(name, entry)| {
        let standing = entry.standing(found.level, &operations.approvals, now);
        json!({
            "item": name, "what": entry.item.text, "role": entry.item.role, "level": entry.item.level,
            "evidence_kind": entry.item.evidence, "due": entry.item.due, "standing": standing.words(),
            "open": standing.is_open(), "evidence": entry.done.as_ref().map(|(evidence, _, _)| evidence),
            "done_by": entry.done.as_ref().map(|(_, by, _)| by), "waiver": entry.waiver.as_ref().map(|(one, _)| one),
        })
    });
    rows.collect()
}

fn messages(found: &Incident, now: Timestamp) -> String {
    let next = match found.messages.next_update_by {
        _ if found.state.is_over() => "none is due".into(),
        None => "none is due".into(),
        Some(by) if is_overdue(found, now) => format!("the next is OVERDUE since {}", rfc3339(by)),
        Some(by) => format!("the next is due by {}, in {}", rfc3339(by), by.since(now)),
    };
    format!("messages\n  {} sent; {next}\n", found.messages.sent)
}

/// Says what to type for a row that is not met.
pub(super) fn remedy(id: IncidentId, row: Row) -> String {
    match row {
        Row::Executed => format!("see where it stands: lastgood incident show {id}"),
        Row::Stable => {
            format!("wait, or take the risk: lastgood incident unfreeze {id} --accept-risk stable --reason … --for 1d")
        }
        Row::Verified => format!("verify it: lastgood incident verify {id}"),
        Row::Checklist => format!("close its items: lastgood checklist list {id}"),
        Row::Holds => "see what enforces them: lastgood hold list".into(),
        Row::Ownership => format!("say who: lastgood incident next-owner {id} --to …"),
        Row::Messages => {
            format!(
                "tell people: lastgood incident update {id} --message complete --field impact=… --field resolution=…"
            )
        }
        Row::Approvals => "see which are awaited: lastgood approval list".into(),
        Row::Watched => "wait until the stage was watched long enough".into(),
    }
}

/// Gives the next command to type.
fn next(id: IncidentId, found: &Incident, table: &[Line], now: Timestamp) -> String {
    if is_overdue(found, now) {
        return format!("lastgood incident update {id} --field impact=… --field status=…");
    }
    match found.state {
        State::Declared | State::Freezing => format!("lastgood incident freeze {id}"),
        State::Planning if found.planned.is_none() => format!("lastgood incident plan {id}"),
        State::Planning | State::Executing => format!("lastgood incident run {id}"),
        State::Cleaning if table.iter().any(|line| line.row == Row::Checklist && !line.is_open()) => {
            format!("lastgood checklist list {id}")
        }
        State::Cleaning => format!("lastgood incident verify {id}"),
        State::Verifying | State::UnfreezeReady | State::Monitoring => {
            match table.iter().find(|line| !line.is_open()) {
                Some(line) => remedy(id, line.row),
                None => format!("lastgood incident unfreeze {id}"),
            }
        }
        State::ClosedPendingRca => match owed(found).first() {
            Some(first) => format!("{first} {id} …"),
            None => format!("lastgood incident close {id} --reason …"),
        },
        State::Done | State::StoodDown => format!("lastgood incident report {id}"),
    }
}
