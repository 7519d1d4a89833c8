//! What enforces holds outside, as commands and the daemon ask it.

use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_domain::{
    operations::{Event, Operations},
    terms::{Actor, Timestamp},
};
use lastgood_drivers::probe::Secrets;
use lastgood_engine::{
    desk::Subject as _,
    enforce::{self, Enforcers},
    operations::{Desk, Scope, chain},
};
use lastgood_store::{READ_RECORDS_MAX, Reader};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// What a command waits for enforcers before it answers: with it a declaration takes less than a second.
const AT_ONCE: Duration = Duration::from_millis(600);
/// What an emergency waits, which ends with what is and is not held outside.
const IN_EMERGENCY: Duration = Duration::from_secs(10);
/// What `hold sync` and the daemon wait: each act has a time of its own, and there are not many.
const IN_PEACE: Duration = Duration::from_secs(120);
/// How often the daemon reads back where nothing has changed.
const READ_BACK_EVERY: Duration = Duration::from_secs(60);
/// How often the daemon looks whether holds have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it looks whether it was told to end.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks the enforcers at once, and leaves what takes longer to the daemon. A hold stands whatever comes of it.
pub(crate) fn at_once(app: &App) {
    within(app, AT_ONCE);
}

/// Asks the enforcers in an emergency: longer than a declaration does, and not for ever.
pub(crate) fn in_emergency(app: &App) {
    within(app, IN_EMERGENCY);
}

/// Reads back from the enforcers before something is decided on what they confirm: nobody may have asked them since
/// yesterday. What is not heard stays as it was written, and counts only as long as it is fresh.
pub(crate) fn read_back(app: &App) {
    within(app, IN_PEACE);
}

fn within(app: &App, wait: Duration) {
    if app.config.enforcer.is_empty() {
        return;
    }
    if let Err(trouble) = pass(app, wait) {
        app.screen.trouble(&trouble);
    }
    // What has not answered by now is asked again by who stays.
    lastgood_drivers::enforcer::end_programs();
}

/// Asks the enforcers, and gives whether all of them were heard.
pub(crate) fn in_peace(app: &App) -> Result<bool, Trouble> {
    pass(app, IN_PEACE)
}

fn pass(app: &App, wait: Duration) -> Result<bool, Trouble> {
    let mut desk = Desk::new(app.store()?, app.scope(), app.routes());
    ask(app, &mut desk, &enforcers(app), wait)
}

fn enforcers(app: &App) -> Enforcers {
    // A secret that can't be read fails the enforcer that needs it, and no other.
    let lookup = |name: &str| {
        let one = app.config.secret.get_key_value(name).map(|(name, source)| (name.clone(), source.clone()));
        let secrets = Secrets::load(&one.into_iter().collect(), &app.config.folder).ok()?;
        secrets.get(name).map(ToOwned::to_owned)
    };
    Enforcers::new(&app.config, &lookup)
}

fn ask(app: &App, desk: &mut Desk, enforcers: &Enforcers, wait: Duration) -> Result<bool, Trouble> {
    let (by, scope) = (by(), app.scope());
    let clock = || -> Timestamp { app.now() };
    let heard = enforce::pass(desk, app.home.root(), (enforcers, &scope), (&by, &clock), wait);
    heard.map_err(|error| {
        Trouble::say(Exit::Failed, "enforcers-unasked", error.to_string(), "ask them again: lastgood hold sync")
    })
}

fn by() -> Actor {
    Actor::new("lastgood:enforcers").expect("a fixed valid name")
}

/// Keeps enforcers as they must be and asks owners after their holds, until the daemon ends.
pub(crate) fn keep(app: &App, stop: &AtomicBool) {
    let mut seen = None;
    let mut looked = Instant::now();
    let mut read_back: Option<Instant> = None;
    while !stop.load(Ordering::SeqCst) {
        thread::sleep(STOP_LOOK_EVERY);
        if looked.elapsed() < LOOK_EVERY && read_back.is_some() {
            continue;
        }
        looked = Instant::now();
        let size = written(app);
        if size == seen && read_back.is_some_and(|at| at.elapsed() < READ_BACK_EVERY) {
            continue;
        }
        read_back = Some(Instant::now());
        if let Err(trouble) = once(app) {
            app.screen.trouble(&trouble);
        }
        // A pass takes as long as its slowest place: what others wrote meanwhile is not seen yet.
        seen = if by_others_since(app, size).unwrap_or(true) { size } else { written(app) };
    }
}

/// Tells whether others than us have written to the operations chain since it had `size` records; `None` if nobody can tell.
fn by_others_since(app: &App, size: Option<u64>) -> Option<bool> {
    let (reader, us, mut from) = (Reader::open(app.home.root()).ok()?, by(), size?);
    loop {
        let read = reader.read(&chain(), from, READ_RECORDS_MAX).ok()?;
        let Some(last) = read.last() else { return Some(false) };
        from = last.seq + 1;
        if read.iter().any(|one| Scope::parse(&one.bytes).map_or(true, |record| record.by != us)) {
            return Some(true);
        }
    }
}

/// Gives how many records the operations chain has; what can't be read is no news.
fn written(app: &App) -> Option<u64> {
    let reader = Reader::open(app.home.root()).ok()?;
    reader.head(&chain()).ok().map(|head| head.size)
}

fn once(app: &App) -> Result<(), Trouble> {
    let mut desk = Desk::new(app.store()?, app.scope(), app.routes());
    let review_after = app.config.holds.review_after.0;
    let now = app.now();
    let due = |state: &Operations| Ok(state.holds.due(now, review_after).into_iter().map(Event::Hold).collect());
    let said = desk.say(&by(), now, &due).map(|(records, _)| !records.is_empty());
    if said.map_err(|error| Trouble::new(Exit::Failed, error.coded()))? {
        lastgood_engine::bell::ring(app.home.root());
    }
    let before = desk.look().map(|folded| folded.head.size).unwrap_or_default();
    ask(app, &mut desk, &enforcers(app), IN_PEACE)?;
    // Who delivers notices hears of it.
    if desk.look().is_ok_and(|folded| folded.head.size != before) {
        lastgood_engine::bell::ring(app.home.root());
    }
    Ok(())
}
