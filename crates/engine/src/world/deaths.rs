//! Notices when an instance's process ends without being told to, without polling.

use super::Site;
use crate::drive::Happening;
use lastgood_domain::terms::{InstanceName, Span};
use lastgood_drivers::runtime::{Watched, wait_exit};
use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{Arc, Mutex, PoisonError, Weak, mpsc::Sender},
    thread,
};

/// Longest sleep of the watcher: it ends with its service's world, and looks whether that is gone this often.
const SLEEP_MAX: Span = Span::seconds(5);

/// Tells the watcher which instances should be running.
#[derive(Clone)]
pub(super) struct Deaths {
    shared: Arc<Shared>,
    sender: Sender<Happening>,
}

struct Shared {
    site: Arc<Site>,
    /// What the watcher takes in before it looks at who died.
    inbox: Mutex<Vec<Change>>,
    wake: UnixStream,
}

enum Change {
    Watch(Watched),
    Forget(InstanceName),
}

impl Deaths {
    /// Begins watching; the thread ends when the last handle is dropped.
    ///
    /// Errors: no file descriptors or no thread can be had.
    pub(super) fn begin(site: &Arc<Site>, sender: Sender<Happening>) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let shared = Arc::new(Shared { site: Arc::clone(site), inbox: Mutex::default(), wake });
        let (watching, reports) = (Arc::downgrade(&shared), sender.clone());
        let _ = woken.set_nonblocking(true);
        thread::Builder::new().name("deaths".into()).spawn(move || run(&watching, woken, &sender))?;
        Ok(Self { shared, sender: reports })
    }

    /// Reports what happened to an instance besides its death.
    pub(super) fn report(&self, happening: Happening) {
        // The receiver is gone only when the driver itself ends.
        let _ = self.sender.send(happening);
    }

    /// Watches an instance that runs now.
    pub(super) fn watch(&self, instance: &InstanceName) {
        let site = &self.shared.site;
        if let Ok(Some(handle)) = site.runtime.watch(&site.name, instance) {
            self.tell(Change::Watch(handle));
        }
    }

    /// Forgets an instance that is about to be stopped: its end is no news.
    pub(super) fn forget(&self, instance: &InstanceName) {
        self.tell(Change::Forget(instance.clone()));
    }

    fn tell(&self, change: Change) {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        // The watcher may be gone with its service's world; then nobody needs to know.
        let _ = (&self.shared.wake).write(&[1]);
    }
}

fn run(shared: &Weak<Shared>, mut woken: UnixStream, sender: &Sender<Happening>) {
    let mut buffer = [0; 64];
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        let dead = wait_exit(&watched, Some(woken.as_fd()), SLEEP_MAX).unwrap_or_default();
        let dead: Vec<u32> = dead.into_iter().map(|index| watched[index].pid).collect();
        while woken.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let Some(shared) = shared.upgrade() else { return };
        let changes = std::mem::take(&mut *shared.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        // An instance that was forgotten before it died, or started again since, is no news.
        for change in changes {
            match change {
                Change::Watch(handle) => {
                    watched.retain(|one| one.instance != handle.instance);
                    watched.push(handle);
                }
                Change::Forget(instance) => watched.retain(|one| one.instance != instance),
            }
        }
        for died in watched.extract_if(.., |one| dead.contains(&one.pid)) {
            report(&shared, &died, sender);
        }
    }
}

fn report(shared: &Shared, died: &Watched, sender: &Sender<Happening>) {
    let why = match shared.site.runtime.post_mortem(&died.service, &died.instance) {
        Ok(Some(reason)) => shared.site.secrets.scrub(&reason.end()),
        Ok(None) => "no reason is known".into(),
        Err(error) => format!("no reason is known: {error}"),
    };
    // The receiver is gone only when the service's world is.
    let _ = sender.send(Happening::Died { instance: died.instance.clone(), why });
}
