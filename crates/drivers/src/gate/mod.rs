//! What gates ask: reports, programs, probes, queries, forges, manifests.
//!
//! A gate passes only on positive proof: named, executed, passed, of this release, not too long ago. Whatever can't be
//! asked, or does not say, is cannot-tell.

mod ask;
mod config;
mod forge;
mod integrity;
mod report;
mod standing;

pub use ask::{Asked, Subject, ask};
pub use config::{CommandKeys, ForgeKeys, GateConfig, Kind, ManifestKeys, ProbeGateKeys, PrometheusKeys, ReportKeys};
pub use integrity::{IntegrityError, Verified, verify};
pub use standing::standing;
