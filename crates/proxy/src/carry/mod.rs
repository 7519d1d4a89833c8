//! Carries requests: one thread for each processor, each with connections, pools and counts of its own.

pub(crate) mod alarm;
pub(crate) mod answer;
pub(crate) mod broken;
pub(crate) mod buf;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod http2;
pub(crate) mod lane;
pub(crate) mod site;
pub(crate) mod tunnel;
pub(crate) mod upload;
pub(crate) mod upstream;

pub(crate) use alarm::{Alarm, Alarms, Phase, Stopping, Watched, now_ms};
pub(crate) use broken::BreaksOff;
pub(crate) use buf::Buf;
pub(crate) use site::{Door, Site};

use std::time::{SystemTime, UNIX_EPOCH};

/// Gives the milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Gives [`now_ms`] in whole seconds, for counting people.
pub(crate) fn now_seconds() -> u32 {
    u32::try_from(now_ms() / 1_000).unwrap_or(u32::MAX)
}
