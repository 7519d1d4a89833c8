//! Does a client that is cut off on one release and comes back on the other lose a message, or get one twice?
//!
//! Error rates don't show it: a release that forgets where a client was answers everything with 200. So the gate is a
//! few clients itself, on both releases at once, and counts. It decides nothing: called with last-good for both sides
//! it is its own control.

mod client;
mod config;
mod failure;
mod heard;

pub use config::{ResumeConfig, ResumeKeys};
pub use failure::{ResumeFailure, ResumePart};

use super::{
    ProbeTarget,
    run::{Session, span},
    wire::Trouble,
};
use client::Client;
use lastgood_domain::facts::ResumeFacts;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// The side of last-good.
const LAST_GOOD: usize = 0;
/// The side of the candidate.
const CANDIDATE: usize = 1;
/// Between two messages that are sent while a client is away: 20 of them cover the seam of a slow replay.
const PACE: Duration = Duration::from_millis(2);
/// Most messages sent before a client has got what it missed: it has had half a second then.
const AWAY_MAX: usize = 300;
/// How long is listened after all has come: a service that pushes twice, or from two processes, does so at once.
const LINGER: Duration = Duration::from_millis(250);
/// Connections of each client in the last part.
const ROUNDS: u32 = 4;
/// Longest wait that is meant by "no limit": an `Instant` must not overflow.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 86_400);

impl ResumeConfig {
    /// Does the whole gate; see docs/guide/sessions-and-resume.md.
    ///
    /// Takes at most `deadline`, and ends with the first part that fails. Errors: the part, and the messages that are
    /// missing, doubled or out of order, or what else went wrong; without secrets.
    pub fn run(
        &self,
        last_good: &ProbeTarget,
        candidate: &ProbeTarget,
        deadline: Duration,
    ) -> Result<ResumeFacts, ResumeFailure> {
        let started = Instant::now();
        let until = started + deadline.min(DEADLINE_MAX);
        let fails = |words: String| ResumeFailure::trouble(ResumePart::LastGood, last_good.secrets.scrub(&words));
        let mut session = Session::open(last_good, until).map_err(|trouble| fails(trouble.got))?;
        for step in &self.keys.before {
            session.step(step).map_err(|failure| fails(failure.to_string()))?;
        }
        let moved = session.moved_to(candidate).map_err(|trouble| fails(trouble.got))?;
        let chance = getrandom::u32().map_err(|error| fails(format!("the system gives no chance ({error})")))?;
        // 30 bits in six letters and digits: short in a log, and no other gate of a room has them.
        let run =
            (0..6).map(|place| char::from(b"0123456789abcdefghjkmnpqrstvwxyz"[(chance >> (place * 5)) as usize & 31]));
        let gate = Gate {
            config: self,
            run: run.collect(),
            sides: [session, moved],
            deadline: until,
            hidden: Mutex::default(),
        };
        let mut facts = gate.all()?;
        facts.took = span(started.elapsed());
        Ok(facts)
    }
}

/// One gate under way.
struct Gate<'g> {
    config: &'g ResumeConfig,
    run: String,
    sides: [Session<'g>; 2],
    deadline: Instant,
    /// The ids of sessions, which are not shown: whoever has one could go on in its place.
    hidden: Mutex<BTreeSet<String>>,
}

/// What a part has shown.
struct Shown {
    sent: usize,
    /// Sent while the client was away.
    replayed: usize,
}

