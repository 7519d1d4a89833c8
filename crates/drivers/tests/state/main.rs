//! Promises about data, kept with real files, real databases and real processes.

mod clone;
mod hostile;
mod live;
mod loss;
mod property;
mod restore;
mod room;
mod snapshot;
mod stage;
