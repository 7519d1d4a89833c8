//! How the machine carries orders out: in small steps, so that a crash can come between any two.

use crate::{
    machine::{Channel, Copy, Machine, Use},
    release::Fault,
};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    facts::{Busyness, Loss, Offer, ProbeFacts, RehearsalFacts, RestoreFacts, SnapshotFacts, Standing},
    failure::Failure,
    service::{Phase, Service},
    terms::{Digest, InstanceName, OrderId, ReleaseTag, SnapshotId, Span},
    traffic::Table,
};

/// An order under way.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) order: OrderId,
    pub(crate) effect: Effect,
    /// Last-good when it was ordered; a channel compares with it.
    pub(crate) last_good: Option<Digest>,
    /// How often it is still performed before it answers.
    pub(crate) rounds: u32,
    /// Steps done.
    pub(crate) stage: u32,
    /// When the next step is due.
    pub(crate) next_at: i64,
    /// Since when the router is told, and what it is told next.
    pub(crate) told_since: Option<i64>,
    pub(crate) table: Option<Table>,
    /// Starts again what died: nobody in particular ordered it.
    pub(crate) revives: bool,
    /// What an instance is to be started with, if anything is kept for it.
    pub(crate) setup: Option<Digest>,
    /// Ordered to move an instance to a candidate.
    pub(crate) forward: bool,
}

/// Time between two edits of the configuration, in milliseconds: most runs see one.
const EDITED_EVERY: i64 = 600_000;

impl Job {
    pub(crate) fn new(service: &Service, order: OrderId, effect: &Effect, next_at: i64) -> Self {
        let (effect, last_good) = (effect.clone(), service.last_good);
        let setup = match &effect {
            Effect::Start { instance, release } => service.setup_for(instance, release),
            _ => None,
        };
        let (rounds, stage, told_since, table, revives) = (1, 0, None, None, false);
        let forward = matches!(service.run.as_ref().map(|run| &run.phase), Some(Phase::Moving { .. }));
        Self { order, effect, last_good, rounds, stage, next_at, told_since, table, revives, setup, forward }
    }
}

fn failure(code: &str, message: &str) -> Failure {
    Failure::new(code, message.to_owned(), None)
}

pub(crate) fn hindered(code: &str, message: &str) -> Option<Answer> {
    Some(Answer::Hindered { failure: failure(code, message) })
}

pub(crate) fn failed(code: &str, message: &str) -> Option<Answer> {
    Some(Answer::Failed { failure: failure(code, message) })
}

/// Does the next step of a job; gives the answer with the last one.
pub(crate) fn advance(machine: &mut Machine, job: &mut Job) -> Option<Answer> {
    let stage = job.stage;
    job.stage += 1;
    let share = machine.weather.hindered_permille;
    if machine.chance.permille(share) {
        return hindered("machine-hiccup", "the machine could not do it just now");
    }
    match job.effect.clone() {
        Effect::Check { tag, except } => check(machine, stage, tag.as_ref(), &except, job.last_good),
        Effect::Install { offer } => install(machine, stage, &offer),
        Effect::Verify { release } => verify(machine, release),
        Effect::AskGate { .. } => machine.ask_gate(stage),
        Effect::Snapshot { instance, snapshot } => copy(machine, stage, &instance, snapshot),
        Effect::Rehearse { instance, snapshot, release, leg } => {
            rehearse(machine, stage, &instance, snapshot, release, leg)
        }
        Effect::ClearRehearsal => {
            machine.scratch = None;
            Some(Answer::Cleared)
        }
        Effect::AskBusy { instance } => ask(machine, &instance),
        Effect::Stop { instance } if stage == 0 && job.forward && cannot_start(machine, &instance) => {
            Some(Answer::NotStopped { failure: failure("owner-unknown", "what is to run there can't be started") })
        }
        Effect::Stop { instance } => stop(machine, stage, &instance),
        Effect::SnapshotStopped { instance, snapshot } => keep(machine, stage, &instance, snapshot),
        Effect::Start { instance, release } => start(machine, stage, &instance, release, job.setup),
        Effect::Probe { instance, release } => probe(machine, stage, &instance, release),
        Effect::Measure { instance, snapshot } => measure(machine, &instance, snapshot),
        Effect::Restore { instance, snapshot } => restore(machine, stage, &instance, snapshot),
        Effect::Route { route } => machine.told(job, stage, &route),
        Effect::TryResume { candidate, .. } => machine.resume(stage, &candidate),
        // The services of these worlds bring no flags and trip nothing.
        Effect::TurnOn { .. } | Effect::TurnOff { .. } | Effect::Trip { .. } => {
            hindered("no-switches", "this world has no switches")
        }
        // The simulated disk has no copies but snapshots: a restore is one step there, ready or not.
        Effect::LayReady { .. } => Some(Answer::LaidReady { bytes: 0 }),
        Effect::Prune { snapshots, releases } => prune(machine, stage, &snapshots, &releases),
    }
}

