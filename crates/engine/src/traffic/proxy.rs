//! The built-in proxy's process: started when it is not there, and replaced when its settings change.
//!
//! It is a process of its own that outlives whoever started it: it keeps its last tables and goes on carrying traffic
//! while nobody drives.

use super::Meter;
use crate::config::Config;
use lastgood_domain::{
    failure::Failure,
    terms::{ServiceName, Span, Timestamp},
    traffic::wire::SOCKET,
};
use lastgood_drivers::{
    runtime::session,
    traffic::{Builtin, Router as _},
};
use lastgood_proxy::Settings;
use lastgood_store::open_private;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a proxy that was started to answer: it binds its sockets and reads its tables, or takes over from
/// the one before.
const START_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a proxy to end: its tunnels have 10 s to answer a Close.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// Longest wait for whoever starts or ends the proxy just now; each of them ends by itself before.
const LOCK_WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 16 });
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where the proxy of a state folder is, and what it is started with.
#[derive(Debug, Clone)]
pub struct ProxyHost {
    folder: PathBuf,
    program: PathBuf,
    settings: Settings,
}

/// Keeps everybody from starting the proxy while it is held.
#[derive(Debug)]
pub struct StartLock {
    _file: File,
}

impl ProxyHost {
    /// Names the proxy of `config`, if any service is carried by it.
    pub fn of(config: &Config, program: &Path) -> Option<Self> {
        let folder = config.state_dir.join("proxy");
        let serving = config.service.iter().filter_map(|(name, service)| {
            let proxy = service.traffic.as_ref()?.proxy.clone()?;
            Some((name.clone(), proxy))
        });
        let settings = Settings { state_dir: folder.clone(), threads: None, services: serving.collect() };
        (!settings.services.is_empty()).then(|| Self { folder, program: program.to_path_buf(), settings })
    }

    /// Gives the proxy's folder: its control socket is there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins to count what it carries.
    pub fn meter(&self, now: Timestamp) -> Meter {
        Meter::new(&self.folder, self.settings.services.keys().cloned(), now)
    }

    /// Makes sure that a proxy with these settings answers; tells whether one had to be started.
    ///
    /// Errors: `proxy-not-answering` with the end of its log.
    pub fn ensure(&self) -> Result<bool, Failure> {
        if self.answers() && self.is_current() {
            return Ok(false);
        }
        // The daemon's drivers and a command may come at once: one of them starts it.
        let _lock = self.lock()?;
        if self.answers() && self.is_current() {
            return Ok(false);
        }
        let next = self.write_settings().map_err(|error| self.unusable("can't write the settings in", &error))?;
        self.start(&next)?;
        // Only now, so that whoever is killed in between leaves the settings of the one that runs.
        fs::rename(next, self.file()).map_err(|error| self.unusable("can't keep the settings in", &error))?;
        Ok(true)
    }

