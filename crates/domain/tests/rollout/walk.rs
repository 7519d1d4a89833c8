//! Walks a service through its decisions: every order is answered well unless a test says otherwise.

use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, GateControl, GateFacts, Record, Settings, Verdict},
    facts::{
        Busyness, Installation, Loss, Offer, ProbeFacts, RehearsalFacts, RestoreFacts, ResumeFacts, SnapshotFacts,
        Standing,
    },
    failure::Failure,
    rollout::{self, IllegalStep, Input},
    service::Service,
    terms::{Actor, Digest, GateName, InstanceName, OrderId, Reason, Release, ReleaseTag, SnapshotId, Span, Timestamp},
};

/// Answers after which a walk is stuck.
const ANSWERS_MAX: usize = 500;

pub(crate) fn instance(name: &str) -> InstanceName {
    InstanceName::new(name).expect("a valid name")
}

pub(crate) fn tag(text: &str) -> ReleaseTag {
    ReleaseTag::new(text).expect("a valid tag")
}

pub(crate) fn gate(name: &str) -> GateName {
    GateName::new(name).expect("a valid name")
}

pub(crate) fn reason(text: &str) -> Reason {
    Reason::new(text).expect("a valid reason")
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(crate) fn failure(code: &str) -> Failure {
    Failure::new(code, "it did not work", None)
}

pub(crate) fn failed() -> Answer {
    Answer::Failed { failure: failure("test-failed") }
}

pub(crate) fn hindered() -> Answer {
    Answer::Hindered { failure: failure("test-hindered") }
}

pub(crate) fn settings(instances: &[&str]) -> Settings {
    Settings {
        instances: instances.iter().map(|name| instance(name)).collect(),
        canary: None,
        rehearse_on: None,
        wave_size: 2,
        soak: Span::ZERO,
        loss_rows_max: 100,
        loss_files_max: 10,
        loss_age_max: Span::minutes(60),
        watch: Span::minutes(120),
        stale_after: Span::minutes(600),
        back_when_broken: true,
        broken_percent: 20,
        degraded_percent: 50,
        outcomes_min: 10,
        traffic: None,
        policy: lastgood_domain::provenance::Policy::default(),
        gates: Vec::new(),
        rca: lastgood_domain::operations::rca::Rca::Off,
        expects: None,
    }
}

/// One service under decision.
#[derive(Clone)]
pub(crate) struct Walk {
    pub(crate) service: Service,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) records: Vec<Record>,
    pub(crate) newest: &'static str,
    /// What the channel says of the bytes of each.
    pub(crate) mark: Option<&'static str>,
    /// What the channel offers besides, newest first.
    pub(crate) older: Vec<&'static str>,
}

impl Walk {
    pub(crate) fn new(instances: &[&str]) -> Self {
        Self {
            service: Service::default(),
            settings: settings(instances),
            now: Timestamp(1_000_000),
            records: Vec::new(),
            newest: "1.0",
            mark: None,
            older: Vec::new(),
        }
    }

