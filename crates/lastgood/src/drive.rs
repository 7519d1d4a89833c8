//! Takes the wheel of one service, or asks whoever has it.

use crate::{
    app::{App, log_trouble},
    cli::evidence,
    exit::Exit,
    progress::{HEARTBEAT, Progress, Shown},
    room,
    screen::Trouble,
};
use lastgood_domain::{
    event::{Aim, End, Event, Expected, Settings},
    failure::{Coded, Failure, REPORT},
    rollout::{self, IllegalStep, Input},
    service::{Phase, Service},
    terms::{Actor, RunId, ServiceName, Timestamp},
    words,
};
use lastgood_drivers::runtime::session::Detached;
use lastgood_engine::{
    config::Config,
    deliver::Deliverer,
    drive::{DriveError, Driver, Log as _, LogError, World as _},
    fold::Folded,
    links::{Finish, Links},
    log::{ServiceLog, chain_of},
    paths::ServiceHome,
    preflight::{self, Asker},
    world::{self, Host, Site},
};
use lastgood_store::{DriverLock, HeldBy, LockError, SignError, Store};
use signal_hook::{consts::SIGINT, flag};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What the daemon calls itself where it drives.
pub(crate) const DAEMON: &str = "lastgood serve";
/// What a pass calls itself where it drives.
pub(crate) const RUN: &str = "lastgood run";
/// How often the log is looked at while someone else drives.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked at whether anybody still drives.
const HOLDER_EVERY: Duration = Duration::from_secs(1);
/// Silence of a driver after which it is named; most effects take less, and none of a way back by code.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Threads that deliver notices of one command.
const DELIVERY_THREADS: usize = 2;

/// A driver over the real world whose records are shown.
pub(crate) type RealDriver = Driver<Shown, Host>;

/// Makes trouble of a loop that could not go on.
pub(crate) fn drive_trouble(error: &DriveError) -> Trouble {
    match error {
        DriveError::Log(error) => log_trouble(error),
        DriveError::Illegal(IllegalStep::RunUnderWay(run)) => Trouble::say(
            Exit::Driven,
            "run-under-way",
            format!("run {run} is under way"),
            "wait for it: lastgood watch --until terminal; or go back: lastgood rollback",
        ),
        DriveError::Illegal(illegal @ IllegalStep::NoWayBack(_)) => {
            Trouble::say(Exit::Refused, "no-way-back", illegal.to_string(), "see what ran where: lastgood status")
        }
        DriveError::Illegal(illegal) => {
            Trouble::say(Exit::Failed, "step-illegal", illegal.to_string(), "lastgood status")
        }
    }
}

/// Tells whether a run is under way that nobody drives, as after a kill.
///
/// A driver takes the lock before it begins a run and ends the run before it lets go: a run that stands still
/// while nobody has the lock has no driver.
pub(crate) fn is_undriven(app: &App, service: &ServiceName, seen: &Service) -> Result<bool, Trouble> {
    let nobody = || {
        let holder = DriverLock::holder(app.home.root(), service);
        holder.map(|holder| holder.is_none()).map_err(|error| Trouble::new(Exit::Failed, &error))
    };
    if seen.run.is_none() || !nobody()? {
        return Ok(false);
    }
    // What was seen may be older than the end of the run.
    let now = app.look(service)?.service;
    Ok(now.run.is_some() && now.records == seen.records && nobody()?)
}

/// Takes the lock of a service.
///
/// Errors: exit 10 names who has it.
pub(crate) fn lock(app: &App, service: &ServiceName, what: &str) -> Result<DriverLock, Trouble> {
    app.store()?;
    DriverLock::take_reading(app.home.root(), service, what, app.config.digest, app.now()).map_err(|error| {
        let exit = if matches!(error, LockError::File { .. }) { Exit::Failed } else { Exit::Driven };
        let mut trouble = Trouble::new(exit, &error);
        if let LockError::Held { by, .. } = &error
            && by.what == DAEMON
            && what == RUN
        {
            trouble.failure.hint = Some(format!("have the daemon run now: lastgood run {service} --now"));
        }
        trouble
    })
}

