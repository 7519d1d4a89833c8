//! `lastgood proxy`: carries traffic. `serve` starts it, and it goes on without.

use super::Ended;
use crate::{
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::Args;
use lastgood_proxy::{Proxy as Carrier, ProxyError, Settings};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long requests and tunnels may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether it was told to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Carry traffic, as a process of its own that serves by the tables it is told.
///
/// Where one runs already with the same state folder, its listening sockets are taken over: no connection is lost, and
/// the one before ends when its last request, tunnel and idle connection have.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// JSON settings file: state_dir, and listen, tls, sticky and limits of each service.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
}

impl Proxy {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen) -> Ended {
        let settings = Settings::read(&self.settings).map_err(|error| Trouble::new(Exit::Usage, &error))?;
        let proxy = Carrier::start(settings).map_err(|error| {
            let exit = if matches!(error, ProxyError::Settings(_)) { Exit::Usage } else { Exit::Failed };
            Trouble::new(exit, &error)
        })?;
        for trouble in proxy.troubles() {
            screen.tell(&format!("skipped: {trouble}"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
                Trouble::say(
                    Exit::Failed,
                    "internal",
                    format!("can't install signal handlers: {error}"),
                    lastgood_domain::failure::REPORT,
                )
            })?;
        }
        let stopped = Arc::clone(&proxy);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(LOOK_EVERY);
            }
            stopped.stop(GRACE);
        });
        proxy.wait();
        Ok(Exit::Done)
    }
}
