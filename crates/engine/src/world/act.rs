//! One effect, made so. Each answer is a fact; what it means is decided elsewhere.

use super::{
    Site,
    data::{can_return, is_whole, lay_ready, measure, prune, restore, still_has_data, take},
    deaths::Deaths,
    gate, others, rehearse, sealed, switching,
};
use crate::{
    config::{InstanceConfig, RuntimeConfig},
    fold::Folded,
    ports::Occupant,
    provenance, traffic,
};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::Aim,
    facts::{Busyness, Liveness, Offer},
    failure::{Coded, Failure},
    service::Service,
    terms::{Digest, InstanceName, OrderId, ReleaseTag, Span},
    traffic::{Route, Table},
};
use lastgood_drivers::{
    channel::{self, ChannelError},
    probe::{ResumePart, wait_ready},
    runtime::RuntimeError,
    state::Mode,
};
use lastgood_store::Reader;
use std::{
    net::TcpStream,
    path::{Path, PathBuf},
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
        Effect::AskBusy { instance } => ask_busy(site, instance),
        Effect::Stop { instance } => stop(site, deaths, service, instance),
        Effect::Start { instance, release } => start(site, deaths, service, instance, release, &|| false),
        Effect::Probe { instance, .. } => probe(site, instance),
        Effect::Measure { instance, snapshot } => measure(site, instance, *snapshot),
        Effect::Restore { instance, snapshot } => restore(site, instance, *snapshot, order),
        Effect::LayReady { instance, snapshot } => lay_ready(site, instance, *snapshot),
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
    new.find_map(|config| stranger(site, config)).map_or(Ok(()), Err)
}

/// Finds a process that is not the instance and listens where the instance is to listen.
///
/// systemd may itself hold the socket of its unit, so only instances of our own are looked at.
fn stranger(site: &Site, config: &InstanceConfig) -> Option<Failure> {
    if site.config.runtime != (RuntimeConfig::Process {}) {
        return None;
    }
    let found = Occupant::of(&site.config.bind, config.port)?;
    let runs = matches!(site.runtime.liveness(&site.name, &config.name), Ok(Liveness::Up { .. }));
    (!runs).then(|| found.in_the_way_of(&config.name))
}

