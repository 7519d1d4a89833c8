//! What is told at one moment: plain data, made by the caller or by a [`crate::Lookout`].

use crate::Lookout;
use lastgood_domain::{
    alarm::Alarm,
    operations::{Operations, hold::HoldKind},
    service::Service,
    signal::State as SignalState,
    switches::Switches,
    terms::{ChainName, EnvironmentName, InstanceName, ServiceName, SignalName, SwitchName, Timestamp},
};
use lastgood_engine::{config::Severity, drive::LogError, preflight::State, traffic::Metered};
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
    /// What waits for people, and what they let through.
    pub people: PeopleView,
    /// The evidence chains.
    pub chains: Vec<ChainSize>,
    /// What people decided beyond one service.
    pub operations: Operations,
    /// The threads that drive services; set by whoever runs them. Empty where nobody drives.
    pub drivers: BTreeMap<ServiceName, DriverState>,
    /// Whether the freeze file exists, which holds every service; set by whoever knows its path.
    pub freeze_file: bool,
    /// What the built-in proxy tells of the services it carries; set by whoever can ask it.
    pub proxied: BTreeMap<ServiceName, Metered>,
    /// Flags and switches; set by whoever serves them. `None` without any.
    pub switches: Option<SwitchesView>,
    /// How all that is declared in `[preflight]` stood last; set by whoever looks. None before the first look.
    pub readiness: Option<Readiness>,
    /// What each signal said last; set by whoever reads them.
    pub signals: BTreeMap<SignalName, SignalState>,
    /// Holds over several services that stand, by kind.
    pub wide_holds: BTreeMap<HoldKind, u64>,
    /// Holds over several services that are not as they should be, by enforcer.
    pub holds_unconfirmed: BTreeMap<String, u64>,
    /// Why there is nothing to tell. Then both pages answer 503: old numbers would pass for new ones.
    pub failure: Option<String>,
}

/// How all that must be so stood when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// When that was.
    pub at: Timestamp,
    /// Checks by severity and state; none is 0.
    pub checks: BTreeMap<(Severity, State), u64>,
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
}

/// An environment's switches as they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchesView {
    /// Whose.
    pub environment: EnvironmentName,
    /// Each switch that is declared or tripped, and whether it is.
    pub tripped: BTreeMap<SwitchName, bool>,
    /// How many records there are.
    pub epoch: u64,
    /// Programs that follow: the switches, the flags.
    pub subscribers: [u64; 2],
}

impl SwitchesView {
    /// Tells the switches of `known` and those that are tripped.
    pub fn new(
        environment: EnvironmentName,
        known: Vec<SwitchName>,
        switches: &Switches,
        subscribers: [u64; 2],
    ) -> Self {
        let all = known.into_iter().map(|switch| {
            let blocks = switches.rewound.is_some() || switches.standing(&switch).blocks();
            (switch, blocks)
        });
        let tripped = switches.tripped.keys().map(|switch| (switch.clone(), true));
        Self { environment, tripped: all.chain(tripped).collect(), epoch: switches.epoch, subscribers }
    }
}

/// What waits for people, and what they let through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeopleView {
    /// Requests that wait.
    pub approvals: u64,
    /// Since when the oldest of them waits.
    pub oldest: Option<Timestamp>,
    /// Pages that nobody answered.
    pub pages: u64,
    /// Gates overridden, ever.
    pub overrides: u64,
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

impl Snapshot {
    /// Looks once, from the kept state on. Who looks again and again keeps a [`Lookout`].
    pub fn look(reader: &Reader, services: &[ServiceName], now: Timestamp) -> Result<Self, LookError> {
        Lookout::new(services, &[]).look(reader, now)
    }

    /// Tells that there is nothing to tell.
    pub fn failed(why: &dyn std::error::Error, now: Timestamp) -> Self {
        Self { at: now, failure: Some(why.to_string()), ..Self::default() }
    }
}
