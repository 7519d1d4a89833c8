//! The report of an incident, made of its evidence alone: Markdown to keep, HTML to read anywhere.

use super::{Entry, Told, chain};
use crate::letter::rfc3339;
use lastgood_domain::{
    operations::{
        Event, Operations,
        approval::Standing,
        hold::HoldEvent,
        incident::{
            self, Incident, IncidentEvent, Role, State,
            checklist::{ChecklistEvent, ItemStanding},
        },
    },
    terms::{Actor, IncidentId, Span, Timestamp},
};
use std::fmt::Write as _;

/// What a report tells, ready to be written down.
#[derive(Debug, Clone)]
pub struct Report {
    title: String,
    summary: Vec<(&'static str, String)>,
    durations: Vec<(&'static str, String)>,
    sections: Vec<(&'static str, Vec<String>)>,
    timeline: Vec<Row>,
}

/// One line of the timeline.
#[derive(Debug, Clone)]
struct Row {
    at: String,
    by: String,
    what: String,
    /// The chain and the record's number in it, where it can be looked up.
    place: String,
}

/// Makes the report of what is known at `now`.
pub fn report(
    operations: &Operations,
    id: IncidentId,
    incident: &Incident,
    (timeline, told): (&[Entry], &Told),
    now: Timestamp,
) -> Report {
    let services = incident.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let drill = if incident.drill { "Drill: incident" } else { "Incident" };
    let summary = vec![
        ("Level", incident.level.as_str().to_owned()),
        ("State", incident.state.as_str().to_owned()),
        ("Services", if services.is_empty() { "every service".into() } else { services }),
        ("Commander", incident.commander.to_string()),
        ("Declared", format!("{} by {}", rfc3339(incident.declared_at), incident.declared_by)),
        ("Window of the timeline", told.window.clone()),
        ("Impact", incident.messages.impact.clone().unwrap_or_else(|| "not told".into())),
        ("Root cause", incident.closing.root_cause.as_ref().map_or("not known yet".into(), ToString::to_string)),
    ];
    Report {
        title: format!("{drill} {id}: {}", incident.trigger),
        summary,
        durations: durations(incident, timeline, now),
        sections: vec![
            ("Roles", roles(incident)),
            ("Decisions", decisions(operations, id, timeline)),
            ("Cleanup", cleanup(operations, incident, now)),
            ("Verification", verification(incident)),
            ("Follow-ups", follow_ups(incident)),
            ("Safeguards", incident.closing.safeguards.iter().map(ToString::to_string).collect()),
        ],
        timeline: rows(timeline, told),
    }
}

/// Puts the records of the incident and of its services in the order of their times.
fn rows(timeline: &[Entry], told: &Told) -> Vec<Row> {
    let row = |at: Timestamp, by: &Actor, what: &str, place: String| {
        (at, Row { at: rfc3339(at), by: by.to_string(), what: what.to_owned(), place })
    };
    let ours = timeline.iter().map(|one| row(one.at, &one.by, &one.text, format!("{}#{}", chain(), one.seq)));
    let theirs = told.lines.iter().map(|one| row(one.at, &one.by, &one.text, format!("{}#{}", one.chain, one.seq)));
    let mut rows: Vec<(Timestamp, Row)> = ours.chain(theirs).collect();
    // A stable sort: records of one chain stay in its order.
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn first(timeline: &[Entry], is: impl Fn(&Event) -> bool) -> Option<Timestamp> {
    timeline.iter().find(|one| is(&one.event)).map(|one| one.at)
}

fn last(timeline: &[Entry], is: impl Fn(&Event) -> bool) -> Option<Timestamp> {
    timeline.iter().rev().find(|one| is(&one.event)).map(|one| one.at)
}

fn moved_to(to: State) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Incident { event: IncidentEvent::Moved { to: state, .. }, .. } if *state == to)
}

fn durations(incident: &Incident, timeline: &[Entry], now: Timestamp) -> Vec<(&'static str, String)> {
    let declared = incident.declared_at;
    let began = incident.began_at.unwrap_or(declared);
    let between = |from: Timestamp, to: Option<Timestamp>| match to {
        Some(to) => to.since(from).to_string(),
        None => "not yet".into(),
    };
    let detection = match incident.began_at {
        Some(began) => declared.since(began).to_string(),
        None => "unknown: its beginning was not said".into(),
    };
    let lifted = last(timeline, |event| matches!(event, Event::Hold(HoldEvent::Lifted { .. })));
    let open = last(timeline, moved_to(State::ClosedPendingRca));
    let frozen: Span = open.unwrap_or(now).since(declared);
    vec![
        ("Detection (began to declared)", detection),
        ("Response (declared to the plan's start)", between(declared, first(timeline, moved_to(State::Executing)))),
        ("Recovery (began to the plan's end)", between(began, incident.recovered_at)),
        ("Verified after", between(declared, last(timeline, moved_to(State::UnfreezeReady)))),
        ("Last hold lifted after", between(declared, lifted.filter(|_| open.is_some()))),
        ("Frozen", if incident.drill { "drill: nothing is held".into() } else { frozen.to_string() }),
    ]
}

fn roles(incident: &Incident) -> Vec<String> {
    let owned = Role::ALL.into_iter().filter_map(|role| Some((role, incident.owner(role)?)));
    owned.map(|(role, owner)| format!("{}: {owner}", role.as_str())).collect()
}

fn decisions(operations: &Operations, id: IncidentId, timeline: &[Entry]) -> Vec<String> {
    let is_decision = |event: &Event| match event {
        Event::Incident { event, .. } => matches!(
            event,
            IncidentEvent::Declared { .. }
                | IncidentEvent::Raised { .. }
                | IncidentEvent::Level(_)
                | IncidentEvent::Unfreeze(_)
                | IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { .. })
        ),
        _ => false,
    };
    let told = timeline.iter().filter(|one| is_decision(&one.event));
    let mut all: Vec<String> = told.map(|one| format!("{} {}", rfc3339(one.at), one.text)).collect();
    let subject = incident::subject(id, "");
    let asked = operations.approvals.all.iter().filter(|(_, one)| one.request.subject.starts_with(&subject));
    all.extend(asked.map(|(approval, one)| {
        let yes = one.yes.iter().map(|(who, yes)| format!("{who}{}", yes.door.words())).collect::<Vec<_>>().join(", ");
        let by = match one.standing {
            Standing::Approved => format!("approved by {yes}"),
            _ => one.standing.words(),
        };
        format!("{approval}, asked by {}: {} ({by})", one.by, one.request.what)
    }));
    all
}

fn cleanup(operations: &Operations, incident: &Incident, now: Timestamp) -> Vec<String> {
    let entries = incident.checklist.iter();
    entries
        .map(|(name, entry)| {
            let standing = entry.standing(incident.level, &operations.approvals, now);
            let more = match (standing, &entry.done, &entry.waiver) {
                (ItemStanding::Done, Some((evidence, by, at)), _) => {
                    format!("by {by} at {}: {}", rfc3339(*at), evidence.words())
                }
                (ItemStanding::Waived, _, Some((signature, by))) => {
                    format!("by {by} until {}: {}", rfc3339(signature.until), signature.risk)
                }
                _ => format!("due {}", rfc3339(entry.item.due)),
            };
            format!("{name} ({}): {}, {more}", entry.item.text, standing.words())
        })
        .collect()
}

fn verification(incident: &Incident) -> Vec<String> {
    let Some((at, verification)) = &incident.verified else { return Vec::new() };
    let checks = verification.checks.iter();
    checks
        .map(|check| format!("{}: {} ({}), {}", check.name, check.proof.as_str(), check.detail, rfc3339(*at)))
        .collect()
}

fn follow_ups(incident: &Incident) -> Vec<String> {
    let all = incident.closing.follow_ups.iter();
    all.map(|(id, one)| {
        let standing = match &one.closed {
            Some((how, at)) => format!("done {}: {how}", rfc3339(*at)),
            None => format!("due {}", rfc3339(one.due)),
        };
        format!("{id}, {}: {} ({standing})", one.owner, one.text)
    })
    .collect()
}

impl Report {
    /// Writes it as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", plain(&self.title));
        for (name, value) in &self.summary {
            // Writing to a text can't fail.
            let _ = writeln!(text, "- **{name}:** {}", plain(value));
        }
        text += "\n## Durations\n\n| what | how long |\n|---|---|\n";
        for (name, value) in &self.durations {
            let _ = writeln!(text, "| {name} | {} |", plain(value));
        }
        for (name, lines) in &self.sections {
            let _ = write!(text, "\n## {name}\n\n");
            if lines.is_empty() {
                text += "None.\n";
            }
            for line in lines {
                let _ = writeln!(text, "- {}", plain(line));
            }
        }
        text += "\n## Timeline\n\nEach line is a record of the evidence: its chain and its number there stand behind it.\n\n\
                 | when (UTC) | who | what | where |\n|---|---|---|---|\n";
        for Row { at, by, what, place } in &self.timeline {
            let _ = writeln!(text, "| {at} | {} | {} | {place} |", plain(by), plain(what));
        }
        text
    }

