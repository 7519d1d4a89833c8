//! What does the steps of a plan in these worlds: services go back on their machines, commands are pretended.

use super::{outside::Ending, world::World};
use lastgood_domain::{
    event::{Aim, End, Event},
    failure::Failure,
    operations::incident::plan::{Act, Outcome, Planned, Step, Turn},
    service::Service,
    terms::{Digest, IncidentId, InstanceName, ReleaseTag, ServiceName, Span},
};
use lastgood_engine::{
    config::Config,
    incident::{Asked, Before, Doer, Door, Hands, Logs, Performer, ProbeStep},
};
use std::cell::RefCell;

/// Turns after which a way back is given up.
const TURNS_MAX: u32 = 200;

impl Logs for World {
    fn service(&self, name: &ServiceName) -> Result<Service, Failure> {
        Ok(Self::service(self, name))
    }
}

fn failure(code: &str, what: &str) -> Failure {
    Failure::new(code, what.to_owned(), None)
}

/// The hands of one run over a plan.
pub(crate) struct Pretended<'w> {
    pub(crate) world: &'w World,
    pub(crate) id: IncidentId,
    pub(crate) hash: Digest,
    /// The step that is done just now.
    pub(crate) step: RefCell<String>,
}

impl Hands for Pretended<'_> {
    fn roll_back(
        &self,
        service: &ServiceName,
        to: &ReleaseTag,
        _: &[String],
        reason: &str,
        _: Span,
    ) -> Result<String, Failure> {
        self.was_met();
        let aim = Aim::Back {
            to: Some(to.clone()),
            instances: Vec::new(),
            accept_loss: Vec::new(),
            reason: reason.to_owned(),
        };
        self.world.take_back(service, aim);
        for _ in 0..TURNS_MAX {
            if !self.world.runs(service) || self.world.point() {
                break;
            }
            self.world.turn(service);
            self.world.race();
        }
        match self.world.service(service).last_end {
            Some((_, _, End::RolledBack { .. } | End::UpToDate)) => Ok("it says that it is back".into()),
            _ => Err(failure("rollback-not-done", "it is not back")),
        }
    }

    fn way_back(&self, _: &ServiceName, _: &ReleaseTag, _: &[String]) -> Result<String, Failure> {
        self.needed()
    }

    fn preserve(&self, _: IncidentId) -> Result<String, Failure> {
        self.was_met();
        self.answer("preserve")
    }

    fn room(&self) -> Result<String, Failure> {
        self.needed()
    }

    fn annotate(&self, incident: IncidentId, services: &[ServiceName]) -> Result<String, Failure> {
        for name in services {
            if self.world.service(name).incidents.contains(&incident) {
                continue;
            }
            if self.world.point() {
                return Err(failure("killed", "killed"));
            }
            let person = super::setting::actor("alice").ok_or_else(|| failure("nobody", "nobody is there"))?;
            self.world.at(name, |post| post.say(&person, Event::Annotated { incident }));
        }
        Ok("every chain names it".into())
    }

    fn start_again(&self, _: &ServiceName, _: &InstanceName, _: Span) -> Result<(), Failure> {
        self.answer("start again").map(drop)
    }

    fn verify_evidence(&self) -> Result<String, Failure> {
        self.answer("evidence")
    }

    fn cut_over(&self) -> Result<String, Failure> {
        self.answer("cut-over")
    }

    fn credential(&self, _: IncidentId, _: &str, _: Turn) -> Result<String, Failure> {
        self.answer("credential")
    }

    fn probe(&self, _: &Config, steps: &[ProbeStep], _: Door, _: Span) -> Result<String, Failure> {
        match steps.first().map(ProbeStep::name) {
            Some("do") => self.deed(),
            Some("need") => self.needed(),
            Some("see") => self.seen(),
            _ => self.answer("question"),
        }
    }
}

