//! Promises of the rollout's state machine, as one program of tests: they share how a service is walked.

mod deciding;
mod golden;
mod holding;
mod passing;
mod provenance;
mod returning;
mod table;
mod traffic;
mod walk;
mod words;
