//! Named stories whose whole course is known: each is played once as it is and once with a crash at every step.

use crate::{
    Report,
    machine::{Crash, Fails, Machine, Use},
    play::{Play, Put, settings},
    release::{Fault, Recipe},
    say,
};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, Event, Record, Settings},
    rollout::Input,
    service::Condition,
    terms::{Digest, InstanceName, Reason, ReleaseTag, Span},
};
use std::collections::{BTreeMap, BTreeSet};

/// Turns after which a story that waits for something is stuck.
const TURNS_MAX: u32 = 2_000;

/// When the next act of a story comes.
#[derive(Clone, Copy)]
enum When {
    /// Nothing is under way.
    Quiet,
    /// A record like this was written since the act before.
    Seen(fn(&Record) -> bool),
}

/// What happens next in a story.
#[derive(Clone)]
enum Act {
    /// Something changes around the engine.
    Nature(fn(&mut Machine)),
    /// The schedule or a person begins a run.
    Begin(Aim),
    Hold,
    Lift,
    Pin(&'static str),
    Unpin,
}

/// One story.
pub struct Scenario {
    /// Its name, which is also its stored answer's.
    pub name: &'static str,
    recipes: Vec<Recipe>,
    settings: Settings,
    acts: Vec<(When, Act)>,
}

/// Where everything stands at the end of a story; the same whether or not something crashed on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ending {
    /// How the last run ended.
    pub end: String,
    /// The tag of last-good.
    pub last_good: String,
    /// Per instance: what the log says it runs, its condition, and the schema of its data.
    pub instances: BTreeMap<String, (String, String, Option<u32>)>,
    /// Rejected tags.
    pub rejected: BTreeSet<String>,
    /// Number of holds that stand.
    pub holds: usize,
}

impl Scenario {
    /// Plays the story, with one crash at the moment with that number if one is given.
    pub fn play(&self, crash: Option<(u64, Crash)>) -> Report {
        let Some(mut play) = Play::new(7, self.recipes.clone(), self.settings.clone()) else {
            return Report::unplayed();
        };
        play.machine.borrow_mut().crash_at = crash;
        for (when, act) in &self.acts {
            self.wait(&mut play, *when);
            // A person whose command was lost types it again.
            while perform(&mut play, act) == Put::Lost {}
        }
        play.calm();
        play.finish();
        Report::of(&play)
    }

    fn wait(&self, play: &mut Play, when: When) {
        let from = play.chain.borrow().records.len().saturating_sub(1);
        for _ in 0..TURNS_MAX {
            let due = match when {
                When::Quiet => {
                    play.calm();
                    true
                }
                When::Seen(wanted) => {
                    let chain = play.chain.borrow();
                    chain.records.get(from..).unwrap_or_default().iter().any(wanted)
                }
            };
            if due {
                return;
            }
            play.turn();
        }
        play.machine.borrow_mut().violated(format!("{}: an awaited record never came", self.name));
    }
}

fn perform(play: &mut Play, act: &Act) -> Put {
    let Ok(reason) = Reason::new("as the story goes") else { return Put::Refused };
    match act {
        Act::Nature(change) => {
            change(&mut play.machine.borrow_mut());
            Put::Taken
        }
        Act::Begin(aim) => play.begin(aim.clone(), None),
        Act::Hold => play.hold(None),
        Act::Lift => match play.driver.service().holds.keys().next().copied() {
            Some(hold) => play.put(Input::Say(Event::HoldLifted { hold, reason })),
            None => Put::Refused,
        },
        Act::Pin(tag) => match ReleaseTag::new(tag) {
            Ok(tag) => play.put(Input::Say(Event::Pinned { tag, reason })),
            Err(_) => Put::Refused,
        },
        Act::Unpin => play.put(Input::Say(Event::Unpinned { reason })),
    }
}

impl Report {
    pub(crate) fn unplayed() -> Self {
        Self {
            violations: vec!["the world could not be set up".into()],
            records: Vec::new(),
            points: 0,
            crashes: 0,
            ending: Ending::default(),
        }
    }

    pub(crate) fn of(play: &Play) -> Self {
        let machine = play.machine.borrow();
        Self {
            violations: play.violations(),
            records: play.records(),
            points: machine.points,
            crashes: machine.crashes,
            ending: ending(play),
        }
    }
}

fn ending(play: &Play) -> Ending {
    let service = play.driver.service();
    let machine = play.machine.borrow();
    let tag = |digest: Option<&Digest>| service.name_of(digest);
    let condition = |condition: &Condition| match condition {
        Condition::Settled => "settled",
        Condition::Between => "between",
        Condition::Deferred { .. } => "deferred",
        Condition::Stuck { .. } => "stuck",
        Condition::LossHeld { .. } => "held",
    };
    let instances = service.instances.iter().map(|(name, known)| {
        let schema = machine.places.get(name).and_then(|place| place.live).map(|data| data.schema);
        let state = (tag(known.release.as_ref()), condition(&known.condition).into(), schema);
        (name.to_string(), state)
    });
    Ending {
        end: service.last_end.as_ref().map(|(_, _, end)| say::end(end)).unwrap_or_default(),
        last_good: tag(service.last_good.as_ref()),
        instances: instances.collect(),
        rejected: service.rejected.values().map(|one| one.tag.to_string()).collect(),
        holds: service.holds.len(),
    }
}

