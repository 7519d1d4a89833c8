//! Promises of the channels, kept with real files, archives, processes and repositories.

mod directory;
mod world;
