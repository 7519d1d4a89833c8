//! A HAProxy that is there already, told through its runtime socket.
//!
//! HAProxy keeps no table: it has servers with states, weights and addresses. The table is kept in a file before the first
//! command, and what HAProxy does is read back and compared with it. Nothing of HAProxy's own configuration is changed; a
//! reload puts it back to that, or to the state file, and is noticed.

mod closed;
mod config;
mod counts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod kept;
mod plan;
mod runtime;
mod weights;

pub use config::{HaproxyConfig, RuntimeSocket, Stick};
pub use weights::Weights;

use super::{
    Load, Routed, Router, RouterError,
    exchange::{End, ask},
};
use counts::Book;
use kept::{Kept, Told};
use lastgood_domain::{
    terms::ServiceName,
    traffic::{Slice, Table},
};
use plan::{Plan, choose, releases};
use runtime::{Seen, Unread};
use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Longest wait for one answer; a living HAProxy needs less than a millisecond, and a rollback waits for it.
const WAIT: Duration = Duration::from_secs(2);
/// Longest answer: the statistics of some ten thousand servers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest line of commands: HAProxy's buffer has 16 KiB.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Tells one service's HAProxy.
///
/// Several may be made for the same service, in several processes: a file sees to it that they come one after the other.
#[derive(Debug)]
pub struct Haproxy {
    service: ServiceName,
    config: HaproxyConfig,
    kept: Kept,
    /// One call at a time.
    turn: Mutex<()>,
}

impl Haproxy {
    /// Makes one for a service; `folder` is where it keeps its files, and must be there. Connects to nothing yet.
    pub fn new(service: ServiceName, config: HaproxyConfig, folder: &Path) -> Self {
        let kept = Kept::new(folder, &service);
        Self { service, config, kept, turn: Mutex::new(()) }
    }

    fn at(&self) -> String {
        self.config.socket.0.to_string()
    }

    fn send(&self, line: &str) -> Result<String, RouterError> {
        let answer = ask(&self.config.socket.0, line.as_bytes(), End::Connection, ANSWER_BYTES_MAX, WAIT)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Looks at the backend.
    fn read(&self) -> Result<Seen, RouterError> {
        let backend = &self.config.backend.0;
        let mut line = format!("show info;show servers state {backend};show stat {backend} 4 -1");
        if let Some(map) = &self.config.closed_map {
            line = format!("{line};show map {}", map.0);
        }
        let seen = runtime::read(&self.send(&(line + "\n"))?, self.config.closed_map.is_some());
        let seen = seen.map_err(|unread| match unread {
            Unread::NoBackend => RouterError::BackendUnknown { at: self.at(), backend: backend.clone() },
            Unread::Denied => self.denied(),
            Unread::Strange(why) => RouterError::AnswerUnreadable { at: self.at(), why },
        })?;
        match &self.config.closed_map {
            Some(map) if seen.closed.is_none() => {
                Err(RouterError::MapUnknown { at: self.at(), map: map.0.clone().into() })
            }
            _ => Ok(seen),
        }
    }

    fn denied(&self) -> RouterError {
        RouterError::Denied { at: self.at(), why: "the socket's level is below admin".into() }
    }

    /// Sends commands, as many as fit in a line at once, and gives what HAProxy complains of.
    fn tell(&self, commands: &[String]) -> Result<Vec<String>, RouterError> {
        let mut lines = vec![String::new()];
        for command in commands {
            match lines.last_mut().filter(|line| line.len() + command.len() < LINE_BYTES_MAX) {
                Some(line) if line.is_empty() => line.push_str(command),
                Some(line) => *line = format!("{line};{command}"),
                None => lines.push(command.clone()),
            }
        }
        let mut said = Vec::new();
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let answer = self.send(&format!("{line}\n"))?;
            if answer.contains("Permission denied") {
                return Err(self.denied());
            }
            // It also tells what it did.
            let words = answer.lines().filter(|line| !line.is_empty() && !line.ends_with("by 'stats socket command'"));
            said.extend(words.take(5).map(|line| line.chars().take(200).collect::<String>()));
        }
        Ok(said)
    }

    /// Makes the map of closed routes so, all of it at one instant; before that the file, for the next reload.
    ///
    /// A file that can't be written is no reason to leave routes open: it is given back to be told at the end.
    fn close(&self, plan: &Plan, seen: &Seen) -> Result<Option<RouterError>, RouterError> {
        let Some(map) = self.config.closed_map.as_ref().map(|map| map.0.as_str()) else { return Ok(None) };
        let file = closed::file(&plan.closed);
        let unwritten = save(map, &file).err();
        if seen.closed.as_ref() != Some(&plan.closed) {
            let answer = self.send(&format!("prepare map {map}\n"))?;
            if answer.contains("Permission denied") {
                return Err(self.denied());
            }
            let version = answer.trim().strip_prefix("New version created: ");
            let version = version.filter(|version| version.bytes().all(|byte| byte.is_ascii_digit()));
            let unreadable = || RouterError::AnswerUnreadable { at: self.at(), why: format!("{:?}", answer.trim()) };
            for command in closed::replace(map, version.ok_or_else(unreadable)?, &plan.closed) {
                self.send(&format!("{command}\n"))?;
            }
        }
        Ok(unwritten)
    }

