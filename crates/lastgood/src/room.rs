//! Keeps room on the state disk for as long as this process drives anything.

use crate::app::App;
use lastgood_engine::room;
use lastgood_store::Store;
use std::{
    path::Path,
    sync::Once,
    thread,
    time::{Duration, Instant},
};

/// A program that prints without end writes a gigabyte in a second: less than this, and its log fills the disk before.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// On a disk that is nearly full it is a race.
const LOOK_EVERY_WHERE_FULL: Duration = Duration::from_millis(50);
/// How often the evidence is opened on a full disk before that is given up.
const OPENS_MAX: u32 = 20;
/// How often the reserve is looked at.
const RESERVE_EVERY: Duration = Duration::from_secs(60);

/// Keeps programs' logs small and a reserve aside, until this process ends.
pub(crate) fn keep(root: &Path) {
    static KEPT: Once = Once::new();
    let root = root.to_path_buf();
    KEPT.call_once(|| {
        // Without a thread to be had logs grow as they did; what is written on a full disk makes room itself.
        let _ = thread::Builder::new().name("room".into()).spawn(move || {
            let mut looked: Option<Instant> = None;
            loop {
                let full = room::keep_logs_small(&root);
                if !full && looked.is_none_or(|looked| looked.elapsed() >= RESERVE_EVERY) {
                    room::set_aside(&root);
                    looked = Some(Instant::now());
                }
                thread::sleep(if full { LOOK_EVERY_WHERE_FULL } else { LOOK_EVERY });
            }
        });
    });
}

/// Makes room on a full disk for what keeps harm from going on, and opens the evidence for the caller to keep open: SQLite
/// makes what it needs beside it once, and what filled the disk may take each byte that becomes free.
pub(crate) fn make(app: &App) -> Option<Store> {
    let root = app.home.root();
    let opened = (0..OPENS_MAX).find_map(|_| match room::make_room_if_full(root) {
        false => Some(None),
        true => app.store().ok().map(Some),
    });
    if !matches!(opened, Some(None)) {
        keep(root);
    }
    opened.flatten()
}
