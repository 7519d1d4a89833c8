//! The page `/health`: is somebody looking after every service?
//!
//! It speaks of lastgood and not of the services: a service in alarm is no reason to restart what cares for it.

use crate::Snapshot;
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// Gives the page, and whether all is well.
pub(crate) fn health(snapshot: &Snapshot) -> (bool, Value) {
    let well = snapshot.failure.is_none() && snapshot.drivers.values().all(|driver| driver.alive);
    let services: serde_json::Map<String, Value> = snapshot
        .drivers
        .iter()
        .map(|(name, driver)| {
            let look = driver.last_look.map(rfc3339);
            (name.to_string(), json!({ "alive": driver.alive, "last_look": look }))
        })
        .collect();
    let mut page = json!({
        "status": if well { "ok" } else { "failing" },
        "version": env!("CARGO_PKG_VERSION"),
        "at": rfc3339(snapshot.at),
        "services": services,
    });
    if let Some(why) = &snapshot.failure {
        page["failure"] = why.as_str().into();
    }
    (well, page)
}
