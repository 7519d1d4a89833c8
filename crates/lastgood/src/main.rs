//! Speaks: the command line and the daemon. The only printing and exiting.

mod adopt;
mod app;
mod canvas;
mod chosen;
mod cli;
mod drive;
mod enforce;
mod exit;
mod leftovers;
mod outside;
mod page;
mod preserve;
mod progress;
mod room;
mod screen;
mod traffic;
mod who;

use std::process::ExitCode;

fn main() -> ExitCode {
    // What runs before a program is executed comes first, while this process has one thread and no state.
    match cli::internal::before_all(std::env::args_os()) {
        Some(code) => code,
        None => cli::main(),
    }
}
