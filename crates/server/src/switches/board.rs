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
    switches,
    terms::{Actor, Reason, SwitchName, Timestamp},
};
use lastgood_engine::{
    config::SwitchesConfig,
    switches::{Desk, SayError},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Instant,
};

/// Beats in one lease: three may be late or lost.
const BEATS: u32 = 4;

/// What the board is asked.
pub(super) enum Ask {
    /// Something was written: look.
    Look,
    /// Trip a switch for a client, and answer it.
    Trip { switch: SwitchName, reason: Reason, from: Asker },
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
    /// Gives the time.
    pub now: fn() -> Timestamp,
    /// Is told what is wrong, once for each thing.
    pub tell: Tell,
    /// Is called after a trip over HTTP was written, so that its notices are sent.
    pub written: Box<dyn Fn() + Send>,
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
}

impl Board {
    pub(super) fn new(setting: Setting, posts: Vec<Arc<Post>>) -> Self {
        let by = Actor::new("lastgood:http").expect("a fixed valid name");
        Self { setting, posts, by, told: 0, failing: false }
    }

    /// Looks for the first time, before anybody is answered.
    pub(super) fn first(&mut self) -> Result<Arc<Given>, Failure> {
        let folded = self.setting.desk.look().map_err(|error| Failure::of(&error))?;
        let given = Arc::new(Given::new(&self.setting.config, folded));
        self.tell_damage();
        Ok(given)
    }

    /// Beats, looks and trips until it is told to stop.
    pub(super) fn run(&mut self, asks: &Receiver<Ask>, current: &Current, mut given: Arc<Given>) {
        let beat = self.setting.config.lease.duration() / BEATS;
        let mut next = Instant::now() + beat;
        loop {
            let due = next.saturating_duration_since(Instant::now());
            match asks.recv_timeout(due) {
                Ok(Ask::Look) => self.look(current, &mut given, false),
                Ok(Ask::Trip { switch, reason, from }) => self.trip(current, &mut given, (&switch, &reason), &from),
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // Late beats are not made up for.
                    next = Instant::now() + beat;
                    self.look(current, &mut given, true);
                }
            }
        }
    }

    /// Reads what is new and says it; `beats` says it in any case, if it could be read.
    fn look(&mut self, current: &Current, given: &mut Arc<Given>, beats: bool) {
        match self.setting.desk.look() {
            Ok(folded) => {
                self.failing = false;
                let changed = folded.state.epoch != given.epoch;
                if changed {
                    *given = Arc::new(Given::new(&self.setting.config, folded));
                }
                if changed || beats {
                    self.say(current, given);
                }
                self.tell_damage();
            }
            Err(error) => {
                // Said once, until it works again.
                if !std::mem::replace(&mut self.failing, true) {
                    (self.setting.tell)(&Failure::of(&error));
                }
            }
        }
    }

    fn trip(
        &mut self,
        current: &Current,
        given: &mut Arc<Given>,
        (switch, reason): (&SwitchName, &Reason),
        from: &Asker,
    ) {
        let config = &self.setting.config;
        let declared = config.declared();
        let now = (self.setting.now)();
        let said = self.setting.desk.say_one(&self.by, now, &|_| switches::trip(&declared, switch, reason));
        let (status, answer) = match said {
            Ok((_, folded)) => {
                let epoch = folded.state.epoch;
                *given = Arc::new(Given::new(config, folded));
                self.say(current, given);
                (self.setting.written)();
                let environment = &self.setting.config.environment;
                (200, json!({ "environment": environment, "switch": switch, "tripped": true, "epoch": epoch }))
            }
            Err(error) => {
                let status = if matches!(error, SayError::Refused(_)) { 404 } else { 500 };
                (status, problem(&Failure::of(error.coded())))
            }
        };
        if let Some(post) = self.posts.get(from.shard) {
            post.answer(from.token, status, answer.to_string().into_bytes());
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

/// Makes a problem document (RFC 9457).
pub(super) fn problem(failure: &Failure) -> serde_json::Value {
    json!({
        "type": format!("urn:lastgood:error:{}", failure.code), "title": failure.message, "code": failure.code,
        "hint": failure.hint,
    })
}