impl Gate<'_> {
    fn side(&self, side: usize) -> &Session<'_> {
        &self.sides[side]
    }

    /// Keeps a session's id out of what is shown.
    fn hide(&self, id: &str) {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// Takes out what nobody may read, and cuts what is too long.
    fn presentable(&self, side: usize, text: &str) -> String {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        self.side(side).presentable_without(text, hidden.iter().map(String::as_str))
    }

    /// Gives the end of what begins now.
    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + self.config.timeout.duration().min(DEADLINE_MAX))
    }

    fn all(&self) -> Result<ResumeFacts, ResumeFailure> {
        let mut client = self.connect(ResumePart::LastGood, 1, LAST_GOOD)?;
        let mut sent = self.talk(ResumePart::LastGood, LAST_GOOD, &mut client)?;
        self.connect(ResumePart::Handshake, 2, CANDIDATE)?.close();
        let forward = self.cross(ResumePart::Forward, &mut client, 3, LAST_GOOD, CANDIDATE)?;
        sent += self.talk(ResumePart::Backward, CANDIDATE, &mut client)?;
        let backward = self.cross(ResumePart::Backward, &mut client, 5, CANDIDATE, LAST_GOOD)?;
        client.close();
        let many = self.many(7)?;
        let sent = sent + forward.sent + backward.sent + many;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(ResumeFacts {
            sent: count(sent),
            // Nothing is missing, or a part would have failed.
            delivered: count(sent),
            replayed: count(forward.replayed + backward.replayed),
            ..ResumeFacts::default()
        })
    }

    fn connect(&self, part: ResumePart, number: u32, side: usize) -> Result<Client<'_>, ResumeFailure> {
        Client::connect(self, number, side).map_err(|trouble| self.trouble(part, side, &trouble))
    }

    /// Lets a client send and get its own messages back.
    fn talk(&self, part: ResumePart, side: usize, client: &mut Client<'_>) -> Result<usize, ResumeFailure> {
        let said = |client: &mut Client<'_>| {
            let ids = (0..self.config.messages).map(|_| client.send()).collect::<Result<Vec<_>, _>>()?;
            client.hear_all(&ids).map(|()| ids)
        };
        let ids = said(client).map_err(|trouble| self.trouble(part, side, &trouble))?;
        self.judge(part, &ids, client, None)?;
        Ok(ids.len())
    }

    /// Cuts a client off on one side and lets it come back to the other, while messages are sent through both.
    fn cross(
        &self,
        part: ResumePart,
        client: &mut Client<'_>,
        number: u32,
        from: usize,
        to: usize,
    ) -> Result<Shown, ResumeFailure> {
        let mut senders = [self.connect(part, number, from)?, self.connect(part, number + 1, to)?];
        let meanwhile = Meanwhile { half: self.config.messages.div_ceil(2) as usize, ..Meanwhile::default() };
        let (tell, told) = mpsc::channel();
        client.cut();
        let (back, sent) = thread::scope(|scope| {
            let (sends, both) = (&meanwhile, &mut senders);
            let sending = scope.spawn(move || sends.send(both, tell));
            // A sender that fails hangs up, and says why below.
            let _failed = told.recv();
            let back = client.resume(to).and_then(|()| {
                let missed = meanwhile.ids();
                client.hear_all(&missed).map(|()| missed)
            });
            let is_whole = back.as_ref().is_ok_and(|missed| client.heard.has_all(missed));
            meanwhile.is_replayed.store(is_whole, Ordering::SeqCst);
            meanwhile.is_lost.store(!is_whole, Ordering::SeqCst);
            (back, sending.join())
        });
        sent.unwrap_or_else(|_| Err((0, Trouble::failed("a sender that broke"))))
            .map_err(|(at, trouble)| self.trouble(part, if at == 0 { from } else { to }, &trouble))?;
        let replayed = back.map_err(|trouble| self.trouble(part, to, &trouble))?;
        let ids = meanwhile.ids();
        if client.heard.has_all(&replayed) {
            let heard = client.hear_all(&ids).and_then(|()| client.hear_for(LINGER));
            heard.map_err(|trouble| self.trouble(part, to, &trouble))?;
        }
        let besides = if client.heard.has_all(&ids) { None } else { refusal(&mut senders) };
        self.judge(part, &ids, client, besides)?;
        Ok(Shown { sent: ids.len(), replayed: replayed.len() })
    }

    /// Lets several clients send and hear at once, each moved to the other side again and again.
    fn many(&self, first: u32) -> Result<usize, ResumeFailure> {
        let part = ResumePart::Conservation;
        let each = self.config.messages.div_ceil(ROUNDS);
        let numbers = first..first + self.config.clients;
        let ids: Vec<String> = numbers
            .clone()
            .flat_map(|number| (1..=each * ROUNDS).map(move |n| (number, n)))
            .map(|(number, n)| format!("{}-{number}-{n}", self.run))
            .collect();
        let start = |number: u32| (number - first) as usize % 2;
        // All of them listen before the first one sends.
        let clients = numbers.map(|number| self.connect(part, number, start(number))).collect::<Result<Vec<_>, _>>()?;
        let done: Vec<_> = thread::scope(|scope| {
            let all = &ids;
            let threads: Vec<_> = (first..)
                .zip(clients)
                .map(|(number, client)| scope.spawn(move || self.wander(client, start(number), each, all)))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut heard = Vec::new();
        for one in done {
            let broke = |_| Err((LAST_GOOD, Trouble::failed("a client that broke")));
            heard.push(one.unwrap_or_else(broke).map_err(|(side, trouble)| self.trouble(part, side, &trouble))?);
        }
        // Who did not even get its own messages back sent no more, and so the others miss more than was lost.
        heard.sort_by_key(|(_, owed)| owed.len());
        heard.iter().try_for_each(|(client, owed)| self.judge(part, owed, client, None))?;
        Ok(ids.len())
    }

    /// Sends and listens on both sides in turn; gives the client and what it should have heard.
    fn wander<'c>(
        &self,
        mut client: Client<'c>,
        start: usize,
        each: u32,
        all: &[String],
    ) -> Result<(Client<'c>, Vec<String>), (usize, Trouble)> {
        let mut side = start;
        for round in 0..ROUNDS {
            if round > 0 {
                client.cut();
                side = 1 - side;
                client.resume(side).map_err(|trouble| (side, trouble))?;
            }
            let own = (0..each).map(|_| client.send()).collect::<Result<Vec<_>, _>>();
            // What a sender has not got back may still be on its way through the other release: no order then.
            let own = own.and_then(|own| client.hear_all(&own).map(|()| own)).map_err(|trouble| (side, trouble))?;
            if !client.heard.has_all(&own) {
                return Ok((client, own));
            }
        }
        client.hear_all(all).and_then(|()| client.hear_for(LINGER)).map_err(|trouble| (side, trouble))?;
        Ok((client, all.to_vec()))
    }

    fn judge(
        &self,
        part: ResumePart,
        ids: &[String],
        client: &Client<'_>,
        besides: Option<String>,
    ) -> Result<(), ResumeFailure> {
        let heard = &client.heard;
        let (missing, doubled) = (heard.missing(ids), heard.doubled());
        if missing.is_empty() && doubled.is_empty() && heard.disordered.is_empty() {
            return Ok(());
        }
        let besides = besides.or_else(|| client.besides.clone()).filter(|_| !missing.is_empty());
        Err(ResumeFailure {
            part,
            expected: ids.len(),
            waited: self.config.timeout.0,
            missing,
            doubled,
            disordered: heard.disordered.clone(),
            trouble: None,
            besides: besides.map(|text| self.presentable(LAST_GOOD, &text)),
        })
    }

    fn trouble(&self, part: ResumePart, side: usize, trouble: &Trouble) -> ResumeFailure {
        let whose = if side == LAST_GOOD { "last-good" } else { "the candidate" };
        let got = self.presentable(side, &trouble.got);
        ResumeFailure::trouble(part, format!("{whose} gave {got}"))
    }
}

