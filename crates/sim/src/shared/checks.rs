//! The promises of shared traffic, checked on the records alone, apart from the code that decides.

mod routing;

use crate::machine::Machine;
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, Cause, Event, Settings, Verdict, WayBack},
    terms::{Digest, GateName, InstanceName, Span, Timestamp},
    traffic::{Route, Share, TrafficEvent, TrafficSettings},
};
use std::collections::{BTreeMap, BTreeSet};

/// Tries after which an instance that can't be started keeps nobody from going back.
const TRIES: u32 = 3;

/// A share above this needs the proof that sessions can be resumed.
const PROVEN_ABOVE: Share = Share::percent(25);

/// Longest time from a deadline until the last tunnel is closed and somebody looks.
const CLOSED_AFTER: Span = Span::seconds(25);

/// Longest time from asking a gate to the share: what the slowest of these worlds takes to answer, and its crashes.
const YES_LASTS: Span = Span::minutes(2);

/// What is known besides, at a record.
pub(crate) struct Around<'a> {
    pub(crate) at: Timestamp,
    pub(crate) held: bool,
    pub(crate) rejected: &'a BTreeSet<Digest>,
    pub(crate) machine: &'a Machine,
}

/// What an instance runs, as far as records say.
#[derive(Debug)]
struct Runs {
    release: Digest,
    started: bool,
    probed: bool,
    dead: bool,
}

/// A share that is watched.
#[derive(Debug)]
struct Stage {
    share: Share,
    until: Timestamp,
    began: i64,
    /// What the guard said last, and how many drivers had died by then.
    said: Option<(Verdict, u32)>,
}

/// A way back under way.
#[derive(Debug)]
struct Back {
    left: Digest,
    to: Option<Digest>,
    /// Who must be up first: failed tries, and whether it is.
    raise: BTreeMap<InstanceName, (u32, bool)>,
    /// Until when they are waited for; for nobody where people are at some of them already.
    waits: Option<(Timestamp, Timestamp)>,
}

/// What a required gate came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    /// It fails the candidate, and not last-good.
    No,
    Nothing,
}

/// What the records say of shared traffic so far.
#[derive(Debug, Default)]
pub(crate) struct Shifts {
    traffic: Option<TrafficSettings>,
    aim: Option<Aim>,
    ways: BTreeMap<Digest, WayBack>,
    moving: Option<Digest>,
    /// Releases that people were ever sent to.
    sent: BTreeSet<Digest>,
    runs: BTreeMap<InstanceName, Runs>,
    /// Instances that this run has started on the candidate.
    started: BTreeSet<InstanceName>,
    route: Option<Route>,
    confirmed: bool,
    stage: Option<Stage>,
    resumed: bool,
    /// The gates that each share needs a yes of.
    required: Vec<GateName>,
    /// What each said of the release that moves since the share before: when it was asked, and the answer.
    gates: BTreeMap<GateName, (Timestamp, Option<Said>)>,
    back: Option<Back>,
    /// Which instances stay up, and until when.
    warm: Option<(Vec<InstanceName>, Timestamp)>,
    /// Releases that were left and have nothing any more.
    emptied: BTreeSet<Digest>,
}

impl Shifts {
    /// Gives the release that gets a growing share.
    pub(crate) fn candidate(&self) -> Option<Digest> {
        self.moving
    }

    pub(crate) fn run_started(&mut self, aim: &Aim, settings: &Settings) {
        self.traffic.clone_from(&settings.traffic);
        self.required.clone_from(&settings.gates);
        self.gates.clear();
        self.aim = Some(aim.clone());
        (self.moving, self.stage, self.back, self.resumed) = (None, None, None, false);
        self.started.clear();
    }

    pub(crate) fn run_ended(&mut self) {
        (self.moving, self.stage, self.back, self.aim) = (None, None, None, None);
    }