/// Tells whether the daemon goes by another lastgood.toml than the one that is there now: it reads the file at its start.
pub(crate) fn is_outdated(app: &App, driver: &HeldBy) -> bool {
    driver.what == DAEMON && driver.reads.is_some_and(|read| Some(read) != app.config.digest)
}

/// Opens the store for driving: refuses one that is not the one that was signed.
pub(crate) fn driving_store(app: &App) -> Result<Store, Trouble> {
    app.store()?;
    let (signer, anchor) = evidence::signer(app)?;
    Store::open_for_driving(app.home.root(), &signer, &anchor)
        .map_err(|error: SignError| Trouble::new(Exit::Failed, &error))
}

/// Opens the store for a way back, and says what kept it from being compared with what was signed: rollback needs no
/// key and no anchor, and what is wrong with another chain is no reason to leave this service where it is. What speaks
/// against its own chain stops it all the same.
fn returning_store(app: &App, service: &ServiceName) -> Result<(Store, Option<Failure>), Trouble> {
    let store = app.store()?;
    let (signer, anchor) = match evidence::signer(app) {
        Ok(found) => found,
        Err(trouble) => return Ok((store, Some(trouble.failure))),
    };
    match store.check_anchor_of(&chain_of(service), &signer.verifier(), &anchor) {
        Ok(others) => Ok((store, others.map(|error| Failure::of(&error)))),
        Err(SignError::Anchor(error)) if !error.speaks_against_the_store() => Ok((store, Some(Failure::of(&error)))),
        Err(error) => Err(Trouble::new(Exit::Failed, &error)),
    }
}

/// Refuses what goes forward without what a way back does without.
pub(crate) fn refuse_forward(driver: &RealDriver) -> Result<(), Trouble> {
    match driver.world.site().without.first() {
        Some(failure) => Err(Trouble { exit: Exit::Failed, failure: failure.clone() }),
        None => Ok(()),
    }
}

/// Opens a service's driver behind what is folded; `home` may be a temporary place. If a way back is under way, it goes on
/// without what it doesn't need, and says so.
pub(crate) fn open(
    app: &App,
    config: &Config,
    service: &ServiceName,
    home: ServiceHome,
    folded: Folded,
    progress: Option<Progress>,
) -> Result<RealDriver, Trouble> {
    let goes_back = folded.service.run.as_ref().is_some_and(|run| {
        matches!(run.aim, Aim::Back { .. }) || matches!(run.phase, Phase::Returning { .. } | Phase::Unshifting { .. })
    });
    let needs = if goes_back { Needs::WhatReturns } else { Needs::Everything };
    open_with(app, config, service, home, folded, progress, needs)
}

/// What must be there before anything is driven.
enum Needs {
    Everything,
    /// What a way back needs.
    WhatReturns,
}

fn open_with(
    app: &App,
    config: &Config,
    service: &ServiceName,
    home: ServiceHome,
    folded: Folded,
    progress: Option<Progress>,
    needs: Needs,
) -> Result<RealDriver, Trouble> {
    room::keep(app.home.root());
    let open = match needs {
        Needs::Everything => Site::open,
        Needs::WhatReturns => Site::open_for_return,
    };
    let (store, unanchored) = match needs {
        Needs::Everything => (driving_store(app)?, None),
        Needs::WhatReturns => returning_store(app, service)?,
    };
    let log = ServiceLog::new(store, service.clone(), app.routes(), &folded);
    let mut site = open(config, service, home, program()?).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    site.without.extend(unanchored);
    let (settings, without) = (site.config.settings(), site.without.clone());
    let by = Actor::new("lastgood:engine").expect("a fixed valid name");
    let mut host = Host::new(site).map_err(|failure| Trouble { exit: Exit::Failed, failure })?;
    let outside = app.outside(service);
    host.look_for_holds(Box::new(move |service| outside.stops(service)));
    let driver = Driver::open(Shown::new(log, progress), folded.service, host, settings, by.clone());
    let mut driver = driver.map_err(|error| drive_trouble(&error))?;
    for failure in without {
        let input = Input::Say(Event::WentOnWithout { failure });
        driver.put(input, &by).map_err(|error| drive_trouble(&error))?;
    }
    Ok(driver)
}

