//! The loop that carries decisions out: fold, step, append, then do.
//!
//! What was decided is appended before any effect begins, and an effect's answer is appended together with
//! what is decided from it. The loop may be killed between any two instructions: opening the log again
//! finds the outstanding orders and performs them once more, which is the same as once.

use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Health, Record, Settings, Verdict},
    facts::Outcomes,
    failure::{Coded, Failure},
    rollout::{self, Checked, IllegalStep, Input, Judging},
    service::{Phase, Service},
    terms::{Actor, Digest, InstanceName, OrderId, RunId, Timestamp},
};

/// The chain of one service, as the loop sees it.
pub trait Log {
    /// Gives the records appended by anyone since the last call, oldest first.
    ///
    /// Errors: [`LogError::Failed`] if they can't be read or understood.
    fn news(&mut self) -> Result<Vec<Record>, LogError>;

    /// Appends in one transaction, with the notices that the records cause.
    ///
    /// Errors: [`LogError::Moved`] if someone else appended since [`Log::news`]; nothing was written then.
    fn append(&mut self, before: &Service, records: &[Record]) -> Result<(), LogError>;

    /// Keeps the state of now if much was written since it was kept last, so that the next driver needn't read it all.
    ///
    /// Errors: [`LogError::Failed`]; nothing is lost but the next driver's time.
    fn keep(&mut self, _service: &Service) -> Result<(), LogError> {
        Ok(())
    }
}

/// Why the log can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The head is not the one this driver saw: read the news first.
    #[error("another driver appended to the log")]
    Moved,
    /// The store refused, or holds what can't be understood; the code says which.
    #[error("the log failed: {}", .0.message)]
    Failed(Failure),
}

impl LogError {
    /// Keeps a coded error with its code and hint: a full disk is no damaged log.
    pub fn of(error: &dyn Coded) -> Self {
        Self::Failed(Failure::of(error))
    }

    /// Makes the error of a log that holds what can't be understood.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Failed(Failure::new("log-failed", what, Some("find out where it is damaged: lastgood evidence verify")))
    }

    /// Gives what is told to people.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Moved => Failure::new("log-failed", self.to_string(), Some("run the command again")),
            Self::Failed(failure) => failure.clone(),
        }
    }
}

/// What performs effects and notices what happens.
pub trait World {
    /// Begins an effect; it never waits for its end.
    ///
    /// Two effects on one instance never overlap: the second begins after the first has ended.
    fn perform(&mut self, service: &Service, order: OrderId, effect: &Effect);

    /// Waits until something happens or `until` has come, and gives all that happened.
    fn happenings(&mut self, until: Option<Timestamp>) -> Vec<Happening>;

    /// Hears how the service stands, after each change; for what has to be watched outside of effects.
    fn note(&mut self, _service: &Service) {}

    /// Says what holds the service's forward moves and stands nowhere in its log, if anything does.
    fn held(&self, service: &Service) -> Option<String>;

    /// Tells whether an effect is under way.
    fn is_busy(&self) -> bool;

    /// Gives the time.
    fn now(&self) -> Timestamp;
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Happening {
    /// An order came to an end.
    Answered {
        /// Which.
        order: OrderId,
        /// How.
        answer: Answer,
    },
    /// An instance's process ended by itself.
    Died {
        /// Which.
        instance: InstanceName,
        /// What is known.
        why: String,
    },
    /// An instance that died runs again.
    Revived {
        /// Which.
        instance: InstanceName,
    },
    /// The machine kept an instance that died from being started again.
    NotRevived {
        /// Which.
        instance: InstanceName,
        /// What stood in the way.
        failure: Failure,
    },
    /// An instance was started without something that was kept for it.
    WentOnWithout {
        /// What is missing, and why.
        failure: Failure,
    },
    /// Users' outcomes were counted.
    Counted(Outcomes),
    /// It was looked how much a release on trial answers by a fallback.
    Degrading {
        /// What was looked at.
        on: Judging,
        /// Degraded or good.
        health: Health,
        /// The numbers.
        because: String,
    },
    /// The guards were asked about a release on trial.
    Judged {
        /// What they were asked about.
        on: Judging,
        /// What they say.
        verdict: Verdict,
        /// The numbers.
        because: String,
    },
    /// A release that was left has no request and no tunnel any more.
    Emptied {
        /// Which.
        release: Digest,
    },
    /// Someone may have appended to the log.
    Woken,
}

/// Why a run could not be driven to its end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The log can't be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The input has no place in this state.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
}