    /// Writes it as one HTML page that needs nothing else.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<dl>\n"
        );
        for (name, value) in &self.summary {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
        }
        page += "</dl>\n<h2>Durations</h2>\n<dl class=\"numbers\">\n";
        for (name, value) in &self.durations {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
        }
        page += "</dl>\n";
        for (name, lines) in &self.sections {
            let _ = writeln!(page, "<h2>{name}</h2>");
            if lines.is_empty() {
                page += "<p>None.</p>\n";
                continue;
            }
            page += "<ul>\n";
            for line in lines {
                let _ = writeln!(page, "<li>{}</li>", escaped(line));
            }
            page += "</ul>\n";
        }
        page += "<h2>Timeline</h2>\n<p>Each line is a record of the evidence: its chain and its number there stand beside \
                 it.</p>\n<ol class=\"timeline\">\n";
        for Row { at, by, what, place } in &self.timeline {
            let (by, what) = (escaped(by), escaped(what));
            let _ = writeln!(page, "<li><time>{at}</time> <b>{by}</b> <code>{place}</code><p>{what}</p></li>");
        }
        page + "</ol>\n</main>\n</body>\n</html>\n"
    }
}

/// Keeps what people wrote from being read as Markdown's own signs.
fn plain(text: &str) -> String {
    let signs = text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
    // Neither a link nor a picture from elsewhere.
    signs.replace("](", "]\\(").replace(['\r', '\n'], " ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Read on a phone first, and on paper.
const STYLE: &str = "\
:root { color-scheme: light dark; --quiet: #595959; }
@media (prefers-color-scheme: dark) { :root { --quiet: #a8a8a8; } }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; border-bottom: 1px solid #8886; }
dl { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .2rem 1rem; margin: 0; }
dl.numbers { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); }
dt { color: var(--quiet); }
dd { margin: 0; }
ul { padding-left: 1.1rem; }
ol.timeline { list-style: none; padding: 0 0 0 .8rem; border-left: 3px solid #8886; }
ol.timeline li { margin-bottom: .8rem; }
ol.timeline p { margin: 0; }
code { color: var(--quiet); font-size: .85rem; }
time { color: var(--quiet); font-size: .85rem; margin-right: .5rem; }
";
