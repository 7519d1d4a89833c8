//! Worlds in which a service moves by share of its traffic and anything may happen at any time, all of it from one seed.

use super::Shared;
use crate::{
    Report,
    chance::Chance,
    machine::{Channel, Fails, Weather},
    play::{Play, settings},
    release::{Fault, Recipe},
};
use lastgood_domain::{
    event::{Aim, Event, Settings},
    rollout::Input,
    terms::{Digest, GateName, HoldId, InstanceName, Reason, ReleaseTag, Span},
    traffic::{Share, ShareStep, TrafficEvent},
};

/// Most acts of one world.
const ACTS_MAX: u64 = 14;

/// Most turns between two acts: enough for a rollout to end.
const TURNS_MAX: u64 = 40;

/// Plays one random world in which traffic is shared to its end.
pub fn random_shared(seed: u64) -> Report {
    let mut chance = Chance::new(seed ^ 0x5ea7_ed01);
    let Some(shared) = Shared::new(chance.permille(600), chance.permille(500)) else { return Report::unplayed() };
    let settings = some_settings(&mut chance, &shared);
    let recipes = releases(&mut chance);
    let Some(mut play) = Play::new(seed, recipes, settings) else { return Report::unplayed() };
    play.share(shared);
    {
        let mut machine = play.machine.borrow_mut();
        machine.crash_permille = pick(&mut chance, &[0, 0, 1, 3, 10]);
        machine.weather.twice_permille = if chance.permille(300) { 100 } else { 0 };
        machine.weather.hindered_permille = if chance.permille(200) { 8 } else { 0 };
        let (load, lag) = (pick(&mut chance, &[600, 600, 60, 6, 0]), pick(&mut chance, &[0, 0, 200, 600]));
        machine.set_traffic(load, lag);
        let no_permille = pick(&mut chance, &[0, 50, 200, 500]);
        if let Some(shared) = &mut machine.shared {
            shared.no_permille = no_permille;
        }
    }
    play.begin(Aim::Track, None);
    for _ in 0..3 + chance.below(ACTS_MAX - 2) {
        for _ in 0..chance.below(TURNS_MAX) {
            play.turn();
        }
        act(&mut play, &mut chance);
    }
    calm_weather(&mut play);
    play.finish();
    Report::of(&play)
}

fn pick<T: Copy + Default>(chance: &mut Chance, from: &[T]) -> T {
    chance.pick(from).copied().unwrap_or_default()
}

fn releases(chance: &mut Chance) -> Vec<Recipe> {
    let mut list: Vec<Recipe> = Vec::new();
    let mut schema = 1;
    for number in 0..3 + chance.below(4) {
        if number > 0 && chance.permille(400) {
            schema += 1;
        }
        // Most can read what the next one writes: only those can live beside it.
        let reads = schema + pick(chance, &[0, 1, 9, 9]);
        let Some(mut recipe) = Recipe::new(&format!("{}.0", number + 1), schema, reads) else { continue };
        if chance.permille(if number == 0 { 60 } else { 450 }) {
            let faults = [
                Fault::StartFails,
                Fault::StartFailsLive,
                Fault::LoginOn(usize::try_from(chance.below(4)).unwrap_or(0)),
                Fault::LoginLive,
                Fault::Dies(Span::seconds(1 + chance.below(120)), 6),
                Fault::Restart,
                Fault::SpoilsLive,
                Fault::BreaksUsers,
                Fault::BreaksUsers,
                Fault::BreaksLate(Span::seconds(1 + chance.below(240))),
                Fault::BreaksLate(Span::seconds(1 + chance.below(240))),
                Fault::Forgets,
                Fault::Forgets,
            ];
            recipe.faults.extend(chance.pick(&faults).cloned());
        }
        if chance.permille(100) {
            recipe.faults.push(Fault::Slow);
        }
        list.push(recipe);
    }
    list
}