    /// Tells whether a run without an order waits for something that comes.
    pub(crate) fn waits(&self, at: Timestamp, held: bool) -> bool {
        let drains =
            self.route.iter().flat_map(|route| &route.leaving).any(|one| at < one.deadline.after(CLOSED_AFTER));
        self.moving.is_some() && (self.stage.is_some() || held || drains || !self.gates.is_empty())
    }

    fn carries(&self, name: &InstanceName) -> bool {
        let sides = self.route.iter().flat_map(|route| route.last_good.iter().chain(&route.candidate));
        sides.into_iter().any(|side| side.instances.contains(name))
    }

    fn share(&self) -> Share {
        self.route.as_ref().map_or(Share::NONE, |route| route.share)
    }

    fn serving(&self) -> Option<Digest> {
        self.route.as_ref()?.last_good.as_ref().map(|side| side.release)
    }

    pub(crate) fn note(&mut self, event: &Event, around: &Around<'_>, wrong: &mut Vec<String>) {
        match event {
            Event::WayBackProven { release, way_back, .. } => {
                self.ways.insert(*release, *way_back);
            }
            Event::Died { instance, .. } => {
                if let Some(runs) = self.runs.get_mut(instance) {
                    runs.dead = true;
                }
            }
            Event::Revived { instance } => {
                if let Some(runs) = self.runs.get_mut(instance) {
                    (runs.started, runs.dead) = (true, false);
                }
            }
            Event::Promoted { release, .. } => self.promoted(release, around, wrong),
            Event::Traffic(event) => self.traffic(event, around, wrong),
            _ => {}
        }
    }

    fn traffic(&mut self, event: &TrafficEvent, around: &Around<'_>, wrong: &mut Vec<String>) {
        match event {
            TrafficEvent::ShiftBegun { release, instances, .. } => {
                if self.ways.get(release) == Some(&WayBack::Restore) && self.serving().is_some() {
                    wrong.push("a candidate whose data last-good can't read began to move".into());
                }
                if instances.iter().any(|name| self.carries(name)) {
                    wrong.push("the candidate was to be started where people are".into());
                }
                self.moving = Some(*release);
                self.gates.clear();
            }
            TrafficEvent::ShareBegun { share, until } => self.share_begun(*share, *until, around, wrong),
            TrafficEvent::Judged { share, verdict, .. } => self.judged(*share, *verdict, around, wrong),
            TrafficEvent::ReturnBegun { cause, left, to, raise } => {
                if self.refused() != matches!(cause, Cause::Gate { .. }) && self.answered_all() {
                    wrong.push(format!("went back for {cause:?}, and the gates said {:?}", self.gates));
                }
                self.gates.clear();
                // Whoever is known to be down, or runs something else, is brought up before anybody is sent there.
                for (name, runs) in &self.runs {
                    let needs = *to == Some(runs.release) && runs.dead;
                    if needs && !raise.contains(name) {
                        wrong.push(format!("{name} is down and not brought up before people go back to it"));
                    }
                }
                let raise = raise.iter().map(|name| (name.clone(), (0, false))).collect();
                let waits = (self.serving() != *to).then(|| (around.at, around.at.after(Span::seconds(20))));
                self.back = Some(Back { left: *left, to: *to, raise, waits });
                (self.moving, self.stage) = (None, None);
            }
            TrafficEvent::Returned { to } => {
                let there = self.serving();
                if !self.confirmed || there != *to || self.back.is_none() {
                    wrong.push("traffic is called back before the router has confirmed it".into());
                }
                // Who is gone back to is warm no more: it serves.
                self.warm = None;
            }
            TrafficEvent::Emptied { release } => {
                self.emptied.insert(*release);
            }
            TrafficEvent::Degraded { .. }
            | TrafficEvent::DegradedNoMore { .. }
            | TrafficEvent::EntriesStopped { .. }
            | TrafficEvent::EntriesResumed { .. } => {}
        }
    }