/// Gives three instances as most stories have them.
fn trio() -> Vec<InstanceName> {
    ["alice", "bob", "carol"].into_iter().filter_map(|name| InstanceName::new(name).ok()).collect()
}

fn back(to: Option<&str>, only: &[&str], accept: &[&str]) -> Aim {
    let names = |list: &[&str]| list.iter().filter_map(|name| InstanceName::new(name).ok()).collect();
    Aim::Back {
        to: to.and_then(|tag| ReleaseTag::new(tag).ok()),
        instances: names(only),
        accept_loss: names(accept),
        reason: "people complain".into(),
    }
}

fn publish_next(machine: &mut Machine) {
    machine.newest += 1;
}

fn starts(record: &Record) -> bool {
    matches!(record.event, Event::Ordered { effect: Effect::Start { .. }, .. })
}

/// The releases of a story: tag, schema, newest schema it reads, faults.
fn recipes(list: &[(&str, u32, u32, &[Fault])]) -> Vec<Recipe> {
    let made = list.iter().filter_map(|(tag, schema, reads, faults)| {
        let mut recipe = Recipe::new(tag, *schema, *reads)?;
        recipe.faults = faults.to_vec();
        Some(recipe)
    });
    made.collect()
}

/// A story that begins with the first installation of 1.0 everywhere and then offers 2.0.
fn after_first(name: &'static str, list: &[(&str, u32, u32, &[Fault])], more: Vec<(When, Act)>) -> Scenario {
    let mut acts = vec![(When::Quiet, Act::Begin(Aim::Track)), (When::Quiet, Act::Nature(publish_next))];
    acts.extend(more);
    Scenario { name, recipes: recipes(list), settings: settings(&trio()), acts }
}

fn track() -> (When, Act) {
    (When::Quiet, Act::Begin(Aim::Track))
}

fn quiet(act: Act) -> (When, Act) {
    (When::Quiet, act)
}

const GOOD: (&str, u32, u32, &[Fault]) = ("1.0", 1, 1, &[]);
const READS_NEW: (&str, u32, u32, &[Fault]) = ("1.0", 1, 9, &[]);

/// Gives all stories.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = forward();
    all.extend(backward());
    all
}

fn forward() -> Vec<Scenario> {
    let use_of = |one: fn(&mut Machine)| quiet(Act::Nature(one));
    vec![
        Scenario { name: "first-install", recipes: recipes(&[GOOD]), settings: settings(&trio()), acts: vec![track()] },
        after_first("happy", &[READS_NEW, ("2.0", 1, 1, &[])], vec![track(), track()]),
        after_first("additive-migration", &[READS_NEW, ("2.0", 2, 2, &[])], vec![track()]),
        after_first("breaking-migration", &[GOOD, ("2.0", 2, 2, &[])], vec![track()]),
        after_first("login-broken-in-rehearsal", &[GOOD, ("2.0", 2, 2, &[Fault::Login])], vec![track(), track()]),
        after_first(
            "all-busy",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![use_of(|machine| machine.places.values_mut().for_each(|place| place.in_use = Use::Busy)), track()],
        ),
        after_first(
            "one-busy-then-drained",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![
                use_of(|machine| {
                    machine.places.values_mut().take(1).for_each(|place| place.in_use = Use::Unknown);
                }),
                track(),
                use_of(|machine| machine.places.values_mut().for_each(|place| place.in_use = Use::Idle)),
                quiet(Act::Begin(Aim::Drain)),
            ],
        ),
        after_first(
            "control-broken",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![use_of(|machine| machine.weather.gate_broken = true), track()],
        ),
        after_first(
            "front-door-down",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![use_of(|machine| machine.places.values_mut().for_each(|place| place.front_door_down = true)), track()],
        ),
        Scenario {
            name: "tag-moved",
            recipes: {
                let mut list = recipes(&[GOOD]);
                let again: Vec<Recipe> = list.iter().map(Recipe::moved).collect();
                list.extend(again);
                list
            },
            settings: settings(&trio()),
            acts: vec![track(), quiet(Act::Nature(publish_next)), track()],
        },
        after_first(
            "pin-older-then-unpin",
            &[READS_NEW, ("2.0", 2, 2, &[])],
            vec![track(), quiet(Act::Pin("1.0")), track(), track(), quiet(Act::Unpin), track()],
        ),
        after_first(
            "pin-older-while-one-is-busy",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![
                track(),
                use_of(|machine| machine.places.values_mut().take(1).for_each(|place| place.in_use = Use::Busy)),
                quiet(Act::Pin("1.0")),
                track(),
                use_of(|machine| machine.places.values_mut().for_each(|place| place.in_use = Use::Idle)),
                quiet(Act::Begin(Aim::Drain)),
            ],
        ),
        after_first(
            "hold-in-the-middle",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![track(), (When::Seen(starts), Act::Hold), quiet(Act::Lift), track()],
        ),
        after_first(
            "freeze-file-in-the-middle",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![
                track(),
                (When::Seen(starts), Act::Nature(|machine| machine.weather.frozen = true)),
                quiet(Act::Nature(|machine| machine.weather.frozen = false)),
                track(),
            ],
        ),
        after_first(
            "one-that-could-not-be-started",
            &[GOOD, ("2.0", 2, 2, &[])],
            // Whoever is killed with the answer in hand asks again, and hears another: the run after that has nothing to do.
            vec![
                quiet(Act::Nature(|machine| machine.weather.unlaunchable = Fails::Times(1))),
                track(),
                track(),
                track(),
            ],
        ),
        after_first(
            "older-in-the-place-of-a-rejected-newest",
            &[GOOD, ("1.1", 1, 1, &[]), ("1.2", 2, 2, &[Fault::Login])],
            vec![quiet(Act::Nature(publish_next)), track(), track(), track()],
        ),
        after_first("dry-run", &[GOOD, ("2.0", 2, 2, &[])], vec![quiet(Act::Begin(Aim::DryRun)), track()]),
    ]
}

