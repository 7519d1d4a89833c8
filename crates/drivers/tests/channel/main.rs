//! Promises of the channels, kept with real files, archives, processes and repositories.

mod archive;
mod command;
mod crash;
mod directory;
mod disk;
mod git;
mod hostile;
mod world;
