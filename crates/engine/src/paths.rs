//! Where lastgood keeps its own files: one folder, one layout, known here only.

use lastgood_domain::terms::{InstanceName, ServiceName};
use std::path::{Path, PathBuf};

/// The state folder.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// Names the folder; nothing is made yet.
    pub fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// Gives the folder itself: the evidence file and the locks are in it.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Gives the folder of one service.
    pub fn service(&self, service: &ServiceName) -> ServiceHome {
        ServiceHome(self.0.join("services").join(service.as_str()))
    }
}

/// The folder of one service.
#[derive(Debug, Clone)]
pub struct ServiceHome(PathBuf);

impl ServiceHome {
    /// Gives the folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Releases, unpacked side by side.
    pub fn installations(&self) -> PathBuf {
        self.0.join("installations")
    }

    /// What instances were started with, one file for each setup; beside the installations that they belong to.
    pub fn setups(&self) -> PathBuf {
        self.0.join("setups")
    }

    /// Snapshots, one folder each.
    pub fn shelf(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// Copies that rehearsals work on; on the same disk as the snapshots, so that a clone can be cheap.
    pub fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }

    /// What belongs to one instance: its runtime's files, the journals of its restores, its log.
    pub fn instance(&self, instance: &InstanceName) -> PathBuf {
        self.0.join("instances").join(instance.as_str())
    }

    /// The output of one instance's program.
    pub fn log(&self, instance: &InstanceName) -> PathBuf {
        self.instance(instance).join("output.log")
    }
}
