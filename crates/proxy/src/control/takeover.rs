//! The side of the one who takes over: sockets from the proxy that runs, then a link to it until it is gone.

use super::{lines::Lines, server};
use lastgood_domain::{
    terms::ServiceName,
    traffic::{
        Slice, Table,
        wire::{Ask, Heard, Listening, Look, Told},
    },
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

/// How long the one before may take to answer; it does nothing for it but count.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the proxy that ran before.
#[derive(Debug)]
pub(crate) struct Link {
    lines: Lines,
    taken: BTreeMap<ServiceName, Reached>,
}

/// How far the counts of a service were taken over.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// The last second that was taken.
    taken: u64,
    /// The last one that is over there.
    finished: u64,
}

/// What was taken over.
pub(crate) struct Taken {
    pub(crate) link: Link,
    pub(crate) sockets: Vec<(Listening, OwnedFd)>,
    pub(crate) heard: Vec<Heard>,
}

/// Looks for a proxy that still finishes what it has and whose successor is gone: the newest, which knows the others.
pub(crate) fn orphan(state_dir: &Path) -> Option<Link> {
    find(state_dir, &BTreeMap::new())
}

fn find(state_dir: &Path, taken: &BTreeMap<ServiceName, Reached>) -> Option<Link> {
    let own = server::own_socket(state_dir, std::process::id());
    let mut sockets: Vec<_> = fs::read_dir(state_dir)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| *path != own && server::is_own_socket(path))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    sockets.sort();
    sockets.into_iter().rev().find_map(|(_, path)| {
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) => {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    // It died and left its socket.
                    let _ = fs::remove_file(&path);
                }
                return None;
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let mut link = Link { lines: Lines::new(stream), taken: taken.clone() };
        matches!(link.ask(&Ask::Succeed), Ok(Told::Stopping)).then_some(link)
    })
}

/// Asks the proxy at `socket` for its listening sockets; `None` if none runs there.
pub(crate) fn take(socket: &Path) -> Result<Option<Taken>, String> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        // Nobody there, or one that died and left its socket.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let asked = || -> io::Result<Option<(Told, Vec<OwnedFd>, Lines)>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = Lines::new(stream);
        lines.write(&Ask::HandOver)?;
        Ok(lines.read_with()?.map(|(told, sockets)| (told, sockets, lines)))
    };
    match asked().map_err(|error| error.to_string())? {
        Some((Told::Listening { sockets: named, heard }, sockets, lines)) if named.len() == sockets.len() => {
            Ok(Some(Taken {
                link: Link { lines, taken: BTreeMap::new() },
                sockets: named.into_iter().zip(sockets).collect(),
                heard,
            }))
        }
        Some((Told::Refused { why, .. }, ..)) => Err(why),
        Some(_) => Err("it answered something else".into()),
        // It was about to exit.
        None => Ok(None),
    }
}

impl Link {
    fn ask(&mut self, ask: &Ask) -> io::Result<Told> {
        self.lines.write(ask)?;
        self.lines.read()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Says that this proxy serves now.
    pub(crate) fn ready(&mut self) -> Result<(), String> {
        match self.ask(&Ask::Ready) {
            Ok(Told::Stopping) => Ok(()),
            Ok(_) => Err("it answered something else".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Passes a table on, for the tunnels that are still there.
    pub(crate) fn route(&mut self, table: &Table) -> io::Result<()> {
        self.ask(&Ask::Route { table: table.clone() }).map(drop)
    }

    /// Gives the seconds that it has finished since it was last asked.
    pub(crate) fn slices(&mut self, service: &ServiceName) -> io::Result<Vec<Slice>> {
        let reached = self.taken.get(service).copied().unwrap_or_default();
        match self.ask(&Ask::Slices { service: service.clone(), after: reached.taken })? {
            Told::Slices { slices, finished } => {
                let taken = slices.last().map_or(reached.taken, |last| last.second);
                self.taken.insert(service.clone(), Reached { taken, finished });
                Ok(slices)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Gives the last second of a service that was over there when it was last asked.
    pub(crate) fn finished(&self, service: &ServiceName) -> Option<u64> {
        self.taken.get(service).map(|reached| reached.finished)
    }

    /// Looks for the one who handed over to the process that this link led to, now that it is gone.
    pub(crate) fn behind(&self, state_dir: &Path) -> Option<Self> {
        // What it had counted up to here came by way of the other.
        find(state_dir, &self.taken)
    }

    pub(crate) fn look(&mut self, service: &ServiceName) -> io::Result<Look> {
        match self.ask(&Ask::Look { service: service.clone() })? {
            Told::Looked(look) => Ok(look),
            _ => Ok(Look::default()),
        }
    }
}
