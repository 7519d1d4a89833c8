//! What is owed at the end of an incident.

use super::{find, lead::known, plan::about, say, told};
use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand};
use lastgood_domain::{
    operations::incident::closing::{self, ClosingEvent},
    terms::{Digest, FollowUpId, IncidentId, Reason, ServiceName, Span},
};
use lastgood_engine::operations::{report, timeline, told as services_told};
use serde_json::json;
use std::path::PathBuf;

/// Name the owner of the next delivery cycle.
#[derive(Debug, Args)]
pub(crate) struct NextOwner {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The person, such as bob.
    #[arg(long, value_name = "NAME")]
    to: String,
}

/// A short text about an incident.
#[derive(Debug, Args)]
pub(crate) struct Say {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The text.
    text: Reason,
}

/// Manage follow-ups.
#[derive(Debug, Subcommand)]
pub(crate) enum FollowUp {
    /// Add a follow-up.
    Add {
        /// The incident, such as i0.
        incident: IncidentId,
        /// What has to be done.
        text: Reason,
        /// The owner, such as bob.
        #[arg(long, value_name = "NAME")]
        owner: String,
        /// Due in, such as 14d.
        #[arg(long, value_name = "TIME")]
        due: Span,
    },
    /// Close a follow-up.
    Close {
        /// The incident, such as i0.
        incident: IncidentId,
        /// The follow-up, such as f0.
        follow_up: FollowUpId,
        /// How it was done.
        #[arg(long)]
        reason: Reason,
    },
}

/// Write the report from the evidence.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The incident, such as i0.
    incident: IncidentId,
    /// Write HTML instead of Markdown.
    #[arg(long)]
    html: bool,
    /// Output file [default: stdout].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl NextOwner {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        let (id, to) = (self.incident, known(app, &self.to)?);
        let after = say(app, id, |state| closing::say(state, id, ClosingEvent::NextOwner { to: to.clone() }))?;
        told(app, id, &after, &format!("{to} owns the next delivery cycle"))
    }
}

impl Say {
    /// Says what caused it.
    pub(super) fn root_cause(self, app: &App) -> Ended {
        let event = ClosingEvent::RootCause { text: self.text };
        let after = say(app, self.incident, |state| closing::say(state, self.incident, event.clone()))?;
        told(app, self.incident, &after, "the root cause is recorded")
    }

    /// Says what stands in the way now.
    pub(super) fn safeguard(self, app: &App) -> Ended {
        let event = ClosingEvent::Safeguard { text: self.text };
        let after = say(app, self.incident, |state| closing::say(state, self.incident, event.clone()))?;
        told(app, self.incident, &after, "the safeguard is recorded")
    }
}

impl FollowUp {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        match self {
            Self::Add { incident, text, owner, due } => {
                let (owner, due) = (known(app, &owner)?, app.now().after(due));
                let after = say(app, incident, |state| {
                    let follow_up =
                        closing::next_follow_up(lastgood_domain::operations::incident::find(state, incident)?);
                    let (text, owner) = (text.clone(), owner.clone());
                    closing::say(state, incident, ClosingEvent::FollowUpAdded { follow_up, text, owner, due })
                })?;
                let last = find(&after, incident)?.closing.follow_ups.last_key_value().map(|(id, _)| *id);
                let id = last.map(|id| id.to_string()).unwrap_or_default();
                let text = format!(
                    "{id} is {owner}'s\nonce it is done: lastgood incident follow-up close {incident} {id} --reason …"
                );
                told(app, incident, &after, &text)
            }
            Self::Close { incident, follow_up, reason } => {
                let event = ClosingEvent::FollowUpClosed { follow_up, reason };
                let after = say(app, incident, |state| closing::say(state, incident, event.clone()))?;
                told(app, incident, &after, &format!("{follow_up} is done"))
            }
        }
    }
}

impl Report {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        let operations = app.operations()?;
        let id = self.incident;
        let found = find(&operations, id)?;
        let Some(reader) = app.reader()? else { return Ok(Exit::Failed) };
        let timeline = timeline(&reader, id).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let now = app.now();
        let names: Vec<ServiceName> = about(app, found).cloned().collect();
        let services = services_told(&reader, found, &names, now);
        let report = report::report(&operations, id, found, (&timeline, &services), now);
        let text = if self.html { report.html() } else { report.markdown() };
        let digest = Digest::of(text.as_bytes());
        let data =
            json!({ "incident": id, "digest": digest, "bytes": text.len(), "output": self.output, "text": text });
        match &self.output {
            None => app.screen.show("incident-report", &data, &text),
            Some(file) => {
                std::fs::write(file, &text).map_err(|error| {
                    let what = format!("{} can't be written: {error}", file.display());
                    Trouble::say(Exit::Failed, "incident-report-unwritable", what, "name another file: --output FILE")
                })?;
                let says = format!("{} is written, {}", file.display(), digest.short());
                app.screen.show("incident-report", &data, &says);
            }
        }
        // A report that lies nowhere is none, and one of what is over is only a copy.
        if self.output.is_some() && !found.state.is_over() {
            say(app, id, |state| closing::say(state, id, ClosingEvent::Reported { digest }))?;
        }
        Ok(Exit::Done)
    }
}

/// Gives the services that owe the analysis of an incident: none was handed in, or nobody else accepted it.
fn unaccepted(app: &App, id: IncidentId) -> Result<Vec<ServiceName>, Trouble> {
    let mut names = Vec::new();
    for name in app.services(None)? {
        let owed = app.look(&name)?.service.analysis;
        if owed.is_some_and(|owed| owed.incident == Some(id)) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Ends it.
pub(super) fn close(app: &App, id: IncidentId, reason: Reason) -> Ended {
    let unaccepted = unaccepted(app, id)?;
    let after = say(app, id, |state| closing::close(state, id, &app.actor, reason.clone(), &unaccepted))?;
    told(app, id, &after, &format!("incident {id} is done"))
}
