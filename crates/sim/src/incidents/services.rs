//! Services of the world: releases come, runs begin and go back, analyses are written.

use super::{post::Post, world::World};
use crate::play::Put;
use lastgood_domain::{
    event::{Aim, End, Event},
    operations::{
        cap::{self, Risky},
        rca,
    },
    rollout::Input,
    service::{Instance, Service},
    terms::{Actor, Digest, Reason, ReleaseTag, ServiceName, Span},
};
use lastgood_engine::operations::unmirrored;

/// Turns of one run that somebody waits for.
const TURNS_MAX: u32 = 200;

/// Longest time for which nobody drives a run that was begun.
const ALONE_MAX: Span = Span::minutes(150);

/// Tells whether an instance was moved away from a release, and that is not undone.
fn has_left(instance: &Instance, release: Option<Digest>) -> bool {
    instance.history.iter().any(|moved| moved.from == release)
}

/// Gives the tag of what a service goes back to.
pub(crate) fn good_of(service: &Service) -> Option<ReleaseTag> {
    service.last_good.and_then(|good| service.tag(&good).cloned())
}

pub(crate) fn reason(text: &str) -> Reason {
    Reason::new(text).expect("a fixed valid reason")
}

impl World {
    /// Does something with a service, at the world's time.
    pub(crate) fn at<T>(&self, name: &ServiceName, act: impl FnOnce(&mut Post) -> T) -> Option<T> {
        let done = {
            let mut services = self.services.borrow_mut();
            let post = services.get_mut(name)?;
            post.reach(self.elapsed());
            act(post)
        };
        self.clock_from_services();
        self.looks();
        Some(done)
    }

    /// Drives a service's run on by one turn.
    pub(crate) fn turn(&self, name: &ServiceName) {
        // As the daemon's driver looks: a service that was not configured when a hold was set has no part of it.
        let (state, folded) = (self.state(), self.service(name));
        let subject = self.config().service.get(name).map(|service| service.subject());
        let held = subject.and_then(|subject| unmirrored(&state, name, &subject, &folded, self.now()));
        self.at(name, |post| {
            post.play.machine.borrow_mut().weather.held_elsewhere = held;
            post.play.turn();
        });
    }

    fn drive(&self, name: &ServiceName) {
        self.drive_for(name, TURNS_MAX);
    }

    fn drive_for(&self, name: &ServiceName, turns: u32) {
        for _ in 0..turns {
            if !self.runs(name) {
                return;
            }
            self.turn(name);
            self.race();
        }
    }

    /// Tells whether a run of a service is under way.
    pub(crate) fn runs(&self, name: &ServiceName) -> bool {
        self.services.borrow_mut().get_mut(name).is_some_and(|post| post.folded().run.is_some())
    }

    /// Whoever drives goes home in the middle; somebody takes the run up again later.
    fn leave(&self, name: &ServiceName) {
        let until = self.elapsed() + i64::try_from(self.below(ALONE_MAX.0)).unwrap_or(0);
        if let Some(post) = self.services.borrow_mut().get_mut(name) {
            post.alone_until = until;
        }
        self.tell(format!("    {name} is left alone"));
    }

    /// Runs that were left alone are driven on, some of them to their end.
    pub(crate) fn drive_on(&self) {
        let now = self.elapsed();
        let left: Vec<ServiceName> = {
            let services = self.services.borrow();
            services
                .iter()
                .filter(|(_, post)| post.alone_until <= now && post.is_under_way())
                .map(|(name, _)| name.clone())
                .collect()
        };
        for name in left {
            if self.often(700) {
                self.drive(&name);
                self.ended(&name);
            } else {
                self.drive_for(&name, 3);
                self.leave(&name);
            }
        }
    }

    /// Somebody wants a service to follow its channel.
    pub(crate) fn follow(&self, by: &Actor, name: &ServiceName) {
        let config = self.config();
        let Some(service) = config.service.get(name) else { return };
        let (state, folded) = (self.state(), self.service(name));
        let frozen = unmirrored(&state, name, &service.subject(), &folded, self.now());
        self.tell(format!("    {by} runs {name}"));
        let settings = self.at(name, |post| post.play.settings.clone());
        let Some(settings) = settings else { return };
        let begin = Input::Begin { aim: Aim::Track, settings, frozen, preflight: None };
        if self.at(name, |post| post.play.put_by(begin, by)) != Some(Put::Taken) {
            return;
        }
        if self.often(350) {
            let turns = u32::try_from(self.below(25)).unwrap_or(0);
            self.drive_for(name, turns);
            if self.runs(name) {
                return self.leave(name);
            }
        }
        self.drive(name);
        self.ended(name);
    }

    fn ended(&self, name: &ServiceName) {
        let last = self.at(name, |post| {
            let last = post.folded().last_end.as_ref();
            last.map(|(run, _, end)| format!("{run} ended: {}", crate::end_word(end)))
        });
        if let Some(Some(last)) = last {
            self.tell(format!("    {name}: {last}"));
        }
    }

    /// A new release of a service is there.
    pub(crate) fn release(&self, name: &ServiceName) {
        self.at(name, |post| {
            let mut machine = post.play.machine.borrow_mut();
            machine.newest = (machine.newest + 1).min(machine.recipes.len().saturating_sub(1));
        });
    }

