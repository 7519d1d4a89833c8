//! `lastgood demo`: a whole story in about a minute, on a built-in service. Nothing is pretended: real processes, real
//! SQLite data, real releases of which some are bad, and with `--traffic` real users.

mod chat;
mod notebook;
mod stage;

use self::{chat::Chat, notebook::Notebook};
use super::Ended;
use crate::{
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::Args;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Run a short demo on a built-in service.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The story of one service with many users: shares, guards and a kill switch.
    #[arg(long)]
    traffic: bool,
    /// Keep everything in this folder, which must not exist yet. Default: a temporary one, removed at the end.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Demo {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen) -> Ended {
        let began = Instant::now();
        let temporary;
        let folder = match &self.keep {
            Some(folder) => {
                fs::create_dir(folder).map_err(|error| trouble("make the folder", folder, &error))?;
                std::path::absolute(folder).map_err(|error| trouble("find", folder, &error))?
            }
            None => {
                temporary = tempfile::Builder::new()
                    .prefix("lastgood-demo-")
                    .tempdir()
                    .map_err(|error| trouble("make a temporary folder in", &std::env::temp_dir(), &error))?;
                temporary.path().to_path_buf()
            }
        };
        let removed = self.keep.is_none().then(|| folder.clone());
        let (told, nobody_lost, next) = if self.traffic {
            let chat = Chat::build(screen, &folder)?;
            chat.stage.sweeper().sweep_on_interrupt(removed)?;
            let told = chat.tell();
            drop(chat.stage.sweeper().sweep());
            (told?, "a message", "one service, many users: lastgood plan shows the shares of `[service.NAME.traffic]`")
        } else {
            let notebook = Notebook::build(screen, &folder)?;
            notebook.stage.sweeper().sweep_on_interrupt(removed)?;
            let told = notebook.tell();
            drop(notebook.stage.sweeper().sweep());
            (told?, "a note", "your own service: lastgood init npm:PACKAGE")
        };
        let (chapters, holds) = told;
        let verdict = if holds { "the evidence holds" } else { "the evidence does NOT hold" };
        let kept = self.keep.as_ref().map_or_else(String::new, |folder| {
            format!("\nlook around: lastgood --config {}/lastgood.toml log", folder.display())
        });
        screen.show(
            "demo",
            &json!({ "chapters": chapters, "evidence_holds": holds, "seconds": began.elapsed().as_secs() }),
            &format!(
                "{chapters} chapters in {} s; nobody lost {nobody_lost}, and {verdict}{kept}\n{next}",
                began.elapsed().as_secs()
            ),
        );
        Ok(if holds { Exit::Done } else { Exit::Failed })
    }
}

fn trouble(act: &str, path: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::say(
        Exit::Failed,
        "demo-failed",
        format!("the demo can't {act} {}: {error}", path.display()),
        "name a folder on a disk with some room: lastgood demo --keep FOLDER",
    )
}

/// Makes trouble of a story that did not come as it is told.
fn other_way(what: &str) -> Trouble {
    Trouble::say(
        Exit::Failed,
        "demo-failed",
        format!("the demo did not go as expected: {what}"),
        "look at it with --keep FOLDER and report it",
    )
}
