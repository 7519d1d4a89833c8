//! One effect, made so. Each answer is a fact; what it means is decided elsewhere.

use super::{
    Site,
    data::{can_return, is_whole, lay_ready, measure, prune, restore, still_has_data, take},
    deaths::Deaths,
    gate, launchable, others, rehearse,
    routing::{ROUTE_AGAIN, is_ordered, tell_router, try_resume},
    sealed, switching,
    unit::WayBack,
};
use crate::{
    config::{InstanceConfig, RuntimeConfig},
    drive::Happening,
    ports::Occupant,
    provenance,
    setup::{self, Setup, Start},
};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::Aim,
    facts::{Busyness, Installation, Liveness, Offer},
    failure::{Coded, Failure},
    service::{Phase, Service},
    terms::{Digest, InstanceName, OrderId, ReleaseTag},
};
use lastgood_drivers::{
    channel::{self, ChannelError},
    probe::wait_ready,
    runtime::{Launch, RuntimeError},
    state::{Mode, Owner},
};
use std::{
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Makes `effect` so and tells what came of it.
///
/// `void` is set when nobody wants it any more.
pub(super) fn act(
    site: &Site,
    deaths: &Deaths,
    service: &Service,
    order: OrderId,
    effect: &Effect,
    void: &Arc<AtomicBool>,
) -> Answer {
    let done = match effect {
        Effect::Check { tag, except } => check(site, service, tag.as_ref(), except),
        Effect::Install { offer } => install(site, service, offer),
        Effect::Verify { release } => verify_whole(site, service, release),
        Effect::AskGate { gate, release, control } => gate::ask(site, service, gate, release, control.as_ref()),
        Effect::Snapshot { instance, snapshot } => take(site, service, instance, *snapshot, Mode::Online, void),
        Effect::SnapshotStopped { instance, snapshot } => take(site, service, instance, *snapshot, Mode::Stopped, void),
        Effect::Rehearse { instance, snapshot, release, leg } => {
            rehearse::rehearse(site, service, instance, *snapshot, release, *leg)
        }
        Effect::ClearRehearsal => clear_rehearsal(site),
        Effect::AskBusy { instance } => ask_busy(site, service, instance),
        Effect::Stop { instance } => stop(site, deaths, service, instance),
        Effect::Start { instance, release } => start(site, deaths, service, instance, release, &|| false),
        Effect::Probe { instance, .. } => probe(site, service, instance),
        Effect::Measure { instance, snapshot } => measure(site, service, instance, *snapshot),
        Effect::Restore { instance, snapshot } => restore(site, service, instance, *snapshot, order),
        Effect::LayReady { instance, snapshot } => lay_ready(site, service, instance, *snapshot),
        Effect::Route { route } => tell_router(site, service, route),
        Effect::TryResume { candidate, last_good } => try_resume(site, service, candidate, last_good),
        Effect::TurnOn { run, flags } => {
            patiently(|| switching::turn_on(site, *run, flags, &|| is_ordered(site, service, order)))
        }
        Effect::TurnOff { run, flags } => patiently(|| switching::turn_off(site, *run, flags)),
        Effect::Trip { run, switches, because } => patiently(|| switching::trip(site, *run, switches, because)),
        Effect::Prune { snapshots, releases } => prune(site, order, snapshots, releases),
    };
    done.unwrap_or_else(|failure| Answer::Hindered { failure: scrubbed(site, failure) })
}

/// Takes every secret out of a failure before it becomes evidence.
pub(super) fn scrubbed(site: &Site, mut failure: Failure) -> Failure {
    failure.message = site.secrets.scrub(&failure.message);
    failure
}

pub(super) fn hindered(error: &dyn Coded) -> Failure {
    Failure::of(error)
}

fn check(site: &Site, service: &Service, tag: Option<&ReleaseTag>, except: &[ReleaseTag]) -> Result<Answer, Failure> {
    first_starts_can_listen(site, service)?;
    let channel = &site.config.channel;
    let offer = match tag {
        None => channel.newest_but(except, &site.channel),
        Some(tag) => channel.offer_of(tag, &site.channel).map(Some),
    };
    let Some(offer) = offer.map_err(|error| hindered(&error))? else { return Ok(Answer::NothingElse) };
    let last_good = service.last_good.as_ref().and_then(|digest| service.tag(digest));
    let standing = last_good.map(|last_good| channel.standing(&offer.tag, last_good));
    let foreign = channel.belongs(&offer.tag).err();
    Ok(Answer::Offered { offer, standing, foreign })
}

/// Refuses a run that would install and rehearse for minutes, only to find the port of a new instance taken.
///
/// Most often it is the copy of the service that ran before lastgood did. A dry run starts nothing there.
fn first_starts_can_listen(site: &Site, service: &Service) -> Result<(), Failure> {
    if service.run.as_ref().is_some_and(|run| run.aim == Aim::DryRun) {
        return Ok(());
    }
    let ran = |name: &InstanceName| service.instances.get(name).is_some_and(|one| one.release.is_some());
    let mut new = site.config.instance.iter().filter(|config| !ran(&config.name));
    new.find_map(|config| stranger(site, config, &site.todays(config).start)).map_or(Ok(()), Err)
}

/// Finds a process that is not the instance and listens where the instance is to listen.
///
/// systemd may itself hold the socket of its unit, so only instances of our own are looked at.
pub(super) fn stranger(site: &Site, config: &InstanceConfig, start: &Start) -> Option<Failure> {
    if site.config.runtime != (RuntimeConfig::Process {}) {
        return None;
    }
    let found = Occupant::of(&start.bind, start.port)?;
    let runs = matches!(site.runtime.liveness(&site.name, &config.name), Ok(Liveness::Up { .. }));
    (!runs).then(|| found.in_the_way_of(&config.name))
}

fn install(site: &Site, service: &Service, offer: &Offer) -> Result<Answer, Failure> {
    launchable::before_install(site, service, offer)?;
    others::have_nothing_open(site, service)?;
    let installations = site.home.installations();
    let installation = match site.config.channel.install(offer, &installations, &site.channel) {
        Ok(installation) => installation,
        Err(ChannelError::DigestMismatch { announced, fetched, .. }) => {
            return Ok(Answer::NotAsAnnounced { announced, fetched });
        }
        Err(error) => return Err(hindered(&error)),
    };
    // Those left behind follow to what this service has promoted itself.
    let asks = !site.config.policy.is_empty() && service.run.as_ref().is_none_or(|run| run.aim != Aim::Drain);
    let look = || {
        let digest = Some(&installation.release.digest);
        provenance::found(&site.config, offer, digest, &installations, &site.channel)
    };
    let provenance = asks.then(look).transpose().map_err(|error| hindered(&error))?;
    Ok(Answer::Installed { installation, provenance: provenance.map(Box::new) })
}

/// Verifies all that a way back to a release takes: its installation, and what the instances that run it start with.
fn verify_whole(site: &Site, service: &Service, release: &Digest) -> Result<Answer, Failure> {
    let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
    Ok(match channel::verify_full(&known.installation) {
        Ok(_) => {
            let runs = |one: &&InstanceConfig| {
                service.instances.get(&one.name).is_some_and(|one| one.release.as_ref() == Some(release))
            };
            let mut those = site.config.instance.iter().filter(runs);
            match those.find_map(|one| site.setup_for(service, one, release).err()) {
                None => Answer::Verified,
                Some(failure) => Answer::Failed { failure },
            }
        }
        Err(error) => Answer::Failed { failure: Failure::of(&error) },
    })
}

pub(super) fn not_installed(service: &Service, release: &Digest) -> Failure {
    Failure::new(
        "installation-missing",
        format!("{} is not installed any more", service.name_of(Some(release))),
        Some("install it again: lastgood pin SERVICE RELEASE, then lastgood run"),
    )
}

fn clear_rehearsal(site: &Site) -> Result<Answer, Failure> {
    remove_tree(&site.home.scratch())?;
    Ok(Answer::Cleared)
}

/// Removes a folder of our own; none is as good as one removed.
pub(super) fn remove_tree(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::new(
            "state-dir-unusable",
            format!("{} can't be removed: {error}", path.display()),
            Some("check its owner and mode"),
        )),
        _ => Ok(()),
    }
}

