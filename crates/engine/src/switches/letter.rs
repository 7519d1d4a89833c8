//! The body of a notice about a switch: one CloudEvent, made once and kept.

use super::chain_of;
use crate::letter::{Place, cloud_event};
use lastgood_domain::{
    notice::Notice,
    switches::{Event, Record},
    terms::EnvironmentName,
};
use serde_json::json;

/// Makes the body of record `seq`'s notice.
pub(super) fn body(environment: &EnvironmentName, seq: u64, record: &Record, notice: &Notice) -> Vec<u8> {
    let switch = match &record.event {
        Event::Tripped { switch, .. } | Event::ResetRequested { switch, .. } | Event::Reset { switch, .. } => {
            Some(switch)
        }
        _ => None,
    };
    let chain = chain_of(environment);
    let place = Place { chain: chain.as_str(), seq, at: record.at, by: &record.by };
    let besides = json!({ "environment": environment, "switch": switch });
    cloud_event(&place, notice, json!(switch), besides).to_string().into_bytes()
}
