//! A client of the control socket that says all it hears; what the product uses is in the drivers.

use lastgood_domain::{
    terms::ServiceName,
    traffic::{
        Slice, Table,
        wire::{Ask, LINE_MAX, Look, SOCKET, Told},
    },
};
use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Why the proxy did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuiltinError {
    /// Nobody answers at the socket.
    #[error("the proxy does not answer at {socket}", socket = socket.display())]
    Unreachable {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It refused.
    #[error("the proxy refused: {why}")]
    Refused {
        /// Why, in its words.
        why: String,
        /// The epoch of the table it uses, when a table was refused.
        epoch: Option<u64>,
    },
    /// It answered something that is no answer to what was asked.
    #[error("the proxy's answer does not fit: {0}")]
    Unfit(String),
}

/// A proxy's control socket. Each call is a connection of its own, so that it reaches whoever serves now.
#[derive(Debug, Clone)]
pub(crate) struct Builtin {
    socket: PathBuf,
    patience: Duration,
}

impl Builtin {
    /// Names the proxy whose state is in `state_dir`; a call takes at most `patience`.
    pub(crate) fn new(state_dir: &Path, patience: Duration) -> Self {
        Self { socket: state_dir.join(SOCKET), patience }
    }

    /// Has a table used; gives its epoch. The same table again is no error.
    pub(crate) fn route(&self, table: &Table) -> Result<u64, BuiltinError> {
        match self.ask(&Ask::Route { table: table.clone() })? {
            Told::Routed { epoch } => Ok(epoch),
            other => Err(unfit(&other)),
        }
    }

    /// Gives the finished seconds later than `after`, oldest first.
    pub(crate) fn slices(&self, service: &ServiceName, after: u64) -> Result<Vec<Slice>, BuiltinError> {
        match self.ask(&Ask::Slices { service: service.clone(), after })? {
            Told::Slices { slices, .. } => Ok(slices),
            other => Err(unfit(&other)),
        }
    }

    /// Tells what goes on right now.
    pub(crate) fn look(&self, service: &ServiceName) -> Result<Look, BuiltinError> {
        match self.ask(&Ask::Look { service: service.clone() })? {
            Told::Looked(look) => Ok(look),
            other => Err(unfit(&other)),
        }
    }

    /// Stops it: nothing new, what runs is finished, tunnels are closed with 1012 after `grace`.
    pub(crate) fn stop(&self, grace: Duration) -> Result<(), BuiltinError> {
        let grace_seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        match self.ask(&Ask::Stop { grace_seconds })? {
            Told::Stopping => Ok(()),
            other => Err(unfit(&other)),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Told, BuiltinError> {
        let told =
            self.exchange(ask).map_err(|source| BuiltinError::Unreachable { socket: self.socket.clone(), source })?;
        match told {
            Told::Refused { why, epoch } => Err(BuiltinError::Refused { why, epoch }),
            told => Ok(told),
        }
    }

    fn exchange(&self, ask: &Ask) -> io::Result<Told> {
        let until = Instant::now() + self.patience;
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_write_timeout(Some(self.patience))?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        let mut piece = [0; 16 << 10];
        while answer.last() != Some(&b'\n') {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend(&piece[..count]),
            }
            // Slices of three minutes are the longest answers.
            if answer.len() > 4 * LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn unfit(told: &Told) -> BuiltinError {
    let said: String = serde_json::to_string(told).unwrap_or_default().chars().take(200).collect();
    BuiltinError::Unfit(said)
}
