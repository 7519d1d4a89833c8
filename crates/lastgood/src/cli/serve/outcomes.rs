//! Users' outcomes since a promotion, counted over restarts of the daemon.

use crate::{app::App, exit::Exit, screen::Trouble};
use lastgood_domain::{
    facts::Outcomes,
    terms::{ServiceName, Timestamp},
};
use lastgood_drivers::metric::{Count, MetricError, Watch};
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf};

/// Name of the file in the service's folder.
const FILE: &str = "outcomes.json";

/// What was counted of one promotion.
pub(super) struct Counting {
    watch: Watch,
    kept: Kept,
    path: PathBuf,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Kept {
    promoted: Option<Timestamp>,
    count: Count,
}

impl Counting {
    /// Goes on with what an earlier daemon counted of this promotion, or begins now.
    ///
    /// Errors: a log that is there and can't be read.
    pub(super) fn open(
        app: &App,
        service: &ServiceName,
        watch: Watch,
        promoted: Option<Timestamp>,
    ) -> Result<Self, MetricError> {
        let path = app.home.service(service).root().join(FILE);
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let kept = match kept.filter(|kept| kept.promoted == promoted) {
            Some(kept) => kept,
            None => Kept { promoted, count: watch.begin()? },
        };
        let counting = Self { watch, kept, path };
        counting.keep(app);
        Ok(counting)
    }

    /// Tells whether it belongs to this promotion.
    pub(super) fn is_of(&self, promoted: Option<Timestamp>) -> bool {
        self.kept.promoted == promoted
    }

    /// Counts up to now.
    ///
    /// Errors: [`MetricError`]; the next call goes on from where this one began.
    pub(super) fn count(&mut self, app: &App) -> Result<Outcomes, MetricError> {
        let before = self.kept.count.clone();
        let outcomes = self.watch.count(&mut self.kept.count)?;
        if self.kept.count != before {
            self.keep(app);
        }
        Ok(outcomes)
    }

    /// Keeps it for the next daemon. If that fails, only the next one counts anew.
    fn keep(&self, app: &App) {
        let write = || -> io::Result<()> {
            let beside = self.path.with_extension("new");
            fs::write(&beside, serde_json::to_vec(&self.kept)?)?;
            fs::rename(&beside, &self.path)
        };
        if let Err(error) = write() {
            let what = format!("{} can't be written: {error}", self.path.display());
            app.screen.trouble(&Trouble::say(
                Exit::Failed,
                "state-dir-unusable",
                what,
                "check owner and free space of the state folder",
            ));
        }
    }
}
