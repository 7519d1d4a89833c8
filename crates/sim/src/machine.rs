//! The machine that the engine acts on: disks, processes, clock, weather, and the moments at which it dies.

use crate::{
    chance::Chance,
    release::{Fault, Recipe},
    shared::Shared,
};
use lastgood_domain::{
    failure::Failure,
    terms::{Digest, InstanceName, SnapshotId, Span, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a whole world are bits of one number: sets of them are compared after every step.
pub(crate) const ROWS_MAX: u32 = 128;

/// How long the service manager waits before it starts again what ended by itself.
const REVIVE_AFTER: i64 = 2_000;

/// One instance's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Data {
    /// The newest schema that was written.
    pub(crate) schema: u32,
    /// The rows in it, by number.
    pub(crate) rows: u128,
    /// Whether a release left something in it that its predecessor stumbles over.
    pub(crate) spoiled: bool,
}

/// How a driver dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process that drives is killed; everything else runs on.
    Driver,
    /// The machine loses power; disks keep what was written.
    Machine,
}

/// How often something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fails {
    #[default]
    Never,
    Times(u32),
    Always,
}

impl Fails {
    pub(crate) fn now(&mut self) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Times(0) => {
                *self = Self::Never;
                false
            }
            Self::Times(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// What goes wrong around the releases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) gate_broken: bool,
    pub(crate) disk_full: bool,
    pub(crate) owner_missing: bool,
    pub(crate) hindered_permille: u64,
    pub(crate) twice_permille: u64,
    pub(crate) measure: Fails,
    pub(crate) restore: Fails,
    pub(crate) stop: Fails,
    pub(crate) keep: Fails,
    pub(crate) verify: Fails,
    /// What is to be started is not as it was installed.
    pub(crate) damaged: Fails,
    pub(crate) rows_permille: u64,
    /// What a candidate is to be started with is not there.
    pub(crate) unlaunchable: Fails,
    /// A freeze file lies there.
    pub(crate) frozen: bool,
    /// A hold over several services that stands nowhere in this one's log.
    pub(crate) held_elsewhere: Option<String>,
}

impl Weather {
    /// Says what holds every forward move, if anything does.
    pub(crate) fn freeze(&self) -> Option<String> {
        self.frozen.then(|| "a freeze file exists".to_owned()).or_else(|| self.held_elsewhere.clone())
    }
}

/// What the channel does when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Channel {
    #[default]
    Answers,
    Hangs,
    Nonsense,
    Foreign,
}

/// Whether an instance is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Use {
    #[default]
    Idle,
    Busy,
    Unknown,
}

/// One instance's place on the machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) number: usize,
    /// `None` only in the middle of a restore, with a journal.
    pub(crate) live: Option<Data>,
    pub(crate) aside: Vec<Data>,
    /// The snapshot that a restore under way puts back.
    pub(crate) journal: Option<SnapshotId>,
    /// What the service manager would start.
    pub(crate) unit: Option<usize>,
    /// Nothing but an order may start it.
    pub(crate) closed: bool,
    /// What runs now.
    pub(crate) up: Option<usize>,
    /// What it was started with last.
    pub(crate) setup: Option<Digest>,
    /// Since when it runs, or does not.
    pub(crate) since: i64,
    pub(crate) dies_at: Option<i64>,
    pub(crate) deaths_left: u32,
    pub(crate) revive_at: Option<i64>,
    /// Rows that users were told are kept.
    pub(crate) acked: u128,
    pub(crate) in_use: Use,
    pub(crate) front_door_down: bool,
}

/// A published copy.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) instance: InstanceName,
    pub(crate) data: Data,
}

/// Everything that outlives a driver.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Time that never jumps, in milliseconds.
    pub(crate) elapsed: i64,
    /// How far the wall clock is from it.
    pub(crate) skew: i64,
    pub(crate) chance: Chance,
    pub(crate) recipes: Vec<Recipe>,
    pub(crate) newest: usize,
    pub(crate) channel: Channel,
    pub(crate) weather: Weather,
    pub(crate) places: BTreeMap<InstanceName, Place>,
    pub(crate) snapshots: BTreeMap<SnapshotId, Copy>,
    pub(crate) installed: BTreeSet<Digest>,
    /// What there is besides where traffic moves by share.
    pub(crate) shared: Option<Box<Shared>>,
    /// The copy that a rehearsal's legs share.
    pub(crate) scratch: Option<Data>,
    pub(crate) rows: u32,
    /// Moments passed at which a crash can happen.
    pub(crate) points: u64,
    pub(crate) crash_at: Option<(u64, Crash)>,
    pub(crate) crash_permille: u64,
    pub(crate) dead: Option<Crash>,
    pub(crate) crashes: u32,
    pub(crate) violations: Vec<String>,
}

