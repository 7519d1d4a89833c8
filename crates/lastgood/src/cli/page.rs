//! `lastgood page`: who is needed, and saying that one is there.

use super::Ended;
use crate::{app::App, exit::Exit};
use clap::Subcommand;
use lastgood_domain::{
    operations::{
        Event,
        escalation::{self, Page as Found},
    },
    terms::PageId,
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// List and acknowledge pages.
#[derive(Debug, Subcommand)]
pub(crate) enum Page {
    /// List unacknowledged pages.
    List {
        /// Include closed ones.
        #[arg(long)]
        all: bool,
    },
    /// Acknowledge a page: nobody else is paged.
    Ack {
        /// The page, such as p0.
        page: PageId,
    },
}

impl Page {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List { all } => list(app, all),
            Self::Ack { page } => {
                let (_, after) = app.say_operations(&|state| {
                    let event = escalation::acknowledge(&state.pages, page)?;
                    Ok(vec![Event::Page { page, event }])
                })?;
                let one = &after.pages.all[&page];
                app.screen.show("page", &data(page, one), &format!("{page}: {}", one.words()));
                Ok(Exit::Done)
            }
        }
    }
}

fn data(page: PageId, one: &Found) -> Value {
    json!({
        "page": page, "about": one.about, "text": one.text, "chain": one.chain, "since": one.at,
        "step": one.reached.map(|(step, _)| step + 1), "acknowledged_by": one.acknowledged,
        "exhausted": one.exhausted, "open": one.is_open(),
    })
}

fn list(app: &App, all: bool) -> Ended {
    let pages = app.operations()?.pages;
    let chosen: Vec<_> = pages.all.iter().filter(|(_, one)| all || one.is_open()).collect();
    let line =
        |(page, one): &(&PageId, &Found)| format!("{page}  since {}  {}: {}\n", rfc3339(one.at), one.words(), one.text);
    let mut text: String = chosen.iter().map(line).collect();
    match chosen.iter().find(|(_, one)| one.is_open()) {
        Some((page, _)) => text += &format!("acknowledge it: lastgood page ack {page}\n"),
        None if text.is_empty() => text = "nobody is needed\n".into(),
        None => {}
    }
    let rows: Vec<Value> = chosen.iter().map(|(page, one)| data(**page, one)).collect();
    app.screen.show("pages", &rows, &text);
    Ok(Exit::Done)
}
