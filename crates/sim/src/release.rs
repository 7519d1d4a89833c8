//! Releases with properties that only running them shows.

use lastgood_domain::{
    facts::{Installation, Offer},
    terms::{Digest, Release, ReleaseTag, Span},
};

/// What is wrong with a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Migrates, then never becomes ready, wherever it is started.
    StartFails,
    /// The same, but only on live data.
    StartFailsLive,
    /// Nobody can log in.
    Login,
    /// Nobody can log in on the instance with this number.
    LoginOn(usize),
    /// Nobody can log in where it runs for real.
    LoginLive,
    /// Ends by itself this long after each start, this many times.
    Dies(Span, u32),
    /// Does not start a second time on data that it migrated.
    Restart,
    /// Last-good starts on what it leaves when rehearsed, but not on what it leaves when live.
    SpoilsLive,
    /// Users fail although every probe passes.
    BreaksUsers,
    /// Users fail from this long after its start on.
    BreaksLate(Span),
    /// A session that another release began can't be resumed.
    Forgets,
    /// The installed program says another version than its tag.
    SaysOther,
    /// Every act with it takes ten times as long.
    Slow,
}

/// One release as the simulator knows it and the engine does not.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) release: Release,
    /// The schema it brings data to when it starts.
    pub(crate) schema: u32,
    /// The newest schema it can read.
    pub(crate) reads: u32,
    pub(crate) faults: Vec<Fault>,
}

impl Recipe {
    pub(crate) fn new(tag: &str, schema: u32, reads: u32) -> Option<Self> {
        let tag = ReleaseTag::new(tag).ok()?;
        let digest = Digest::of(tag.as_str().as_bytes());
        let release = Release { tag, digest, origin: "dir:releases".into() };
        Some(Self { release, schema, reads, faults: Vec::new() })
    }

    /// The same tag with other bytes.
    pub(crate) fn moved(&self) -> Self {
        let mut other = self.clone();
        other.release.digest = Digest::of(format!("{} again", self.release.tag).as_bytes());
        other
    }

    pub(crate) fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    pub(crate) fn offer(&self) -> Offer {
        Offer {
            tag: self.release.tag.clone(),
            origin: self.release.origin.clone(),
            mark: Some(self.release.digest.short()),
            published: None,
        }
    }

    pub(crate) fn installation(&self) -> Installation {
        let tag = self.release.tag.as_str();
        Installation {
            release: self.release.clone(),
            version: if self.has(&Fault::SaysOther) { "0.0.0".into() } else { tag.to_owned() },
            path: format!("/releases/{}", self.release.digest.short()),
            tree: self.release.digest,
            bytes: 1_000,
        }
    }
}
