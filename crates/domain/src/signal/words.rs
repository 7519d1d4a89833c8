//! What people read of signals.

use super::{Event, Record};
use crate::{
    notice::{Notice, NoticeKind, Severity},
    words::one_line,
};
use alloc::{format, string::String};

/// Says what a record tells.
pub fn sentence(record: &Record) -> String {
    let text = match &record.event {
        Event::Fired { signal, why, .. } => format!("signal {signal} fires: {why}"),
        Event::WentSilent { signal, since, why, .. } => {
            format!("signal {signal} can't be told for {}: {why}", record.at.since(*since))
        }
        Event::Cleared { signal, why } => format!("signal {signal} is well again: {why}"),
        Event::Forgotten { signal } => format!("signal {signal} is no longer configured"),
        Event::RewindAcknowledged { reason } => {
            format!("{} acknowledged that the evidence was rewound: {reason}", record.by)
        }
    };
    one_line(&text)
}

/// Makes the notice that a record causes.
pub fn notice(record: &Record) -> Option<Notice> {
    let (kind, severity) = match &record.event {
        Event::Fired { severity, .. } => (NoticeKind::SignalFired, *severity),
        Event::WentSilent { severity, .. } => (NoticeKind::SignalSilent, *severity),
        Event::Cleared { .. } => (NoticeKind::SignalCleared, Severity::Info),
        Event::Forgotten { .. } | Event::RewindAcknowledged { .. } => return None,
    };
    Some(Notice { kind, severity, summary: sentence(record), hint: "lastgood signal list".into() })
}
