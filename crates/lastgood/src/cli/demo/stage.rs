//! The place where a story plays: a state folder, a service, and chapters.

use super::{other_way, trouble};
use crate::{
    app::App,
    cli::{evidence, run, status::describe},
    drive,
    exit::Exit,
    screen::{Screen, Trouble},
};
use lastgood_domain::{
    event::{End, Event},
    terms::{HoldId, Reason, ServiceName},
};
use lastgood_engine::{
    config::Config,
    paths::{Home, ServiceHome},
    traffic::{ProxyHost, StartLock},
    world::Site,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    cell::Cell,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    thread,
};

/// The place where a story plays.
pub(super) struct Stage {
    pub(super) app: App,
    pub(super) service: ServiceName,
    pub(super) folder: PathBuf,
    chapters: Cell<u32>,
}

/// Finds ports that nobody listens at.
pub(super) fn free_ports<const N: usize>(folder: &Path) -> Result<[u16; N], Trouble> {
    let failed = |error: std::io::Error| trouble("find a port for", folder, &error);
    // All are held until the last is chosen, so that no two are the same.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        *port = listener.local_addr().map_err(failed)?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

impl Stage {
    /// Writes the configuration and reads it as every command does.
    pub(super) fn build(screen: Screen, folder: &Path, service: &str, text: &str) -> Result<Self, Trouble> {
        let path = folder.join("lastgood.toml");
        fs::write(&path, text).map_err(|error| trouble("write", &path, &error))?;
        let config = Config::parse(text, &path, folder).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let actor = crate::who::actor(&config.state_dir);
        let app = App { screen, config_path: path, home: Home::at(&config.state_dir), config, actor };
        let service = ServiceName::new(service).expect("a fixed valid name");
        Ok(Self { app, service, folder: folder.to_path_buf(), chapters: Cell::new(0) })
    }

    /// Begins the next chapter.
    pub(super) fn chapter(&self, title: &str) {
        self.chapters.set(self.chapters.get() + 1);
        self.app.screen.tell(&format!("\n== {}. {title}", self.chapters.get()));
    }

    /// Tells something that happens beside lastgood.
    pub(super) fn aside(&self, text: &str) {
        self.app.screen.tell(&format!("      {text}"));
    }

    /// Does one pass and stops the story if it does not end as told.
    pub(super) fn expect(&self, wanted: &str, is: fn(&End) -> bool) -> Result<(), Trouble> {
        let end = run::pass(&self.app, &self.service, None)?;
        match &end {
            Some(end) if is(end) => Ok(()),
            other => Err(other_way(&format!("{wanted} was to come, and {other:?} came"))),
        }
    }

    /// Lifts the hold that lastgood set when it rolled back, as the person who has read its notice would.
    pub(super) fn lift(&self) -> Result<(), Trouble> {
        let reason = Reason::new("read the notice; upstream is told").expect("a fixed valid reason");
        self.app.say(&self.service, |folded| {
            let holds: Vec<HoldId> = folded.holds.keys().copied().collect();
            Ok(holds.into_iter().map(|hold| Event::HoldLifted { hold, reason: reason.clone() }).collect())
        })?;
        self.aside("a person reads the notice and lifts the hold");
        Ok(())
    }

    /// Tells the last chapter; gives how many there were, and whether the evidence holds.
    pub(super) fn end(&self) -> Result<(u32, bool), Trouble> {
        self.chapter("where everything stands, and whether the evidence holds");
        let folded = self.app.look(&self.service)?;
        let (_, text) = describe(&self.app, &[(self.service.clone(), folded)])?;
        self.app.screen.tell(&text);
        let verified = evidence::verified(&self.app)?;
        Ok((self.chapters.get(), verified.is_ok()))
    }

    /// Gives what stops everything that the story starts, from whichever thread.
    pub(super) fn sweeper(&self) -> Sweeper {
        let home = self.app.home.service(&self.service);
        Sweeper { config: self.app.config.clone(), service: self.service.clone(), home, screen: self.app.screen }
    }
}

/// Stops what a story started.
pub(super) struct Sweeper {
    config: Config,
    service: ServiceName,
    home: ServiceHome,
    screen: Screen,
}

impl Sweeper {
    /// Stops the proxy and then all instances; what can't be stopped is said. Nobody starts the proxy again while what is
    /// returned is held.
    pub(super) fn sweep(&self) -> Option<StartLock> {
        let program = drive::program().ok()?;
        let proxy = ProxyHost::of(&self.config, &program);
        let lock = proxy.and_then(|proxy| match proxy.stop() {
            Ok(lock) => Some(lock),
            Err(failure) => {
                self.screen.trouble(&Trouble { exit: Exit::Failed, failure });
                None
            }
        });
        self.sweep_instances();
        lock
    }

    fn sweep_instances(&self) {
        let Ok(program) = drive::program() else { return };
        let Ok(site) = Site::open(&self.config, &self.service, self.home.clone(), program) else { return };
        for instance in &site.config.instance {
            if let Err(error) = site.runtime.stop(&self.service, &instance.name, site.config.stop_timeout.0) {
                self.screen.trouble(&Trouble::new(Exit::Failed, &error));
            }
        }
    }

    /// Sweeps and ends the program with 130 when somebody presses Ctrl-C; `temporary` is removed then.
    pub(super) fn sweep_on_interrupt(self, temporary: Option<PathBuf>) -> Result<(), Trouble> {
        let failed = |error: std::io::Error| {
            Trouble::say(
                Exit::Failed,
                "internal",
                format!("can't install signal handlers: {error}"),
                lastgood_domain::failure::REPORT,
            )
        };
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let wait = move || {
            if signals.forever().next().is_some() {
                self.screen.tell("\nstopping what the demo has started");
                // The run goes on meanwhile: it must not start the proxy again, and an instance that it has started
                // since is found the second time.
                let _kept_down = self.sweep();
                self.sweep_instances();
                // Left behind it costs some room in the temporary folder, no more.
                temporary.iter().for_each(|folder| drop(fs::remove_dir_all(folder)));
                std::process::exit(Exit::Interrupted as i32);
            }
        };
        thread::Builder::new().name("interrupt".into()).spawn(wait).map(drop).map_err(failed)
    }
}
