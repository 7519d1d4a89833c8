//! Where lastgood keeps its own files: one folder, one layout, known here only.

use lastgood_domain::{
    facts::Installation,
    service::Service,
    terms::{InstanceName, ServiceName},
};
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

    /// Gives an installation with the path it has in this folder: the log keeps the one of when it was installed, and the
    /// state folder may have been moved since.
    pub fn found(&self, installation: &Installation) -> Installation {
        let mut found = installation.clone();
        let tree = Path::new(&installation.path);
        let name = tree.parent().and_then(Path::file_name).zip(tree.file_name());
        let here = name.map(|(folder, tree)| self.installations().join(folder).join(tree));
        let here = here.and_then(|path| std::path::absolute(path).ok()).filter(|path| path.exists());
        if let Some(here) = here.as_deref().and_then(Path::to_str) {
            found.path = here.into();
        }
        found
    }

    /// Gives a service whose installations have the paths of today.
    pub fn here(&self, mut service: Service) -> Service {
        for known in service.installed.values_mut() {
            known.installation = self.found(&known.installation);
        }
        service
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

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::terms::{Digest, Release, ReleaseTag};
    use std::fs;

    #[test]
    fn installations_are_found_where_the_state_folder_is_now_and_elsewhere_only_if_they_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| Home::at(&folder.path().join(name)).service(&ServiceName::new("notes").unwrap());
        let (old, new) = (home("old"), home("new"));
        let tree = |home: &ServiceHome| home.installations().join("1.0-abc").join("tree");
        fs::create_dir_all(tree(&old)).unwrap();
        let release =
            Release { tag: ReleaseTag::new("1.0").unwrap(), digest: Digest::of(b"1.0"), origin: "dir:x".into() };
        let path = tree(&old).display().to_string();
        let installed = Installation { release, version: "1.0".into(), path, tree: Digest::of(b"tree"), bytes: 1 };
        assert_eq!(old.found(&installed), installed);
        // A home for one command only, beside the real one.
        assert_eq!(new.found(&installed), installed);
        fs::rename(folder.path().join("old"), folder.path().join("new")).unwrap();
        assert_eq!(Path::new(&new.found(&installed).path), tree(&new));
    }
}
