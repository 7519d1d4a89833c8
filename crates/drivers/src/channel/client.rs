//! Runs outside programs.
