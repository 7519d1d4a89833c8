//! The world around an incident: one chain of what people decide, the chains of services, time, and processes that die.
//!
//! Records are appended as the store does it: all of a transaction or nothing, and only by whoever saw the head. In between
//! somebody else may have been quicker, and before and after each append the process that writes may be killed.

use super::{
    checks::{Checks, Look},
    crowd::Crowd,
    outside::Outside,
    post::Post,
    setting,
};
use crate::chance::Chance;
use lastgood_domain::{
    operations::{
        self, Event, Operations, Record, Refused,
        clock::Circumstances,
        incident::{IncidentEvent, plan::PlanEvent, unfreeze::Facts},
    },
    service::Service,
    terms::{Actor, Digest, IncidentId, ServiceName, Span, Timestamp},
};
use lastgood_engine::{
    config::Config,
    incident::{Book, Decide},
    operations::{Dead, Scope, facts_of},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
};

/// 2026-01-01T00:00:00Z, where the machines of services begin too.
const BEGIN: i64 = 1_767_225_600_000;

/// Times that a decision is made anew before the chain counts as one that nobody can write to.
const RETRIES_MAX: u32 = 8;

/// Records after which a world counts as one that writes for ever: far more than any comes to.
const RECORDS_MAX: usize = 20_000;

/// Why nothing was said.
#[derive(Debug)]
pub(crate) enum Unsaid {
    /// The process is dead. What it had written stands.
    Killed,
    /// It is not allowed or makes no sense.
    Refused(Box<Refused>),
    /// Everybody else was quicker, each time.
    Overtaken,
}

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::Refused(refused) => write!(f, "refused: {refused}"),
            Self::Overtaken => f.write_str("overtaken"),
        }
    }
}

impl std::error::Error for Unsaid {}

/// The chain of what people decide.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    pub(crate) state: Rc<Operations>,
}

/// One world under play.
pub(crate) struct World {
    pub(crate) dice: RefCell<Chance>,
    clock: Cell<i64>,
    /// How many of the services are configured.
    pub(crate) count: Cell<usize>,
    /// What follows from that count, made once.
    scope: RefCell<Option<(usize, Rc<Scope>)>>,
    /// As that, for the clock.
    pub(super) circumstances: Cell<Option<(usize, Circumstances)>>,
    pub(crate) book: RefCell<Ledger>,
    pub(crate) services: RefCell<BTreeMap<ServiceName, Post>>,
    pub(crate) outside: RefCell<Outside>,
    pub(crate) crowd: RefCell<Crowd>,
    pub(crate) checks: RefCell<Checks>,
    pub(crate) story: RefCell<Vec<String>>,
    /// Whether the process that acts now was killed.
    dead: Cell<bool>,
    pub(crate) crash_permille: Cell<u64>,
    pub(crate) crashes: Cell<u32>,
    /// How often somebody comes in between, in a thousand appends.
    pub(crate) race_permille: Cell<u64>,
    pub(crate) races: Cell<u32>,
    depth: Cell<u32>,
    /// Incidents whose plan somebody runs just now.
    pub(crate) running: RefCell<Vec<IncidentId>>,
}

impl World {
    pub(crate) fn new(chance: Chance, count: usize, services: BTreeMap<ServiceName, Post>) -> Self {
        Self {
            dice: RefCell::new(chance),
            clock: Cell::new(0),
            count: Cell::new(count),
            scope: RefCell::default(),
            circumstances: Cell::default(),
            book: RefCell::default(),
            services: RefCell::new(services),
            outside: RefCell::default(),
            crowd: RefCell::default(),
            checks: RefCell::default(),
            story: RefCell::default(),
            dead: Cell::new(false),
            crash_permille: Cell::new(0),
            crashes: Cell::new(0),
            race_permille: Cell::new(0),
            races: Cell::new(0),
            depth: Cell::new(0),
            running: RefCell::default(),
        }
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.dice.borrow_mut().below(end)
    }

    pub(crate) fn often(&self, permille: u64) -> bool {
        self.dice.borrow_mut().permille(permille)
    }

    pub(crate) fn pick<T: Clone>(&self, from: &[T]) -> Option<T> {
        self.dice.borrow_mut().pick(from).cloned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(BEGIN + self.clock.get())
    }

    /// Gives milliseconds since the world began.
    pub(crate) fn elapsed(&self) -> i64 {
        self.clock.get()
    }

    /// Lets time go on to at least `elapsed`.
    pub(crate) fn until(&self, elapsed: i64) {
        self.clock.set(self.clock.get().max(elapsed));
    }