fn ask_busy(site: &Site, service: &Service, instance: &InstanceName) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let busyness = match &site.config.busy {
        None => Busyness::Idle,
        // What does not run is not in use: a first start, or one that is down.
        Some(_) if is_down(site, config) => Busyness::Idle,
        Some(busy) => {
            let answer = busy.ask(&site.target(config, &site.running(config), &config.data));
            // What drains is nobody's wish of this instant: who left a moment ago may come back.
            let drains = service.run.as_ref().is_some_and(|run| run.aim == Aim::Drain);
            if drains { site.heard(instance, answer) } else { answer }
        }
    };
    let scrub = |why: String| site.secrets.scrub(&why);
    let busyness = match busyness {
        Busyness::Idle => Busyness::Idle,
        Busyness::Busy(why) => Busyness::Busy(scrub(why)),
        Busyness::CannotTell(why) => Busyness::CannotTell(scrub(why)),
    };
    Ok(Answer::BusyAsked { busyness })
}

/// Tells whether nothing runs as this instance: neither under lastgood nor, on its port, under anyone else.
fn is_down(site: &Site, config: &InstanceConfig) -> bool {
    let down = matches!(site.runtime.liveness(&site.name, &config.name), Ok(Liveness::Down { .. }));
    let (bind, port) = site.listens(config);
    down && TcpStream::connect((bind.as_str(), port)).is_err()
}

