//! Fuzz targets for the readers of this crate; see `cargo xtask fuzz`. Not a part of what is shipped.
//!
//! They stand beside what they try, in each folder's `fuzzing.rs`. Each takes any bytes and panics if what it promises
//! does not hold.

use crate::{channel, check, metric, notice, probe, sql, state, traffic::haproxy};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("versions", channel::fuzzing::versions),
    ("channel_names", channel::fuzzing::channel_names),
    ("git_tag", channel::fuzzing::git_tag),
    ("archive", channel::fuzzing::archive),
    ("inside", channel::fuzzing::inside),
    ("cron_times", check::fuzzing::cron_times),
    ("certificate", check::fuzzing::certificate),
    ("prometheus_answer", metric::fuzzing::prometheus_answer),
    ("retry_after", notice::fuzzing::retry_after),
    ("base_address", probe::fuzzing::base_address),
    ("variables", probe::fuzzing::variables),
    ("cookie_jar", probe::fuzzing::cookie_jar),
    ("probe_answer", probe::fuzzing::probe_answer),
    ("scrubber", probe::fuzzing::scrubber),
    ("postgres_address", sql::fuzzing::postgres_address),
    ("snapshot_manifest", state::fuzzing::snapshot_manifest),
    ("pages", state::pages_fuzzing::pages),
    ("haproxy_answer", haproxy::fuzzing::haproxy_answer),
    ("haproxy_routes", haproxy::fuzzing::haproxy_routes),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_reader_of_the_drivers_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(super::TARGETS);
    }
}