    pub(crate) fn pass(&self, span: Span) {
        self.until(self.clock.get().saturating_add_unsigned(span.0));
    }

    /// Gives the configuration of now.
    pub(crate) fn config(&self) -> &'static Config {
        setting::config(self.count.get()).expect("every count in use has a configuration")
    }

    /// Gives the services and people of the configuration of now.
    pub(crate) fn scope(&self) -> Rc<Scope> {
        if let Some((_, scope)) = self.scope.borrow().as_ref().filter(|(count, _)| *count == self.count.get()) {
            return Rc::clone(scope);
        }
        let config = self.config();
        let services = config.service.iter().map(|(name, service)| (name.clone(), service.subject())).collect();
        let scope = Rc::new(Scope { services, people: config.people(), ..Scope::default() });
        *self.scope.borrow_mut() = Some((self.count.get(), Rc::clone(&scope)));
        scope
    }

    /// Runs one command as a process of its own: that it is killed ends nobody else.
    pub(crate) fn process<T>(&self, run: impl FnOnce() -> T) -> T {
        let before = self.dead.replace(false);
        let done = run();
        self.dead.set(before);
        done
    }

    /// Passes a moment at which the process may die; tells whether it is dead.
    pub(crate) fn point(&self) -> bool {
        if !self.dead.get() && self.often(self.crash_permille.get()) {
            self.dead.set(true);
            self.crashes.set(self.crashes.get() + 1);
            self.tell("    (killed)".into());
        }
        self.dead.get()
    }

    /// Lets somebody else come in between.
    pub(crate) fn race(&self) {
        if self.depth.get() > 0 || !self.often(self.race_permille.get()) {
            return;
        }
        self.depth.set(1);
        self.races.set(self.races.get() + 1);
        self.process(|| super::acts::somebody_acts(self));
        self.depth.set(0);
    }

    pub(crate) fn state(&self) -> Rc<Operations> {
        Rc::clone(&self.book.borrow().state)
    }

    pub(crate) fn tell(&self, line: String) {
        self.story.borrow_mut().push(line);
    }

    pub(crate) fn violated(&self, what: String) {
        // What stays wrong is told once.
        if !self.checks.borrow().violations.contains(&what) {
            self.tell(format!("VIOLATED {what}"));
            self.checks.borrow_mut().violations.push(what);
        }
    }

    /// Appends what is decided on the state of now; decided again where somebody else was quicker.
    pub(crate) fn say(&self, by: &Actor, decide: Decide<'_>) -> Result<Vec<Record>, Unsaid> {
        if self.point() {
            return Err(Unsaid::Killed);
        }
        if self.book.borrow().records.len() > RECORDS_MAX {
            self.violated("somebody writes without an end".into());
            return Err(Unsaid::Killed);
        }
        let now = self.now();
        for _ in 0..RETRIES_MAX {
            let (state, head) = {
                let book = self.book.borrow();
                (Rc::clone(&book.state), book.records.len())
            };
            let refused = |refused| Unsaid::Refused(Box::new(refused));
            let events = decide(&state).map_err(refused)?;
            if events.is_empty() {
                return Ok(Vec::new());
            }
            // Who writes has read the configuration before; somebody may change it in between.
            let (scope, config) = (self.scope(), self.config());
            for event in &events {
                scope.people.permit(&state, by, event, now).map_err(refused)?;
            }
            // Nobody else has it: it is folded on in place.
            drop(state);
            self.race();
            if self.book.borrow().records.len() != head {
                continue;
            }
            let record = |event| Record { v: Record::VERSION, at: now.max(self.written_last()), by: by.clone(), event };
            let records: Vec<Record> = events.into_iter().map(record).collect();
            self.append(&scope, config, &records);
            return if self.point() { Err(Unsaid::Killed) } else { Ok(records) };
        }
        Err(Unsaid::Overtaken)
    }

    fn written_last(&self) -> Timestamp {
        self.book.borrow().records.last().map_or(Timestamp(0), |record| record.at)
    }

    /// Writes one transaction: the records, and what of them stands in the chains of services.
    fn append(&self, scope: &Scope, config: &Config, records: &[Record]) {
        let others: Vec<ServiceName> = {
            let services = self.services.borrow();
            services.keys().filter(|name| !scope.services.contains_key(*name)).cloned().collect()
        };
        let parts = scope.parts(&self.book.borrow().state, records, &others);
        {
            let mut book = self.book.borrow_mut();
            let Ledger { records: all, state } = &mut *book;
            let after = Rc::make_mut(state);
            for record in records {
                let seq = all.len() as u64;
                if !after.apply(seq, Some(record)) {
                    self.violated(format!("record {seq} was not taken"));
                }
                all.push(record.clone());
                let sentence = operations::sentence(after, record);
                let seconds = (record.at.0 - BEGIN) / 1_000;
                self.tell(format!("{seconds:>8} s  #{seq:<4} {:<18} {sentence}", record.by.as_str()));
            }
        }
        for (name, parts) in parts {
            if let Some(post) = self.services.borrow_mut().get_mut(&name) {
                post.take(&parts, self.elapsed());
            }
        }
        self.clock_from_services();
        let looks = self.looks();
        let told = self.checks.borrow_mut().observe(records, &looks, config);
        told.into_iter().for_each(|what| self.violated(what));
        let known: Vec<_> = self.state().holds.all.keys().copied().collect();
        let told = self.checks.borrow().holds.same_as(&known);
        told.into_iter().for_each(|what| self.violated(what));
    }

    /// What was done in a service may have taken time.
    pub(crate) fn clock_from_services(&self) {
        let newest = self.services.borrow().values().map(Post::elapsed).max();
        self.until(newest.unwrap_or(0));
    }

    /// Gives what the chains of services show, and checks how they moved since the last time.
    pub(crate) fn looks(&self) -> BTreeMap<ServiceName, Look> {
        let looks: BTreeMap<ServiceName, Look> =
            self.services.borrow_mut().iter_mut().map(|(name, post)| (name.clone(), post.look())).collect();
        let config = self.config();
        for (name, look) in &looks {
            let told = self.checks.borrow_mut().moved(name, look, config);
            told.into_iter().for_each(|what| self.violated(what));
        }
        looks
    }

    /// Gives the folded state of a service.
    pub(crate) fn service(&self, name: &ServiceName) -> Service {
        let mut services = self.services.borrow_mut();
        services.get_mut(name).map(|post| post.folded().clone()).unwrap_or_default()
    }

    /// Looks at what the unfreeze of an incident depends on, as its commands do.
    pub(crate) fn facts(&self, state: &Operations, id: IncidentId) -> Facts {
        let Some(found) = state.incidents.all.get(&id) else { return Facts::default() };
        let dead: Dead = Ok(self.outside.borrow().dead_messages.iter().cloned().collect());
        facts_of(&|name| Ok(self.service(name)), dead, self.config(), state, (id, found), self.now())
    }
}