fn backward() -> Vec<Scenario> {
    let mut loss = after_first(
        "restore-held-by-loss",
        &[GOOD, ("2.0", 2, 2, &[])],
        vec![
            track(),
            quiet(Act::Begin(back(None, &[], &[]))),
            quiet(Act::Begin(back(None, &[], &["alice", "bob", "carol"]))),
        ],
    );
    loss.settings.loss_rows_max = 0;
    let halfway = |record: &Record| matches!(record.event, Event::Moved { .. });
    let restores = |record: &Record| matches!(record.event, Event::Ordered { effect: Effect::Restore { .. }, .. });
    let dies = Fault::Dies(Span::seconds(5), 6);
    let mut third = after_first("fails-on-the-third", &[READS_NEW, ("2.0", 2, 2, &[Fault::LoginOn(2)])], vec![track()]);
    // One by one: in a wave it would depend on chance how far its neighbour came.
    third.settings.wave_size = 1;
    vec![
        third,
        after_first("canary-fails-with-data", &[GOOD, ("2.0", 2, 2, &[Fault::LoginLive])], vec![track(), track()]),
        after_first("start-fails-after-migrating", &[GOOD, ("2.0", 2, 2, &[Fault::StartFailsLive])], vec![track()]),
        after_first("dies-during-soak", &[GOOD, ("2.0", 2, 2, &[dies])], vec![track()]),
        after_first(
            "manual-rollback",
            &[READS_NEW, ("2.0", 2, 2, &[])],
            vec![track(), quiet(Act::Begin(back(None, &[], &[]))), track()],
        ),
        after_first(
            "manual-rollback-of-one",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![track(), quiet(Act::Begin(back(None, &["bob"], &[])))],
        ),
        after_first(
            "rollback-in-the-middle",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![track(), (When::Seen(halfway), Act::Begin(back(None, &[], &[])))],
        ),
        after_first(
            "rollback-again-while-restoring",
            &[GOOD, ("2.0", 2, 2, &[Fault::LoginLive])],
            vec![track(), (When::Seen(restores), Act::Begin(back(None, &[], &[])))],
        ),
        after_first(
            "rollback-fails-then-works",
            &[GOOD, ("2.0", 2, 2, &[])],
            vec![
                track(),
                quiet(Act::Nature(|machine| machine.weather.restore = Fails::Times(4))),
                quiet(Act::Begin(back(None, &["bob"], &[]))),
                quiet(Act::Begin(back(None, &["bob"], &[]))),
            ],
        ),
        after_first(
            "way-back-to-a-damaged-installation",
            &[READS_NEW, ("2.0", 2, 2, &[])],
            vec![
                track(),
                quiet(Act::Nature(|machine| machine.weather.damaged = Fails::Times(4))),
                quiet(Act::Begin(back(None, &["bob"], &[]))),
                quiet(Act::Begin(back(None, &["bob"], &[]))),
            ],
        ),
        after_first(
            "way-back-needs-data-after-all",
            &[READS_NEW, ("2.0", 2, 2, &[Fault::SpoilsLive])],
            vec![track(), quiet(Act::Begin(back(None, &[], &[])))],
        ),
        after_first(
            "two-releases-back",
            &[READS_NEW, ("2.0", 2, 9, &[]), ("3.0", 3, 3, &[])],
            vec![track(), quiet(Act::Nature(publish_next)), track(), quiet(Act::Begin(back(Some("1.0"), &[], &[])))],
        ),
        loss,
    ]
}