    /// A service that has these releases behind it, the last one being last-good everywhere.
    pub(crate) fn promoted(instances: &[&str], releases: &[&'static str]) -> Self {
        let mut walk = Self::new(instances);
        for release in releases {
            walk.newest = release;
            walk.begin(Aim::Track);
            assert_eq!(walk.end(), End::Promoted, "{release}");
        }
        walk
    }

    pub(crate) fn put(&mut self, input: Input) -> Result<Vec<Record>, IllegalStep> {
        let by = Actor::new("person:test").expect("a valid actor");
        let said = rollout::step(&self.service, input, &by, self.now)?;
        for record in &said {
            self.service.apply(record);
        }
        self.records.extend(said.clone());
        self.now = self.now.after(Span::seconds(1));
        Ok(said)
    }

    pub(crate) fn say(&mut self, event: Event) {
        self.put(Input::Say(event)).expect("a person's word always has a place");
    }

    pub(crate) fn begin(&mut self, aim: Aim) {
        let settings = self.settings.clone();
        self.put(Input::Begin { aim, settings, frozen: None, preflight: None }).expect("the run begins");
    }

    pub(crate) fn track(&mut self, release: &'static str) {
        self.newest = release;
        self.begin(Aim::Track);
    }

    pub(crate) fn back(&self, only: &[&str], accept: &[&str]) -> Aim {
        let names = |list: &[&str]| list.iter().map(|name| instance(name)).collect();
        Aim::Back { to: None, instances: names(only), accept_loss: names(accept), reason: "asked".into() }
    }

    pub(crate) fn orders(&self) -> Vec<(OrderId, Effect)> {
        let orders = self.service.run.iter().flat_map(|run| run.orders.iter());
        orders.filter(|(_, effect)| !effect.is_housekeeping()).map(|(id, effect)| (*id, effect.clone())).collect()
    }

    /// Answers the oldest order: as `special` says, else well.
    pub(crate) fn answer_one(&mut self, special: &dyn Fn(&Effect) -> Option<Answer>) -> bool {
        let Some((order, effect)) = self.orders().into_iter().next() else {
            let Some(wakes) = rollout::wakes_at(&self.service, self.now) else { return false };
            self.now = wakes;
            self.put(Input::Tick).expect("a tick always has a place");
            return true;
        };
        let answer = special(&effect).unwrap_or_else(|| self.well(&effect));
        self.put(Input::Answer { order, answer }).expect("the order is outstanding");
        true
    }

    /// Answers until an order like this is outstanding; gives its id.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Effect) -> bool) -> OrderId {
        for _ in 0..ANSWERS_MAX {
            if let Some((order, _)) = self.orders().into_iter().find(|(_, effect)| wanted(effect)) {
                return order;
            }
            assert!(self.answer_one(&|_| None), "the run ended before: {:?}", self.service.last_end);
        }
        panic!("the awaited order never came");
    }

    pub(crate) fn end(&mut self) -> End {
        self.end_with(&|_| None)
    }

    /// Answers to the end of the run.
    pub(crate) fn end_with(&mut self, special: &dyn Fn(&Effect) -> Option<Answer>) -> End {
        for _ in 0..ANSWERS_MAX {
            let Some((_, _, end)) = &self.service.last_end else {
                assert!(self.answer_one(special), "nothing is awaited");
                continue;
            };
            if self.service.run.is_none() {
                return end.clone();
            }
            assert!(self.answer_one(special), "nothing is awaited");
        }
        panic!("the run never ended");
    }

    pub(crate) fn runs(&self, name: &str) -> String {
        let release = self.service.instances.get(&instance(name)).and_then(|one| one.release);
        self.service.name_of(release.as_ref())
    }

    pub(crate) fn last_good(&self) -> String {
        self.service.name_of(self.service.last_good.as_ref())
    }

