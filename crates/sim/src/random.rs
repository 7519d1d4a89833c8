//! Worlds in which anything may happen at any time, all of it from one seed.

use crate::{
    Report,
    chance::Chance,
    machine::{Channel, Fails, Use, Weather},
    play::{Play, settings},
    release::{Fault, Recipe},
};
use lastgood_domain::{
    event::{Aim, Event, Settings},
    facts::Outcomes,
    operations::hold::InFlight,
    rollout::Input,
    terms::{Digest, InstanceName, Reason, ReleaseTag, Span},
};

/// Most acts of one world: enough for four releases with people in between.
const ACTS_MAX: u64 = 12;

/// Most turns between two acts: about one whole run.
const TURNS_MAX: u64 = 24;

/// Plays one random world to its end.
pub fn random(seed: u64) -> Report {
    let mut chance = Chance::new(seed ^ 0x1a57_600d);
    let names: Vec<InstanceName> = ["alice", "bob", "carol"]
        .into_iter()
        .take(1 + usize::try_from(chance.below(3)).unwrap_or(0))
        .filter_map(|name| InstanceName::new(name).ok())
        .collect();
    let recipes = releases(&mut chance);
    let settings = some_settings(&mut chance, &names);
    let Some(mut play) = Play::new(seed, recipes, settings) else { return Report::unplayed() };
    {
        let mut machine = play.machine.borrow_mut();
        machine.crash_permille = [0, 0, 3, 10, 30].get(choice(&mut chance, 5)).copied().unwrap_or(0);
        machine.weather.twice_permille = if chance.permille(300) { 100 } else { 0 };
        machine.weather.hindered_permille = if chance.permille(200) { 15 } else { 0 };
    }
    play.begin(Aim::Track, None);
    for _ in 0..2 + chance.below(ACTS_MAX - 1) {
        for _ in 0..chance.below(TURNS_MAX) {
            play.turn();
        }
        act(&mut play, &mut chance, &names);
    }
    calm_weather(&mut play);
    play.finish();
    Report::of(&play)
}

fn choice(chance: &mut Chance, of: u64) -> usize {
    usize::try_from(chance.below(of)).unwrap_or(0)
}

fn releases(chance: &mut Chance) -> Vec<Recipe> {
    let mut list: Vec<Recipe> = Vec::new();
    let mut schema = 1;
    for number in 0..3 + chance.below(3) {
        if number > 0 && chance.permille(500) {
            schema += 1;
        }
        let reads = schema + [0, 0, 1, 9].get(choice(chance, 4)).copied().unwrap_or(0);
        let Some(mut recipe) = Recipe::new(&format!("{}.0", number + 1), schema, reads) else { continue };
        if chance.permille(if number == 0 { 50 } else { 350 }) {
            recipe.faults.extend(fault(chance));
        }
        if chance.permille(100) {
            recipe.faults.push(Fault::Slow);
        }
        let moved = recipe.moved();
        list.push(recipe);
        if chance.permille(80) {
            list.push(moved);
        }
    }
    list
}

fn fault(chance: &mut Chance) -> Option<Fault> {
    let faults = [
        Fault::StartFails,
        Fault::StartFailsLive,
        Fault::Login,
        Fault::LoginOn(choice(chance, 3)),
        Fault::LoginLive,
        Fault::Dies(Span::seconds(1 + chance.below(60)), 6),
        Fault::Restart,
        Fault::SpoilsLive,
        Fault::BreaksUsers,
        Fault::SaysOther,
    ];
    chance.pick(&faults).cloned()
}

fn some_settings(chance: &mut Chance, names: &[InstanceName]) -> Settings {
    let mut made = settings(names);
    made.wave_size = 1 + u32::try_from(chance.below(3)).unwrap_or(0);
    made.soak = Span::seconds([0, 0, 20, 60].get(choice(chance, 4)).copied().unwrap_or(0));
    made.loss_rows_max = [0, 3, 200, 200].get(choice(chance, 4)).copied().unwrap_or(0);
    made.loss_age_max = Span::minutes([0, 1, 600].get(choice(chance, 3)).copied().unwrap_or(0));
    made.stale_after = Span::minutes([2, 60 * 24 * 7].get(choice(chance, 2)).copied().unwrap_or(0));
    if chance.permille(200) {
        made.canary = chance.pick(names).cloned();
    }
    if chance.permille(200) {
        made.rehearse_on = chance.pick(names).cloned();
    }
    made
}

