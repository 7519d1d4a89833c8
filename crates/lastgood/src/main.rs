//! Speaks: the command line and the daemon. The only printing and exiting.

mod app;
mod cli;
mod drive;
mod exit;
mod progress;
mod screen;
mod wake;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