/// Tells whether the candidate can't be started there; asked of what runs.
fn cannot_start(machine: &mut Machine, instance: &InstanceName) -> bool {
    machine.places.get(instance).is_some_and(|place| place.up.is_some()) && machine.weather.unlaunchable.now()
}

fn check(
    machine: &Machine,
    stage: u32,
    tag: Option<&ReleaseTag>,
    except: &[ReleaseTag],
    last_good: Option<Digest>,
) -> Option<Answer> {
    if stage == 0 {
        return None;
    }
    match machine.channel {
        Channel::Hangs => return hindered("channel-timeout", "the channel did not answer in time"),
        Channel::Nonsense => return failed("channel-nonsense", "the channel answered something else"),
        Channel::Answers | Channel::Foreign => {}
    }
    let named = |tag: &ReleaseTag| machine.recipes.iter().position(|r| r.release.tag == *tag);
    // Of two recipes with one tag, the channel gives the newer bytes once they are published.
    let which = match tag {
        Some(tag) => match named(tag) {
            Some(which) => which,
            None => return failed("channel-no-such-release", "the channel has no such release"),
        },
        // Older ones are offered too, newest first, as by a channel with a range.
        None => {
            let left = |which: &usize| machine.recipes.get(*which).is_some_and(|r| !except.contains(&r.release.tag));
            match (0..=machine.newest).rev().find(left) {
                Some(which) => which,
                None => return Some(Answer::NothingElse),
            }
        }
    };
    let recipe = machine.recipes.get(which)?;
    let standing = last_good.and_then(|digest| machine.recipe(&digest)).map(|good| {
        let same = machine.recipes.get(good).is_some_and(|r| r.release.tag == recipe.release.tag);
        match which.cmp(&good) {
            _ if same => Standing::Same,
            core::cmp::Ordering::Less => Standing::Older,
            core::cmp::Ordering::Equal => Standing::Same,
            core::cmp::Ordering::Greater => Standing::Newer,
        }
    });
    let foreign = (machine.channel == Channel::Foreign).then(|| "it is not of this channel".to_owned());
    Some(Answer::Offered { offer: recipe.offer(), standing, foreign })
}

fn install(machine: &mut Machine, stage: u32, offer: &Offer) -> Option<Answer> {
    if stage == 0 {
        return None;
    }
    if machine.weather.disk_full {
        return hindered("install-no-space", "the disk is full");
    }
    let which = machine.recipes.iter().position(|recipe| recipe.offer() == *offer);
    let Some(installation) = which.and_then(|at| machine.recipes.get(at)).map(|r| r.installation()) else {
        return failed("install-not-found", "the channel does not have it any more");
    };
    machine.installed.insert(installation.release.digest);
    Some(Answer::Installed { installation, provenance: None })
}

fn verify(machine: &mut Machine, release: Digest) -> Option<Answer> {
    if machine.weather.verify.now() {
        return failed("installation-changed", "the installation is not what was installed");
    }
    if machine.installed.contains(&release) {
        Some(Answer::Verified)
    } else {
        machine.violated("the way back leads to an installation that was removed".into());
        failed("installation-missing", "the installation is gone")
    }
}

fn facts(machine: &Machine, snapshot: SnapshotId) -> Option<Answer> {
    let data = machine.snapshots.get(&snapshot)?.data;
    let facts = SnapshotFacts {
        id: snapshot,
        taken: machine.now(),
        bytes: 1_000 + u64::from(data.rows.count_ones()) * 10,
        files: 1,
        rows: u64::from(data.rows.count_ones()),
        schema: Digest::of(&data.schema.to_be_bytes()),
        manifest: Digest::of(&data.rows.to_be_bytes()),
        took: Span(100),
    };
    Some(Answer::Snapshotted { facts })
}

fn copy(machine: &mut Machine, stage: u32, instance: &InstanceName, id: SnapshotId) -> Option<Answer> {
    if machine.weather.disk_full {
        return hindered("snapshot-no-space", "the disk is full");
    }
    if machine.weather.owner_missing {
        return hindered("snapshot-owner-missing", "the state's owner does not exist");
    }
    // The first step writes beside; only the second publishes.
    if stage == 0 {
        return None;
    }
    let home = machine.home(instance).clone();
    if let Some(refused) = is_whole(machine, &home) {
        return Some(refused);
    }
    let data = machine.places.get(&home).and_then(|place| place.live)?;
    machine.snapshots.entry(id).or_insert_with(|| Copy { instance: home, data });
    facts(machine, id)
}