/// Gives the path of the program that runs now.
pub(crate) fn program() -> Result<PathBuf, Trouble> {
    std::env::current_exe().map_err(|error| {
        Trouble::say(
            Exit::Failed,
            "internal",
            format!("can't find lastgood's own program: {error}"),
            "start it by its path",
        )
    })
}

/// Drives to the end of the run, showing what happens.
pub(crate) fn to_end(driver: &mut RealDriver, progress: &Progress) -> Result<Option<End>, Trouble> {
    driver.world.nobody_rings();
    let interrupted = interrupted()?;
    let mut silent_until = world::now().after(HEARTBEAT);
    while driver.service().run.is_some() || driver.world.is_busy() {
        if interrupted.load(Ordering::SeqCst) {
            progress.end();
            return Err(stands_still(&driver.world.site().name, driver.service()));
        }
        let before = driver.service().records;
        driver.turn(Some(silent_until)).map_err(|error| drive_trouble(&error))?;
        let now = world::now();
        if driver.service().records != before {
            silent_until = now.after(HEARTBEAT);
        } else if now >= silent_until {
            progress.heartbeat();
            silent_until = now.after(HEARTBEAT);
        }
    }
    Ok(driver.service().last_end.as_ref().map(|(_, _, end)| end.clone()))
}

