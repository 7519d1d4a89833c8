//! What is asked of one service's table.

use super::{InstanceConfig, ServiceConfig};
use crate::provenance;
use lastgood_domain::{
    event::Settings,
    operations::{hold::Subject, rca::Rca},
    terms::InstanceName,
};

impl ServiceConfig {
    /// Gives what the service's decisions depend on.
    pub fn settings(&self) -> Settings {
        let watch = self.watch.as_ref();
        Settings {
            instances: self.instance.iter().map(|instance| instance.name.clone()).collect(),
            canary: self.rollout.canary.clone(),
            rehearse_on: self.rehearsal.on.clone(),
            wave_size: self.rollout.wave_size,
            soak: self.rollout.soak.0,
            loss_rows_max: self.restore.rows_max,
            loss_files_max: self.restore.files_max,
            loss_age_max: self.restore.age_max.0,
            watch: self.rollout.watch.0,
            stale_after: self.rollout.stale_after.0,
            back_when_broken: self.rollout.back_when_broken,
            broken_percent: watch.map_or(5, |watch| watch.broken_percent),
            degraded_percent: watch.map_or(20, |watch| watch.degraded_percent),
            outcomes_min: watch.map_or(20, |watch| watch.outcomes_min),
            traffic: self.traffic.as_ref().map(|traffic| traffic.settings(&self.instance)),
            policy: provenance::policy(self),
            gates: self.gates.clone(),
            rca: self.rca(),
            expects: None,
        }
    }

    /// Tells whether a rollback owes an analysis: what is configured, else what its kind of service has.
    fn rca(&self) -> Rca {
        let of_its_kind = if self.traffic.is_some() { Rca::Required } else { Rca::Off };
        self.rca.unwrap_or(of_its_kind)
    }

    /// Gives what holds over several services look at.
    pub fn subject(&self) -> Subject {
        Subject { labels: self.labels.clone(), promoted: self.policy.passed_in().is_some() }
    }

    /// Gives an instance by its name.
    pub fn instance(&self, name: &InstanceName) -> Option<&InstanceConfig> {
        self.instance.iter().find(|instance| instance.name == *name)
    }
}
