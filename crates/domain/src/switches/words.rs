//! What people read of flags and switches.

use super::{Event, Record};
use crate::{
    notice::{Notice, NoticeKind, Severity},
    terms::EnvironmentName,
    words::one_line,
};
use alloc::{format, string::String};

/// Says what a record tells.
pub fn sentence(record: &Record) -> String {
    let by = &record.by;
    let text = match &record.event {
        Event::Tripped { switch, reason } => format!("switch {switch} was tripped by {by}: {reason}"),
        Event::ResetRequested { switch, reason } => {
            format!("{by} asks to reset switch {switch}, a second person must confirm it: {reason}")
        }
        Event::Reset { switch, reason, requested_by: None } => format!("switch {switch} was reset by {by}: {reason}"),
        Event::Reset { switch, reason, requested_by: Some(first) } => {
            format!("switch {switch} was reset by {first} and {by}: {reason}")
        }
        Event::FlagSet { flag, reason, .. } => format!("flag {flag} was set by {by}: {reason}"),
        Event::FlagTurnedOn { flag, reason } => format!("flag {flag} was turned on by {by}: {reason}"),
        Event::FlagTurnedOff { flag, reason } => format!("flag {flag} was turned off by {by}: {reason}"),
        Event::FlagRemoved { flag, reason } => format!("flag {flag} was removed by {by}: {reason}"),
        Event::RewindAcknowledged { reason } => format!("{by} acknowledged that the evidence was rewound: {reason}"),
    };
    one_line(&text)
}

/// Makes the notice that a record causes. Flags cause none.
pub fn notice(environment: &EnvironmentName, record: &Record) -> Option<Notice> {
    let (kind, severity, hint) = match &record.event {
        Event::Tripped { .. } => (NoticeKind::SwitchTripped, Severity::Critical, "lastgood switch list".into()),
        Event::ResetRequested { switch, .. } => {
            (NoticeKind::SwitchReset, Severity::Warning, format!("lastgood switch confirm {switch} --reason …"))
        }
        Event::Reset { .. } => (NoticeKind::SwitchReset, Severity::Info, "lastgood switch list".into()),
        Event::FlagSet { .. }
        | Event::FlagTurnedOn { .. }
        | Event::FlagTurnedOff { .. }
        | Event::FlagRemoved { .. }
        | Event::RewindAcknowledged { .. } => return None,
    };
    Some(Notice { kind, severity, summary: one_line(&format!("{environment}: {}", sentence(record))), hint })
}
