//! What is told at one moment: plain data, made by the caller or by a [`crate::Lookout`].

use crate::Lookout;
use lastgood_domain::{
    alarm::Alarm,
    event::{Cause, End},
    service::Service,
    terms::{ChainName, InstanceName, ServiceName, Timestamp},
};
use lastgood_engine::drive::LogError;
use lastgood_store::{EndpointBacklog, Reader, StoreError};
use std::collections::BTreeMap;

/// Why nothing could be told.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be understood.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// All that is told at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// When it was made.
    pub at: Timestamp,
    /// The services, folded.
    pub services: BTreeMap<ServiceName, ServiceView>,
    /// The outbox by endpoint.
    pub outbox: Vec<EndpointBacklog>,
    /// The evidence chains.
    pub chains: Vec<ChainSize>,
    /// The threads that drive services; set by whoever runs them. Empty where nobody drives.
    pub drivers: BTreeMap<ServiceName, DriverState>,
    /// Whether the freeze file exists, which holds every service; set by whoever knows its path.
    pub freeze_file: bool,
    /// Why there is nothing to tell. Then both pages answer 503: old numbers would pass for new ones.
    pub failure: Option<String>,
}

/// One service as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its folded state.
    pub state: Service,
    /// Its instances as the last run had them configured; those that were removed since are not told.
    pub instances: Vec<InstanceName>,
    /// What is wrong with it.
    pub alarms: Vec<Alarm>,
    /// Counted from its first record on.
    pub totals: Totals,
}

/// A chain and how much of it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSize {
    /// The chain.
    pub name: ChainName,
    /// Its records.
    pub records: u64,
    /// Records under its last signed checkpoint, as the store has it; nothing is checked here.
    pub signed: u64,
}

/// Where the thread that drives a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverState {
    /// Whether it still runs.
    pub alive: bool,
    /// When it last looked after its service.
    pub last_look: Option<Timestamp>,
}

/// Counts over all records of a chain: a restart of ours does not set them back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Runs by their end.
    pub runs: BTreeMap<RunEnd, u64>,
    /// Rollbacks begun, by their cause.
    pub rollbacks: BTreeMap<RollbackCause, u64>,
    /// Unasked ends of each instance's process.
    pub deaths: BTreeMap<InstanceName, u64>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order they are listed.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Gives the label's value.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// How a run ended, without the details.
    RunEnd {
        /// A release became last-good.
        Promoted = "promoted",
        /// Nothing newer.
        UpToDate = "up-to-date",
        /// A dry run passed.
        Rehearsed = "rehearsed",
        /// No instance could move yet.
        Waiting = "waiting",
        /// A hold or the freeze file.
        Held = "held",
        /// A gate refused.
        Refused = "refused",
        /// Failed before anything moved.
        Stopped = "stopped",
        /// The control failed.
        GateBroken = "gate-broken",
        /// The candidate failed its rehearsal.
        RehearsalFailed = "rehearsal-failed",
        /// Went back.
        RolledBack = "rolled-back",
        /// Could not go back everywhere.
        RollbackFailed = "rollback-failed",
        /// A restore waits for a person.
        RollbackHeld = "rollback-held",
        /// A rollback took over.
        Superseded = "superseded",
    }
}

words! {
    /// Why instances went back, without the details.
    RollbackCause {
        /// The candidate failed.
        Candidate = "candidate",
        /// The machine failed.
        Machine = "machine",
        /// Users' outcomes turned bad.
        Broken = "broken",
        /// A person asked.
        Asked = "asked",
        /// A pin.
        Pinned = "pinned",
        /// A hold or rejection came half-way.
        Halted = "halted",
    }
}

impl From<&End> for RunEnd {
    fn from(end: &End) -> Self {
        match end {
            End::Promoted => Self::Promoted,
            End::UpToDate => Self::UpToDate,
            End::Rehearsed { .. } => Self::Rehearsed,
            End::Waiting { .. } => Self::Waiting,
            End::Held { .. } => Self::Held,
            End::Refused { .. } => Self::Refused,
            End::Stopped { .. } => Self::Stopped,
            End::GateBroken { .. } => Self::GateBroken,
            End::RehearsalFailed { .. } => Self::RehearsalFailed,
            End::RolledBack { .. } => Self::RolledBack,
            End::RollbackFailed { .. } => Self::RollbackFailed,
            End::RollbackHeld { .. } => Self::RollbackHeld,
            End::Superseded => Self::Superseded,
        }
    }
}

impl From<&Cause> for RollbackCause {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Candidate { .. } => Self::Candidate,
            Cause::Machine { .. } => Self::Machine,
            Cause::Broken { .. } => Self::Broken,
            Cause::Asked { .. } => Self::Asked,
            Cause::Pinned { .. } => Self::Pinned,
            Cause::Halted { .. } => Self::Halted,
        }
    }
}

impl Snapshot {
    /// Looks once, reading every chain from its beginning. Who looks again and again keeps a [`Lookout`].
    pub fn look(reader: &Reader, services: &[ServiceName], now: Timestamp) -> Result<Self, LookError> {
        Lookout::new(services, &[]).look(reader, now)
    }

    /// Tells that there is nothing to tell.
    pub fn failed(why: &dyn std::error::Error, now: Timestamp) -> Self {
        Self { at: now, failure: Some(why.to_string()), ..Self::default() }
    }
}
