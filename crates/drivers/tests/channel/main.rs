//! Promises of the channels, kept with real files, archives, processes and repositories.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod archive;
mod command;
mod crash;
mod directory;
mod disk;
mod git;
mod git_tag;
mod hostile;
mod world;