/// Gives what a sender was told that is no delivery, such as a refusal.
fn refusal(senders: &mut [Client<'_>; 2]) -> Option<String> {
    senders.iter_mut().find_map(|sender| {
        // Whether it is cut off by now does not matter: only what it was told before does.
        let _over = sender.hear_for(LINGER);
        sender.besides.take()
    })
}

/// What is sent through both releases while a client is away and comes back.
#[derive(Default)]
struct Meanwhile {
    /// So many are sent before it comes back, and again when it has got what it missed.
    half: usize,
    ids: Mutex<Vec<String>>,
    /// The client has got what was sent while it was away.
    is_replayed: AtomicBool,
    /// The client did not come back, or did not get it.
    is_lost: AtomicBool,
}

impl Meanwhile {
    /// Gives what was sent so far.
    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends in turn, through the whole replay and beyond; hangs up on `tell` however it ends.
    ///
    /// Errors: which sender it was.
    fn send(&self, senders: &mut [Client<'_>; 2], tell: mpsc::Sender<()>) -> Result<(), (usize, Trouble)> {
        let (mut sent, mut last) = (0, usize::MAX);
        while sent < last && !self.is_lost.load(Ordering::SeqCst) {
            if last == usize::MAX && self.is_replayed.load(Ordering::SeqCst) {
                last = sent + self.half;
            }
            if sent < AWAY_MAX || last < usize::MAX {
                let at = sent % 2;
                let id = senders[at].send().map_err(|trouble| (at, trouble))?;
                self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                sent += 1;
            }
            if sent == self.half {
                // Nobody waits for it twice.
                let _told = tell.send(());
            }
            thread::sleep(PACE);
        }
        Ok(())
    }
}