    /// Ends the proxy if one runs, and waits for its end; open tunnels are closed with 1012. Nobody starts it again
    /// while what is returned is held.
    ///
    /// Errors: `proxy-not-stopped`; `proxy-not-answering` if the folder can't be used.
    pub fn stop(&self) -> Result<StartLock, Failure> {
        let lock = self.lock()?;
        if !self.answers() {
            return Ok(lock);
        }
        Builtin::new(&self.folder).stop(Span::ZERO).map_err(|error| Failure::of(&error))?;
        let begun = Instant::now();
        while self.answers() {
            if begun.elapsed() >= STOP_WAIT {
                let what = format!("the proxy has not ended within {} s", STOP_WAIT.as_secs());
                let hint = "see what it says: proxy/proxy.log in the state folder";
                return Err(Failure::new("proxy-not-stopped", what, Some(hint)));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(lock)
    }

    /// Waits until nobody else starts the proxy, for a while, and keeps them from it.
    fn lock(&self) -> Result<StartLock, Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| self.unusable("can't make", &error))?;
        let path = self.folder.join("start.lock");
        let lock = open_private(&path).map_err(|error| self.unusable("can't lock", &error))?;
        let begun = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(StartLock { _file: lock }),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => thread::sleep(LOOK_EVERY),
                Err(Errno::WOULDBLOCK) => {
                    let what = format!(
                        "another process has been starting or stopping the proxy for {} s",
                        LOCK_WAIT.as_secs()
                    );
                    let hint = format!("see who it is: fuser -v {}", path.display());
                    return Err(Failure::new("proxy-not-answering", what, Some(&hint)));
                }
                Err(error) => return Err(self.unusable("can't lock", &error)),
            }
        }
    }

    fn unusable(&self, what: &str, error: &dyn std::fmt::Display) -> Failure {
        let hint = "check the folder's owner and space";
        Failure::new("proxy-not-answering", format!("{what} {}: {error}", self.folder.display()), Some(hint))
    }

    fn answers(&self) -> bool {
        let router = Builtin::new(&self.folder);
        let first = self.settings.services.keys().next();
        first.is_some_and(|service: &ServiceName| router.look(service).is_ok())
    }

    /// Gives the process that listens at the control socket.
    fn listener(&self) -> Option<u32> {
        let stream = UnixStream::connect(self.folder.join(SOCKET)).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }

    fn file(&self) -> PathBuf {
        self.folder.join("settings.json")
    }

    /// Tells whether the running proxy was started with these settings.
    fn is_current(&self) -> bool {
        fs::read(self.file()).is_ok_and(|kept| kept == self.written())
    }

    fn written(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.settings).unwrap_or_default()
    }

    /// Writes the settings that the next proxy is started with, beside those of the one that runs; gives where.
    fn write_settings(&self) -> std::io::Result<PathBuf> {
        let beside = self.folder.join("settings.next.json");
        let mut file = File::create(&beside)?;
        file.write_all(&self.written())?;
        file.sync_all()?;
        Ok(beside)
    }

    fn start(&self, settings: &Path) -> Result<(), Failure> {
        let text = |path: &Path| path.display().to_string();
        let argv = [text(&self.program), "proxy".into(), "--settings".into(), text(settings)];
        let log = self.folder.join("proxy.log");
        let written = fs::metadata(&log).map_or(0, |meta| meta.len());
        let started = session::detach(&self.program, &argv, &log, None).map_err(|error| Failure::of(&error))?;
        let begun = Instant::now();
        while begun.elapsed() < START_WAIT {
            // One that is replaced goes on answering until the new one has taken over.
            if self.listener() == Some(started.pid) && self.answers() {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        let said = fs::read(&log).unwrap_or_default();
        let said =
            String::from_utf8_lossy(said.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default()).into_owned();
        let end: String =
            said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
        Err(Failure::new(
            "proxy-not-answering",
            format!("the proxy did not answer within {} s: {end}", START_WAIT.as_secs()),
            Some("read proxy/proxy.log in the state folder; most often a port is taken"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn settings_are_those_of_the_running_proxy_only_once_it_has_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { state_dir: folder.path().into(), threads: None, services: BTreeMap::new() };
        let host = ProxyHost { folder: folder.path().into(), program: "/bin/true".into(), settings };
        let starting = host.clone();
        thread::spawn(move || starting.ensure());
        let until = Instant::now() + START_WAIT;
        while !folder.path().join("proxy.log").exists() {
            assert!(Instant::now() < until, "nothing was started");
            thread::sleep(LOOK_EVERY);
        }
        // Whoever is killed here must not leave it so that the next one finds nothing to do.
        assert!(!host.is_current());
    }

    #[test]
    fn who_holds_the_lock_for_ever_does_not_hold_up_a_way_back_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { state_dir: folder.path().into(), threads: None, services: BTreeMap::new() };
        let host = ProxyHost { folder: folder.path().into(), program: "/bin/true".into(), settings };
        let held = host.lock().unwrap();
        let failure = host.ensure().unwrap_err();
        assert_eq!(failure.code, "proxy-not-answering");
        assert!(failure.hint.is_some_and(|hint| hint.contains("start.lock")));
        drop(held);
        host.lock().unwrap();
    }
}
