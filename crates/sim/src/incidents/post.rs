//! One service of the world: its chain and machine, driven by the engine's own loop.

use super::checks::{Chained, Look};
use crate::{
    play::{Play, Put},
    release::Recipe,
};
use lastgood_domain::{
    event::{Aim, Event, Settings},
    rollout::Input,
    service::Service,
    terms::{Actor, Span},
};
use lastgood_engine::operations::{Parts, said};

/// Turns after which a run counts as one that never ends.
const TURNS_MAX: u32 = 400;

/// One service.
pub(crate) struct Post {
    pub(crate) play: Play,
    folded: Service,
    seen: usize,
    chained: Chained,
    /// Until when nobody drives what is under way, in milliseconds since the world began.
    pub(crate) alone_until: i64,
}

impl Post {
    /// Sets a service up with its first release; `None` if a fixed name is none.
    pub(crate) fn new(seed: u64, recipes: Vec<Recipe>, settings: Settings) -> Option<Self> {
        let play = Play::new(seed, recipes, Settings { soak: Span::ZERO, ..settings })?;
        let chained = Chained::new();
        let mut post = Self { play, folded: Service::default(), seen: 0, chained, alone_until: 0 };
        post.play.machine.borrow_mut().weather.rows_permille = 0;
        post.play.begin(Aim::Track, None);
        post.calm();
        // Whatever came before the world begins is nobody's.
        post.look();
        Some(post)
    }

    pub(crate) fn elapsed(&self) -> i64 {
        self.play.machine.borrow().elapsed
    }

    /// Tells whether its driver has a run under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.play.driver.service().run.is_some()
    }

    /// Brings its clock to the world's.
    pub(crate) fn reach(&mut self, elapsed: i64) {
        self.play.machine.borrow_mut().pass(elapsed);
    }

    /// Turns until no run is under way.
    pub(crate) fn calm(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.is_under_way() {
                return;
            }
            self.play.turn();
        }
        self.play.machine.borrow_mut().violated("a run never ended".into());
    }

    /// Gives the state that the whole chain folds to, whoever wrote to it.
    pub(crate) fn folded(&mut self) -> &Service {
        let chain = self.play.chain.borrow();
        for record in chain.records.get(self.seen..).unwrap_or_default() {
            self.folded.apply(record);
            self.chained.observe(record);
        }
        self.seen = chain.records.len();
        &self.folded
    }

    /// Writes what of other people's decisions concerns it.
    pub(crate) fn take(&mut self, parts: &Parts<'_>, elapsed: i64) {
        self.reach(elapsed);
        let records = said(self.folded().clone(), parts);
        let mut chain = self.play.chain.borrow_mut();
        let mut machine = self.play.machine.borrow_mut();
        chain.checker.observe(&records, &mut machine);
        chain.records.extend(records);
    }

    /// Says something in its chain; tells whether it was taken.
    pub(crate) fn say(&mut self, by: &Actor, event: Event) -> bool {
        self.play.put_by(Input::Say(event), by) == Put::Taken
    }

    /// Gives what its chain shows.
    pub(crate) fn look(&mut self) -> Look {
        self.folded();
        let machine = self.play.machine.borrow();
        let good = self.chained.last_good.and_then(|release| machine.recipe(&release));
        let settled = good.is_some() && machine.places.values().all(|place| place.up == good);
        Look { settled, ..self.chained.look() }
    }
}
