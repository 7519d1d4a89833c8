//! One world with its drivers: gives inputs, turns the loop, kills it, opens it again, checks everything.

use crate::{
    machine::Machine,
    release::Recipe,
    shared::{Shared, keeper::Keeper},
    world::{Chain, Hands, Pen, agrees},
};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, Event, Record, Settings},
    operations::hold::InFlight,
    rollout::{self, Input},
    service::{Condition, Service},
    terms::{Actor, HoldId, InstanceName, Reason, Span, Timestamp},
};
use lastgood_engine::drive::{DriveError, Driver, LogError};
use std::{cell::RefCell, rc::Rc};

/// Turns after which a run that has not ended never will: each turn answers an order or waits 10 s.
const CALM_TURNS_MAX: u32 = 600;

/// Crashes in one go after which recovery itself is broken.
const REOPEN_MAX: u32 = 50;

/// Whether an input was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is in the log.
    Taken,
    /// It has no place now.
    Refused,
    /// The driver died before it was written.
    Lost,
}

/// One world under play.
pub(crate) struct Play {
    pub(crate) machine: Rc<RefCell<Machine>>,
    pub(crate) chain: Rc<RefCell<Chain>>,
    pub(crate) driver: Driver<Pen, Hands>,
    pub(crate) settings: Settings,
    pub(crate) person: Actor,
    daemon: Actor,
    keeper: Keeper,
}

