//! What enforces holds outside, made so and read back: the engine asks, writes what changed, and asks again.
//!
//! It stands apart from setting a hold: a hold stands when it is written, whatever is down.

use crate::{
    boundary,
    config::Config,
    operations::{Desk, SayError, Scope},
};
use lastgood_domain::{
    operations::{
        Event, Operations,
        hold::{self, Enforcement, WideHold, changed},
    },
    terms::{Actor, EnforcerName, IncidentId, ServiceName, Span, Timestamp, WideHoldId},
};
pub use lastgood_drivers::enforcer::{Found, Held};
use lastgood_drivers::{
    enforcer::{Enforcer, EnforcerConfig},
    notice::Secrets,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Taken by whoever asks enforcers, in the state folder: an older reading must not undo what a newer one has set.
const LOCK_FILE: &str = "enforcers.lock";
/// When each enforcer was heard last, in the state folder: the chain has only what changed.
const READ_BACK_FILE: &str = "enforcers-read-back.json";
/// How often a lock that somebody else has is tried again.
const LOCK_TRY: Duration = Duration::from_millis(20);

/// A place that enforces holds, as a look sees it.
pub trait Place: Send + Sync {
    /// Reads back what is enforced, also of the commits that pass or passed `wanted`. Errors: why nobody knows.
    fn read(&self, wanted: &[Held]) -> Result<Found, String>;
    /// Makes it enforce a hold. Errors: why it may not.
    fn set(&self, hold: &Held) -> Result<(), String>;
    /// Makes it let go of a hold. Errors: why it may not have.
    fn lift(&self, id: &str) -> Result<(), String>;
}

impl Place for Enforcer {
    fn read(&self, wanted: &[Held]) -> Result<Found, String> {
        self.read(wanted).map_err(|error| error.to_string())
    }
    fn set(&self, hold: &Held) -> Result<(), String> {
        self.set(hold).map_err(|error| error.to_string())
    }
    fn lift(&self, id: &str) -> Result<(), String> {
        self.lift(id).map_err(|error| error.to_string())
    }
}

/// One that can't be asked, such as for want of its secret.
struct Unready(String);

impl Place for Unready {
    fn read(&self, _: &[Held]) -> Result<Found, String> {
        Err(self.0.clone())
    }
    fn set(&self, _: &Held) -> Result<(), String> {
        Err(self.0.clone())
    }
    fn lift(&self, _: &str) -> Result<(), String> {
        Err(self.0.clone())
    }
}

/// The enforcers of a configuration, with what they are for.
#[derive(Clone, Default)]
pub struct Enforcers(BTreeMap<EnforcerName, (EnforcerConfig, Arc<dyn Place>)>);

impl Enforcers {
    /// Makes them ready; one that can't be is asked all the same, and says why each time.
    pub fn new(config: &Config, secrets: &Secrets<'_>) -> Self {
        let ready = |name: &EnforcerName, one: &EnforcerConfig| -> Arc<dyn Place> {
            match Enforcer::prepare(name.as_str(), &one.place, &config.folder, secrets) {
                Ok(place) => Arc::new(place),
                Err(error) => Arc::new(Unready(error.to_string())),
            }
        };
        Self(config.enforcers().map(|(name, one)| (name.clone(), (one.clone(), ready(&name, one)))).collect())
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Tells whether an enforcer is for a hold.
pub fn concerns(config: &EnforcerConfig, services: &BTreeMap<ServiceName, hold::Subject>, hold: &WideHold) -> bool {
    let kinds = config.kinds.iter().any(|kind| hold.kinds.contains(kind));
    let meant = |name| services.get(name).is_some_and(|subject| hold.selector.matches(name, subject));
    kinds && (config.services.is_empty() || config.services.iter().any(meant))
}

/// Gives, by enforcer, each standing hold that is for it by the configuration and that it has not confirmed at `now`,
/// whether or not anybody has asked it yet, and each that is over and was not released there.
pub fn unconfirmed(
    config: &Config,
    operations: &Operations,
    now: Timestamp,
) -> BTreeMap<EnforcerName, BTreeSet<WideHoldId>> {
    let mut all: BTreeMap<EnforcerName, BTreeSet<WideHoldId>> = BTreeMap::new();
    for (name, holds) in operations.holds.unconfirmed(now) {
        all.entry(name.clone()).or_default().extend(holds);
    }
    for (name, wanted) in wanted(config, operations, now) {
        let asked = |id: &WideHoldId| operations.holds.enforced.get(id).is_some_and(|of| of.contains_key(&name));
        let never: Vec<WideHoldId> = wanted.into_keys().filter(|id| !asked(id)).collect();
        if !never.is_empty() {
            all.entry(name).or_default().extend(never);
        }
    }
    all
}

/// Gives the enforcers of an incident's standing holds that were not heard within `fresh` before `now`: what they
/// confirmed earlier may be otherwise by now.
pub fn unheard(
    config: &Config,
    operations: &Operations,
    incident: IncidentId,
    (now, fresh): (Timestamp, Span),
) -> Vec<EnforcerName> {
    let heard = read_back(&config.state_dir);
    let late = |name: &EnforcerName| heard.get(name).is_none_or(|at| *at > now || now.since(*at) > fresh);
    let ours = |hold: &&WideHold| hold.incident == Some(incident);
    let asked = wanted(config, operations, now).into_iter().filter(|(_, holds)| holds.values().any(&ours));
    asked.map(|(name, _)| name).filter(late).collect()
}

/// Gives the standing holds that are for each enforcer.
fn wanted<'a>(
    config: &Config,
    operations: &'a Operations,
    now: Timestamp,
) -> BTreeMap<EnforcerName, BTreeMap<WideHoldId, &'a WideHold>> {
    let services: BTreeMap<ServiceName, hold::Subject> =
        config.service.iter().map(|(name, one)| (name.clone(), one.subject())).collect();
    let of = |enforcer: &EnforcerConfig| {
        let standing = operations.holds.standing(now).filter(|(_, hold)| concerns(enforcer, &services, hold));
        standing.map(|(id, hold)| (*id, hold)).collect()
    };
    config.enforcers().map(|(name, enforcer)| (name, of(enforcer))).collect()
}

/// Gives when each enforcer was heard last; what can't be read was never heard.
fn read_back(state_dir: &Path) -> BTreeMap<EnforcerName, Timestamp> {
    let text = std::fs::read(state_dir.join(READ_BACK_FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Keeps when each enforcer was heard last. Only who has the lock does.
fn keep_read_back(state_dir: &Path, heard: BTreeMap<EnforcerName, Timestamp>) -> io::Result<()> {
    let mut all = read_back(state_dir);
    all.extend(heard);
    let (new, file) = (state_dir.join(format!("{READ_BACK_FILE}.new")), state_dir.join(READ_BACK_FILE));
    std::fs::write(&new, serde_json::to_vec(&all)?)?;
    std::fs::rename(new, file)
}

fn held(operations: &Operations, id: WideHoldId, hold: &WideHold, now: Timestamp) -> Held {
    let through = hold::merges_let_through(operations, id, now).map(|(_, asked)| &asked.exemption);
    Held {
        id: id.to_string(),
        kinds: hold.kinds_words(),
        services: hold.selector.words(),
        owner: hold.owner.to_string(),
        reason: hold.reason.to_string(),
        // One that ends within a second still stands in it.
        until_seconds: hold.until.map(|until| until.0.div_euclid(1_000) + 1),
        // What passes ends with the second before: a lane is never open too long.
        passes: through.map(|one| (one.commit.to_string(), one.until.0.div_euclid(1_000))).collect(),
        ended: hold::merges_ended(operations, id, now).map(ToString::to_string).collect(),
    }
}

/// Looks at one enforcer, makes it enforce what it should and nothing that is over, and looks again.
///
/// `known` is what was written of it before. Gives the states that each hold went through.
pub fn look(
    place: &dyn Place,
    wanted: &BTreeMap<WideHoldId, Held>,
    known: &BTreeMap<WideHoldId, Enforcement>,
) -> Vec<hold::Outcome> {
    let all: Vec<Held> = wanted.values().cloned().collect();
    let before = place.read(&all);
    let has = |found: &Result<Found, String>, id: &WideHoldId| {
        found.as_ref().is_ok_and(|found| found.holds.contains(&id.to_string()))
    };
    let mut steps: BTreeMap<WideHoldId, Vec<Enforcement>> = BTreeMap::new();
    let mut failed: BTreeMap<WideHoldId, String> = BTreeMap::new();
    let mut acted = before.is_err();
    let is_right = |id: &WideHoldId, hold: &Held| {
        let fits = |found: &Found| lanes_fit(found, hold) && !found.again.contains(&hold.id);
        has(&before, id) && before.as_ref().is_ok_and(fits)
    };
    for (id, hold) in wanted.iter().filter(|(id, hold)| !is_right(id, hold)) {
        if let (Ok(found), Some(Enforcement::Confirmed)) = (&before, known.get(id)) {
            let gone = || found.remark.clone().unwrap_or_else(|| "it was there, and is not any more".into());
            // That a lane's time is over is no drift: nobody could have closed it before this look.
            let agreed = |commit: &String| hold.passes.contains_key(commit) || hold.ended.contains(commit);
            let why = if has(&before, id) { let_through(found, hold, agreed) } else { Some(gone()) };
            steps.entry(*id).or_default().extend(why.map(|why| Enforcement::Drifted { why }));
        }
        acted = true;
        if let Err(why) = place.set(hold) {
            failed.insert(*id, why);
        }
    }
    // What nobody here has set may be somebody else's.
    let over: BTreeSet<WideHoldId> = known.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
    for id in &over {
        acted = true;
        if let Err(why) = place.lift(&id.to_string()) {
            failed.insert(*id, why);
        }
    }
    let after = if acted { place.read(&all) } else { before };
    for id in wanted.keys().chain(&over) {
        let (is_wanted, is_there) = (wanted.contains_key(id), has(&after, id));
        let state = match &after {
            Err(why) => Enforcement::Failed { why: failed.remove(id).unwrap_or_else(|| why.clone()) },
            Ok(found) if is_wanted && is_there => {
                let open =
                    wanted.get(id).and_then(|hold| let_through(found, hold, |one| hold.passes.contains_key(one)));
                match (open, failed.remove(id)) {
                    (None, _) => Enforcement::Confirmed,
                    (Some(open), Some(why)) => Enforcement::Failed { why: format!("{open}: {why}") },
                    (Some(why), None) => Enforcement::Drifted { why },
                }
            }
            Ok(_) if !is_wanted && !is_there => Enforcement::Released,
            Ok(found) => match failed.remove(id) {
                Some(why) => Enforcement::Failed { why },
                None if is_wanted => {
                    let remark = found.remark.as_ref().map(|remark| format!(": {remark}")).unwrap_or_default();
                    Enforcement::Drifted { why: format!("it says it is done and reads back without {id}{remark}") }
                }
                None => Enforcement::Failed { why: format!("it says it is done and reads back with {id} still") },
            },
        };
        steps.entry(*id).or_default().push(state);
    }
    steps.into_iter().collect()
}

/// Tells whether exactly what a second person agreed to passes a hold, of what is there; a place that lets nothing through
/// has no say in it.
fn lanes_fit(found: &Found, hold: &Held) -> bool {
    found.passes.as_ref().is_none_or(|passes| {
        let there = passes.get(&hold.id).into_iter().flatten();
        there.eq(hold.passes.keys().filter(|commit| !found.absent.contains(*commit)))
    })
}

/// Says what passes a hold and is not agreed to.
fn let_through(found: &Found, hold: &Held, is_agreed: impl Fn(&String) -> bool) -> Option<String> {
    let there = found.passes.as_ref()?.get(&hold.id)?;
    let commit = there.iter().find(|commit| !is_agreed(commit))?;
    Some(match hold.ended.contains(commit) {
        true => format!("commit {commit} still passes {}, and its time is over", hold.id),
        false => format!("commit {commit} passes {}, and nobody agreed to that", hold.id),
    })
}

/// What is asked of one enforcer, on the state of now.
pub struct Asked {
    /// What it should enforce.
    pub wanted: BTreeMap<WideHoldId, Held>,
    /// What was written of it before.
    pub known: BTreeMap<WideHoldId, Enforcement>,
}

impl Asked {
    /// Tells whether there is nothing to ask.
    pub fn is_nothing(&self) -> bool {
        self.wanted.is_empty() && self.known.is_empty()
    }

    /// Gives what is written before anything is asked: whoever is killed then leaves a trace of what may be enforced.
    pub fn requested(&self) -> Vec<hold::Outcome> {
        let unknown = self.wanted.keys().filter(|id| !self.known.contains_key(id));
        unknown.map(|id| (*id, vec![Enforcement::Requested])).collect()
    }
}

/// Gives what is to be asked of an enforcer.
pub fn asked(
    operations: &Operations,
    name: &EnforcerName,
    config: &EnforcerConfig,
    scope: &Scope,
    now: Timestamp,
) -> Asked {
    let standing = operations.holds.standing(now).filter(|(_, hold)| concerns(config, &scope.services, hold));
    let wanted = standing.map(|(id, hold)| (*id, held(operations, *id, hold, now))).collect();
    let known = operations.holds.enforced.iter().filter_map(|(id, of)| Some((*id, of.get(name)?.state.clone())));
    Asked { wanted, known: known.collect() }
}

/// Why enforcers were not asked.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// What they came to can't be written.
    #[error(transparent)]
    Say(#[from] SayError),
    /// The lock can't be used.
    #[error("the lock of the enforcers can't be used")]
    Lock(#[source] io::Error),
    /// That they were heard can't be kept.
    #[error("can't save the time of the last enforcer check in the state folder")]
    Keep(#[source] io::Error),
}

/// Asks every enforcer at once, and writes what changed as the answers come, for at most `wait`.
///
/// Gives whether all of them were heard. One that is not goes on in its thread; the next pass hears of it. Errors:
/// [`PassError`]; the holds stand all the same.
pub fn pass(
    desk: &mut Desk,
    state_dir: &Path,
    (enforcers, scope): (&Enforcers, &Scope),
    (by, clock): (&Actor, &dyn Fn() -> Timestamp),
    wait: Duration,
) -> Result<bool, PassError> {
    let deadline = Instant::now() + wait;
    let Some(_lock) = lock(state_dir, deadline).map_err(PassError::Lock)? else { return Ok(false) };
    release_unknown(desk, enforcers, by, clock)?;
    let (mut awaited, mut spawned) = (0_usize, 0_usize);
    let (tell, told) = mpsc::channel();
    for (name, (config, place)) in &enforcers.0 {
        let now = clock();
        let asked = asked(&desk.look().map_err(SayError::from)?.state, name, config, scope, now);
        if asked.is_nothing() {
            continue;
        }
        say(desk, name, &asked.requested(), by, now)?;
        boundary::cross();
        awaited += 1;
        // One that a pass before gave up on may still be at it, and would undo what we set.
        let Some(turn) = turn_at(state_dir, name).map_err(PassError::Lock)? else { continue };
        let (tell, name, place) = (tell.clone(), name.clone(), Arc::clone(place));
        thread::spawn(move || {
            let outcomes = look(&*place, &asked.wanted, &asked.known);
            drop(turn);
            tell.send((name, outcomes))
        });
        spawned += 1;
    }
    let mut heard = BTreeMap::new();
    for _ in 0..spawned {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((name, outcomes)) = told.recv_timeout(left) else { break };
        let now = clock();
        say(desk, &name, &outcomes, by, now)?;
        heard.insert(name, now);
    }
    let all = heard.len() == awaited;
    if !heard.is_empty() {
        keep_read_back(state_dir, heard).map_err(PassError::Keep)?;
    }
    Ok(all)
}

fn say(
    desk: &mut Desk,
    name: &EnforcerName,
    outcomes: &[hold::Outcome],
    by: &Actor,
    now: Timestamp,
) -> Result<(), SayError> {
    let decide = |state: &Operations| Ok(changed(&state.holds, name, outcomes).into_iter().map(Event::Hold).collect());
    desk.say(by, now, &decide).map(drop)
}

/// Says of enforcers that are no longer configured that nobody can ask them; of lifted holds there they are forgotten.
fn release_unknown(
    desk: &mut Desk,
    enforcers: &Enforcers,
    by: &Actor,
    clock: &dyn Fn() -> Timestamp,
) -> Result<(), SayError> {
    let now = clock();
    let holds = &desk.look()?.state.holds;
    let mut gone: BTreeMap<EnforcerName, Vec<hold::Outcome>> = BTreeMap::new();
    for (id, of) in &holds.enforced {
        let stands = holds.all.get(id).is_some_and(|hold| hold.stands(now));
        for name in of.keys().filter(|name| !enforcers.0.contains_key(*name)) {
            let state = match stands {
                true => Enforcement::Failed { why: "it is no longer in the configuration".into() },
                false => Enforcement::Released,
            };
            gone.entry(name.clone()).or_default().push((*id, vec![state]));
        }
    }
    for (name, outcomes) in gone {
        say(desk, &name, &outcomes, by, now)?;
    }
    Ok(())
}

/// Takes the lock of one place, which lasts until who asks it has its answer; `None` while somebody else does.
fn turn_at(state_dir: &Path, name: &EnforcerName) -> io::Result<Option<File>> {
    use rustix::fs::{FlockOperation, flock};
    let file = lastgood_store::open_private(&state_dir.join(format!("enforcer-{name}.lock")))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock, or gives up at the deadline.
fn lock(state_dir: &Path, deadline: Instant) -> io::Result<Option<File>> {
    use rustix::fs::{FlockOperation, flock};
    let file = lastgood_store::open_private(&state_dir.join(LOCK_FILE))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_TRY),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
