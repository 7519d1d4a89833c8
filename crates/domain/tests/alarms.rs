//! Alarms of a service that is really driven: the step function says what happens, the fold says what is wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    alarm::alarms,
    effect::{Answer, Effect},
    event::{Aim, End, Event, Settings},
    facts::{Busyness, Installation, Loss, Offer, ProbeFacts, RehearsalFacts, RestoreFacts, SnapshotFacts, Standing},
    failure::Failure,
    notice::NoticeKind,
    rollout::{Input, step},
    service::Service,
    terms::{Actor, Digest, InstanceName, Reason, Release, ReleaseTag, ServiceName, Span, Timestamp},
};

/// Most steps of one run here; a run of one instance takes about thirty.
const STEPS_MAX: usize = 200;

fn digest(tag: &str) -> Digest {
    Digest::of(tag.as_bytes())
}

/// A world with one instance, in which a release named `bad` does not answer its probes once it is live.
struct World {
    service: Service,
    now: Timestamp,
    offered: &'static str,
}

impl World {
    fn put(&mut self, input: Input) {
        let by = Actor::new("lastgood:run").unwrap();
        for record in step(&self.service, input, &by, self.now).unwrap() {
            self.service.apply(&record);
        }
    }

    fn run(&mut self, offered: &'static str) -> End {
        self.offered = offered;
        let settings = Settings {
            instances: vec![InstanceName::new("one").unwrap()],
            canary: None,
            rehearse_on: None,
            wave_size: 1,
            soak: Span::ZERO,
            loss_rows_max: 100,
            loss_files_max: 100,
            loss_age_max: Span::minutes(60),
            watch: Span::minutes(60),
            stale_after: Span::minutes(60),
            back_when_broken: true,
            broken_percent: 5,
            degraded_percent: 20,
            outcomes_min: 10,
            traffic: None,
            policy: lastgood_domain::provenance::Policy::default(),
            gates: Vec::new(),
            rca: lastgood_domain::operations::rca::Rca::Off,
            expects: None,
        };
        self.put(Input::Begin { aim: Aim::Track, settings, frozen: None, preflight: None });
        for _ in 0..STEPS_MAX {
            let Some(run) = &self.service.run else {
                return self.service.last_end.clone().unwrap().2;
            };
            self.now = self.now.after(Span::seconds(1));
            let next = run.orders.iter().next().map(|(order, effect)| (*order, self.answer(effect)));
            match next {
                Some((order, answer)) => self.put(Input::Answer { order, answer }),
                None => self.put(Input::Tick),
            }
        }
        panic!("the run does not end: {:?}", self.service.run);
    }

    fn answer(&self, effect: &Effect) -> Answer {
        let tag = ReleaseTag::new(self.offered).unwrap();
        let probe = ProbeFacts::default();
        let snapshot = |id| SnapshotFacts {
            id,
            taken: self.now,
            bytes: 1,
            files: 1,
            rows: 1,
            schema: digest("schema"),
            manifest: digest("manifest"),
            took: Span::ZERO,
        };
        match effect {
            Effect::Check { .. } => {
                let offer = Offer { tag, origin: "dir:web".into(), mark: None, published: None };
                let standing = self.service.last_good.map(|_| Standing::Newer);
                Answer::Offered { offer, standing, foreign: None }
            }
            Effect::Install { .. } => Answer::Installed {
                installation: Installation {
                    release: Release { tag, digest: digest(self.offered), origin: "dir:web".into() },
                    version: self.offered.into(),
                    path: "/srv/web".into(),
                    tree: digest("tree"),
                    bytes: 1,
                },
                provenance: None,
            },
            Effect::Verify { .. } => Answer::Verified,
            Effect::AskGate { .. } => panic!("no gate is required"),
            Effect::Snapshot { snapshot: id, .. } | Effect::SnapshotStopped { snapshot: id, .. } => {
                Answer::Snapshotted { facts: snapshot(*id) }
            }
            Effect::Rehearse { .. } => Answer::RehearsalPassed {
                facts: RehearsalFacts {
                    probe,
                    schema: digest("schema"),
                    ready_after: Span::ZERO,
                    took: Span::ZERO,
                    bytes: 1,
                    fence: "paths".into(),
                },
            },
            Effect::Route { .. } => Answer::Routed { took: Span(1) },
            Effect::TryResume { .. } => Answer::ResumePassed { facts: Default::default() },
            Effect::TurnOn { flags, .. } => Answer::FlagsOn { on: flags.clone(), were_on: Vec::new() },
            Effect::TurnOff { flags, .. } => Answer::FlagsOff { off: flags.clone(), kept: Vec::new() },
            Effect::Trip { switches, .. } => Answer::Tripped { switches: switches.clone() },
            Effect::LayReady { .. } => Answer::LaidReady { bytes: 0 },
            Effect::ClearRehearsal | Effect::Prune { .. } => Answer::Cleared,
            Effect::AskBusy { .. } => Answer::BusyAsked { busyness: Busyness::Idle },
            Effect::Stop { .. } => Answer::Stopped,
            Effect::Start { .. } => Answer::Started { pid: 1, setup: None, unit: Vec::new() },
            Effect::Probe { release, .. } if *release == digest("bad") => {
                Answer::Failed { failure: Failure::new("probe-failed", "GET / answered 500", None) }
            }
            Effect::Probe { .. } => Answer::ProbePassed { facts: probe },
            Effect::Measure { .. } => Answer::Measured { loss: Loss::default() },
            Effect::Restore { snapshot, .. } => Answer::Restored {
                facts: RestoreFacts {
                    snapshot: *snapshot,
                    aside: None,
                    bytes: 1,
                    took: Span::ZERO,
                    earlier: Vec::new(),
                },
            },
        }
    }

    fn wrong(&self) -> Vec<NoticeKind> {
        let name = ServiceName::new("web").unwrap();
        alarms(&name, &self.service, self.now).into_iter().map(|alarm| alarm.kind).collect()
    }
}

#[test]
fn a_release_that_fails_live_raises_the_alarm_until_someone_lifts_the_hold_it_left() {
    let mut world = World { service: Service::default(), now: Timestamp(1_000_000), offered: "good" };
    assert_eq!(world.run("good"), End::Promoted);
    assert_eq!(world.wrong(), []);

    let end = world.run("bad");
    assert!(matches!(end, End::RolledBack { .. }), "{end:?}");
    assert_eq!(world.wrong(), [NoticeKind::RolledBack, NoticeKind::Frozen]);

    let end = world.run("better");
    assert!(matches!(end, End::Held { .. }), "{end:?}");
    assert_eq!(world.wrong(), [NoticeKind::RolledBack, NoticeKind::Frozen]);

    let found = |world: &World| world.service.last_verdict.clone().unwrap().1;
    assert!(matches!(found(&world), End::RolledBack { .. }), "a run that is held finds nothing out");

    let hold = *world.service.holds.keys().next().unwrap();
    world.put(Input::Say(Event::HoldLifted { hold, reason: Reason::new("understood").unwrap() }));
    assert_eq!(world.wrong(), []);
    assert_eq!(world.run("better"), End::Promoted);
    assert_eq!(world.wrong(), []);
    assert_eq!(found(&world), End::Promoted);
}