    /// Makes a plan so: brings up, makes sure, takes away.
    fn make_so(&self, plan: &Plan, seen: &Seen) -> Result<(), RouterError> {
        let unwritten = self.close(plan, seen)?;
        let mut said = self.tell(&plan.bring_up(seen))?;
        let mut now = self.read()?;
        let down = plan.down(&now);
        if !down.is_empty() {
            // The engine has seen them ready; HAProxy's checks may lag behind. If they don't answer it finds out again.
            said.extend(
                self.tell(&down.iter().map(|server| format!("set server {server} health up")).collect::<Vec<_>>())?,
            );
            now = self.read()?;
        }
        let down = plan.down(&now);
        if !plan.can_serve(&now) && !down.is_empty() {
            return Err(RouterError::ServerDown { servers: down });
        }
        said.extend(self.tell(&plan.take_down(&now))?);
        let now = self.read()?;
        let mut differences = plan.differences(&now);
        if !differences.is_empty() {
            differences.extend(said.into_iter().map(|words| format!("HAProxy says: {words}")));
            return Err(RouterError::Unconfirmed { epoch: plan.epoch(), differences });
        }
        if let Some(path) = &self.config.state_file {
            save(&path.0, &now.state)?;
        }
        match (unwritten, plan.down(&now)) {
            (Some(unwritten), _) => Err(unwritten),
            (None, down) if !down.is_empty() => Err(RouterError::ServerDown { servers: down }),
            _ => Ok(()),
        }
    }

    /// Takes a look at HAProxy into the book, under the table that it worked by.
    fn take_in(&self, book: &mut Book, seen: &Seen, told: Option<&Told>) -> Result<(), RouterError> {
        let releases = told.map(|told| releases(&self.config, &told.table)).transpose()?.unwrap_or_default();
        book.take_in(seen, &releases);
        Ok(())
    }

    fn is_ours(&self, service: &ServiceName) -> Result<(), RouterError> {
        if *service == self.service {
            return Ok(());
        }
        Err(RouterError::TableUnfit { why: format!("this HAProxy is told for {}, not for {service}", self.service) })
    }
}

impl Router for Haproxy {
    fn route(&self, table: &Table) -> Result<Routed, RouterError> {
        let began = Instant::now();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ours(&table.service)?;
        table.check().map_err(|source| RouterError::TableWrong { source })?;
        let _lock = self.kept.lock()?;
        let before = self.kept.told()?;
        let told = match &before {
            Some(before) if before.table == *table => before.clone(),
            Some(before) if before.table.epoch >= table.epoch => {
                return Err(RouterError::TableOlder { asked: table.epoch, has: before.table.epoch });
            }
            before => Told { table: table.clone(), weights: choose(&self.config, table, before.as_ref()) },
        };
        let seen = self.read()?;
        let plan = Plan::new(&self.config, &told, &seen)?;
        plan.check_busy(&seen)?;
        let mut book = self.kept.book()?;
        self.take_in(&mut book, &seen, before.as_ref())?;
        self.kept.keep_book(&book)?;
        self.kept.keep_told(&told)?;
        self.make_so(&plan, &seen)?;
        Ok(Routed { epoch: table.epoch, share: plan.share, took: began.elapsed() })
    }

    /// HAProxy tells no latencies but averages, no people and not how tunnels end: these are left empty.
    ///
    /// A slice holds what came since the call before, so it is to be called each second. Errors: also
    /// [`RouterError::Drifted`] if HAProxy does not do what it was told, as after a reload; the counts are kept for later.
    fn slices(&self, service: &ServiceName, after: u64) -> Result<Vec<Slice>, RouterError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ours(service)?;
        let _lock = self.kept.lock()?;
        let Some(told) = self.kept.told()? else { return Ok(Vec::new()) };
        let mut book = self.kept.book()?;
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if book.wants(second) {
            let seen = self.read()?;
            self.take_in(&mut book, &seen, Some(&told))?;
            book.close(second, after);
            self.kept.keep_book(&book)?;
            let differences = Plan::new(&self.config, &told, &seen)?.differences(&seen);
            if !differences.is_empty() {
                return Err(RouterError::Drifted { epoch: told.table.epoch, differences });
            }
        }
        Ok(book.after(after))
    }

    /// HAProxy does not tell tunnels from requests. Errors: also [`RouterError::OlderProcess`] after a reload, while the
    /// process before still finishes what it has: a release is not empty because the new process has nothing of it.
    fn look(&self, service: &ServiceName) -> Result<Vec<Load>, RouterError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ours(service)?;
        let _lock = self.kept.lock()?;
        let Some(told) = self.kept.told()? else { return Ok(Vec::new()) };
        let mut book = self.kept.book()?;
        let seen = self.read()?;
        self.take_in(&mut book, &seen, Some(&told))?;
        let older = book.older(is_haproxy);
        self.kept.keep_book(&book)?;
        if let Some(pid) = older {
            return Err(RouterError::OlderProcess { pid });
        }
        let releases = releases(&self.config, &told.table)?;
        let load = |release| {
            let servers = releases.iter().filter(|(_, whose)| **whose == release).map(|(server, _)| server);
            let in_flight = servers.filter_map(|server| seen.servers.get(server)).map(|server| server.sessions).sum();
            Load { release, in_flight, tunnels: None, people: None }
        };
        Ok(told.table.sides().map(|side| load(side.release)).collect())
    }
}

/// Writes a file for HAProxy's next reload, if it is not so already.
fn save(path: &str, text: &str) -> Result<(), RouterError> {
    if fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    let written = kept::replace(Path::new(path), text.as_bytes(), 0o644, true);
    written.map_err(|source| RouterError::File { act: "write", path: path.into(), source })
}

/// Tells whether the process is there and is a HAProxy.
fn is_haproxy(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("haproxy"))
}
