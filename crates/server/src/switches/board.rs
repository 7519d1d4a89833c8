//! The board: the one thread that reads the environment's chain, writes trips, and says what is given now.
//!
//! It beats four times in a lease, and only after it has looked: subscribers of a board that can't look run out of their
//! lease and go to their safe states, which is what they are for.

use super::{
    given::Given,
    shard::{Current, Post},
};
use lastgood_domain::{
    failure::Failure,
    switches::Switches,
    terms::{Actor, Reason, SwitchName, Timestamp},
};
use lastgood_engine::{
    config::SwitchesConfig,
    switches::{Beside, Desk, Folded, Tripped, trip},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

/// Beats in one lease: three may be late or lost.
const BEATS: u32 = 4;
/// Longest wait of a trip over HTTP for the routers: half of what a connection may stand still.
const ROUTERS_MAX: Duration = Duration::from_secs(5);

/// What the board is asked.
pub(super) enum Ask {
    /// Something was written: look.
    Look,
    /// Trip a switch for a client, and answer it.
    Trip { switch: SwitchName, reason: Reason, from: Asker },
    /// The routers were told what a trip closes, or something kept one from it.
    RoutersTold { ticket: u64, trouble: Option<Failure> },
    /// Go home.
    Stop,
}

/// A client that waits for an answer.
pub(super) struct Asker {
    /// Its shard.
    pub(super) shard: usize,
    /// Its place there.
    pub(super) token: u64,
}

/// Is called once the routers were told how the switches stand, with what kept one from being told.
pub type RoutersTold = Box<dyn FnOnce(Option<Failure>) + Send>;

/// How the rest of the daemon is told what is wrong.
pub type Tell = Box<dyn Fn(&Failure) + Send>;

/// What the board needs.
pub struct Setting {
    /// The `[switches]` of the configuration.
    pub config: SwitchesConfig,
    /// The bearer token that a trip over HTTP must have, if any.
    pub token: Option<String>,
    /// The chain.
    pub desk: Desk,
    /// What is tripped beside it.
    pub beside: Beside,
    /// Gives the time.
    pub now: fn() -> Timestamp,
    /// Is told what is wrong, once for each thing.
    pub tell: Tell,
    /// Is called after a trip over HTTP was written, so that its notices are sent.
    pub written: Box<dyn Fn() + Send>,
    /// Has the routers told what a trip over HTTP closes, where there are routers: the trip is answered after that, or after
    /// some seconds.
    pub routers: Option<Box<dyn Fn(RoutersTold) + Send>>,
}

/// A client whose trip is written, and who hears of it once the routers were told.
struct Waiting {
    ticket: u64,
    until: Instant,
    from: Asker,
    answer: Value,
}

/// Rings the board.
#[derive(Clone)]
pub struct Bell(pub(super) Sender<Ask>);

impl Bell {
    /// Says that something was written.
    pub fn ring(&self) {
        // A board that has gone home needs no bell.
        let _ = self.0.send(Ask::Look);
    }
}

pub(super) struct Board {
    setting: Setting,
    posts: Vec<Arc<Post>>,
    by: Actor,
    told: usize,
    failing: bool,
    /// The state that was given last.
    given: Switches,
    /// For the routers' word to come back by.
    asks: Sender<Ask>,
    waiting: Vec<Waiting>,
    tickets: u64,
}

impl Board {
    pub(super) fn new(setting: Setting, posts: Vec<Arc<Post>>, asks: Sender<Ask>) -> Self {
        let by = Actor::new("lastgood:http").expect("a fixed valid name");
        Self {
            setting,
            posts,
            by,
            told: 0,
            failing: false,
            given: Switches::default(),
            asks,
            waiting: Vec::new(),
            tickets: 0,
        }
    }

    /// Looks for the first time, before anybody is answered.
    pub(super) fn first(&mut self) -> Result<Arc<Given>, Failure> {
        let folded = self.seen()?;
        let given = Arc::new(Given::new(&self.setting.config, &folded));
        self.given = folded.state;
        self.tell_damage();
        Ok(given)
    }

    /// Beats, looks and trips until it is told to stop.
    pub(super) fn run(&mut self, asks: &Receiver<Ask>, current: &Current, mut given: Arc<Given>) {
        let beat = self.setting.config.lease.duration() / BEATS;
        let mut next = Instant::now() + beat;
        loop {
            let now = Instant::now();
            let late = self.waiting.iter().map(|waiting| waiting.until).min();
            let due = late.map_or(next, |late| late.min(next)).saturating_duration_since(now);
            match asks.recv_timeout(due) {
                Ok(Ask::Look) => self.look(current, &mut given, false),
                Ok(Ask::Trip { switch, reason, from }) => self.trip(current, &mut given, (&switch, &reason), from),
                Ok(Ask::RoutersTold { ticket, trouble }) => self.routers_told(ticket, trouble.as_ref()),
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if Instant::now() < next => self.give_up_routers(),
                Err(RecvTimeoutError::Timeout) => {
                    // Late beats are not made up for.
                    next = Instant::now() + beat;
                    self.look(current, &mut given, true);
                }
            }
        }
    }

    /// Gives the state of now: the chain's, and what is tripped beside it.
    fn seen(&mut self) -> Result<Folded, Failure> {
        let mut folded = self.setting.desk.look().map_err(|error| Failure::of(&error))?.clone();
        self.setting.beside.add_to(&mut folded.state)?;
        Ok(folded)
    }

    /// Reads what is new and says it; `beats` says it in any case, if it could be read.
    fn look(&mut self, current: &Current, given: &mut Arc<Given>, beats: bool) {
        match self.seen() {
            Ok(folded) => {
                self.failing = false;
                // More may be tripped without a further record: beside the chain, or in doubt.
                let changed = folded.state != self.given;
                if changed {
                    *given = Arc::new(Given::new(&self.setting.config, &folded));
                    self.given = folded.state;
                }
                if changed || beats {
                    self.say(current, given);
                }
                self.tell_damage();
            }
            Err(error) => {
                // Said once, until it works again.
                if !std::mem::replace(&mut self.failing, true) {
                    (self.setting.tell)(&error);
                }
            }
        }
    }

    fn trip(
        &mut self,
        current: &Current,
        given: &mut Arc<Given>,
        (switch, reason): (&SwitchName, &Reason),
        from: Asker,
    ) {
        let declared = self.setting.config.declared();
        let now = (self.setting.now)();
        let Setting { desk, beside, .. } = &mut self.setting;
        let tripped = trip(Ok(desk), beside, &declared, (&self.by, now), (switch, reason));
        if let Ok(Tripped::Kept { because }) = &tripped {
            (self.setting.tell)(because);
        }
        let (status, answer) = match tripped {
            Ok(_) => {
                self.look(current, given, true);
                let epoch = given.epoch;
                (self.setting.written)();
                let environment = &self.setting.config.environment;
                let answer = json!({ "environment": environment, "switch": switch, "tripped": true, "epoch": epoch });
                return self.answer_after_routers(from, answer);
            }
            Err(failure) => (if failure.code == "switch-unknown" { 404 } else { 500 }, problem(&failure)),
        };
        self.answer(&from, status, &answer);
    }

    fn answer(&self, to: &Asker, status: u16, answer: &Value) {
        if let Some(post) = self.posts.get(to.shard) {
            post.answer(to.token, status, answer.to_string().into_bytes());
        }
    }

    /// Answers a trip once the routers have closed what it closes; at once where there are none.
    fn answer_after_routers(&mut self, from: Asker, answer: Value) {
        let Some(routers) = &self.setting.routers else { return self.answer(&from, 200, &answer) };
        self.tickets += 1;
        let (ticket, asks) = (self.tickets, self.asks.clone());
        self.waiting.push(Waiting { ticket, until: Instant::now() + ROUTERS_MAX, from, answer });
        // A board that has gone home answers nobody.
        routers(Box::new(move |trouble| drop(asks.send(Ask::RoutersTold { ticket, trouble }))));
    }

    fn routers_told(&mut self, ticket: u64, trouble: Option<&Failure>) {
        // One that was given up has its answer.
        let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) else { return };
        let Waiting { from, answer, .. } = self.waiting.swap_remove(at);
        match trouble {
            None => self.answer(&from, 200, &answer),
            Some(trouble) => self.answer(&from, 202, &not_told(answer, &trouble.message)),
        }
    }

    /// Answers those whose routers take too long: the trip stands, and whoever tells the routers goes on trying.
    fn give_up_routers(&mut self) {
        let now = Instant::now();
        let (late, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.until <= now);
        self.waiting = waiting;
        let late: Vec<Waiting> = late;
        for Waiting { from, answer, .. } in late {
            let because = format!("they were not told within {} s", ROUTERS_MAX.as_secs());
            self.answer(&from, 202, &not_told(answer, &because));
        }
    }

    fn say(&self, current: &Current, given: &Arc<Given>) {
        current.set(given);
        for post in &self.posts {
            post.say(given);
        }
    }

    fn tell_damage(&mut self) {
        let damaged = self.setting.desk.damaged();
        for one in damaged.iter().skip(self.told) {
            let what = format!(
                "record {} of the switches' chain can't be taken: {}; switches count as tripped, and flags as off, that \
                 nobody has set since",
                one.seq, one.what
            );
            let hint = "see which: lastgood switch list; reset each by its name once you know that it may be open";
            (self.setting.tell)(&Failure::new("switches-damaged", what, Some(hint)));
        }
        self.told = damaged.len();
    }
}

/// Adds to the answer to a trip that routes may be open yet.
fn not_told(mut answer: Value, because: &str) -> Value {
    answer["routers_told"] = false.into();
    answer["because"] = because.into();
    answer
}

/// Makes a problem document (RFC 9457).
pub(super) fn problem(failure: &Failure) -> serde_json::Value {
    json!({
        "type": format!("urn:lastgood:error:{}", failure.code), "title": failure.message, "code": failure.code,
        "hint": failure.hint,
    })
}
