//! An environment's flags and switches as a chain that people write to.

mod beside;
mod letter;

use crate::{
    config::SwitchesConfig,
    desk::{self, Subject},
    doubt,
    log::Route,
};
use lastgood_domain::{
    failure::Failure,
    operations::people::People,
    switches::{self, Event, Record, Switches},
    terms::{Actor, ChainName, EnvironmentName, SwitchName, Timestamp},
};
use lastgood_store::{NewNotice, READ_RECORDS_MAX, Reader, StoreError};
use std::path::{Path, PathBuf};

pub use crate::desk::Damaged;
pub use beside::{Beside, Kept, Tripped, trip};

/// Names the chain that holds an environment's records.
pub fn chain_of(environment: &EnvironmentName) -> ChainName {
    ChainName::new(&format!("switches/{environment}")).expect("an environment's name is shorter than a chain's")
}

/// Gives an environment's records that can be read, oldest first.
///
/// Errors: the store can't be read at all; a single bad record is left out.
pub fn records(reader: &Reader, environment: &EnvironmentName) -> Result<Vec<Record>, StoreError> {
    let chain = chain_of(environment);
    let (size, mut from, mut all) = (reader.head(&chain)?.size, 0, Vec::new());
    while from < size {
        let stored = match reader.read(&chain, from, READ_RECORDS_MAX) {
            // One row of a wrong form hides all others of the same look.
            Err(StoreError::Damaged { .. }) => match reader.read(&chain, from, 1) {
                Err(StoreError::Damaged { .. }) => Vec::new(),
                other => other?,
            },
            other => other?,
        };
        from = stored.last().map_or(from, |last| last.seq) + 1;
        all.extend(stored.iter().filter_map(|one| Scope::parse(&one.bytes).ok()));
    }
    Ok(all)
}

/// Reads the state of now, of the chain and of what is kept beside it.
///
/// Errors: one of them can't be read.
pub fn read(reader: &Reader, state_dir: &Path, scope: &Scope) -> Result<Folded, Failure> {
    let mut folded = Folded::read(reader, scope).map_err(|error| Failure::of(&error))?;
    Beside::of(state_dir, &scope.environment).add_to(&mut folded.state)?;
    Ok(folded)
}

/// Says which of `known` count as tripped only because a record can't be read; nothing where none does.
pub fn doubt(switches: &Switches, known: &[SwitchName]) -> Option<String> {
    let names: Vec<String> = switches.doubtful(known).into_iter().map(ToString::to_string).collect();
    let seq = switches.doubt.as_ref()?.seq;
    let many = if names.len() == 1 { "counts" } else { "count" };
    (!names.is_empty())
        .then(|| format!("record {seq} of the switches' chain can't be read: {} {many} as tripped", names.join(", ")))
}

/// An environment, and who may change what of it.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Which.
    pub environment: EnvironmentName,
    /// Who may do what.
    pub people: People,
    /// The state folder, and where what was signed is kept elsewhere; `None` compares nothing.
    witness: Option<(PathBuf, PathBuf)>,
}

impl Scope {
    /// Gives the scope of lastgood itself, which carries out what people decided, or of who reads the bare records.
    pub fn of(environment: &EnvironmentName) -> Self {
        Self { environment: environment.clone(), people: People::default(), witness: None }
    }

    /// Gives the scope of who goes by the switches: where what was signed speaks against the chain in `state_dir`, each
    /// counts as tripped.
    pub fn witnessed(config: &SwitchesConfig, state_dir: &Path) -> Self {
        let witness = Some((state_dir.to_path_buf(), config.anchor.clone()));
        Self { witness, ..Self::of(&config.environment) }
    }

    /// Gives the same for `people`.
    pub fn for_people(self, people: People) -> Self {
        Self { people, ..self }
    }
}

/// An environment's state as of one place in its chain.
pub type Folded = desk::Folded<Scope>;
/// An environment's chain, open for writing.
pub type Desk = desk::Desk<Scope>;
/// Why nothing was said.
pub type SayError = desk::SayError<switches::Refused>;

impl Subject for Scope {
    type State = Switches;
    type Record = Record;
    type Event = Event;
    type Refused = switches::Refused;

    fn chain(&self) -> ChainName {
        chain_of(&self.environment)
    }

    fn parse(bytes: &[u8]) -> Result<Record, String> {
        desk::parse(bytes, |entry| {
            let event = Event::RewindAcknowledged { reason: entry.reason.to_string() };
            Self::record(entry.at, entry.actor, event)
        })
    }

    fn record(at: Timestamp, by: Actor, event: Event) -> Record {
        Record { v: Record::VERSION, at, by, event }
    }

    fn apply(state: &mut Switches, seq: u64, record: Option<&Record>) {
        state.apply(seq, record);
    }

    fn only_blocks(record: &Record) -> bool {
        record.event.only_blocks()
    }

    fn look_around(&self, reader: &Reader, state: &mut Switches) -> Result<(), StoreError> {
        let Some((state_dir, anchor)) = &self.witness else { return Ok(()) };
        let doubt = doubt::doubt(reader, (state_dir, anchor), &self.chain())?;
        state.rewound = doubt.map(|failure| failure.message);
        Ok(())
    }

    fn apply_in_doubt(state: &mut Switches, seq: u64, record: &Record) {
        state.apply_in_doubt(seq, record);
    }

    fn permit(&self, before: &Switches, by: &Actor, event: &Event, _: Timestamp) -> Result<(), switches::Refused> {
        before.may_be_said(event)?;
        Ok(self.people.permit_switches(by, event)?)
    }

    fn notices(&self, routes: &[Route], _after: &Switches, seq: u64, record: &Record) -> Vec<NewNotice> {
        let environment = &self.environment;
        let Some(notice) = switches::notice(environment, record) else { return Vec::new() };
        let body = letter::body(environment, seq, record, &notice);
        desk::addressed(routes, &notice, chain_of(environment).as_str(), &body, record.at)
    }
}

#[cfg(test)]
mod tests;