/// One service's log, world and folded state, driven together.
pub struct Driver<L, W> {
    log: L,
    /// What performs effects; public so that its owner can ask it things.
    pub world: W,
    service: Service,
    settings: Settings,
    /// Who stands in the records that nobody in particular caused.
    by: Actor,
}

impl<L: Log, W: World> Driver<L, W> {
    /// Reads what came after `service`, the state at the place where `log` begins, and performs again whatever was
    /// ordered and not answered.
    ///
    /// Errors: [`LogError`] if the log can't be read.
    pub fn open(log: L, service: Service, world: W, settings: Settings, by: Actor) -> Result<Self, DriveError> {
        let mut driver = Self { log, world, service, settings, by };
        let news = driver.log.news()?;
        driver.fold(&news);
        driver.doubt()?;
        for (order, effect) in driver.service.run.iter().flat_map(|run| &run.orders) {
            driver.world.perform(&driver.service, *order, effect);
        }
        Ok(driver)
    }

    /// Doubts what the guards said before: nobody has watched since, and an old yes must not let a share grow.
    fn doubt(&mut self) -> Result<(), DriveError> {
        let Some(run) = &self.service.run else { return Ok(()) };
        let Phase::Shifting { release, until: Some(_), .. } = run.phase else { return Ok(()) };
        let on = Judging { release, share: self.service.traffic.share() };
        let because = "nobody has watched for a while".to_owned();
        let (settings, by) = (self.settings.clone(), self.by.clone());
        self.put(Input::Judged { on, verdict: Verdict::CannotTell, because, settings }, &by)
    }

    /// Keeps the state for the next driver; to be called when nothing is under way.
    ///
    /// Errors: [`LogError`]; driving goes on without.
    pub fn keep(&mut self) -> Result<(), LogError> {
        self.log.keep(&self.service)
    }