fn keep(machine: &mut Machine, stage: u32, instance: &InstanceName, id: SnapshotId) -> Option<Answer> {
    if stage > 0 && machine.weather.keep.now() {
        return hindered("snapshot-failed", "the copy could not be verified");
    }
    if machine.places.get(instance).is_some_and(|place| place.up.is_some()) {
        machine.violated(format!("{instance}: the snapshot at the stop was taken while it runs"));
    }
    copy(machine, stage, instance, id)
}

fn rehearse(
    machine: &mut Machine,
    stage: u32,
    instance: &InstanceName,
    snapshot: SnapshotId,
    release: Digest,
    leg: Leg,
) -> Option<Answer> {
    if machine.weather.disk_full {
        return hindered("rehearsal-no-space", "the disk is full");
    }
    let Some(golden) = machine.snapshots.get(&snapshot).map(|copy| copy.data) else {
        return hindered("rehearsal-no-snapshot", "the golden copy is gone");
    };
    let which = machine.recipe(&release)?;
    if stage == 0 {
        if leg == Leg::Candidate {
            machine.scratch = Some(golden);
        }
        return None;
    }
    let recipe = machine.recipes.get(which)?;
    let mut data = match leg {
        Leg::Control => golden,
        Leg::Candidate | Leg::Restart | Leg::WayBack => match machine.scratch {
            Some(data) => data,
            None => return hindered("rehearsal-no-copy", "the migrated copy is gone"),
        },
    };
    let fails = |text: &str| Some(Answer::RehearsalFailed { failure: failure("rehearsal-failed", text) });
    if data.schema > recipe.reads {
        return fails("the program can't read the data");
    }
    data.schema = data.schema.max(recipe.schema);
    let again = leg == Leg::Restart && recipe.has(&Fault::Restart);
    let starts = !recipe.has(&Fault::StartFails) && !again;
    if matches!(leg, Leg::Candidate | Leg::Restart) {
        machine.scratch = Some(data);
    }
    if !starts {
        return fails("the program ended before it was ready");
    }
    if machine.weather.gate_broken || !machine.serves(instance, which, false) {
        return fails("login was refused");
    }
    Some(Answer::RehearsalPassed {
        facts: RehearsalFacts {
            probe: ProbeFacts::default(),
            schema: Digest::of(&data.schema.to_be_bytes()),
            ready_after: Span(500),
            took: Span(1_000),
            bytes: 1_000,
            fence: "namespaces".into(),
        },
    })
}

fn ask(machine: &Machine, instance: &InstanceName) -> Option<Answer> {
    let busyness = match machine.places.get(instance)?.in_use {
        Use::Idle => Busyness::Idle,
        Use::Busy => Busyness::Busy("2 sessions".into()),
        Use::Unknown => Busyness::CannotTell("the check timed out".into()),
    };
    Some(Answer::BusyAsked { busyness })
}

fn stop(machine: &mut Machine, stage: u32, instance: &InstanceName) -> Option<Answer> {
    let place = machine.places.get_mut(instance)?;
    place.closed = true;
    place.revive_at = None;
    if stage == 0 {
        return None;
    }
    if machine.weather.stop.now() {
        return failed("stop-failed", "the process did not end");
    }
    (place.up, place.since, place.dies_at) = (None, machine.elapsed, None);
    machine.look_at_stopped(instance);
    Some(Answer::Stopped)
}

fn start(
    machine: &mut Machine,
    stage: u32,
    instance: &InstanceName,
    release: Digest,
    kept: Option<Digest>,
) -> Option<Answer> {
    let which = machine.recipe(&release)?;
    if stage == 0 {
        if !machine.installed.contains(&release) {
            machine.violated(format!("{instance}: was to start a release that was removed"));
            return failed("installation-missing", "the installation is gone");
        }
        if machine.weather.damaged.now() {
            return hindered("installation-damaged", "the installation is not what was installed");
        }
        return is_whole(machine, &machine.home(instance).clone());
    }
    let (already, deaths) = {
        let deaths = machine.recipes.get(which)?.faults.iter().find_map(|fault| match fault {
            Fault::Dies(_, times) => Some(*times),
            _ => None,
        });
        let place = machine.places.get_mut(instance)?;
        let already = place.up == Some(which);
        if stage == 1 {
            if place.up.is_some_and(|up| up != which) {
                machine.violations.push(format!("{instance}: was to start beside another release"));
            }
            (place.unit, place.closed) = (Some(which), false);
        }
        (already, deaths.unwrap_or(3))
    };
    match stage {
        1 => {
            if let Some(place) = machine.places.get_mut(instance) {
                place.deaths_left = deaths;
            }
            if already {
                return None;
            }
            let edits = machine.elapsed / EDITED_EVERY;
            if let Some(place) = machine.places.get_mut(instance) {
                place.setup = Some(kept.unwrap_or_else(|| Digest::of(format!("edit {edits}").as_bytes())));
            }
            match machine.launch(instance, which) {
                Ok(()) => None,
                Err(failure) => Some(Answer::Failed { failure }),
            }
        }
        _ => {
            let setup = machine.places.get(instance)?.setup;
            Some(Answer::Started { pid: 4_000 + u32::try_from(which).unwrap_or(0), setup, unit: Vec::new() })
        }
    }
}