impl Pretended<'_> {
    /// Something that is the same when it is done twice.
    fn answer(&self, what: &str) -> Result<String, Failure> {
        self.world.race();
        self.world.pass(Span::seconds(1 + self.world.below(90)));
        match self.world.ending() {
            Ending::Passes => Ok(format!("{what} passed")),
            Ending::Fails | Ending::FailsAfterwards => Err(failure("probe-failed", what)),
            Ending::Hangs => Err(failure("probe-timeout", what)),
        }
    }

    fn key(&self) -> (IncidentId, Digest, String) {
        (self.id, self.hash, self.step.borrow().clone())
    }

    /// Answers whether what a step needs is so, and remembers what was said.
    fn needed(&self) -> Result<String, Failure> {
        let answer = self.answer("need");
        self.world.outside.borrow_mut().needs.insert(self.key(), answer.is_ok());
        answer
    }

    /// Nothing that needs something is tried before that was so, and stands in the log.
    fn was_met(&self) {
        let key = self.key();
        let said_no = self.world.outside.borrow().needs.get(&key) == Some(&false);
        if said_no || !self.world.checks.borrow().met.contains(&key) {
            self.world.violated(format!("{} is tried, and what it needs was not seen to be so", key.2));
        }
    }

    /// Does what must not be done twice without somebody's word.
    fn deed(&self) -> Result<String, Failure> {
        let step = self.step.borrow().clone();
        let key = (self.id, self.hash, step.clone());
        let repeatable = step == "command/clear-cache";
        if ["command/refund", "command/rebuild-totals"].contains(&step.as_str()) {
            self.was_met();
        }
        {
            let mut outside = self.world.outside.borrow_mut();
            let deed = outside.deeds.entry(key.clone()).or_default();
            let twice = deed.begun > 0 && deed.is_so && !repeatable;
            deed.begun += 1;
            drop(outside);
            if twice {
                self.world.violated(format!("{step} is done twice without anybody's word"));
            }
        }
        if !self.world.checks.borrow().begun.contains(&key) {
            self.world.violated(format!("{step} is done and was not begun in the log"));
        }
        self.world.race();
        self.world.pass(Span::seconds(1 + self.world.below(600)));
        let ending = self.world.ending();
        let does = match ending {
            Ending::Passes | Ending::FailsAfterwards => true,
            Ending::Fails => false,
            Ending::Hangs => self.world.often(500),
        };
        // Where somebody planned anew meanwhile, it is that plan's step of this name that was cut off.
        let planned =
            self.world.state().incidents.all.get(&self.id).and_then(|found| Some(found.planned.as_ref()?.hash));
        let mut outside = self.world.outside.borrow_mut();
        let moved = planned.map(|hash| (self.id, hash, step)).filter(|moved| outside.deeds.contains_key(moved));
        let deed = outside.deeds.entry(moved.unwrap_or(key)).or_default();
        deed.is_so |= does;
        match ending {
            Ending::Passes => Ok("done".into()),
            Ending::Hangs => Err(failure("probe-timeout", "it does not end")),
            Ending::Fails | Ending::FailsAfterwards => Err(failure("probe-failed", "it failed")),
        }
    }

    /// Asks whether it is so.
    fn seen(&self) -> Result<String, Failure> {
        let key = (self.id, self.hash, self.step.borrow().clone());
        let is_so = self.world.outside.borrow().deeds.get(&key).is_some_and(|deed| deed.is_so);
        match (self.world.ending(), is_so) {
            (Ending::Hangs | Ending::FailsAfterwards, _) => Err(failure("probe-timeout", "nobody can tell")),
            (_, true) => Ok("it is so".into()),
            (_, false) => Err(failure("probe-failed", "it is not so")),
        }
    }
}

/// Does steps as the engine's performer does, and may be killed between any two of them.
pub(crate) struct Doing<'w> {
    pub(crate) hands: &'w Pretended<'w>,
    pub(crate) performer: Performer<'w>,
}

impl Doer for Doing<'_> {
    fn config(&self) -> &Config {
        self.performer.config
    }

    fn incident(&self) -> IncidentId {
        self.performer.incident
    }

    fn ask(&self, step: &Step, before: Before) -> Asked {
        self.hands.step.replace(step.id.clone());
        // Whoever is dead asks nobody; nothing of it is written.
        if self.hands.world.point() {
            return Asked::CannotTell("killed".into());
        }
        self.performer.ask(step, before)
    }

    fn precondition(&self, step: &Step, planned: &Planned) -> Result<String, Failure> {
        self.hands.step.replace(step.id.clone());
        if self.hands.world.point() {
            return Err(failure("killed", "killed"));
        }
        self.performer.precondition(step, planned)
    }

    fn perform(&self, step: &Step) -> Outcome {
        self.hands.step.replace(step.id.clone());
        let killed = || Outcome::Failed { why: "killed".into() };
        if self.hands.world.point() {
            return killed();
        }
        let outcome = match &step.act {
            // Files and units are not pretended.
            Act::PutBack { .. } if !self.performer.drill => match self.hands.answer("put back") {
                Ok(evidence) => Outcome::Done { evidence, output: None },
                Err(failure) => Outcome::Failed { why: failure.to_string() },
            },
            _ => self.performer.perform(step),
        };
        // Done, and nobody hears of it.
        if self.hands.world.point() { killed() } else { outcome }
    }
}
