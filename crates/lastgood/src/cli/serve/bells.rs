//! What wakes the drivers when another command has written to the log.

use super::Bells;
use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_engine::{bell, deliver::Wake, drive::Happening};
use lastgood_server::switches::Bell;
use std::{
    sync::{Arc, PoisonError},
    thread,
};

/// Wakes every driver.
pub(super) fn ring(bells: &Bells) {
    for bell in bells.lock().unwrap_or_else(PoisonError::into_inner).values() {
        // A driver that has ended needs no bell.
        let _ = bell.send(Happening::Woken);
    }
}

/// Passes the bell that other commands ring on to all drivers.
pub(super) fn listen(app: &App, bells: &Bells, delivery: &Arc<Wake>, board: Option<Bell>) -> Result<(), Trouble> {
    let socket = bell::listen(app.home.root()).map_err(|error| {
        Trouble::say(
            Exit::Failed,
            "state-dir-unusable",
            format!("can't listen for wake-ups: {error}"),
            "check the state folder",
        )
    })?;
    let (bells, delivery) = (Arc::clone(bells), Arc::clone(delivery));
    thread::spawn(move || {
        let mut buffer = [0; 16];
        while socket.recv(&mut buffer).is_ok() {
            // A switch is what must not wait.
            board.iter().for_each(Bell::ring);
            ring(&bells);
            delivery.ring();
        }
    });
    Ok(())
}