    fn share_begun(&mut self, share: Share, until: Timestamp, around: &Around<'_>, wrong: &mut Vec<String>) {
        let bake = self.traffic.iter().flat_map(|traffic| &traffic.steps).find(|step| step.share == share);
        let wanted = bake.map(|step| around.at.after(step.bake));
        if !self.confirmed || self.share() != share {
            wrong.push(format!("{share} began before the router confirmed it"));
        }
        if wanted != Some(until) {
            wrong.push(format!("{share} is not watched for its bake time"));
        }
        let until = wanted.unwrap_or(until);
        // Begun anew because the clock was set back, what is on its way was said of the same share.
        let before = self.stage.as_ref().filter(|stage| stage.share == share).map(|stage| stage.began);
        let began = before.unwrap_or(around.machine.elapsed);
        self.stage = Some(Stage { share, until, began, said: None });
    }

    fn judged(&mut self, share: Share, verdict: Verdict, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Some(stage) = &mut self.stage else { return };
        stage.said = Some((verdict, around.machine.crashes));
        let shared = around.machine.shared.as_ref();
        let healthy = |release: &Digest| shared.is_some_and(|one| one.said_healthy(release, share, stage.began));
        if verdict == Verdict::Pass && !self.moving.as_ref().is_some_and(healthy) {
            wrong.push(format!("{share} is called healthy, which nobody said of it"));
        }
        if share != stage.share {
            wrong.push(format!("a verdict on {share} was taken for one on {}", stage.share));
        }
    }

    fn promoted(&mut self, release: &Digest, around: &Around<'_>, wrong: &mut Vec<String>) {
        let Some(route) = &self.route else { return wrong.push("promoted, and nobody is sent there".into()) };
        let serves = route.last_good.as_ref().is_some_and(|side| side.release == *release);
        if !serves || !self.confirmed || route.candidate.is_some() {
            wrong.push("promoted before the router has confirmed it".into());
        }
        let warm = self.traffic.as_ref().map(|traffic| around.at.after(traffic.warm));
        self.warm = route.leaving.first().map(|one| one.side.instances.clone()).zip(warm);
    }

    pub(crate) fn ordered(&mut self, effect: &Effect, around: &Around<'_>, wrong: &mut Vec<String>) {
        match effect {
            Effect::Start { instance, release } => self.start(instance, release, around, wrong),
            Effect::Stop { instance } => self.stop(instance, around, wrong),
            Effect::AskGate { gate, .. } => {
                if self.back.is_some() {
                    wrong.push(format!("the gate {gate} was asked on a way back"));
                }
                self.gates.insert(gate.clone(), (around.at, None));
            }
            Effect::Route { route } => {
                if self.back.is_some() {
                    self.route_back(route, around.at, wrong);
                } else {
                    self.route_forward(route, around, wrong);
                }
                if let Some(candidate) = &route.candidate {
                    self.emptied.remove(&candidate.release);
                }
                // What was sent somebody until now has something to finish; what was leaving before has not got more.
                let had = self.route.iter().flat_map(|before| before.last_good.iter().chain(&before.candidate));
                let had: Vec<Digest> = had.map(|side| side.release).collect();
                let leaves = |release: &Digest| route.leaving.iter().any(|one| one.side.release == *release);
                self.emptied.retain(|release| !had.contains(release) || !leaves(release));
                let sides = route.last_good.iter().chain(route.candidate.iter().filter(|_| route.share > Share::NONE));
                self.sent.extend(sides.map(|side| side.release));
                (self.route, self.confirmed) = (Some(route.clone()), false);
                self.stage = None;
                self.gates.clear();
            }
            Effect::SnapshotStopped { .. } | Effect::Restore { .. } | Effect::Measure { .. } => {
                wrong.push(format!("{effect:?} was ordered where two releases work on one data"));
            }
            _ => {}
        }
    }

