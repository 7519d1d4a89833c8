//! A folder with installed releases, and a runtime over a template unit of the container.

use crate::runtime_kit::{alice, release, script, service};
use lastgood_domain::{facts::Liveness, terms::Span};
use lastgood_drivers::runtime::{
    Launch, Runtime as _, Stopped,
    systemd::{Output, SystemdConfig, SystemdRuntime},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

pub(crate) const UNIT: &str = "notes@alice.service";
pub(crate) const GRACE: Span = Span::seconds(30);
pub(crate) const TEMPLATE: &str = "[Unit]\nDescription=notes\n[Service]\nExecStart=/bin/false\n";

/// A folder with two installed releases, and a runtime over the template unit.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: SystemdRuntime,
}

impl World {
    pub(crate) fn new(template: &str, output: Output) -> Self {
        fs::write("/etc/systemd/system/notes@.service", template).unwrap();
        systemctl(&["daemon-reload"]);
        let folder = tempfile::tempdir_in("/root").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = driver(folder.path(), output);
        Self { folder, runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Installs a release whose program is `text`.
    pub(crate) fn launch(&self, tag: &str, text: &str) -> Launch {
        let installation = self.path(&format!("installed-{tag}"));
        fs::create_dir_all(&installation).unwrap();
        Launch {
            service: service(),
            instance: alice(),
            release: release(tag),
            argv: vec![script(&installation.join("run"), text)],
            installation,
            env: [("FOLDER".to_owned(), self.folder.path().display().to_string())].into(),
            workdir: self.folder.path().into(),
            user: None,
            groups: lastgood_drivers::runtime::Groups::default(),
            log: self.path("log"),
        }
    }

    pub(crate) fn liveness(&self) -> Liveness {
        self.runtime.liveness(&service(), &alice()).unwrap()
    }

    pub(crate) fn stop(&self, grace: Span) -> Stopped {
        self.runtime.stop(&service(), &alice(), grace).unwrap()
    }
}

pub(crate) fn driver(folder: &std::path::Path, output: Output) -> SystemdRuntime {
    let drop_in_dir = "/etc/systemd/system".into();
    let config = SystemdConfig { unit: "notes@{instance}.service".into(), drop_in_dir, output, bus: None };
    SystemdRuntime::new(config, &folder.join("state")).unwrap()
}

pub(crate) fn systemctl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap().trim().to_owned())
}

/// Says its name into the log and stays.
pub(crate) const SAYS_TAG: &str = "#!/bin/sh\necho running $(basename $(readlink -f $(dirname $0)))\nexec sleep 1000\n";
