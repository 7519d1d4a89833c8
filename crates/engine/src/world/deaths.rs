//! Notices when an instance's process ends without being told to, without polling.

use super::Site;
use crate::drive::Happening;
use lastgood_domain::terms::{InstanceName, Span};
use lastgood_drivers::runtime::{Watched, wait_exit};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
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
}

struct Shared {
    site: Arc<Site>,
    /// Handles of running instances; one that is being stopped has been taken out.
    watched: Mutex<BTreeMap<InstanceName, Watched>>,
    wake: UnixStream,
}

impl Deaths {
    /// Begins watching; the thread ends when the last handle is dropped.
    pub(super) fn begin(site: &Arc<Site>, sender: Sender<Happening>) -> Self {
        let (wake, woken) = UnixStream::pair().expect("a socket pair needs only two free file descriptors");
        let shared = Arc::new(Shared { site: Arc::clone(site), watched: Mutex::default(), wake });
        let watching = Arc::downgrade(&shared);
        let _ = woken.set_nonblocking(true);
        thread::Builder::new()
            .name("deaths".into())
            .spawn(move || run(&watching, woken, &sender))
            .expect("a thread needs only memory");
        Self { shared }
    }

    /// Watches an instance that runs now.
    pub(super) fn watch(&self, instance: InstanceName) {
        let site = &self.shared.site;
        if let Ok(Some(handle)) = site.runtime.watch(&site.name, &instance) {
            self.lock().insert(instance, handle);
            let _ = (&self.shared.wake).write(&[1]);
        }
    }

    /// Forgets an instance that is about to be stopped: its end is no news.
    pub(super) fn forget(&self, instance: &InstanceName) {
        self.lock().remove(instance);
        let _ = (&self.shared.wake).write(&[1]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceName, Watched>> {
        self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Weak<Shared>, mut woken: UnixStream, sender: &Sender<Happening>) {
    let mut buffer = [0; 64];
    loop {
        let Some(now) = shared.upgrade() else { return };
        // The handles are cloned out of the lock, so that a wait never keeps anyone from changing them.
        let watched: Vec<Watched> = {
            let map = now.watched.lock().unwrap_or_else(PoisonError::into_inner);
            map.values().filter_map(|one| one.try_clone().ok()).collect()
        };
        drop(now);
        let dead = wait_exit(&watched, Some(woken.as_fd()), SLEEP_MAX).unwrap_or_default();
        while woken.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let Some(now) = shared.upgrade() else { return };
        for index in dead {
            report(&now, &watched[index], sender);
        }
    }
}

fn report(shared: &Shared, died: &Watched, sender: &Sender<Happening>) {
    let mut map = shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
    // Forgotten or started again in between: not the process that should be running.
    if map.get(&died.instance).is_none_or(|now| now.pid != died.pid) {
        return;
    }
    map.remove(&died.instance);
    drop(map);
    let why = match shared.site.runtime.post_mortem(&died.service, &died.instance) {
        Ok(Some(reason)) => shared.site.secrets.scrub(&reason.to_string()),
        Ok(None) => "it ended by itself".into(),
        Err(error) => format!("how it ended is unknown: {error}"),
    };
    // The receiver is gone only when the service's world is.
    let _ = sender.send(Happening::Died { instance: died.instance.clone(), why });
}
