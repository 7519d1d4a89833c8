//! Trips that the chain did not take: kept in files beside it, until somebody resets them.
//!
//! A chain whose end was damaged takes no record, and tripping must be possible all the same. A file can only trip: it is
//! written into the chain and removed before anything of its environment is reset.

use super::Desk;
use lastgood_domain::{
    failure::Failure,
    switches::{self, Declared, Event, Record, Switches},
    terms::{Actor, EnvironmentName, Reason, SwitchName, Timestamp},
};
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// What a file's name ends with; what is still being written ends otherwise.
const ENDING: &str = ".json";

/// The folder of one environment's trips that its chain did not take.
#[derive(Debug, Clone)]
pub struct Beside {
    folder: PathBuf,
}

impl Beside {
    /// Names the folder; it is made when it is needed.
    pub fn of(state_dir: &Path, environment: &EnvironmentName) -> Self {
        Self { folder: state_dir.join("tripped").join(environment.as_str()) }
    }

    /// Keeps a trip, on disk when it returns. One of the same switch is replaced.
    ///
    /// Errors: `state-dir-unusable`.
    pub fn keep(&self, switch: &SwitchName, record: &Record) -> Result<(), Failure> {
        let path = self.path(switch);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let new = path.with_extension(format!("{}-{:?}.new", std::process::id(), std::thread::current().id()));
            let mut file = fs::File::options().write(true).create(true).truncate(true).open(&new)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            // The folders may be as new as the file.
            self.folder.ancestors().take(3).try_for_each(|folder| fs::File::open(folder)?.sync_all())
        };
        write().map_err(|error| unusable(&path, &error))
    }

    /// Gives what is tripped here, by the switches' names.
    ///
    /// Errors: the folder can't be read, so nobody knows what is tripped.
    pub fn read(&self) -> Result<Vec<Kept>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(&self.folder, &error)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unusable(&self.folder, &error))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(ENDING)).map(SwitchName::new);
            let Some(Ok(switch)) = name else { continue };
            let bytes = fs::read(self.path(&switch)).unwrap_or_default();
            kept.push(match serde_json::from_slice(&bytes) {
                Ok(Record { at, by, event: Event::Tripped { switch: named, reason }, .. }) if named == switch => {
                    Kept { switch, at, by, reason }
                }
                _ => Kept::unknown(switch),
            });
        }
        kept.sort_by(|one, other| one.switch.cmp(&other.switch));
        Ok(kept)
    }

    /// Adds what is tripped here to what the chain says.
    ///
    /// Errors: as [`Beside::read`].
    pub fn add_to(&self, state: &mut Switches) -> Result<(), Failure> {
        for Kept { switch, at, by, reason } in self.read()? {
            state.trip_beside(&switch, at, &by, &reason);
        }
        Ok(())
    }

    /// Writes what is tripped here into the chain, in the name of whoever tripped it, and removes it here.
    ///
    /// Errors: the chain still takes no record; it stays tripped here.
    pub fn hand_over(&self, desk: &mut Desk, now: Timestamp) -> Result<(), Failure> {
        for Kept { switch, by, reason, .. } in self.read()? {
            let event = Event::Tripped { switch: switch.clone(), reason };
            desk.say_one(&by, now, &|_| Ok(event.clone())).map_err(|error| Failure::of(error.coded()))?;
            let path = self.path(&switch);
            // A crash before this only trips it once more.
            let removed = fs::remove_file(&path).and_then(|()| fs::File::open(&self.folder)?.sync_all());
            removed.map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    fn path(&self, switch: &SwitchName) -> PathBuf {
        self.folder.join(format!("{switch}{ENDING}"))
    }
}

/// One trip that is kept beside the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which switch.
    pub switch: SwitchName,
    /// Since when.
    pub at: Timestamp,
    /// Who tripped it.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
}

impl Kept {
    /// What stands for a trip that can't be read: it was kept, and no more is known.
    fn unknown(switch: SwitchName) -> Self {
        let reason = Reason::new("it was tripped; what was kept of it can't be read").expect("a fixed valid reason");
        Self { switch, at: Timestamp(0), by: Actor::new("lastgood:unknown").expect("a fixed valid name"), reason }
    }
}

/// How a switch was tripped.
#[derive(Debug)]
pub enum Tripped {
    /// In the chain; its state after that.
    Written(Switches),
    /// Beside the chain, which did not take the record.
    Kept {
        /// Why not.
        because: Failure,
    },
}

/// Trips a switch in one step: in the chain, or beside it if that takes no record. `desk` is the chain, if it could be
/// opened.
///
/// Errors: there is no such switch; it can be written neither here nor there.
pub fn trip(
    desk: Result<&mut Desk, Failure>,
    beside: &Beside,
    declared: &Declared,
    (by, now): (&Actor, Timestamp),
    (switch, reason): (&SwitchName, &Reason),
) -> Result<Tripped, Failure> {
    let event = switches::trip(declared, switch, reason).map_err(|refused| Failure::of(&refused))?;
    let written = desk.and_then(|desk| match desk.say_one(by, now, &|_| Ok(event.clone())) {
        Ok((_, folded)) => Ok(folded.state.clone()),
        Err(error) => Err(Failure::of(error.coded())),
    });
    match written {
        Ok(state) => Ok(Tripped::Written(state)),
        Err(because) => {
            let record = Record { v: Record::VERSION, at: now, by: by.clone(), event };
            // The first cause is the one to mend.
            match beside.keep(switch, &record) {
                Ok(()) => Ok(Tripped::Kept { because }),
                Err(_) => Err(because),
            }
        }
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{}: {error}", path.display());
    Failure::new("state-dir-unusable", what, Some("check owner, mode and space of the state folder"))
}