fn stop(site: &Site, deaths: &Deaths, service: &Service, instance: &InstanceName) -> Result<Answer, Failure> {
    can_return(site, service, instance)?;
    if let Some(failure) = launchable::before_stop(site, service, instance) {
        return Ok(Answer::NotStopped { failure: scrubbed(site, failure) });
    }
    halt(site, deaths, instance)
}

/// Stops an instance, wherever it was going.
fn halt(site: &Site, deaths: &Deaths, instance: &InstanceName) -> Result<Answer, Failure> {
    deaths.forget(instance);
    site.runtime.stop(&site.name, instance, site.config.stop_timeout.0).map_err(|error| hindered(&error))?;
    if let Some(config) = site.config.instance(instance) {
        site.sole_holder.has_stopped(&config.data);
    }
    Ok(Answer::Stopped)
}

/// Starts an instance once more that died; `effect` is its start. What it left behind is ended first: a worker whose
/// master was killed, or a unit that systemd means to start again later.
pub(super) fn revive(
    site: &Site,
    deaths: &Deaths,
    service: &Service,
    effect: &Effect,
    is_superseded: &AtomicBool,
) -> Answer {
    let Effect::Start { instance, release } = effect else { return Answer::Stopped };
    // systemd may have started it again before us.
    let runs = matches!(
        site.runtime.liveness(&site.name, instance),
        Ok(Liveness::Up { release: Some(running), .. }) if running == *release
    );
    let stopped = match runs {
        true => Ok(Answer::Stopped),
        false => still_has_data(site, service, instance).and_then(|()| halt(site, deaths, instance)),
    };
    let is_given_up = || is_superseded.load(Ordering::SeqCst);
    let started = stopped.and_then(|stopped| match is_given_up() {
        true => Ok(stopped),
        false => start(site, deaths, service, instance, release, &is_given_up),
    });
    started.unwrap_or_else(|failure| Answer::Hindered { failure: scrubbed(site, failure) })
}

fn start(
    site: &Site,
    deaths: &Deaths,
    service: &Service,
    instance: &InstanceName,
    release: &Digest,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    is_whole(site, instance)?;
    let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
    sealed::at_start(site, instance, release, &known.installation)?;
    let Chosen { setup, launch, instead_of } = choose(site, service, config, release, &known.installation)?;
    if let Some(failure) = instead_of {
        deaths.report(Happening::WentOnWithout { failure: scrubbed(site, failure) });
    }
    let digest = note(site, service, config, release, &setup)?;
    let attempt = || {
        let started = match site.runtime.start(&launch) {
            Ok(started) => started,
            Err(error) if blames_release(&error) && !names_nothing(site, service, config, release, &error) => {
                return Ok(Answer::Failed { failure: scrubbed(site, Failure::of(&error)) });
            }
            Err(error) => return Err(hindered(&error)),
        };
        let died = || match site.runtime.post_mortem(&site.name, instance) {
            _ if is_given_up() => Some("it is to be stopped".into()),
            Ok(Some(reason)) => Some(reason.end()),
            Ok(None) | Err(_) => None,
        };
        let target = site.direct_target(config, &setup, &config.data);
        let checks = &setup.checks;
        let ready = wait_ready(checks.ready.as_ref(), &target, checks.ready_timeout.duration(), &died);
        if let Err(error) = ready {
            // It came between our look and the program's own: the machine's fault as well.
            if let Some(failure) = stranger(site, config, &setup.start).filter(|_| ended_for_its_port(site, instance)) {
                return Err(failure);
            }
            return Ok(Answer::Failed { failure: scrubbed(site, Failure::of(&error)) });
        }
        deaths.watch(instance);
        Ok(Answer::Started { pid: started.pid, setup: digest, unit: Vec::new() })
    };
    match WayBack::of(site, deaths, service, instance, release, &launch) {
        Some(way) => way.start(&attempt, &|| halt(site, deaths, instance), is_given_up),
        None => attempt(),
    }
}