fn probe(machine: &Machine, stage: u32, instance: &InstanceName, release: Digest) -> Option<Answer> {
    if stage == 0 {
        return None;
    }
    let which = machine.recipe(&release)?;
    let place = machine.places.get(instance)?;
    if place.front_door_down {
        return failed("front-door-down", "the front door does not answer");
    }
    if place.up != Some(which) {
        return failed("probe-refused", "nothing answers");
    }
    if !machine.serves(instance, which, true) {
        return failed("login-refused", "login was refused");
    }
    Some(Answer::ProbePassed { facts: ProbeFacts::default() })
}

/// Counts the rows that a restore would drop.
pub(crate) fn loss(machine: &Machine, instance: &InstanceName, snapshot: SnapshotId) -> Option<Loss> {
    let kept = machine.snapshots.get(&snapshot)?.data.rows;
    let live = machine.places.get(instance)?.live?.rows;
    Some(Loss { rows: u64::from((live & !kept).count_ones()), files: 0 })
}

fn measure(machine: &mut Machine, instance: &InstanceName, snapshot: SnapshotId) -> Option<Answer> {
    machine.finish_restore(instance);
    if machine.weather.measure.now() {
        return hindered("measure-failed", "the rows could not be counted");
    }
    match loss(machine, instance, snapshot) {
        Some(loss) => Some(Answer::Measured { loss }),
        None => failed("snapshot-missing", "the snapshot is gone"),
    }
}

fn restore(machine: &mut Machine, stage: u32, instance: &InstanceName, snapshot: SnapshotId) -> Option<Answer> {
    let Some(data) = machine.snapshots.get(&snapshot).map(|copy| copy.data) else {
        machine.violated(format!("{instance}: was to restore {snapshot}, which was removed"));
        return failed("snapshot-missing", "the snapshot is gone");
    };
    let place = machine.places.get_mut(instance)?;
    if place.up.is_some() {
        machine.violations.push(format!("{instance}: was to restore under a running process"));
        return failed("restore-in-use", "a process holds the files");
    }
    match stage {
        0 => {
            if machine.weather.restore.now() {
                return give_up_half_way(machine, instance, snapshot);
            }
            machine.finish_restore(instance);
            machine.places.get_mut(instance)?.journal = Some(snapshot);
            None
        }
        1 => {
            if let Some(old) = place.live.take() {
                place.aside.push(old);
            }
            None
        }
        2 => {
            place.live = Some(data);
            None
        }
        _ => {
            place.journal = None;
            let aside = Some(format!("/aside/{instance}/{}", place.aside.len()));
            let facts = RestoreFacts { snapshot, aside, bytes: 1_000, took: Span(100), earlier: Vec::new() };
            Some(Answer::Restored { facts })
        }
    }
}

/// Fails before anything is moved, or after the newer data went aside; no dice are thrown for which.
fn give_up_half_way(machine: &mut Machine, instance: &InstanceName, snapshot: SnapshotId) -> Option<Answer> {
    let moves = machine.points % 3;
    let place = machine.places.get_mut(instance)?;
    if place.journal.is_none() && moves > 0 {
        place.journal = Some(snapshot);
        if moves == 2
            && let Some(old) = place.live.take()
        {
            place.aside.push(old);
        }
    }
    failed("restore-failed", "the files could not be moved")
}

/// Refuses what would read or start on data that a restore has left half-way.
fn is_whole(machine: &Machine, instance: &InstanceName) -> Option<Answer> {
    let begun = machine.places.get(instance).is_some_and(|place| place.journal.is_some());
    begun.then(|| hindered("restore-unfinished", "a restore was begun and is not finished")).flatten()
}

fn prune(machine: &mut Machine, stage: u32, keep: &[SnapshotId], releases: &[Digest]) -> Option<Answer> {
    if stage == 0 {
        machine.snapshots.retain(|id, _| keep.contains(id));
        return None;
    }
    machine.installed.retain(|digest| releases.contains(digest));
    Some(Answer::Cleared)
}
