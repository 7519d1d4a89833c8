//! Promises of the rollout's state machine, as one program of tests: they share how a service is walked.

mod deciding;
mod dying;
mod expecting;
mod foreseeing;
mod going_back;
mod golden;
mod hindered_return;
mod holding;
mod passing;
mod pinning;
mod preflight;
mod provenance;
mod quiet;
mod required;
mod returning;
mod table;
mod traffic;
mod walk;
mod words;