    fn start(&mut self, name: &InstanceName, release: &Digest, around: &Around<'_>, wrong: &mut Vec<String>) {
        let runs = self.runs.get(name);
        if runs.is_some_and(|runs| runs.release != *release) {
            wrong.push(format!("{name} was to start another release without a stop"));
        }
        match &mut self.back {
            Some(back) if back.to != Some(*release) => {
                wrong.push(format!("{name} was to start something that nobody goes back to"));
            }
            // One that died on the way is brought up as well.
            Some(back) => {
                let (_, up) = back.raise.entry(name.clone()).or_default();
                *up = false;
            }
            None => {
                if around.held {
                    wrong.push(format!("a hold stands and {name} was to start"));
                }
                if around.rejected.contains(release) {
                    wrong.push(format!("{name} was to start a rejected release"));
                }
                if self.moving != Some(*release) {
                    wrong.push(format!("{name} was to start without a plan for it"));
                }
                if self.carries(name) {
                    wrong.push(format!("{name} was to start while people are sent to it"));
                }
                // What migrates the data is one process, and it has passed its probe before there is a second.
                let probed = self.started.iter().any(|name| self.runs.get(name).is_some_and(|runs| runs.probed));
                if self.started.iter().any(|other| other != name) && !probed {
                    wrong.push(format!("{name} was to start before the first had passed"));
                }
                self.started.insert(name.clone());
            }
        }
        self.runs.insert(name.clone(), Runs { release: *release, started: false, probed: false, dead: false });
    }

    fn stop(&mut self, name: &InstanceName, around: &Around<'_>, wrong: &mut Vec<String>) {
        if self.carries(name) {
            wrong.push(format!("{name} was to be stopped while people are sent to it"));
        }
        let at = around.at;
        if let Some((instances, until)) = &self.warm
            && instances.contains(name)
            && at < *until
            && self.moving.is_none()
            && self.back.is_none()
        {
            wrong.push(format!("{name} was to be stopped while it is warm"));
        }
        let leaving = self.route.iter().flat_map(|route| &route.leaving);
        // A release that nobody was ever sent to has no tunnels, even where it is named as the one that is left.
        let leaving = leaving.filter(|one| self.sent.contains(&one.side.release));
        for one in leaving.filter(|one| one.side.instances.contains(name) && at < one.deadline) {
            if !self.emptied.contains(&one.side.release) {
                wrong.push(format!("{name} was to be stopped before its tunnels are over"));
            }
        }
        if self.back.is_none() && self.moving.is_some() && around.held {
            wrong.push(format!("a hold stands and {name} was to be stopped"));
        }
    }

    pub(crate) fn answered(&mut self, effect: &Effect, answer: &Answer) {
        match (effect, answer) {
            (Effect::Route { .. }, Answer::Routed { .. }) => self.confirmed = true,
            (Effect::TryResume { .. }, Answer::ResumePassed { .. }) => self.resumed = true,
            (Effect::AskGate { gate, .. }, answer) => {
                let said = match answer {
                    Answer::GateAsked { facts } if facts.verdict == Verdict::Pass => Said::Yes,
                    Answer::GateAsked { facts } if facts.verdict == Verdict::Fail => match &facts.control {
                        Some(control) if control.verdict == Verdict::Fail => Said::Nothing,
                        _ => Said::No,
                    },
                    _ => Said::Nothing,
                };
                if let Some((_, open)) = self.gates.get_mut(gate) {
                    *open = Some(said);
                }
            }
            (Effect::Stop { instance }, Answer::Stopped) => {
                self.runs.remove(instance);
            }
            (Effect::Start { instance, .. }, answer) => {
                let started = matches!(answer, Answer::Started { .. });
                if let Some(runs) = self.runs.get_mut(instance) {
                    (runs.started, runs.dead) = (started, !started);
                }
                if let Some((failed, up)) = self.back.as_mut().and_then(|back| back.raise.get_mut(instance)) {
                    *failed += u32::from(!started);
                    *up = started;
                }
            }
            (Effect::Probe { instance, .. }, Answer::ProbePassed { .. }) => {
                if let Some(runs) = self.runs.get_mut(instance) {
                    runs.probed = runs.started;
                }
            }
            _ => {}
        }
    }
}