    /// Gives the newest release that the channel has.
    pub(crate) fn newest(&self, name: &ServiceName) -> Option<(ReleaseTag, Digest)> {
        self.at(name, |post| {
            let machine = post.play.machine.borrow();
            machine.recipes.get(machine.newest).map(|recipe| (recipe.release.tag.clone(), recipe.release.digest))
        })?
    }

    fn begin_back(&self, name: &ServiceName, aim: Aim) -> Option<Put> {
        let settings = self.at(name, |post| post.play.settings.clone())?;
        let begin = Input::Begin { aim, settings, frozen: Some("the freeze file exists".into()), preflight: None };
        self.at(name, |post| post.play.put(begin))
    }

    /// Begins a way back, which nothing may refuse but that there is none.
    pub(crate) fn take_back(&self, name: &ServiceName, aim: Aim) {
        let before = self.service(name);
        let to = match &aim {
            Aim::Back { to: Some(tag), .. } => before.tags.get(tag).copied(),
            _ => before.last_good,
        };
        let put = self.begin_back(name, aim);
        // Where everything runs last-good there is nothing to go back from; and one that never left it, because it was busy
        // when the others moved or somebody just took it to an earlier release, would go forward.
        let mut elsewhere = before.instances.values().filter(|one| one.release != before.last_good).peekable();
        let goes_back = elsewhere.peek().is_some() && elsewhere.all(|one| has_left(one, before.last_good));
        // A plan may name what was last-good when it was made, and there is no way back to what somebody never ran.
        let is_there = before.instances.values().all(|one| one.release == to || has_left(one, to));
        if put == Some(Put::Refused) && before.last_good.is_some() && goes_back && is_there {
            self.violated(format!("a way back of {name} was refused"));
        }
        let after = self.service(name);
        if let Some((run, _, end @ (End::Held { .. } | End::Refused { .. }))) =
            after.last_end.filter(|_| after.run.is_none())
            && before.last_end.as_ref().map(|(run, ..)| *run) != Some(run)
        {
            self.violated(format!("a way back of {name} is {}", crate::end_word(&end)));
        }
    }

    /// Somebody takes a service back by hand, which is counted.
    pub(crate) fn roll_back(&self, by: &Actor, name: &ServiceName) {
        let service = self.service(name);
        let ever: Vec<ReleaseTag> = service.tags.keys().cloned().collect();
        match self.pick(&ever).filter(|_| self.often(400)) {
            Some(to) => self.go_back(by, name, Some(to)),
            None => self.go_back(by, name, good_of(&service)),
        }
    }

    /// Somebody takes a service back to a release.
    pub(crate) fn go_back(&self, by: &Actor, name: &ServiceName, to: Option<ReleaseTag>) {
        let good = good_of(&self.service(name));
        self.tell(match &to {
            Some(to) => format!("    {by} takes {name} back to {to}"),
            None => format!("    {by} takes {name} back"),
        });
        let is_good = to == good;
        let aim = Aim::Back { to, instances: Vec::new(), accept_loss: Vec::new(), reason: "people complain".into() };
        match is_good {
            true => self.take_back(name, aim),
            // There may be no way to one that ran long ago.
            false => drop(self.begin_back(name, aim)),
        }
        self.drive(name);
        self.ended(name);
        let (caps, now) = (&self.config().caps, self.now());
        let _killed = self.say(by, &|state| Ok(cap::count(state, caps, by, Risky::Rollback, now)));
    }

    /// Somebody writes the analysis that a service owes, accepts it, or goes on without.
    pub(crate) fn analyse(&self, by: &Actor, name: &ServiceName) {
        let service = self.service(name);
        let Some(owed) = &service.analysis else { return };
        let event = match &owed.submitted {
            None => rca::submit(&service, Digest::of(name.as_str().as_bytes())),
            Some(_) => rca::accept(&service, by),
        };
        let own = owed.submitted.as_ref().is_some_and(|one| one.by == *by);
        let Ok(event) = event else { return };
        let allowed = self.config().people().permit_service(&service, by, &event).is_ok();
        if own {
            self.violated(format!("{by} accepts their own analysis"));
        }
        if allowed {
            self.tell(format!("    {by} analyses {name}"));
            self.at(name, |post| post.say(by, event));
        }
    }

    /// Somebody with another's word lets one service go on without its analysis for a time.
    pub(crate) fn waive_analysis(&self, by: &Actor, name: &ServiceName) {
        let service = self.service(name);
        let span = Span::minutes(30 + self.below(600));
        let Some(owed) = &service.analysis else { return };
        let Ok(event) = rca::waive(&service, owed, reason("the fix itself"), span, None, self.now()) else { return };
        let allowed = self.config().people().permit_service(&service, by, &event).is_ok();
        if allowed && matches!(event, Event::Analysis(_)) {
            self.at(name, |post| post.say(by, event));
        }
    }

    /// Services come into the configuration and go out of it.
    pub(crate) fn configure_otherwise(&self) {
        let count = 2 + usize::try_from(self.below(3)).unwrap_or(0);
        if count != self.count.get() {
            self.count.set(count);
            self.tell(format!("    {count} services are configured"));
        }
    }
}
