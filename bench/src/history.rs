//! A long log of real kinds of records: the engine's own loop over a world that answers everything at once.

use crate::notebook::{Notebooks, said};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Record},
    facts::{
        Busyness, Installation, Loss, Offer, ProbeFacts, RehearsalFacts, RestoreFacts, ResumeFacts, SnapshotFacts,
        Standing,
    },
    service::Service,
    terms::{Actor, Digest, OrderId, Release, ReleaseTag, ServiceName, Span, Timestamp},
};
use lastgood_engine::{
    config::Config,
    drive::{Driver, Happening, Log, LogError, World},
    fold::Folded,
    log::{canonical, chain_of},
};
use lastgood_store::{NewRecord, Store};
use std::time::{SystemTime, UNIX_EPOCH};

/// Records of one commit: fewer would measure the disk.
const BATCH: usize = 5_000;
/// One release a day.
const DAY: Span = Span::minutes(24 * 60);
/// How long everything takes that is done.
const STEP: Span = Span(40);

/// Lets the service follow one release a day, all of them good, until its chain has `records` at least.
///
/// The instances themselves go on running what they ran: only the log tells of it. Gives the number of records.
pub(crate) fn write(notebooks: &Notebooks, records: u64) -> Result<u64, String> {
    let config = said(Config::read(&notebooks.folder.join("lastgood.toml")))?;
    let name = said(ServiceName::new("notebook"))?;
    let settings = config.service.get(&name).ok_or("no service")?.settings();
    let store = said(Store::open(&notebooks.folder.join("state")))?;
    let folded = said(Folded::read(&store, &name))?;
    let log = Paper { store, name, unwritten: Vec::new() };
    let now = said(SystemTime::now().duration_since(UNIX_EPOCH))?.as_millis();
    let world = Yes { now: Timestamp(said(i64::try_from(now))?), day: 0, answers: Vec::new() };
    let by = said(Actor::new("lastgood:schedule"))?;
    let mut driver = said(Driver::open(log, folded.service, world, settings, by.clone()))?;
    while driver.service().records < records {
        driver.world.day += 1;
        driver.world.now = driver.world.now.after(DAY);
        said(driver.begin(Aim::Track, None, None, &by))?;
        match said(driver.run_to_end())? {
            Some(End::Promoted) => {}
            other => return Err(format!("day {} ended in {other:?}", driver.world.day)),
        }
    }
    said(driver.keep())?;
    Ok(driver.service().records)
}

/// A chain that is written in large commits.
struct Paper {
    store: Store,
    name: ServiceName,
    unwritten: Vec<NewRecord>,
}

impl Paper {
    fn write(&mut self) -> Result<(), LogError> {
        let chain = chain_of(&self.name);
        let head = self.store.head(&chain).map_err(|error| LogError::of(&error))?;
        self.store.append(&chain, &head, &self.unwritten, &[]).map_err(|error| LogError::of(&error))?;
        self.unwritten.clear();
        Ok(())
    }
}

impl Log for Paper {
    fn news(&mut self) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    fn append(&mut self, _: &Service, records: &[Record]) -> Result<(), LogError> {
        self.unwritten.extend(records.iter().map(|one| NewRecord { at: one.at, bytes: canonical(one) }));
        if self.unwritten.len() < BATCH { Ok(()) } else { self.write() }
    }

    /// Writes the rest; the state is left for the program itself to keep.
    fn keep(&mut self, _: &Service) -> Result<(), LogError> {
        self.write()
    }
}

/// A world in which all goes well.
struct Yes {
    now: Timestamp,
    day: u64,
    answers: Vec<Happening>,
}

impl Yes {
    fn offer(&self) -> Option<Offer> {
        let tag = ReleaseTag::new(&format!("2.0.{}", self.day)).ok()?;
        Some(Offer { tag, origin: "releases".into(), mark: None, published: Some(self.now) })
    }

    fn answer(&self, effect: &Effect) -> Option<Answer> {
        let schema = Digest::of(b"schema");
        let probe = ProbeFacts { requests: 2, took: STEP, ..ProbeFacts::default() };
        Some(match effect {
            Effect::Check { .. } => {
                Answer::Offered { offer: self.offer()?, standing: Some(Standing::Newer), foreign: None }
            }
            Effect::Install { offer } => {
                let digest = Digest::of(offer.tag.as_str().as_bytes());
                let installation = Installation {
                    release: Release { tag: offer.tag.clone(), digest, origin: offer.origin.clone() },
                    version: offer.tag.to_string(),
                    path: format!("/var/lib/lastgood/install/notebook/{}", digest.short()),
                    tree: digest,
                    bytes: 4_000_000,
                };
                Answer::Installed { installation, provenance: None }
            }
            // No gate is required of this history.
            Effect::Verify { .. } | Effect::AskGate { .. } => Answer::Verified,
            Effect::Snapshot { snapshot, .. } | Effect::SnapshotStopped { snapshot, .. } => {
                let facts = SnapshotFacts {
                    id: *snapshot,
                    taken: self.now,
                    bytes: 1_048_576,
                    files: 2,
                    rows: 4_351,
                    schema,
                    manifest: Digest::of(&snapshot.0.to_le_bytes()),
                    took: STEP,
                };
                Answer::Snapshotted { facts }
            }
            Effect::Rehearse { .. } => {
                let facts = RehearsalFacts {
                    probe,
                    schema,
                    ready_after: STEP,
                    took: STEP,
                    bytes: 1_048_576,
                    fence: "namespaces".into(),
                };
                Answer::RehearsalPassed { facts }
            }
            Effect::AskBusy { .. } => Answer::BusyAsked { busyness: Busyness::Idle },
            Effect::Stop { .. } => Answer::Stopped,
            Effect::Start { .. } => Answer::Started { pid: 4_711, setup: None, unit: Vec::new() },
            Effect::Probe { .. } => Answer::ProbePassed { facts: probe },
            Effect::Measure { .. } => Answer::Measured { loss: Loss::default() },
            Effect::Restore { snapshot, .. } => Answer::Restored {
                facts: RestoreFacts { snapshot: *snapshot, aside: None, earlier: Vec::new(), bytes: 0, took: STEP },
            },
            Effect::Route { .. } => Answer::Routed { took: Span(2) },
            Effect::TryResume { .. } => Answer::ResumePassed { facts: ResumeFacts::default() },
            Effect::TurnOn { flags, .. } => Answer::FlagsOn { on: flags.clone(), were_on: Vec::new() },
            Effect::TurnOff { flags, .. } => Answer::FlagsOff { off: flags.clone(), kept: Vec::new() },
            Effect::Trip { switches, .. } => Answer::Tripped { switches: switches.clone() },
            Effect::ClearRehearsal | Effect::LayReady { .. } | Effect::Prune { .. } => Answer::Cleared,
        })
    }
}

impl World for Yes {
    fn perform(&mut self, _: &Service, order: OrderId, effect: &Effect) {
        self.answers.extend(self.answer(effect).map(|answer| Happening::Answered { order, answer }));
    }

    fn held(&self, _: &Service) -> Option<String> {
        None
    }

    fn happenings(&mut self, until: Option<Timestamp>) -> Vec<Happening> {
        self.now = self.now.after(STEP);
        if self.answers.is_empty() {
            self.now = self.now.max(until.unwrap_or(self.now));
        }
        std::mem::take(&mut self.answers)
    }

    fn is_busy(&self) -> bool {
        !self.answers.is_empty()
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}
