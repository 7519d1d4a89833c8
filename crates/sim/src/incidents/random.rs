//! Makes a world of incidents from one seed, plays it, and ends it.

use super::{
    acts::somebody_acts,
    outside::Enforcing,
    post::Post,
    setting::{self, SERVICES},
    world::World,
};
use crate::{
    chance::Chance,
    release::{Fault, Recipe},
};
use lastgood_domain::{
    operations::Operations,
    terms::{ServiceName, Span},
};
use std::collections::{BTreeMap, BTreeSet};

/// Fewest rounds of one world before everybody comes back.
const ROUNDS_MIN: u64 = 25;

/// Most rounds of one world: enough for two incidents from the first to the last word.
const ROUNDS_MAX: u64 = 260;

/// Rounds after which everybody is back and does the sensible thing, until all incidents are over.
const ENDING_MAX: u32 = 600;

/// Rounds after all incidents are over.
const AFTERWARDS: u32 = 12;

/// What a world of incidents came to.
#[derive(Debug)]
pub struct Incidents {
    /// Promises that did not hold, in the order in which that was seen.
    pub violations: Vec<String>,
    /// What happened, one line each.
    pub story: Vec<String>,
    /// States, stages and the like that came up.
    pub reached: BTreeSet<&'static str>,
    /// Processes that were killed.
    pub crashes: u32,
    /// How often somebody came in between.
    pub races: u32,
    /// Records of the chain of what people decide.
    pub records: usize,
}

impl Incidents {
    /// Gives the story as text.
    pub fn text(&self) -> String {
        let mut text = self.story.join("\n");
        text.push('\n');
        text
    }
}

/// Plays one random world of incidents to its end.
pub fn random_incidents(seed: u64) -> Incidents {
    let mut chance = Chance::new(seed ^ 0x0001_c1de_4715);
    let mut services = BTreeMap::new();
    let all = setting::config(SERVICES.len()).expect("the largest configuration is one");
    for (number, (name, service)) in (0_u64..).zip(&all.service) {
        let settings = service.settings();
        if let Some(post) = Post::new(seed.wrapping_mul(31) ^ number, recipes(&mut chance), settings) {
            services.insert(name.clone(), post);
        }
    }
    let count = 2 + usize::try_from(chance.below(3)).unwrap_or(0);
    let crash = [0, 5, 20, 60].get(usize::try_from(chance.below(4)).unwrap_or(0)).copied().unwrap_or(0);
    let race = [0, 30, 80].get(usize::try_from(chance.below(3)).unwrap_or(0)).copied().unwrap_or(0);
    let trouble = [0, 100, 250, 500].get(usize::try_from(chance.below(4)).unwrap_or(0)).copied().unwrap_or(0);
    // Short ones show most for their time; what needs two incidents or the end of a long one is seen in long ones.
    let most = if chance.permille(250) { ROUNDS_MAX } else { ROUNDS_MAX / 3 };
    let rounds = ROUNDS_MIN + chance.below(most - ROUNDS_MIN);
    let world = World::new(chance, count, services);
    world.crash_permille.set(crash);
    world.race_permille.set(race);
    {
        let mut outside = world.outside.borrow_mut();
        outside.trouble = trouble;
        outside.enforcers = all.enforcers().map(|(name, _)| (name, Enforcing::default())).collect();
    }
    world.clock_from_services();
    world.wait(Span::minutes(30));
    for _ in 0..rounds {
        round(&world);
    }
    finish(&world);
    report(world)
}

fn recipes(chance: &mut Chance) -> Vec<Recipe> {
    let recipe = |number: u64| Recipe::new(&format!("{number}.0"), 1, 9);
    let mut all: Vec<Recipe> = (1..13).filter_map(recipe).collect();
    for recipe in all.iter_mut().skip(1) {
        if chance.permille(150) {
            recipe.faults.push(Fault::Login);
        }
        if chance.permille(100) {
            recipe.faults.push(Fault::LoginLive);
        }
    }
    all
}

fn round(world: &World) {
    world.people_come_and_go();
    world.outside_changes();
    world.process(|| somebody_acts(world));
    let span = match world.below(100) {
        0..60 => Span::seconds(10 + world.below(300)),
        60..90 => Span::minutes(5 + world.below(40)),
        90..98 => Span::minutes(60 + world.below(600)),
        _ => Span::minutes(60 * (24 + world.below(72))),
    };
    world.wait(span);
}

/// Everybody comes back and does what is to be done: nothing may stay frozen for ever.
fn finish(world: &World) {
    world.crash_permille.set(0);
    world.race_permille.set(0);
    world.outside_is_calm();
    world.everybody_is_back();
    world.count.set(SERVICES.len());
    world.tell("    everybody is back".into());
    world.wait(Span::minutes(60));
    end_incidents(world);
    // What was owed and held is over, or stands in the way of what comes next.
    for _ in 0..AFTERWARDS {
        world.somebody().iter().for_each(|who| world.services_act(who));
        world.wait(Span::minutes(5 + world.below(60)));
    }
    ends(world);
}

fn end_incidents(world: &World) {
    for _ in 0..ENDING_MAX {
        let Some(id) = world.an_incident() else { break };
        let commander = world.state().incidents.all.get(&id).map(|found| found.commander.clone());
        let Some(commander) = commander else { break };
        match world.below(3) {
            0 => world.somebody().iter().for_each(|who| world.answer(who)),
            _ => world.go_on(&commander),
        }
        world.wait(Span::minutes(1 + world.below(20)));
    }
}

/// Checks how a world ends: nobody's hold, nothing frozen for ever, and the state is what the records fold to.
fn ends(world: &World) {
    let open: Vec<String> =
        world.state().incidents.open().map(|(id, found)| format!("{id} is {}", found.state.as_str())).collect();
    if !open.is_empty() {
        world.tell(format!("    at the end {}", open.join(", ")));
    } else {
        world.checks.borrow_mut().reached.insert("every incident ended");
    }
    let mut folded = Operations::default();
    let records = world.book.borrow().records.clone();
    for (seq, record) in (0_u64..).zip(&records) {
        folded.apply(seq, Some(record));
    }
    if folded != *world.state() {
        world.violated("folding the records gives another state".into());
    }
    let told = world.checks.borrow().nobodys(world.now());
    told.into_iter().for_each(|what| world.violated(what));
    let names: Vec<ServiceName> = world.services.borrow().keys().cloned().collect();
    for name in names {
        let broken = world.services.borrow().get(&name).map(|post| post.play.violations()).unwrap_or_default();
        for what in broken {
            world.violated(format!("{name}: {what}"));
        }
    }
}

fn report(world: World) -> Incidents {
    let checks = world.checks.into_inner();
    Incidents {
        violations: checks.violations,
        story: world.story.into_inner(),
        reached: checks.reached,
        crashes: world.crashes.get(),
        races: world.races.get(),
        records: world.book.into_inner().records.len(),
    }
}