    /// Gives the folded state.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Replaces the settings that the next run begins with.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Decides on one input, appends the decision, begins its effects.
    ///
    /// Errors: [`IllegalStep`] if it has no place now; [`LogError`] if nothing could be written.
    pub fn put(&mut self, input: Input, by: &Actor) -> Result<(), DriveError> {
        loop {
            let now = self.world.now();
            let records = rollout::step(&self.service, input.clone(), by, now)?;
            match self.append(&records) {
                Ok(()) => return Ok(()),
                Err(LogError::Moved) => self.read_news()?,
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// Begins a run and gives its id.
    ///
    /// Errors: [`IllegalStep`] if one is under way or there is no way back.
    pub fn begin(
        &mut self,
        aim: Aim,
        frozen: Option<String>,
        preflight: Option<Checked>,
        by: &Actor,
    ) -> Result<RunId, DriveError> {
        let settings = self.settings.clone();
        self.put(Input::Begin { aim, settings, frozen, preflight }, by)?;
        // A run that was held or refused at once has ended already.
        let begun = self.service.run.as_ref().map(|run| run.id);
        Ok(begun.or(self.service.last_end.as_ref().map(|(run, _, _)| *run)).unwrap_or(RunId(0)))
    }

    /// Waits for what happens next, at most until `until`, and reacts to all of it.
    ///
    /// Answers that arrive together are decided together and appended in one transaction.
    pub fn turn(&mut self, until: Option<Timestamp>) -> Result<(), DriveError> {
        let wakes = rollout::wakes_at(&self.service, self.world.now());
        let until = [wakes, until].into_iter().flatten().min();
        let happenings = self.world.happenings(until);
        loop {
            let records = self.decide(&happenings);
            match self.append(&records) {
                Ok(()) => return Ok(()),
                Err(LogError::Moved) => self.read_news()?,
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// Drives until no run is under way and every effect has ended.
    pub fn run_to_end(&mut self) -> Result<Option<End>, DriveError> {
        while self.service.run.is_some() || self.world.is_busy() {
            self.turn(None)?;
        }
        Ok(self.service.last_end.as_ref().map(|(_, _, end)| end.clone()))
    }

    fn decide(&self, happenings: &[Happening]) -> Vec<Record> {
        let now = self.world.now();
        let mut service = self.service.clone();
        let mut records = Vec::new();
        let inputs = happenings.iter().filter_map(|happening| self.input(happening));
        for input in self.looked(happenings).into_iter().chain(inputs).chain([Input::Tick]) {
            // A late answer belongs to an order that was superseded: it changes nothing.
            let Ok(said) = rollout::step(&service, input, &self.by, now) else { continue };
            for record in &said {
                service.apply(record);
            }
            records.extend(said);
        }
        records
    }

    /// Looks what holds the way forward, before anything more of it is decided.
    fn looked(&self, happenings: &[Happening]) -> Option<Input> {
        let run = self.service.run.as_ref().filter(|run| run.phase.moves_forward())?;
        // Nobody is stopped where nothing has happened, and no share ends its time within an instant.
        let waits = happenings.is_empty()
            && run.held.is_none()
            && rollout::wakes_at(&self.service, self.world.now()).is_none_or(|at| at > self.world.now());
        (!waits).then(|| Input::Held { because: self.world.held(&self.service) })
    }

    fn input(&self, happening: &Happening) -> Option<Input> {
        let settings = self.settings.clone();
        Some(match happening.clone() {
            Happening::Answered { order, answer } => Input::Answer { order, answer },
            Happening::Died { instance, why } => Input::Died { instance, why, settings },
            Happening::Revived { instance } => Input::Revived { instance },
            Happening::NotRevived { instance, failure } => Input::NotRevived { instance, failure },
            Happening::WentOnWithout { failure } => Input::Say(Event::WentOnWithout { failure }),
            Happening::Counted(outcomes) => Input::Counted { outcomes, settings },
            Happening::Judged { on, verdict, because } => Input::Judged { on, verdict, because, settings },
            Happening::Degrading { on, health, because } => Input::Degrading { on, health, because, settings },
            Happening::Emptied { release } => Input::Emptied { release },
            Happening::Woken => return None,
        })
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        if records.is_empty() {
            // Nothing was decided, but someone else may have written.
            return self.read_news();
        }
        self.log.append(&self.service, records)?;
        self.fold(records);
        // Clearing up outlives its run, and belongs to whoever ordered it: done later, from an old list, it
        // would remove what newer ways back need.
        self.perform(records, Effect::is_housekeeping);
        Ok(())
    }

    fn read_news(&mut self) -> Result<(), LogError> {
        let news = self.log.news()?;
        self.fold(&news);
        self.perform(&news, |_| false);
        Ok(())
    }

    fn fold(&mut self, records: &[Record]) {
        for record in records {
            self.service.apply(record);
        }
        self.world.note(&self.service);
    }

    /// Begins the effects ordered in these folded records that are still wanted, in their order.
    ///
    /// An order that was answered, superseded, or voided by a return is wanted no more.
    fn perform(&mut self, records: &[Record], is_wanted_anyway: fn(&Effect) -> bool) {
        for record in records {
            if let Event::Ordered { order, effect } = &record.event {
                let outstanding = self.service.run.as_ref().is_some_and(|run| run.orders.contains_key(order));
                if outstanding || is_wanted_anyway(effect) {
                    self.world.perform(&self.service, *order, effect);
                }
            }
        }
    }
}
