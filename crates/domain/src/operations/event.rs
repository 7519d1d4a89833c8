//! What is written to the operations chain. As with a service's events, variants and fields are only added.

use super::{
    approval::ApprovalEvent,
    cap::Risky,
    credential::CredentialEvent,
    emergency::EmergencyEvent,
    escalation::PageEvent,
    hold::HoldEvent,
    incident::{IncidentEvent, recommend::Recommendation},
    overrule::Overrule,
};
use crate::terms::{Actor, IncidentId, PageId, Timestamp};
use alloc::{collections::BTreeSet, string::String};
use serde::{Deserialize, Serialize};

/// One entry of the operations chain as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format; now [`Record::VERSION`].
    pub v: u16,
    /// When it was decided.
    pub at: Timestamp,
    /// Who caused it.
    pub by: Actor,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// The version written today.
    pub const VERSION: u16 = 1;
}

/// Something that people did, or that became due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// Of a hold over several services.
    Hold(HoldEvent),
    /// Of a request for approval.
    Approval(ApprovalEvent),
    /// Of an incident.
    Incident {
        /// Which.
        incident: IncidentId,
        /// What.
        event: IncidentEvent,
    },
    /// Everything was disabled in one command.
    Emergency(EmergencyEvent),
    /// What the logs say about declaring an incident is another than before.
    Recommended {
        /// That somebody should, and why; none if nothing speaks for it any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recommendation: Option<Recommendation>,
    },
    /// What the logs show that may call for an incident is another than before.
    Seen {
        /// All of it, by name.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        signs: BTreeSet<String>,
    },
    /// Of a page.
    Page {
        /// Which.
        page: PageId,
        /// What.
        event: PageEvent,
    },
    /// Something risky was done whose own record stands in another chain; it is counted here.
    Risk {
        /// What.
        act: Risky,
    },
    /// Of a credential that somebody revokes or replaces by hand.
    Credential {
        /// Which.
        credential: String,
        /// What.
        event: CredentialEvent,
    },
    /// A gate was overridden by its owner.
    Overruled(Overrule),
    /// The evidence went on after it had turned out not to be the one that was signed.
    RewindAcknowledged {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Tells whether it can only block and never open: then it is taken even where the record is in doubt.
    pub const fn only_blocks(&self) -> bool {
        match self {
            Self::Hold(event) => event.only_blocks(),
            Self::Approval(event) => event.only_blocks(),
            Self::Incident { event, .. } => event.only_blocks(),
            Self::Emergency(_)
            | Self::Recommended { .. }
            | Self::Seen { .. }
            | Self::Page { .. }
            | Self::Credential { .. }
            | Self::Overruled(_)
            | Self::RewindAcknowledged { .. } => false,
            Self::Risk { .. } => true,
        }
    }
}
