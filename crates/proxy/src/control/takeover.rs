//! The side of the one who takes over: sockets from the proxy that runs, then a link to it until it is gone.

use super::lines::Lines;
use lastgood_domain::{
    terms::ServiceName,
    traffic::{
        Slice, Table,
        wire::{Ask, Listening, Look, Told},
    },
};
use std::{
    collections::BTreeMap,
    io,
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
    /// The last second of each service that was taken over.
    taken: BTreeMap<ServiceName, u64>,
}

/// What was taken over.
pub(crate) struct Taken {
    pub(crate) link: Link,
    pub(crate) sockets: Vec<(Listening, OwnedFd)>,
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
        Some((Told::Listening { sockets: named }, sockets, lines)) if named.len() == sockets.len() => Ok(Some(Taken {
            link: Link { lines, taken: BTreeMap::new() },
            sockets: named.into_iter().zip(sockets).collect(),
        })),
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
        let after = self.taken.get(service).copied().unwrap_or(0);
        match self.ask(&Ask::Slices { service: service.clone(), after })? {
            Told::Slices { slices } => {
                if let Some(last) = slices.last() {
                    self.taken.insert(service.clone(), last.second);
                }
                Ok(slices)
            }
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) fn look(&mut self, service: &ServiceName) -> io::Result<Look> {
        match self.ask(&Ask::Look { service: service.clone() })? {
            Told::Looked(look) => Ok(look),
            _ => Ok(Look::default()),
        }
    }
}