/// How an instance is started.
pub(super) struct Chosen {
    setup: Setup,
    pub(super) launch: Launch,
    /// Why it is not the setup that was kept, if it is not.
    instead_of: Option<Failure>,
}

/// Chooses what an instance is started with: what its release last ran well with, or for a candidate what lastgood.toml
/// says now.
///
/// A way back is not stranded by what was kept: where that is damaged or can't be started from any more (its secret was
/// taken away, its port is a stranger's by now), lastgood.toml is tried.
pub(super) fn choose(
    site: &Site,
    service: &Service,
    config: &InstanceConfig,
    release: &Digest,
    installation: &Installation,
) -> Result<Chosen, Failure> {
    let ready = |setup: Setup| {
        let launch = site.launch(config, &setup.start, installation, &config.data, site.home.log(&config.name))?;
        if let Some(failure) = setup.start.user.as_deref().and_then(|user| Owner::named(user).err()) {
            return Err(Failure::of(&failure));
        }
        // A stranger on the port would answer the probe in the release's name.
        match stranger(site, config, &setup.start) {
            Some(failure) => Err(failure),
            None => Ok(Chosen { setup, launch, instead_of: None }),
        }
    };
    let now = site.todays(config);
    let failure = match site.setup_for(service, config, release) {
        Ok(kept) if kept.start == now.start => return ready(kept),
        Ok(kept) => match ready(kept) {
            Ok(chosen) => match missing(&chosen.launch) {
                None => return Ok(chosen),
                Some(failure) => {
                    let other = ready(now).ok().filter(|other| missing(&other.launch).is_none());
                    return Ok(other.map_or(chosen, |other| Chosen { instead_of: Some(failure), ..other }));
                }
            },
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    match ready(now) {
        Ok(chosen) => Ok(Chosen { instead_of: Some(failure), ..chosen }),
        // What was kept is what it should be.
        Err(_) => Err(failure),
    }
}

/// Says what a program needs and is not there any more: itself, or the folder it starts in.
fn missing(launch: &Launch) -> Option<Failure> {
    let (code, path) = gone(launch)?;
    let hint = "start it from lastgood.toml as it is: lastgood config accept SERVICE --reason …";
    Some(Failure::new(code, format!("{} was there when it last ran well, and is not now", path.display()), Some(hint)))
}

/// Finds what a program needs and is not there, with its code.
pub(super) fn gone(launch: &Launch) -> Option<(&'static str, &Path)> {
    let program = launch.argv.first().map(Path::new).filter(|program| program.is_absolute());
    let gone = program.filter(|program| !program.is_file()).map(|program| ("instance-program-missing", program));
    gone.or_else(|| (!launch.workdir.is_dir()).then_some(("instance-workdir-missing", launch.workdir.as_path())))
}

/// Tells whether a run moves forward to a release.
fn moves_to(service: &Service, release: &Digest) -> bool {
    match service.run.as_ref().map(|run| &run.phase) {
        Some(Phase::Moving { release: candidate, .. } | Phase::Shifting { release: candidate, .. }) => {
            candidate == release
        }
        _ => false,
    }
}

/// Keeps what an instance is started with, and remembers it as what it runs with; gives its digest. Of one that runs
/// already it is what that was started with.
///
/// Errors: a candidate's can't be kept. Anything else goes on without.
fn note(
    site: &Site,
    service: &Service,
    config: &InstanceConfig,
    release: &Digest,
    setup: &Setup,
) -> Result<Option<Digest>, Failure> {
    let runs = matches!(
        site.runtime.liveness(&site.name, &config.name),
        Ok(Liveness::Up { release: Some(running), .. }) if running == *release
    );
    if runs {
        return Ok(setup::running_digest(&site.home, &config.name));
    }
    let digest = match setup.keep(&site.home.setups()) {
        Ok(digest) => digest,
        Err(failure) if moves_to(service, release) => return Err(failure),
        Err(_) => return Ok(None),
    };
    setup::note_running(&site.home, &config.name, &digest);
    Ok(Some(digest))
}

/// Tells whether a refused start is the release's own fault.
fn blames_release(error: &RuntimeError) -> bool {
    matches!(
        error,
        RuntimeError::ProgramMissing { .. } | RuntimeError::ProgramNotExecutable { .. } | RuntimeError::Exited { .. }
    )
}

/// Tells whether an instance's program ended and said that its address is taken.
fn ended_for_its_port(site: &Site, instance: &InstanceName) -> bool {
    matches!(site.runtime.post_mortem(&site.name, instance), Ok(Some(RuntimeError::PortInUse { .. })))
}

fn names_nothing(
    site: &Site,
    service: &Service,
    config: &InstanceConfig,
    release: &Digest,
    error: &RuntimeError,
) -> bool {
    let missing = matches!(error, RuntimeError::ProgramMissing { .. } | RuntimeError::ProgramNotExecutable { .. });
    missing && !last_good_has_program(site, service, config, release)
}

/// Tells whether last-good has the program that the configured command names.
///
/// If not, a release without it proves nothing against the release: the command was wrong before it came.
pub(super) fn last_good_has_program(site: &Site, service: &Service, config: &InstanceConfig, release: &Digest) -> bool {
    let last_good = service.last_good.filter(|last_good| last_good != release);
    let Some(known) = last_good.and_then(|last_good| service.installed.get(&last_good)) else { return false };
    // What matters is the command as it is now, not as it was when last-good was started.
    let start = site.todays(config).start;
    let launch = site.launch(config, &start, &known.installation, &config.data, site.home.log(&config.name));
    launch.is_ok_and(|launch| launch.argv.first().is_some_and(|program| Path::new(program).is_file()))
}

pub(super) fn probe(site: &Site, service: &Service, instance: &InstanceName) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let mut setup = site.running(config);
    // Back is what answers as it did when it last ran well.
    let goes_back = matches!(service.run.as_ref().map(|run| &run.phase), Some(Phase::Returning { .. }));
    let release = service.instances.get(instance).and_then(|one| one.release).filter(|_| goes_back);
    if let Some(kept) = release.and_then(|release| site.setup_for(service, config, &release).ok()) {
        setup.checks = kept.checks;
    }
    // What the log says it was started with is where it listens, whatever could be noted beside it.
    let begun = service.instances.get(instance).and_then(|one| one.begun.as_ref());
    if let Some(begun) = begun.and_then(|begun| Setup::read(&site.home.setups(), &begun.setup).ok()) {
        setup.start = begun.start;
    }
    let target = site.target(config, &setup, &config.data);
    Ok(match setup.probe().run(&target, setup.checks.ready_timeout.duration()) {
        Ok(facts) => {
            // A release is proved by its probe; where its unit can't be kept as it is now, what was kept before stays.
            let _ = site.runtime.keep_files(&site.name, instance);
            Answer::ProbePassed { facts }
        }
        Err(error) => Answer::Failed { failure: scrubbed(site, Failure::of(&error)) },
    })
}

/// Longest time for switches to be written: others write to the same file.
const SWITCH_WAIT: Duration = Duration::from_secs(5);

/// Does again what failed, for a while: a flag must not stay on because the store was busy.
fn patiently(act: impl Fn() -> Result<Answer, Failure>) -> Result<Answer, Failure> {
    let begun = Instant::now();
    loop {
        match act() {
            Err(_) if begun.elapsed() < SWITCH_WAIT => thread::sleep(ROUTE_AGAIN),
            done => return done,
        }
    }
}
