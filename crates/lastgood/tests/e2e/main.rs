//! The whole of it: the real program, real instances, real HTTP and real data, in folders of their own.
//!
//! One program, so that the kit is compiled once; `story` is what a user lives through, `crash` kills the driver
//! between any two steps, `cli` is what scripts rely on, `adopt` is a first hour, `daemon` is `lastgood serve`, `watch`
//! is a terminal, `runbook` is what an incident does, `needing` what its steps need, `gates` is what must say yes first, `signals` is signals and
//! credentials, `links` is how people answer from afar, `doors` is who may do it, `proofs` is what closes an
//! item, `drifted` is what runs otherwise than declared, `provenance` is where releases come from, `switches` is flags and kill switches, `openfeature` asks for
//! flags with other people's SDKs, `revive` is what died, `alike` is rehearsals beside production, `hindered` is what
//! stands in the way of a way back, `restoring` what stands in the way of putting data
//! back, `put_back` is evidence from a backup, `reporting` an incident's report against it, `beset` is a machine that is
//! full, torn or held by somebody, `damaged` is what is not as it was left, `expecting` what was looked at before, `quiet`
//! who moves later, `unmoved` what keeps an instance where it is, `units` a whole life on
//! units of systemd.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod adopt;
mod alike;
mod approvals;
mod beset;
mod cli;
mod commanding;
mod crash;
mod credentials;
mod daemon;
mod damaged;
mod doors;
mod drifted;
mod edited;
mod emergency;
mod expecting;
mod gates;
mod hindered;
mod holds;
mod incident;
mod kit;
mod links;
mod needing;
mod openfeature;
mod openfeature_web;
#[path = "../person/mod.rs"]
mod person;
#[path = "../../../drivers/tests/postgres_kit/mod.rs"]
#[expect(dead_code, reason = "tests of drivers use the rest of it")]
mod postgres_kit;
mod preflight;
mod proofs;
mod provenance;
mod put_back;
mod quiet;
mod reporting;
mod restoring;
mod revive;
mod runbook;
mod setups;
mod signals;
mod sink;
mod story;
mod switches;
#[path = "../../../drivers/tests/systemd_kit/mod.rs"]
mod systemd_kit;
mod units;
mod unmoved;
mod verifying;
mod watch;
