//! What the tests share: a folder of their own, a configuration from TOML, files with content.

use lastgood_domain::{
    facts::{Installation, Offer},
    failure::Coded as _,
    terms::ReleaseTag,
};
use lastgood_drivers::channel::{ChannelConfig, ChannelError, Context};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) context: Context,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = Context { folder: folder.path().into(), ..Context::default() };
        Self { folder, context }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let at = self.path(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, content).unwrap();
        at
    }

    pub(crate) fn installations(&self) -> PathBuf {
        self.path("installations")
    }

    pub(crate) fn install(&self, channel: &ChannelConfig, offer: &Offer) -> Result<Installation, ChannelError> {
        channel.install(offer, &self.installations(), &self.context)
    }

    pub(crate) fn install_newest(&self, channel: &ChannelConfig) -> Result<Installation, ChannelError> {
        self.install(channel, &channel.newest(&self.context)?)
    }

    /// Names all that lies in the installations folder but the lock, hidden or not.
    pub(crate) fn left(&self) -> Vec<String> {
        names(&self.installations()).into_iter().filter(|name| name != ".lock").collect()
    }
}

/// Reads the value of `channel = ...`.
pub(crate) fn channel(keys: &str) -> ChannelConfig {
    try_channel(keys).unwrap()
}

pub(crate) fn try_channel(keys: &str) -> Result<ChannelConfig, String> {
    #[derive(serde::Deserialize)]
    struct Document {
        channel: ChannelConfig,
    }
    toml::from_str::<Document>(&format!("channel = {{ {keys} }}"))
        .map(|document| document.channel)
        .map_err(|error| error.to_string())
}

pub(crate) fn tag(text: &str) -> ReleaseTag {
    ReleaseTag::new(text).unwrap()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ChannelError>) -> &'static str {
    result.expect_err("it was accepted").code()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(items) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn read(folder: &str, name: &str) -> String {
    fs::read_to_string(Path::new(folder).join(name)).unwrap()
}

/// Waits until the killed process of that number is gone; a kill is asked for at once and done a moment later.
pub(crate) fn has_ended(pid: &str) -> bool {
    let stat = format!("/proc/{}/stat", pid.trim());
    (0..500).any(|_| {
        let ended = fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        if !ended {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        ended
    })
}