fn install(site: &Site, service: &Service, offer: &Offer) -> Result<Answer, Failure> {
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

fn verify_whole(site: &Site, service: &Service, release: &Digest) -> Result<Answer, Failure> {
    let _ = site;
    let known = service.installed.get(release).ok_or_else(|| not_installed(service, release))?;
    Ok(match channel::verify_full(&known.installation) {
        Ok(_) => Answer::Verified,
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

fn ask_busy(site: &Site, instance: &InstanceName) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let busyness = match &site.config.busy {
        None => Busyness::Idle,
        // What does not run is not in use: a first start, or one that is down.
        Some(_) if is_down(site, config) => Busyness::Idle,
        Some(busy) => busy.ask(&site.target(config, &config.data, None)),
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
    down && TcpStream::connect((site.config.bind.as_str(), config.port)).is_err()
}

fn stop(site: &Site, deaths: &Deaths, service: &Service, instance: &InstanceName) -> Result<Answer, Failure> {
    can_return(site, service, instance)?;
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
    let installation = PathBuf::from(&known.installation.path);
    let log = site.home.log(instance);
    let launch = site.launch(config, &known.installation.release, &installation, &config.data, config.port, log)?;
    // A stranger on the port would answer the probe in the release's name.
    if let Some(failure) = stranger(site, config) {
        return Err(failure);
    }
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
    let target = site.target(config, &config.data, Some(config.port));
    let ready = wait_ready(site.config.ready.as_ref(), &target, site.config.ready_timeout.duration(), &died);
    if let Err(error) = ready {
        // It came between our look and the program's own: the machine's fault as well.
        if let Some(failure) = stranger(site, config).filter(|_| ended_for_its_port(site, instance)) {
            return Err(failure);
        }
        return Ok(Answer::Failed { failure: scrubbed(site, Failure::of(&error)) });
    }
    deaths.watch(instance);
    Ok(Answer::Started { pid: started.pid })
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
    let (of, path) = (&known.installation.release, PathBuf::from(&known.installation.path));
    let launch = site.launch(config, of, &path, &config.data, config.port, site.home.log(&config.name));
    launch.is_ok_and(|launch| launch.argv.first().is_some_and(|program| Path::new(program).is_file()))
}

fn probe(site: &Site, instance: &InstanceName) -> Result<Answer, Failure> {
    let config = site.instance(instance)?;
    let target = site.target(config, &config.data, None);
    Ok(match site.probe().run(&target, site.config.ready_timeout.duration()) {
        Ok(facts) => Answer::ProbePassed { facts },
        Err(error) => Answer::Failed { failure: scrubbed(site, Failure::of(&error)) },
    })
}

/// Pause before a router is told again.
const ROUTE_AGAIN: Duration = Duration::from_millis(20);
/// Longest time a router may take to confirm: it may have to be started first.
const ROUTE_WAIT: Duration = Duration::from_secs(10);

/// Tells the router, and goes on telling it for a while: a rollback must not fail because the router is being replaced.
fn tell_router(site: &Site, service: &Service, route: &Route) -> Result<Answer, Failure> {
    let router = site.router.as_ref().ok_or_else(|| {
        Failure::new("router-unset", "the service has no router", Some("set up service.NAME.traffic in lastgood.toml"))
    })?;
    let begun = Instant::now();
    loop {
        // Made anew each time: entries may be stopped or a switch tripped while the router is waited for.
        let Some(table) = newest_table(site, service, route)? else {
            return Ok(Answer::Routed { took: Span(millis(begun.elapsed())) });
        };
        match traffic::tell(router.as_ref(), table, &|| newest_table(site, service, route).ok().flatten()) {
            Ok(_) => return Ok(Answer::Routed { took: Span(millis(begun.elapsed())) }),
            Err(error) if begun.elapsed() > ROUTE_WAIT => return Err(Failure::of(&error)),
            Err(_) => {
                if let Some(proxy) = &site.proxy {
                    proxy.ensure()?;
                }
                thread::sleep(ROUTE_AGAIN);
            }
        }
    }
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

/// Tells whether the log still asks for an order; one that can't be read asks for nothing new.
fn is_ordered(site: &Site, service: &Service, order: OrderId) -> bool {
    let reader = Reader::open(&site.state_dir);
    let folded = reader.ok().and_then(|reader| Folded::read(&reader, &site.name).ok());
    let run = folded.and_then(|folded| folded.service.run);
    let ours = service.run.as_ref().map(|run| run.id);
    run.is_some_and(|run| Some(run.id) == ours && run.orders.contains_key(&order))
}

/// Tries on real sessions whether each release goes on where the other left off. Last-good against itself is the control:
/// where that fails, the gate is broken and not the candidate.
fn try_resume(site: &Site, service: &Service, candidate: &Digest, last_good: &Digest) -> Result<Answer, Failure> {
    let resume = site.config.traffic.as_ref().and_then(|traffic| traffic.resume.as_ref()).ok_or_else(|| {
        Failure::new(
            "resume-unset",
            "nothing says how its sessions are resumed",
            Some("set up service.NAME.traffic.resume"),
        )
    })?;
    let of = |release: &Digest| {
        let sides = service.instances.iter().filter(|(_, one)| one.release.as_ref() == Some(release));
        let name = sides.map(|(name, _)| name).next().ok_or_else(|| not_installed(service, release))?;
        site.instance(name)
    };
    let (old, new) = (of(last_good)?, of(candidate)?);
    let (old, new) = (site.target(old, &old.data, None), site.target(new, &new.data, None));
    let deadline = site.config.ready_timeout.duration() * 2;
    Ok(match resume.run(&old, &new, deadline) {
        Ok(facts) => Answer::ResumePassed { facts },
        Err(failure) if failure.part == ResumePart::LastGood => return Err(scrubbed(site, Failure::of(&failure))),
        Err(failure) => match resume.run(&old, &old, deadline) {
            Ok(_) => Answer::Failed { failure: scrubbed(site, Failure::of(&failure)) },
            Err(control) => return Err(scrubbed(site, Failure::of(&control))),
        },
    })
}

/// Makes the table of `route` from the logs of now, or of when it was ordered if they can't be read. None if the log says
/// something newer: who decided that tells the router, and this is void.
fn newest_table(site: &Site, ordered: &Service, route: &Route) -> Result<Option<Table>, Failure> {
    let reader = Reader::open(&site.state_dir);
    let folded = reader.ok().and_then(|reader| Folded::read(&reader, &site.name).ok());
    let service = folded.as_ref().map_or(ordered, |folded| &folded.service);
    if service.traffic.route.as_ref().is_some_and(|newest| newest != route) {
        return Ok(None);
    }
    let switches = traffic::switches_of(site.switches.as_ref(), &site.state_dir);
    traffic::table(&site.name, service, route, &site.config, switches.as_ref()).map(Some)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
