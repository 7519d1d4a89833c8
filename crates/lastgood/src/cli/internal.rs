//! Work that lastgood does in a process of its own: in another identity, or behind a fence.

use clap::{Parser as _, Subcommand};
use last_layer::Place;
use lastgood_drivers::{runtime::launcher, sql, state};
use lastgood_engine::world;
use std::{ffi::OsString, process::ExitCode};

/// Work that lastgood does in a process of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Copy an instance's data as its owner.
    Snapshot,
    /// Ask a SQLite file one question as its owner.
    Query,
    /// Rehearse a release on a copy.
    Rehearse,
    /// Be the built-in service of the demo.
    Notebook {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Be the built-in chat service of the demo.
    LastLayer {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Runs `internal launch`, `detach` and `guard`, which become another program; `None` for all other commands.
pub(crate) fn before_all(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1).peekable();
    arguments.next_if(|word| word == "internal")?;
    if !["launch", "detach", "guard"].iter().any(|word| arguments.peek().is_some_and(|next| next == word)) {
        return None;
    }
    let Err(error) = launcher::main(arguments);
    crate::screen::err(&error.to_string());
    Some(ExitCode::FAILURE)
}

impl Internal {
    /// Runs the work and gives the process's exit code.
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::Snapshot => ExitCode::from(state::worker_main()),
            Self::Query => ExitCode::from(sql::worker_main()),
            Self::Rehearse => ExitCode::from(world::rehearsal_main()),
            Self::LastLayer { arguments } => {
                let named = std::iter::once("last-layer".to_owned()).chain(arguments);
                let done = Place::try_parse_from(named).map_err(|error| error.to_string()).and_then(|place| {
                    let served = place.release().and_then(|release| last_layer::serve(&release, &place));
                    served.map_err(|error| last_layer::whole_story(&error))
                });
                match done {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(why) => {
                        crate::screen::err(&why);
                        ExitCode::FAILURE
                    }
                }
            }
            Self::Notebook { arguments } => match lastgood_notebook::run(&arguments) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    crate::screen::err(&lastgood_notebook::whole_story(&error));
                    ExitCode::from(1)
                }
            },
        }
    }
}
