//! What was said a moment before needs no repeating: a way back by the guards has their sentence in each of its records.

use crate::{
    event::{Cause, End, Event, Record},
    traffic::TrafficEvent,
};
use alloc::string::String;

/// What stands in the place of what was said.
const SAID: &str = "what the guards said";

/// Shortens the sentences of one service's records, in their order.
#[derive(Debug, Clone, Default)]
pub struct Brief {
    /// What a person has just read.
    said: Option<String>,
}

impl Brief {
    /// Gives the sentence of `record` without what the guards' verdict before it says; the end of a run says it again.
    pub fn of(&mut self, record: &Record, sentence: &str) -> String {
        match &record.event {
            Event::Traffic(
                TrafficEvent::Judged { share, because, .. } | TrafficEvent::Degraded { share, because, .. },
            ) => {
                let cause = Cause::Guard { share: *share, because: because.clone() };
                self.said = Some(super::one_line(&End::RolledBack { cause }.because()));
            }
            Event::RunEnded { .. } | Event::RunStarted { .. } => self.said = None,
            _ => {}
        }
        match &self.said {
            Some(said) => sentence.replace(said, SAID),
            None => sentence.into(),
        }
    }
}