impl Machine {
    pub(crate) fn new(seed: u64, recipes: Vec<Recipe>, instances: &[InstanceName]) -> Self {
        let place = |number| Place { number, live: Some(Data::default()), ..Place::default() };
        let places = instances.iter().enumerate().map(|(at, name)| (name.clone(), place(at))).collect();
        Self {
            elapsed: 0,
            // 2026-01-01T00:00:00Z
            skew: 1_767_225_600_000,
            chance: Chance::new(seed),
            recipes,
            newest: 0,
            channel: Channel::Answers,
            weather: Weather { rows_permille: 300, ..Weather::default() },
            places,
            snapshots: BTreeMap::new(),
            installed: BTreeSet::new(),
            shared: None,
            scratch: None,
            rows: 0,
            points: 0,
            crash_at: None,
            crash_permille: 0,
            dead: None,
            crashes: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.elapsed + self.skew)
    }

    /// Passes a moment at which the driver may die; tells whether it is dead.
    pub(crate) fn point(&mut self) -> bool {
        if self.dead.is_some() {
            return true;
        }
        self.points += 1;
        if let Some((at, crash)) = self.crash_at
            && at == self.points
        {
            self.dead = Some(crash);
        } else if self.crash_permille > 0 && self.chance.permille(self.crash_permille) {
            self.dead = Some(if self.chance.permille(500) { Crash::Driver } else { Crash::Machine });
        }
        self.dead.is_some()
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn recipe(&self, digest: &Digest) -> Option<usize> {
        self.recipes.iter().position(|recipe| recipe.release.digest == *digest)
    }

    /// Brings the machine up again after a crash.
    pub(crate) fn recover(&mut self) {
        let Some(crash) = self.dead.take() else { return };
        self.crashes += 1;
        self.elapsed += 1_000;
        if crash == Crash::Driver {
            return;
        }
        let names: Vec<InstanceName> = self.places.keys().cloned().collect();
        let now = self.elapsed;
        for name in &names {
            if let Some(place) = self.places.get_mut(name) {
                (place.up, place.dies_at, place.revive_at) = (None, None, None);
                place.since = now;
            }
        }
        if self.shared.is_some() {
            // No service manager: whoever drives finds that they are down.
            self.router_falls(false);
        } else {
            names.iter().for_each(|name| self.launch_unit(name));
        }
        self.look();
    }

    fn launch_unit(&mut self, name: &InstanceName) {
        let Some(place) = self.places.get(name) else { return };
        if let (false, Some(unit)) = (place.closed, place.unit)
            && self.launch(name, unit).is_err()
            && let Some(place) = self.places.get_mut(name)
        {
            place.deaths_left = place.deaths_left.saturating_sub(1);
            if place.deaths_left > 0 {
                place.revive_at = Some(self.elapsed + REVIVE_AFTER);
            }
        }
    }

    /// Finishes a restore that was cut short, as measuring and restoring do first.
    pub(crate) fn finish_restore(&mut self, name: &InstanceName) {
        let Some(place) = self.places.get_mut(name) else { return };
        let Some(id) = place.journal else { return };
        match self.snapshots.get(&id) {
            Some(copy) => {
                if let Some(old) = place.live.take() {
                    place.aside.push(old);
                }
                place.live = Some(copy.data);
                place.journal = None;
            }
            None => self.violations.push(format!("{name}: snapshot {id} is gone in the middle of its restore")),
        }
    }

    /// Starts a process on the live data, which it migrates.
    pub(crate) fn launch(&mut self, name: &InstanceName, which: usize) -> Result<(), Failure> {
        let broken = |code: &str, text: &str| Err(Failure::new(code, text.to_owned(), None));
        let home = self.home(name).clone();
        let live = self.places.get(&home).and_then(|place| place.live);
        let now = self.elapsed;
        let (Some(place), Some(recipe)) = (self.places.get_mut(name), self.recipes.get(which)) else {
            return broken("no-such-instance", "there is no such instance");
        };
        (place.up, place.since) = (None, now);
        let Some(mut data) = live else {
            self.violations.push(format!("{name}: started without data"));
            return broken("no-data", "there is no data");
        };
        if data.schema > recipe.reads {
            self.violations.push(format!(
                "{name}: {} started on data of schema {}, it reads up to {}",
                recipe.release.tag, data.schema, recipe.reads
            ));
        }
        if data.spoiled && recipe.schema < data.schema {
            return broken("not-ready", "the program stumbles over its data");
        }
        data.schema = data.schema.max(recipe.schema);
        data.spoiled |= recipe.has(&Fault::SpoilsLive);
        if let Some(place) = self.places.get_mut(&home) {
            place.live = Some(data);
        }
        if recipe.has(&Fault::StartFails) || recipe.has(&Fault::StartFailsLive) {
            return broken("not-ready", "the program ended before it was ready");
        }
        let Some(place) = self.places.get_mut(name) else { return broken("no-such-instance", "it is gone") };
        place.up = Some(which);
        place.revive_at = None;
        place.dies_at = recipe.faults.iter().find_map(|fault| match fault {
            Fault::Dies(Span(after), _) if place.deaths_left > 0 => {
                Some(self.elapsed + i64::try_from(*after).unwrap_or(0))
            }
            _ => None,
        });
        Ok(())
    }

    /// Tells whether a person could log in.
    pub(crate) fn serves(&self, name: &InstanceName, which: usize, live: bool) -> bool {
        let Some(recipe) = self.recipes.get(which) else { return false };
        let number = self.places.get(name).map_or(0, |place| place.number);
        !(recipe.has(&Fault::Login) || recipe.has(&Fault::LoginOn(number)) || (live && recipe.has(&Fault::LoginLive)))
    }

    /// Lets users write on everything that runs.
    pub(crate) fn users_write(&mut self) {
        if self.shared.is_some() {
            return self.people_come();
        }
        let share = self.weather.rows_permille;
        let names: Vec<InstanceName> = self.places.keys().cloned().collect();
        for name in names {
            if self.rows >= ROWS_MAX || !self.chance.permille(share) {
                continue;
            }
            let Some(up) = self.places.get(&name).and_then(|place| place.up) else { continue };
            if !self.serves(&name, up, true) {
                continue;
            }
            let row = 1_u128 << self.rows;
            if let Some(place) = self.places.get_mut(&name)
                && let Some(data) = &mut place.live
            {
                data.rows |= row;
                place.acked |= row;
                self.rows += 1;
            }
        }
    }

    /// Gives the next time at which a process ends or is started again by itself.
    pub(crate) fn next_turn_of_fate(&self) -> Option<i64> {
        self.places.values().flat_map(|place| [place.dies_at, place.revive_at]).flatten().min()
    }

    /// Lets processes end and come back whose time has come: who, and whether it ended.
    pub(crate) fn fate(&mut self) -> Vec<(InstanceName, bool)> {
        let mut fates = Vec::new();
        let names: Vec<InstanceName> = self.places.keys().cloned().collect();
        for name in names {
            let (now, manages) = (self.elapsed, self.shared.is_none());
            let Some(place) = self.places.get_mut(&name) else { continue };
            if place.dies_at.is_some_and(|at| at <= now) {
                (place.up, place.since, place.dies_at) = (None, now, None);
                place.deaths_left = place.deaths_left.saturating_sub(1);
                place.revive_at = manages.then_some(now + REVIVE_AFTER);
                self.tunnels_break(&name);
                fates.push((name.clone(), true));
            } else if place.revive_at.is_some_and(|at| at <= now) {
                place.revive_at = None;
                self.launch_unit(&name);
                if self.places.get(&name).is_some_and(|place| place.up.is_some()) {
                    fates.push((name.clone(), false));
                }
            }
        }
        fates
    }

    /// Checks what must hold on the machine at every moment.
    pub(crate) fn look(&mut self) {
        let mut wrong = Vec::new();
        for (name, own) in &self.places {
            // Two places may work on one data, which belongs to one of them.
            let Some(place) = self.places.get(self.home(name)) else { continue };
            let kept = self.snapshots.values().filter(|copy| copy.instance == *self.home(name));
            let mut rows = kept.fold(0, |rows, copy| rows | copy.data.rows);
            rows = place.aside.iter().fold(rows, |rows, data| rows | data.rows);
            rows |= place.live.map_or(0, |data| data.rows);
            if place.acked & !rows != 0 {
                wrong.push(format!("{name}: rows that users wrote are nowhere any more"));
            }
            if place.live.is_none() && place.journal.is_none() {
                wrong.push(format!("{name}: has no data and no restore is under way"));
            }
            if let Some(recipe) = own.up.and_then(|up| self.recipes.get(up)) {
                if place.journal.is_some() || place.live.is_none() {
                    wrong.push(format!("{name}: runs in the middle of a restore"));
                }
                if place.live.is_some_and(|data| data.schema > recipe.reads) {
                    wrong.push(format!("{name}: {} runs on data it can't read", recipe.release.tag));
                }
                if !self.installed.contains(&recipe.release.digest) {
                    wrong.push(format!("{name}: runs {}, which was removed", recipe.release.tag));
                }
            }
        }
        wrong.extend(self.look_at_traffic());
        // What stays broken is told once.
        for one in wrong {
            if !self.violations.contains(&one) {
                self.violations.push(one);
            }
        }
    }
}