fn some_settings(chance: &mut Chance, shared: &Shared) -> Settings {
    let mut traffic = shared.traffic_settings().clone();
    let shares: &[u8] = match chance.below(4) {
        0 => &[5, 25, 100],
        1 => &[50, 100],
        2 => &[20, 40, 60, 100],
        _ => &[100],
    };
    let bake = |chance: &mut Chance| Span::seconds(pick(chance, &[0, 10, 30, 60]));
    let step = |percent: &u8| ShareStep { share: Share::percent(*percent), bake: bake(chance) };
    traffic.steps = shares.iter().map(step).collect();
    traffic.drain = Span::seconds(pick(chance, &[0, 10, 60, 120]));
    traffic.warm = Span::seconds(pick(chance, &[0, 60, 300]));
    traffic.cannot_tell_max = Span::seconds(pick(chance, &[30, 90]));
    traffic.resume = chance.permille(700);
    let names: Vec<InstanceName> = traffic.sides.iter().flatten().cloned().collect();
    let mut made = settings(&names);
    made.traffic = Some(traffic);
    let gates = chance.below(4).saturating_sub(1);
    made.gates = ["load", "unit"]
        .iter()
        .filter_map(|name| GateName::new(name).ok())
        .take(usize::try_from(gates).unwrap_or(0))
        .collect();
    made.watch = Span::minutes(pick(chance, &[1, 10, 120]));
    made
}

fn act(play: &mut Play, chance: &mut Chance) {
    let Ok(reason) = Reason::new("so it fell out") else { return };
    match chance.below(100) {
        0..36 => {
            {
                let mut machine = play.machine.borrow_mut();
                machine.newest = (machine.newest + 1).min(machine.recipes.len().saturating_sub(1));
            }
            play.begin(Aim::Track, None);
        }
        36..44 => {
            play.begin(Aim::Track, None);
        }
        44 => {
            play.begin(if chance.permille(500) { Aim::DryRun } else { Aim::Drain }, None);
        }
        45..50 => {
            let until = chance.permille(400).then(|| play.machine.borrow().now().after(Span::minutes(1)));
            play.hold(until);
        }
        50..57 => lift_all(play, &reason),
        57..59 => {
            if let Some(tag) = some_tag(play, chance) {
                play.put(Input::Say(Event::Pinned { tag, reason }));
            }
        }
        59..61 => {
            play.put(Input::Say(Event::Unpinned { reason }));
        }
        61..67 => reject_or_waive(play, chance, reason),
        67..76 => {
            let to = if chance.permille(100) { some_tag(play, chance) } else { None };
            let aim = Aim::Back { to, instances: Vec::new(), accept_loss: Vec::new(), reason: "it is slow".into() };
            play.begin(aim, None);
        }
        76..83 => router_trouble(play, chance),
        83..87 => some_weather(play, chance),
        87..90 => {
            let (load, lag) = (pick(chance, &[600, 60, 6, 0]), pick(chance, &[0, 200, 600]));
            play.machine.borrow_mut().set_traffic(load, lag);
        }
        90..92 => {
            // Never forward by more than a client has to answer a Close: tunnels end by the wall clock.
            play.machine.borrow_mut().skew += pick(chance, &[-3_600_000, -10_000, 3_000]);
        }
        92..95 => second_driver(play, chance, reason),
        _ => entries(play, reason),
    }
}

fn lift_all(play: &mut Play, reason: &Reason) {
    let holds: Vec<HoldId> = play.driver.service().holds.keys().copied().collect();
    for hold in holds {
        play.put(Input::Say(Event::HoldLifted { hold, reason: reason.clone() }));
    }
}

fn some_tag(play: &Play, chance: &mut Chance) -> Option<ReleaseTag> {
    chance.pick(&play.machine.borrow().recipes).map(|recipe| recipe.release.tag.clone())
}

