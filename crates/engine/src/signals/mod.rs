//! Signals at work: read, judged on their samples, and each change appended to the chain `signals` with its notice.

mod desk;
mod history;

pub use desk::{CHAIN, Desk, Folded, SignalsError};
pub use history::History;

use crate::config::Config;
use lastgood_domain::{
    failure::Coded,
    signal::{Judged, Rule, Sample, State, judge},
    terms::{SignalName, Span, Timestamp},
};
use lastgood_drivers::{
    probe::{SecretError, SecretSource, Secrets},
    signal::{Source, Watched},
    sql::{Database, SqlError, Worker},
};
use std::{collections::BTreeMap, path::Path};

/// Why a signal can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A secret can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A database can't be used.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl SetupError {
    /// Gives the error as one with a code and a next step.
    pub fn coded(&self) -> &dyn Coded {
        match self {
            Self::Secret(inner) => inner,
            Self::Sql(inner) => inner,
        }
    }
}

/// Makes a `[database.NAME]` ready; only its own secret is read.
///
/// Errors: there is no such database, or its secret can't be used.
pub fn database(config: &Config, name: &str, program: &Path) -> Result<Option<Database>, SetupError> {
    let Some(database) = config.database.get(name) else { return Ok(None) };
    let mut needed: BTreeMap<String, SecretSource> = BTreeMap::new();
    if let Some((secret, source)) = database.secret().and_then(|secret| config.secret.get_key_value(secret)) {
        needed.insert(secret.clone(), source.clone());
    }
    let secrets = Secrets::load(&needed, &config.folder)?;
    Ok(Some(Database::prepare(name, database, &config.folder, &Worker::new(program), &secrets)?))
}

/// One signal, ready to be read.
#[derive(Debug, Clone)]
pub struct Signal {
    /// Its rule.
    pub rule: Rule,
    source: Source,
    timeout: Span,
}

impl Signal {
    /// Makes a configured signal ready.
    ///
    /// Errors: its database's secret can't be used. `None` if it is not configured.
    pub fn prepare(config: &Config, name: &SignalName, program: &Path) -> Result<Option<Self>, SetupError> {
        let Some(signal) = config.signal.get(name) else { return Ok(None) };
        let asked = signal.database.as_deref().map(|name| database(config, name, program)).transpose()?.flatten();
        let query = signal.query.clone().unwrap_or_default();
        let source = match (signal.rule(), asked, signal.watched()) {
            (Some(Rule::Gaps), Some(database), Some(Ok(watched))) => Source::Gaps { database, watched },
            (Some(Rule::Failures { .. }), Some(database), _) => Source::Runs { database, sql: query },
            (Some(_), Some(database), _) => Source::Number { database, sql: query },
            (Some(_), None, _) => Source::Metric { url: signal.prometheus.clone().unwrap_or_default(), query },
            // The configuration was checked for it.
            (None, ..) => return Ok(None),
        };
        Ok(signal.rule().map(|rule| Self { rule, source, timeout: signal.timeout.0 }))
    }

    /// Gives the watched table and its database, for a signal about gaps.
    pub fn watched(&self) -> Option<(&Database, &Watched)> {
        match &self.source {
            Source::Gaps { database, watched } => Some((database, watched)),
            Source::Number { .. } | Source::Runs { .. } | Source::Metric { .. } => None,
        }
    }

    /// Reads it once and judges it on what `history` has and what was read, which is added to it.
    pub fn check(&self, history: &mut History, now: Timestamp) -> Judged {
        match self.source.read(self.timeout) {
            Ok(reading) => {
                history.add(Sample { at: now, value: reading.value }, self.rule.window());
                let mut judged = judge(&self.rule, history.samples(), now);
                if judged.state == State::Firing && !reading.detail.is_empty() {
                    judged.why = format!("{}: {}", judged.why, reading.detail);
                }
                judged
            }
            Err(error) => Judged::unknown(lastgood_domain::failure::Failure::of(&error).to_string()),
        }
    }
}