/// Gives settings that suit most scenarios.
pub(crate) fn settings(instances: &[InstanceName]) -> Settings {
    Settings {
        instances: instances.to_vec(),
        canary: None,
        rehearse_on: None,
        wave_size: 2,
        soak: Span::seconds(30),
        loss_rows_max: 200,
        loss_files_max: 10,
        loss_age_max: Span::minutes(60),
        watch: Span::minutes(120),
        stale_after: Span::minutes(60 * 24 * 7),
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

impl Play {
    /// Opens a driver on a new machine and an empty log.
    ///
    /// `None` if a fixed name of the simulator is not a valid term, which its tests show not to happen.
    pub(crate) fn new(seed: u64, recipes: Vec<Recipe>, settings: Settings) -> Option<Self> {
        let machine = Rc::new(RefCell::new(Machine::new(seed, recipes, &settings.instances)));
        let chain = Rc::new(RefCell::new(Chain::default()));
        let daemon = Actor::new("lastgood:daemon").ok()?;
        let person = Actor::new("person:operator").ok()?;
        let pen = Pen::new(Rc::clone(&chain), Rc::clone(&machine));
        let hands = Hands::new(Rc::clone(&machine));
        let driver = Driver::open(pen, Service::default(), hands, settings.clone(), daemon.clone()).ok()?;
        Some(Self { machine, chain, driver, settings, person, daemon, keeper: Keeper::default() })
    }

    /// Lets the service move by share of its traffic.
    pub(crate) fn share(&mut self, mut shared: Shared) {
        shared.configure(&self.settings);
        let mut machine = self.machine.borrow_mut();
        machine.shared = Some(Box::new(shared));
        // Somebody sets the router up.
        machine.bring_router_back();
    }

    /// Does what is due without anybody's word, as the daemon does.
    fn keep(&mut self) {
        let due = self.keeper.due(self.driver.service(), &self.machine.borrow());
        if !due.revive.is_empty() {
            let service = self.driver.service().clone();
            due.revive.iter().for_each(|name| self.driver.world.revive(&service, name));
        }
        if due.cool {
            let settings = self.settings.clone();
            let begun =
                self.driver.put(Input::Begin { aim: Aim::Cool, settings, frozen: None, preflight: None }, &self.daemon);
            // Another run may have begun in between.
            drop(begun);
            self.recover();
            self.check(false);
        }
    }

    /// Gives a second driver on the same log, which performs nothing.
    pub(crate) fn second(&self) -> Option<Driver<Pen, Hands>> {
        let (pen, service) = Pen::behind_a_kept_state(Rc::clone(&self.chain), Rc::clone(&self.machine));
        let mut hands = Hands::new(Rc::clone(&self.machine));
        hands.tied = true;
        Driver::open(pen, service, hands, self.settings.clone(), self.person.clone()).ok()
    }

    /// Gives one input; opens the driver again if it dies on it.
    pub(crate) fn put(&mut self, input: Input) -> Put {
        let by = self.person.clone();
        self.put_by(input, &by)
    }

    /// Gives one input of somebody's.
    pub(crate) fn put_by(&mut self, input: Input, by: &Actor) -> Put {
        let length = self.chain.borrow().records.len();
        let given = self.driver.put(input, by);
        let written = self.chain.borrow().records.len() > length;
        self.recover();
        self.check(true);
        match given {
            Ok(()) => Put::Taken,
            Err(DriveError::Illegal(_)) => Put::Refused,
            Err(DriveError::Log(LogError::Moved)) => {
                self.machine.borrow_mut().violated("an input was refused as stale".into());
                Put::Lost
            }
            Err(DriveError::Log(LogError::Failed(_))) => {
                if written {
                    Put::Taken
                } else {
                    Put::Lost
                }
            }
        }
    }

    /// Begins a run.
    pub(crate) fn begin(&mut self, aim: Aim, frozen: Option<String>) -> Put {
        if matches!(aim, Aim::Track) {
            self.revive();
        }
        let settings = self.settings.clone();
        let frozen = frozen.or_else(|| self.machine.borrow().weather.freeze());
        self.put(Input::Begin { aim, settings, frozen, preflight: None })
    }

    /// Starts again what is down and should run, as a pass begins.
    fn revive(&mut self) {
        let service = self.driver.service().clone();
        if service.run.is_some() || self.machine.borrow().shared.is_some() {
            return;
        }
        let is_down = |name: &&InstanceName| {
            self.machine.borrow().places.get(*name).is_some_and(|place| place.up.is_none() && place.closed)
        };
        let should_run = |name: &&InstanceName| {
            let known = service.instances.get(*name);
            known.is_some_and(|one| one.release.is_some() && one.condition != Condition::Between)
        };
        let down: Vec<InstanceName> = service.instances.keys().filter(is_down).filter(should_run).cloned().collect();
        for name in down {
            self.driver.world.revive(&service, &name);
        }
    }

    /// Sets a hold.
    pub(crate) fn hold(&mut self, until: Option<Timestamp>) -> Put {
        let Ok(reason) = Reason::new("looking at something") else { return Put::Refused };
        let hold = HoldId(self.driver.service().next.hold);
        self.put(Input::Say(Event::HoldSet { hold, reason, until, origin: None, in_flight: InFlight::Pause }))
    }

    /// Waits for what happens next, at most 10 s.
    pub(crate) fn turn(&mut self) {
        if self.machine.borrow().shared.is_some() {
            self.keep();
        }
        let until = self.machine.borrow().now().after(Span::seconds(10));
        let crashes = self.machine.borrow().crashes;
        let turned = self.driver.turn(Some(until));
        if let Err(error) = turned
            && self.machine.borrow().dead.is_none()
        {
            self.machine.borrow_mut().violated(format!("a turn failed: {error}"));
        }
        self.recover();
        // A driver that has just begun looks in its first turn.
        let begins = self.machine.borrow().crashes > crashes;
        self.check(begins);
    }

    fn recover(&mut self) {
        for _ in 0..REOPEN_MAX {
            if self.machine.borrow().dead.is_none() {
                return;
            }
            self.machine.borrow_mut().recover();
            let (pen, service) = Pen::behind_a_kept_state(Rc::clone(&self.chain), Rc::clone(&self.machine));
            let hands = Hands::new(Rc::clone(&self.machine));
            let opened = Driver::open(pen, service, hands, self.settings.clone(), self.daemon.clone());
            match opened {
                Ok(driver) => {
                    self.driver = driver;
                    self.adopt();
                }
                Err(_) if self.machine.borrow().dead.is_some() => {}
                Err(error) => {
                    self.machine.borrow_mut().violated(format!("the log could not be opened: {error}"));
                }
            }
        }
        self.machine.borrow_mut().crash_permille = 0;
        self.machine.borrow_mut().recover();
    }

    /// Finds what ended while nobody drove.
    fn adopt(&mut self) {
        if self.machine.borrow().shared.is_some() {
            self.keeper = Keeper::default();
            let down = self.keeper.down(self.driver.service(), &self.machine.borrow());
            self.driver.world.found.extend(down);
        }
    }

    /// Checks the folded state against the machine; what a person has just typed is `yet` to be looked at.
    fn check(&mut self, yet: bool) {
        let service = self.driver.service();
        if let Some(run) = &service.run {
            let works = |effect: &Effect| !effect.is_housekeeping();
            let now = self.machine.borrow().now();
            // Under a hold a share stands until somebody lifts it.
            let stands =
                self.machine.borrow().shared.is_some() && (yet || service.standing_holds(now).next().is_some());
            if !run.orders.values().any(works) && rollout::wakes_at(service, now).is_none() && !stands {
                self.machine.borrow_mut().violated(format!("{} stands still", run.id));
            }
        }
    }

    /// Turns until no run is under way and no effect is, without a person.
    pub(crate) fn calm(&mut self) {
        for _ in 0..CALM_TURNS_MAX {
            if self.driver.service().run.is_none() && !self.is_busy() {
                break;
            }
            self.turn();
        }
        self.chain.borrow().checker.calm(&mut self.machine.borrow_mut());
    }

    /// A share that stands under a hold ends only when that is lifted.
    fn lift_all(&mut self) {
        let Ok(reason) = Reason::new("it is looked at") else { return };
        let holds: Vec<HoldId> = self.driver.service().holds.keys().copied().collect();
        for hold in holds {
            self.put(Input::Say(Event::HoldLifted { hold, reason: reason.clone() }));
        }
    }

    /// Turns until nothing stands by and the router has been told.
    fn cool(&mut self) {
        for _ in 0..CALM_TURNS_MAX {
            if self.machine.borrow().shared.is_none() || self.keeper.is_calm(self.driver.service()) && !self.is_busy() {
                break;
            }
            self.turn();
        }
        self.machine.borrow_mut().keep_router();
        self.machine.borrow_mut().look_at_the_end();
    }

    fn is_busy(&self) -> bool {
        use lastgood_engine::drive::World as _;
        self.driver.world.is_busy()
    }

    /// Checks the end of a world: the fold, and every instance against its machine.
    pub(crate) fn finish(&mut self) {
        self.machine.borrow_mut().crash_permille = 0;
        if self.machine.borrow().shared.is_some() {
            self.lift_all();
        }
        self.calm();
        self.cool();
        let folded = Service::fold(&self.chain.borrow().records);
        let service = self.driver.service();
        let mut machine = self.machine.borrow_mut();
        if folded != *service {
            machine.violated("folding the log gives another state than the one kept".into());
        }
        let mut wrong = Vec::new();
        for (name, place) in &machine.places {
            match service.instances.get(name).map(|known| &known.condition) {
                Some(Condition::Settled | Condition::Deferred { .. }) if !agrees(&machine, name, place, service) => {
                    wrong.push(format!("{name} does not run what its log says"));
                }
                Some(Condition::Between) => wrong.push(format!("{name} is still between two releases")),
                _ => {}
            }
        }
        machine.violations.append(&mut wrong);
    }

    /// Gives the records so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.chain.borrow().records.clone()
    }

    /// Gives what was found wrong.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.machine.borrow().violations.clone()
    }
}