fn reject_or_waive(play: &mut Play, chance: &mut Chance, reason: Reason) {
    let rejected: Vec<Digest> = play.driver.service().rejected.keys().copied().collect();
    match chance.pick(&rejected) {
        Some(release) if chance.permille(600) => {
            play.put(Input::Say(Event::Waived { release: *release, reason }));
        }
        _ => {
            let known: Vec<(Digest, ReleaseTag)> = {
                let service = play.driver.service();
                service.tags.iter().map(|(tag, digest)| (*digest, tag.clone())).collect()
            };
            if let Some((release, tag)) = chance.pick(&known).cloned() {
                play.put(Input::Say(Event::Rejected { release, tag, reason: reason.to_string() }));
            }
        }
    }
}

/// The router dies, with or without its table, or can't be started for a while.
fn router_trouble(play: &Play, chance: &mut Chance) {
    let mut machine = play.machine.borrow_mut();
    let stays_away = chance.permille(250);
    if let Some(shared) = &mut machine.shared {
        shared.router.stays_away = stays_away;
    }
    machine.router_falls(chance.permille(300));
}

fn some_weather(play: &Play, chance: &mut Chance) {
    let mut machine = play.machine.borrow_mut();
    let kept = Weather { hindered_permille: 0, ..machine.weather.clone() };
    let mut weather = kept;
    match chance.below(8) {
        0 => weather.gate_broken = true,
        1 => weather.disk_full = true,
        2 | 3 => weather.stop = Fails::Times(1 + u32::try_from(chance.below(4)).unwrap_or(0)),
        4 => weather.verify = Fails::Times(1),
        5 => machine.channel = Channel::Hangs,
        6 => {
            let no_permille = pick(chance, &[0, 200, 1_000]);
            if let Some(shared) = &mut machine.shared {
                shared.no_permille = no_permille;
            }
        }
        _ => {
            if let Some(shared) = &mut machine.shared {
                shared.gate_broken = !shared.gate_broken;
            }
        }
    }
    if chance.permille(400) {
        weather = Weather { rows_permille: weather.rows_permille, ..Weather::default() };
        machine.channel = Channel::Answers;
    }
    for place in machine.places.values_mut() {
        place.front_door_down = chance.permille(40);
    }
    machine.weather = weather;
}

/// Ends all trouble that comes from outside: from here on everything must come to an end by itself.
fn calm_weather(play: &mut Play) {
    let mut machine = play.machine.borrow_mut();
    machine.weather = Weather::default();
    machine.crash_permille = 0;
    for place in machine.places.values_mut() {
        place.front_door_down = false;
    }
    machine.set_traffic(600, 0);
    machine.bring_router_back();
}

/// A driver that opened the log a while ago writes to it: it must read the news first.
fn second_driver(play: &mut Play, chance: &mut Chance, reason: Reason) {
    let Some(mut second) = play.second() else { return };
    for _ in 0..chance.below(6) {
        play.turn();
    }
    let by = play.person.clone();
    let input = if chance.permille(500) {
        Input::Say(Event::HoldSet {
            hold: HoldId(second.service().next.hold),
            reason,
            until: None,
            origin: None,
            in_flight: lastgood_domain::operations::hold::InFlight::Pause,
        })
    } else {
        let aim =
            Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason: "from elsewhere".into() };
        Input::Begin { aim, settings: play.settings.clone(), frozen: None, preflight: None }
    };
    // Refused or lost: both leave the log as it was, which the checker sees.
    drop(second.put(input, &by));
    play.turn();
}

/// A command stops new entries or lets them in, and tells the router itself.
fn entries(play: &mut Play, reason: Reason) {
    let event = match play.driver.service().traffic.stopped {
        Some(_) => TrafficEvent::EntriesResumed { reason },
        None => TrafficEvent::EntriesStopped { routes: Vec::new(), retry_after: Span::minutes(1), reason },
    };
    play.put(Input::Say(Event::Traffic(event)));
    play.machine.borrow_mut().tell_newest();
}
