//! Would this be allowed, then and there?

use super::{Kind, wide};
use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::hold::{HoldKind, Question, effective, owned},
    terms::{Span, Timestamp},
};
use lastgood_engine::letter::rfc3339;
use serde_json::json;

/// Clocks of people and machines differ by this much.
const PAST_MAX: Span = Span::minutes(1);

/// Check whether an action is allowed, and what stops it.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The service [default: all].
    service: Option<String>,
    /// The kind of change.
    #[arg(long, value_enum, default_value = "deploy")]
    kind: Kind,
    /// Time to check, such as 2026-12-01T08:00:00Z [default: now].
    #[arg(long, value_name = "TIME", value_parser = wide::time)]
    at: Option<Timestamp>,
}

impl Check {
    pub(super) fn run(self, app: &App) -> Ended {
        let now = app.now();
        let at = self.at.unwrap_or(now);
        if now.since(at) > PAST_MAX {
            return Err(Trouble::say(
                Exit::Usage,
                "hold-check-past",
                format!("{} is over", rfc3339(at)),
                "what was active then is in the log: lastgood log SERVICE",
            ));
        }
        let operations = app.operations()?;
        let kind = HoldKind::from(self.kind);
        let (mut text, mut rows, mut exit) = (String::new(), Vec::new(), Exit::Done);
        let people = app.config.people();
        let frozen = app.frozen().filter(|_| matches!(kind, HoldKind::Promote | HoldKind::Deploy));
        for name in app.services(self.service.as_deref())? {
            let (subject, service) = (app.config.service[&name].subject(), app.look(&name)?.service);
            let (name, subject, service, people) = (&name, &subject, &service, &people);
            let question = Question { name, subject, service, kind, release: None, people };
            let mut stops = effective(&operations.holds, question, at);
            stops.extend(owned(&question, at));
            let allowed = stops.is_empty() && frozen.is_none();
            let word = if allowed { "allowed" } else { "refused" };
            text += &format!("{name}: {} {word} at {}\n", kind.as_str(), rfc3339(at));
            for stop in &stops {
                let until = stop.until.map(|until| format!(", until {}", rfc3339(until))).unwrap_or_default();
                text += &format!("  {} by {}: {}{until}\n", stop.hold, stop.owner, stop.reason);
                let commander =
                    stop.incident.and_then(|id| operations.incidents.all.get(&id)).map(|one| &one.commander);
                let commander = commander.filter(|_| stop.hold.starts_with("hold-"));
                let commander = commander.map(|who| format!(" ({who} leads it)")).unwrap_or_default();
                text += &format!("    who can lift it: {}{commander}: {}\n", stop.who, stop.how);
            }
            if let Some(frozen) = &frozen {
                text += &format!("  {frozen}\n    who can lift it: whoever may remove the file\n");
            }
            if !allowed {
                exit = Exit::Refused;
            }
            rows.push(json!({
                "service": name, "kind": kind, "at": at, "allowed": allowed, "stops": stops, "frozen": frozen,
            }));
        }
        app.screen.show("hold-check", &rows, &text);
        Ok(exit)
    }
}
