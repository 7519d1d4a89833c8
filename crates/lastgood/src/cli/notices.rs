//! `lastgood notices`: what was sent, what waits, what is dead.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Subcommand, ValueEnum};
use lastgood_domain::{failure::Coded, words};
use lastgood_engine::letter::rfc3339;
use lastgood_store::{MessageId, NoticeState};
use serde_json::json;
use std::collections::HashSet;

/// Most messages listed at once.
const LIST_MAX: usize = 1_000;

/// List notices and resend failed ones.
#[derive(Debug, Subcommand)]
pub(crate) enum Notices {
    /// List notices.
    List {
        /// Only notices in this state [default: failed].
        #[arg(long, value_enum, default_value_t = State::Failed)]
        state: State,
    },
    /// Show every delivery attempt of one notice.
    Show {
        /// The notice's id.
        id: MessageId,
    },
    /// Resend dead notices: one, or all.
    Replay {
        /// The notice's id [default: all dead ones].
        id: Option<MessageId>,
    },
    /// Set a waiting notice aside, so that later ones are sent.
    Skip {
        /// The notice's id.
        id: MessageId,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// States of a notice.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Waiting for delivery or a retry.
    Pending,
    /// Being sent.
    InFlight,
    /// Delivered.
    Delivered,
    /// Given up after the last retry.
    Failed,
    /// Set aside by a person.
    Parked,
}

impl From<State> for NoticeState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::InFlight => Self::InFlight,
            State::Delivered => Self::Delivered,
            State::Failed => Self::Failed,
            State::Parked => Self::Parked,
        }
    }
}

fn failed(error: &dyn Coded) -> Trouble {
    Trouble::new(Exit::Failed, error)
}

impl Notices {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List { state } => list(app, state.into()),
            Self::Show { id } => show(app, &id),
            Self::Replay { id } => replay(app, id),
            Self::Skip { id, reason } => {
                app.store()?.skip(&id, &reason, app.now()).map_err(|error| failed(&error))?;
                lastgood_engine::bell::ring(app.home.root());
                app.screen.show("notice-skipped", &json!({ "id": id.as_str() }), &format!("{id} is set aside"));
                Ok(Exit::Done)
            }
        }
    }
}

fn list(app: &App, state: NoticeState) -> Ended {
    let rows = match app.reader()? {
        None => Vec::new(),
        Some(reader) => reader.notices(state, LIST_MAX).map_err(|error| failed(&error))?,
    };
    let mut text = String::new();
    for row in &rows {
        let why = row.why.as_deref().unwrap_or_default();
        let tries = words::count(row.attempts.into(), "try");
        text += &format!("{} {} {} to {}: {tries} {why}\n", row.id, rfc3339(row.at), row.kind, row.endpoint);
    }
    if rows.is_empty() {
        text = format!("no notice is {}\n", state.as_str());
    }
    let data: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id.as_str(), "endpoint": row.endpoint, "subject": row.subject, "kind": row.kind,
                "at": row.at, "state": row.state.as_str(), "attempts": row.attempts, "due": row.due,
                "why": row.why, "event": format!("{}#{}", row.chain, row.seq),
            })
        })
        .collect();
    app.screen.show("notices", &data, &text);
    Ok(Exit::Done)
}

fn show(app: &App, id: &MessageId) -> Ended {
    let attempts = match app.reader()? {
        None => Vec::new(),
        Some(reader) => reader.attempts(id).map_err(|error| failed(&error))?,
    };
    let mut text = String::new();
    for attempt in &attempts {
        let code = attempt.code.map_or_else(String::new, |code| format!(" {code}"));
        let class = attempt.class.as_deref().unwrap_or("under way");
        let what = attempt.text.as_deref().unwrap_or_default();
        text += &format!("try {} {}{code} {class} {what}\n", attempt.number, rfc3339(attempt.at));
    }
    if attempts.is_empty() {
        text = format!("{id} was not tried yet\n");
    }
    let data: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            json!({
                "number": attempt.number, "at": attempt.at, "code": attempt.code, "took": attempt.took,
                "class": attempt.class, "text": attempt.text,
            })
        })
        .collect();
    app.screen.show("notice-attempts", &data, &text);
    Ok(Exit::Done)
}

fn replay(app: &App, id: Option<MessageId>) -> Ended {
    let mut store = app.store()?;
    let all = id.is_none();
    let mut ids: Vec<MessageId> = id.into_iter().collect();
    for id in &ids {
        store.replay(id, app.now()).map_err(|error| failed(&error))?;
    }
    // As many as are listed at once, until all are: what is replayed is dead no more.
    if all {
        loop {
            let dead = store.notices(NoticeState::Failed, LIST_MAX).map_err(|error| failed(&error))?;
            // One that has died again meanwhile has had its turn.
            let known: HashSet<&str> = ids.iter().map(MessageId::as_str).collect();
            let next: Vec<MessageId> =
                dead.into_iter().map(|row| row.id).filter(|id| !known.contains(id.as_str())).collect();
            if next.is_empty() {
                break;
            }
            for id in &next {
                store.replay(id, app.now()).map_err(|error| failed(&error))?;
            }
            ids.extend(next);
        }
    }
    lastgood_engine::bell::ring(app.home.root());
    let text = format!("{} sent again by the daemon, or by the next: lastgood run", ids.len());
    app.screen.show("notices-replayed", &ids.iter().map(MessageId::as_str).collect::<Vec<_>>(), &text);
    Ok(Exit::Done)
}
