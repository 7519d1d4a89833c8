//! The notebook, tried from outside: its releases, its folders, its HTTP, and kills at any moment.
#![expect(clippy::unwrap_used, reason = "a test that can't set up its world has failed")]

mod crashes;
mod folders;
mod http;
mod instance;
mod releases;
