//! Shared traffic: shares grow on evidence only, a hold lets them stand, and a way back flips before it clears up.

mod degrading;
mod found;
mod growing;
mod pinned;
mod proving;
mod returning;
mod switching;
mod watching;

use crate::walk::{Walk, breaking, digest, failed, hindered, instance, reason, settings};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, Cause, End, Event, Gate, Settings, Verdict},
    guard::GuardSettings,
    rollout::{self, Input, Judging},
    service::Phase,
    terms::{Span, Timestamp},
    traffic::{Route, Share, ShareStep, TrafficEvent, TrafficSettings},
};

const BAKE: Span = Span::minutes(5);
const DRAIN: Span = Span::minutes(10);
const WARM: Span = Span::minutes(60);
const CANNOT_TELL: Span = Span::minutes(30);

fn shared() -> Settings {
    let mut settings = settings(&["a.blue", "b.blue", "a.green", "b.green"]);
    let side = |colour: &str| ["a", "b"].map(|name| instance(&format!("{name}.{colour}"))).to_vec();
    let steps = [5, 25, 100].map(|percent| ShareStep { share: Share::percent(percent), bake: BAKE });
    settings.traffic = Some(TrafficSettings {
        sides: [side("blue"), side("green")],
        holders: vec![instance("a.blue")],
        steps: steps.to_vec(),
        drain: DRAIN,
        warm: WARM,
        cannot_tell_max: CANNOT_TELL,
        guard: GuardSettings::default(),
        degraded: None,
        flags: Vec::new(),
        trips: Vec::new(),
        resume: true,
    });
    settings
}

/// A service with 1.0 behind it, serving on the blue side.
fn serving() -> Walk {
    let mut walk = Walk::new(&[]);
    walk.settings = shared();
    walk.track("1.0");
    assert_eq!(walk.end(), End::Promoted);
    walk
}

pub(crate) fn judge(walk: &mut Walk, verdict: Verdict) {
    let route = walk.service.traffic.route.clone().expect("something is routed");
    let on = match (route.candidate, route.last_good) {
        (Some(side), _) => Judging { release: side.release, share: route.share },
        (None, side) => Judging { release: side.expect("somebody serves").release, share: Share::ALL },
    };
    judge_of(walk, on, verdict);
}

fn judge_of(walk: &mut Walk, on: Judging, verdict: Verdict) {
    judge_with(walk, on, verdict, "3 of 100 requests failed");
}

fn judge_with(walk: &mut Walk, on: Judging, verdict: Verdict, because: &str) {
    let (settings, because) = (walk.settings.clone(), because.to_owned());
    walk.put(Input::Judged { on, verdict, because, settings }).expect("a verdict always has a place");
}

fn tick_at(walk: &mut Walk, at: Timestamp) {
    walk.now = at;
    walk.put(Input::Tick).expect("a tick always has a place");
}

pub(crate) fn tick_after(walk: &mut Walk, span: Span) {
    tick_at(walk, walk.now.after(span));
}

fn is_route(effect: &Effect) -> bool {
    matches!(effect, Effect::Route { .. })
}

/// Answers what is ordered until nothing is, without letting time pass.
pub(crate) fn settle(walk: &mut Walk) {
    while !walk.orders().is_empty() {
        walk.answer_one(&|_| None);
    }
}

/// Brings a rollout of 2.0 to a share.
pub(crate) fn at_share(percent: u8) -> Walk {
    let mut walk = serving();
    walk.track("2.0");
    settle(&mut walk);
    while walk.service.traffic.share() < Share::percent(percent) {
        pass(&mut walk);
    }
    assert_eq!(walk.service.traffic.share(), Share::percent(percent));
    walk
}

/// Lets the bake time pass with a healthy verdict.
fn pass(walk: &mut Walk) {
    judge(walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("no share is baking: {:?}", walk.service.run);
    };
    tick_at(walk, until);
    settle(walk);
}

fn routes(walk: &Walk, from: usize) -> Vec<Route> {
    let routes = walk.ordered_since(from).into_iter().filter_map(|effect| match effect {
        Effect::Route { route } => Some(route),
        _ => None,
    });
    routes.collect()
}