/// The chain as the run of one plan writes to it.
pub(crate) struct Pen<'w> {
    pub(crate) world: &'w World,
    plan: (IncidentId, Digest),
    seen: Rc<Operations>,
}

impl<'w> Pen<'w> {
    pub(crate) fn new(world: &'w World, plan: (IncidentId, Digest)) -> Self {
        Self { world, plan, seen: Rc::default() }
    }

    /// Checks that what a step came to is written of the plan that it was done for.
    fn is_of_its_plan(&self, written: &[Record]) {
        let ended = |record: &&Record| {
            matches!(&record.event, Event::Incident { event: IncidentEvent::Plan(PlanEvent::Ended { .. }), .. })
        };
        let (id, hash) = self.plan;
        let state = self.world.state();
        let now = state.incidents.all.get(&id).and_then(|found| found.planned.as_ref()).map(|planned| planned.hash);
        if written.iter().any(|record| ended(&record)) && now != Some(hash) {
            self.world.violated(format!("a step of {id} ends in another plan than the one it was done for"));
        }
    }
}

impl Book for Pen<'_> {
    type Error = Unsaid;

    fn look(&mut self) -> Result<&Operations, Unsaid> {
        if self.world.point() {
            return Err(Unsaid::Killed);
        }
        self.seen = self.world.state();
        // What was read is old the next moment.
        self.world.race();
        Ok(&self.seen)
    }

    fn say(&mut self, by: &Actor, _: Timestamp, decide: Decide<'_>) -> Result<(), Unsaid> {
        // What was read is not looked at any more: the state is folded on in place.
        self.seen = Rc::default();
        let written = self.world.say(by, decide)?;
        self.is_of_its_plan(&written);
        Ok(())
    }
}

/// Makes an event of an incident.
pub(crate) const fn of(incident: IncidentId, event: operations::incident::IncidentEvent) -> Event {
    Event::Incident { incident, event }
}