fn act(play: &mut Play, chance: &mut Chance, names: &[InstanceName]) {
    let Ok(reason) = Reason::new("so it fell out") else { return };
    match chance.below(100) {
        0..30 => {
            {
                let mut machine = play.machine.borrow_mut();
                machine.newest = (machine.newest + 1).min(machine.recipes.len().saturating_sub(1));
            }
            play.begin(Aim::Track, None);
        }
        30..42 => {
            let frozen = chance.permille(50).then(|| "a freeze file exists".to_owned());
            play.begin(Aim::Track, frozen);
        }
        42..45 => {
            play.begin(Aim::DryRun, None);
        }
        45 => {
            play.begin(Aim::Drain, None);
        }
        46..51 => {
            let until = chance.permille(300).then(|| play.machine.borrow().now().after(Span::minutes(1)));
            play.hold(until);
        }
        51..56 => lift_all(play, &reason),
        56..60 => {
            if let Some(tag) = some_tag(play, chance) {
                play.put(Input::Say(Event::Pinned { tag, reason }));
            }
        }
        60..62 => {
            play.put(Input::Say(Event::Unpinned { reason }));
        }
        62..66 => reject_or_waive(play, chance, reason),
        66..78 => roll_back(play, chance, names),
        78..84 => {
            let used = [Use::Idle, Use::Idle, Use::Busy, Use::Unknown];
            let mut machine = play.machine.borrow_mut();
            for place in machine.places.values_mut() {
                place.in_use = chance.pick(&used).copied().unwrap_or_default();
                place.front_door_down = chance.permille(150);
            }
        }
        84..91 => some_weather(play, chance),
        91..94 => {
            // An hour or ten seconds, either way.
            let jump = [3_600_000, -3_600_000, 10_000, -10_000].get(choice(chance, 4)).copied();
            play.machine.borrow_mut().skew += jump.unwrap_or(0);
        }
        94..97 => second_driver(play, chance, reason),
        97..99 => outcomes(play),
        _ => {
            let settings = play.settings.clone();
            play.put(Input::Review { settings });
        }
    }
}

fn lift_all(play: &mut Play, reason: &Reason) {
    let holds: Vec<_> = play.driver.service().holds.keys().copied().collect();
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
        Some(release) if chance.permille(700) => {
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

fn back(play: &Play, chance: &mut Chance, names: &[InstanceName]) -> Aim {
    let to = if chance.permille(250) { some_tag(play, chance) } else { None };
    let instances = if chance.permille(300) { chance.pick(names).cloned() } else { None };
    let accept_loss = if chance.permille(500) { names.to_vec() } else { Vec::new() };
    Aim::Back { to, instances: instances.into_iter().collect(), accept_loss, reason: "it is slow".into() }
}

fn roll_back(play: &mut Play, chance: &mut Chance, names: &[InstanceName]) {
    let aim = back(play, chance, names);
    play.begin(aim, None);
}

fn some_weather(play: &Play, chance: &mut Chance) {
    let mut machine = play.machine.borrow_mut();
    let kept = Weather { hindered_permille: 0, ..machine.weather.clone() };
    let mut weather = kept;
    match chance.below(14) {
        0 => weather.gate_broken = true,
        1 => weather.disk_full = true,
        2 => weather.owner_missing = true,
        3 => weather.measure = Fails::Times(1),
        4 => weather.restore = Fails::Times(1 + u32::try_from(chance.below(4)).unwrap_or(0)),
        5 => weather.restore = Fails::Always,
        6 => weather.stop = Fails::Times(1 + u32::try_from(chance.below(4)).unwrap_or(0)),
        7 => weather.keep = Fails::Times(1),
        // An installation that a gate finds damaged, and one that nobody looked at before it is to be started.
        8 => (weather.verify, weather.damaged) = (Fails::Times(1), Fails::Times(3)),
        9 => machine.channel = Channel::Hangs,
        10 => machine.channel = Channel::Nonsense,
        11 => weather.frozen = true,
        12 => weather.unlaunchable = Fails::Times(1 + u32::try_from(chance.below(3)).unwrap_or(0)),
        _ => machine.channel = Channel::Foreign,
    }
    if chance.permille(300) {
        weather = Weather { rows_permille: weather.rows_permille, ..Weather::default() };
        machine.channel = Channel::Answers;
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
}

/// A driver that opened the log a while ago writes to it: it must read the news first.
fn second_driver(play: &mut Play, chance: &mut Chance, reason: Reason) {
    let Some(mut second) = play.second() else { return };
    if chance.permille(700) {
        play.hold(None);
    }
    for _ in 0..chance.below(4) {
        play.turn();
    }
    let by = play.person.clone();
    let input = if chance.permille(500) {
        let hold = lastgood_domain::terms::HoldId(second.service().next.hold);
        Input::Say(Event::HoldSet { hold, reason, until: None, origin: None, in_flight: InFlight::Pause })
    } else {
        let aim = Aim::Back {
            to: None,
            instances: Vec::new(),
            accept_loss: Vec::new(),
            reason: "from another terminal".into(),
        };
        Input::Begin { aim, settings: play.settings.clone(), frozen: None, preflight: None }
    };
    // Refused or lost: both leave the log as it was, which the checker sees.
    drop(second.put(input, &by));
    play.turn();
}

fn outcomes(play: &mut Play) {
    let counted = {
        let machine = play.machine.borrow();
        let breaks = |up: usize| machine.recipes.get(up).is_some_and(|one| one.has(&Fault::BreaksUsers));
        let broken = machine.places.values().filter_map(|place| place.up).any(breaks);
        Outcomes { good: 100, degraded: 0, broken: if broken { 60 } else { 0 } }
    };
    play.driver.world.counted = Some(counted);
    play.turn();
}
