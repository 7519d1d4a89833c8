//! Work that lastgood does in a process of its own: in another identity, or behind a fence.

use clap::Subcommand;
use lastgood_drivers::{runtime::launcher, state};
use lastgood_engine::world;
use std::{ffi::OsString, process::ExitCode};

/// Work that lastgood does in a process of its own.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Become an instance's program.
    Launch {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Copy an instance's data as its owner.
    Snapshot,
    /// Rehearse a release on a copy.
    Rehearse,
    /// Be the built-in service of the demo.
    Notebook {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

impl Internal {
    /// Runs the work and gives the process's exit code.
    pub fn run(self) -> ExitCode {
        match self {
            Self::Launch { arguments } => match launcher::main(arguments.into_iter()) {
                Ok(never) => match never {},
                Err(error) => {
                    crate::screen::err(&error.to_string());
                    ExitCode::from(1)
                }
            },
            Self::Snapshot => ExitCode::from(state::worker_main()),
            Self::Rehearse => ExitCode::from(world::rehearsal_main()),
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