    /// Lists what was ordered since the record with this number.
    pub(crate) fn ordered_since(&self, from: usize) -> Vec<Effect> {
        let records = self.records[from..].iter();
        records
            .filter_map(|record| match &record.event {
                Event::Ordered { effect, .. } => Some(effect.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn offer(&self, release: &str) -> Offer {
        Offer { tag: tag(release), origin: "dir:x".into(), mark: self.mark.map(Into::into), published: None }
    }

    pub(crate) fn well(&self, effect: &Effect) -> Answer {
        match effect {
            Effect::Check { tag, except } => {
                let mut offered = [self.newest].into_iter().chain(self.older.iter().copied());
                let asked = match tag {
                    Some(tag) => Some(tag.as_str()),
                    None => offered.find(|offered| !except.iter().any(|one| one.as_str() == *offered)),
                };
                let Some(release) = asked else { return Answer::NothingElse };
                let good = self.service.last_good.map(|good| self.service.name_of(Some(&good)));
                let standing = good.map(|good| match release.cmp(good.as_str()) {
                    std::cmp::Ordering::Less => Standing::Older,
                    std::cmp::Ordering::Equal => Standing::Same,
                    std::cmp::Ordering::Greater => Standing::Newer,
                });
                Answer::Offered { offer: self.offer(release), standing, foreign: None }
            }
            Effect::Install { offer } => {
                Answer::Installed { installation: installation(offer.tag.as_str()), provenance: None }
            }
            Effect::Verify { .. } => Answer::Verified,
            Effect::AskGate { .. } => Answer::GateAsked { facts: gate_facts(Verdict::Pass, None) },
            Effect::Snapshot { snapshot, .. } | Effect::SnapshotStopped { snapshot, .. } => {
                Answer::Snapshotted { facts: snapshot_facts(*snapshot, 10, 10) }
            }
            Effect::Rehearse { .. } => Answer::RehearsalPassed { facts: rehearsal_facts() },
            Effect::LayReady { .. } => Answer::LaidReady { bytes: 0 },
            Effect::Route { .. } => Answer::Routed { took: Span(3) },
            Effect::TryResume { .. } => Answer::ResumePassed { facts: ResumeFacts::default() },
            Effect::TurnOn { flags, .. } => Answer::FlagsOn { on: flags.clone(), were_on: Vec::new() },
            Effect::TurnOff { flags, .. } => Answer::FlagsOff { off: flags.clone(), kept: Vec::new() },
            Effect::Trip { switches, .. } => Answer::Tripped { switches: switches.clone() },
            Effect::ClearRehearsal | Effect::Prune { .. } => Answer::Cleared,
            Effect::AskBusy { .. } => Answer::BusyAsked { busyness: Busyness::Idle },
            Effect::Stop { .. } => Answer::Stopped,
            Effect::Start { .. } => Answer::Started { pid: 7, setup: None, unit: Vec::new() },
            Effect::Probe { .. } => Answer::ProbePassed { facts: ProbeFacts::default() },
            Effect::Measure { .. } => Answer::Measured { loss: Loss::default() },
            Effect::Restore { snapshot, .. } => Answer::Restored { facts: restored_facts(*snapshot) },
        }
    }
}

fn restored_facts(snapshot: SnapshotId) -> RestoreFacts {
    RestoreFacts { snapshot, aside: None, bytes: 1, took: Span(1), earlier: Vec::new() }
}

/// What a gate says, and says of last-good.
pub(crate) fn gate_facts(verdict: Verdict, control: Option<Verdict>) -> GateFacts {
    let because = |verdict| format!("it says {verdict:?}");
    let control = control.map(|verdict| GateControl { verdict, because: because(verdict) });
    GateFacts { verdict, because: because(verdict), control, took: Span(7) }
}

pub(crate) fn installation(release: &str) -> Installation {
    Installation {
        release: Release { tag: tag(release), digest: digest(release), origin: "dir:x".into() },
        version: release.into(),
        path: format!("/releases/{release}"),
        tree: digest("tree"),
        bytes: 10,
    }
}

pub(crate) fn snapshot_facts(id: SnapshotId, bytes: u64, rows: u64) -> SnapshotFacts {
    SnapshotFacts {
        id,
        taken: Timestamp(1_000),
        bytes,
        files: 1,
        rows,
        schema: digest("schema"),
        manifest: digest("manifest"),
        took: Span(5),
    }
}

pub(crate) fn rehearsal_facts() -> RehearsalFacts {
    RehearsalFacts {
        probe: ProbeFacts::default(),
        schema: digest("schema"),
        ready_after: Span(5),
        took: Span(50),
        bytes: 10,
        fence: "namespaces".into(),
    }
}

/// A rehearsal whose way back fails, so that only the data leads back.
pub(crate) fn breaking(effect: &Effect) -> Option<Answer> {
    use lastgood_domain::effect::Leg;
    matches!(effect, Effect::Rehearse { leg: Leg::WayBack, .. })
        .then(|| Answer::RehearsalFailed { failure: failure("cannot-read") })
}
