//! `lastgood proxy`: be the built-in proxy, until a newer one takes over or it is stopped.

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

/// What tunnels are given when the proxy is told to end by a signal; `lastgood proxy` again takes over without an end.
const GRACE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Be the built-in proxy; `serve` and `run` start it by themselves.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// Its settings, a JSON file.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
}

impl Proxy {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen) -> Ended {
        let trouble = |error: &ProxyError| {
            Trouble::say(Exit::Failed, error.code(), error.to_string(), "see docs/guide/proxy.md")
        };
        let proxy = Settings::read(&self.settings)
            .map_err(ProxyError::from)
            .and_then(Carrier::start)
            .map_err(|error| trouble(&error))?;
        for what in proxy.troubles() {
            screen.tell(&what);
        }
        let told = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&told)).map_err(|error| {
                Trouble::say(Exit::Failed, "internal", format!("signals can't be handled: {error}"), "report this")
            })?;
        }
        let stopped = Arc::clone(&proxy);
        thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
            }
            stopped.stop(GRACE);
        });
        proxy.wait();
        Ok(Exit::Done)
    }
}