/// Gives what Ctrl-C sets; a second Ctrl-C ends the process at once.
fn interrupted() -> Result<Arc<AtomicBool>, Trouble> {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let failed = |error: std::io::Error| {
        Trouble::say(Exit::Failed, "internal", format!("can't install signal handlers: {error}"), REPORT)
    };
    if let Some(interrupted) = INTERRUPTED.get() {
        return Ok(Arc::clone(interrupted));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let code = Exit::Interrupted as i32;
    flag::register_conditional_shutdown(SIGINT, code, Arc::clone(&interrupted)).map_err(failed)?;
    flag::register(SIGINT, Arc::clone(&interrupted)).map_err(failed)?;
    Ok(Arc::clone(INTERRUPTED.get_or_init(|| interrupted)))
}

/// Says what is left where whoever drove it was interrupted: nothing is lost, and nobody watches.
fn stands_still(name: &ServiceName, service: &Service) -> Trouble {
    let (what, awaited) = match &service.run {
        None => ("what was under way is not cleared up".to_owned(), String::new()),
        Some(run) => (format!("run {} stands still", run.id), words::awaited(service, run, world::now())),
    };
    let so = if awaited.is_empty() { String::new() } else { format!(" ({awaited})") };
    Trouble::say(
        Exit::Interrupted,
        "interrupted",
        format!("{name}: {what}{so}; nobody watches it until somebody goes on"),
        &format!("go on: lastgood run {name}; back: lastgood rollback {name}"),
    )
}

/// Asks whether what would happen in a state is still what somebody looked at.
pub(crate) type Still<'a> = &'a dyn Fn(&Service) -> Result<(), Trouble>;

/// Begins a run in the log of a service that someone else drives, and follows it to its end; without an end if nobody
/// drives it any more. It moves to `expects` only, if that is given.
pub(crate) fn ask(
    app: &App,
    service: &ServiceName,
    aim: &Aim,
    expects: Option<Expected>,
    still: Still<'_>,
) -> Result<(RunId, Option<End>), Trouble> {
    if !matches!(aim, Aim::Back { .. }) {
        driving_store(app)?;
    }
    let mut folded = app.look(service)?;
    let run = write_begin(app, service, aim, &mut folded, expects, still)?;
    lastgood_engine::bell::ring(app.home.root());
    Ok((run, follow(app, service, run, folded, None)?))
}

/// Drives a run to its end that stands in the log and that nobody drives; whoever takes the wheel first is followed.
pub(crate) fn take_over(app: &App, service: &ServiceName, run: RunId, what: &str) -> Result<Option<End>, Trouble> {
    loop {
        match DriverLock::take(app.home.root(), service, what, app.now()) {
            Ok(_lock) => {
                let folded = app.look(service)?;
                let progress = Progress::new(app.screen, service.clone(), folded.service.clone());
                let home = app.home.service(service);
                let mut driver = open(app, &app.config, service, home, folded, Some(progress.clone()))?;
                let end = to_end(&mut driver, &progress)?;
                progress.end();
                settle(app, driver);
                return Ok(end);
            }
            Err(error @ LockError::File { .. }) => return Err(Trouble::new(Exit::Failed, &error)),
            Err(LockError::Held { .. } | LockError::HeldByUnknown { .. }) => {
                if let Some(end) = follow(app, service, run, app.look(service)?, None)? {
                    return Ok(Some(end));
                }
            }
        }
    }
}

/// Takes a service over for a way back, whatever its last driver left undone, and opens its driver.
///
/// The order to go back is written first, so that nothing of the way forward is performed again.
pub(crate) fn open_over(
    app: &App,
    service: &ServiceName,
    aim: &Aim,
    still: Still<'_>,
) -> Result<(RealDriver, Progress), Trouble> {
    returning_store(app, service)?;
    let mut folded = app.look(service)?;
    write_begin(app, service, aim, &mut folded, None, still)?;
    let progress = Progress::new(app.screen, service.clone(), folded.service.clone());
    let home = app.home.service(service);
    let shown = Some(progress.clone());
    // What was written just now is not folded yet.
    let driver = open_with(app, &app.config, service, home, folded, shown, Needs::WhatReturns)?;
    Ok((driver, progress))
}

/// Writes the beginning of a run behind what is folded, after what others wrote since; gives its id.
fn write_begin(
    app: &App,
    service: &ServiceName,
    aim: &Aim,
    folded: &mut Folded,
    expects: Option<Expected>,
    still: Still<'_>,
) -> Result<RunId, Trouble> {
    let settings = app.config.service.get(service).map(|config| Settings { expects, ..config.settings() });
    let settings = settings.ok_or_else(|| {
        Trouble::say(Exit::Usage, "service-unknown", format!("there is no service {service}"), "lastgood status")
    })?;
    // A way back never asks.
    let checked = match aim {
        Aim::Track | Aim::Drain => preflight::before_deploy(&app.config, service, &Asker::default()),
        Aim::Back { .. } | Aim::Cool | Aim::DryRun => None,
    };
    let mut log = app.log(service, folded)?;
    loop {
        still(&folded.service)?;
        let (settings, preflight) = (settings.clone(), checked.clone());
        let frozen = app.stopped(service, &folded.service);
        let input = Input::Begin { aim: aim.clone(), settings, frozen, preflight };
        let records = rollout::step(&folded.service, input, &app.actor, world::now())
            .map_err(|illegal| drive_trouble(&DriveError::Illegal(illegal)))?;
        match log.append(&folded.service, &records) {
            Ok(()) => return Ok(RunId(folded.service.next.run)),
            // Someone wrote in between: decide again on what is there now.
            Err(LogError::Moved) => {
                for record in log.news().map_err(|error| log_trouble(&error))? {
                    folded.service.apply(&record);
                }
                folded.head = log.head();
            }
            Err(error) => return Err(log_trouble(&error)),
        }
    }
}

/// Shows a run that someone else drives, until it ends; none if nobody drives it any more, or `by` ended before it began it.
/// A driver that says nothing is named once: only a person can tell a slow one from one that hangs.
pub(crate) fn follow(
    app: &App,
    service: &ServiceName,
    run: RunId,
    folded: Folded,
    by: Option<&Detached>,
) -> Result<Option<End>, Trouble> {
    let progress = Progress::new(app.screen, service.clone(), folded.service.clone());
    let mut log = app.log(service, &folded)?;
    let mut folded = folded.service;
    let (mut silent_since, mut named, mut looked) = (Instant::now(), false, Instant::now());
    loop {
        // Asked before the log is read: what it has written last is read then.
        let is_gone = by.is_some_and(Detached::has_ended);
        let news = log.news().map_err(|error| log_trouble(&error))?;
        for record in &news {
            folded.apply(record);
        }
        progress.take(&news);
        if let Some((ended, _, end)) = &folded.last_end
            && *ended >= run
        {
            progress.end();
            return Ok(Some(end.clone()));
        }
        if is_gone && folded.next.run <= run.0 {
            progress.end();
            return Ok(None);
        }
        if !news.is_empty() {
            silent_since = Instant::now();
        }
        if looked.elapsed() >= HOLDER_EVERY {
            looked = Instant::now();
            // Whoever can't be named yet has just taken the lock.
            let begun = folded.run.as_ref().is_some_and(|one| one.id == run);
            if begun && is_undriven(app, service, &folded).unwrap_or(false) {
                progress.end();
                return Ok(None);
            }
            if !named && silent_since.elapsed() >= SILENT_MAX {
                named = name_silent(app, service);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Says who drives and has written nothing for a while; tells whether there was somebody to name.
fn name_silent(app: &App, service: &ServiceName) -> bool {
    let Ok(Some(by)) = DriverLock::holder(app.home.root(), service) else { return false };
    app.screen.tell(&format!(
        "process {pid} ({what}) drives {service} and has written nothing for {seconds} s; look at it: ps -o stat,cmd -p {pid}\n\
         if it hangs, end it, and this goes on by itself: kill {pid}",
        pid = by.pid,
        what = by.what,
        seconds = SILENT_MAX.as_secs(),
    ));
    true
}

/// Delivers what is due, signs what was written and keeps the state: what every command does that drove.
pub(crate) fn settle(app: &App, mut driver: RealDriver) {
    for done in [deliver(app), sign(app)] {
        if let Err(trouble) = done {
            // What was driven is done; this is said and shows in status as well.
            app.screen.trouble(&trouble);
        }
    }
    if let Err(error) = driver.keep() {
        app.screen.trouble(&drive_trouble(&error.into()));
    }
}

fn sign(app: &App) -> Result<(), Trouble> {
    let (signer, anchor) = evidence::signer(app)?;
    evidence::sign_all(&mut app.store()?, &signer, &anchor, app).map(drop)
}

fn deliver(app: &App) -> Result<(), Trouble> {
    if app.config.notice.is_empty() {
        return Ok(());
    }
    let now: Timestamp = app.now();
    let mut deliverer = deliverer(app, DELIVERY_THREADS)?;
    deliverer.deliver_due(now).map(drop).map_err(|error| Trouble::new(Exit::Failed, &error))
}

/// Makes what delivers notices.
pub(crate) fn deliverer(app: &App, threads: usize) -> Result<Deliverer, Trouble> {
    use lastgood_drivers::probe::Secrets;
    let (sources, folder) = (app.config.secret.clone(), app.config.folder.clone());
    // Each by itself, when it is needed: one that can't be read silences its own endpoint and no other.
    let lookup = move |name: &str| {
        let source = sources.get(name)?.clone();
        let secrets = Secrets::load(&BTreeMap::from([(name.to_owned(), source)]), &folder).ok()?;
        secrets.get(name).map(ToOwned::to_owned)
    };
    Deliverer::new(app.store()?, app.config.notice.clone(), Box::new(lookup), threads, app.now())
        .map(|deliverer| deliverer.finishing(finish(app)))
        .map_err(|error: lastgood_engine::deliver::DeliverError| Trouble::new(Exit::Failed, &error as &dyn Coded))
}

/// Gives what writes links into messages when they are sent. Without a usable key the messages go without: that nobody can
/// answer by a link is no reason to tell nobody.
fn finish(app: &App) -> Option<Finish> {
    let url = app.config.approvals.as_ref()?.url.clone()?;
    let _usable = app.links().map_err(|trouble| app.screen.trouble(&trouble)).ok()?;
    let home = app.home.root().to_path_buf();
    let people = app.config.people();
    Some(Arc::new(move |endpoint, body| {
        let is_theirs = |person: &Actor| {
            let person = people.all.get(person);
            person.is_some_and(|person| person.notice.iter().any(|place| place == endpoint))
        };
        // Read each time, so that a key that was removed makes no more links.
        Links::open(&home, &url).ok()?.finished(body, is_theirs)
    }))
}
