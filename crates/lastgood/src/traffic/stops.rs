//! Which entries are stopped, as the logs have it by now: whoever wrote it may have been killed before the router was told.

use crate::{
    app::{App, log_trouble},
    exit::Exit,
    screen::Trouble,
};
use lastgood_domain::{terms::ServiceName, traffic::Stopped};
use lastgood_engine::fold::Folded;
use lastgood_store::{ChangeMark, Reader};
use std::collections::BTreeMap;

/// What was read at the last look; a look at which nothing was written takes microseconds.
#[derive(Default)]
pub(super) struct Stops {
    reader: Option<Reader>,
    mark: Option<ChangeMark>,
    folded: BTreeMap<ServiceName, Folded>,
}

impl Stops {
    /// Tells whether a stop of new entries was set, changed or lifted since the last look.
    ///
    /// Errors: the evidence can't be read; the next look begins anew.
    pub(super) fn have_changed(&mut self, app: &App, services: &[ServiceName]) -> Result<bool, Trouble> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => match app.reader()? {
                Some(reader) => reader,
                None => return Ok(false),
            },
        };
        let mark = reader.change_mark().map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let mut changed = false;
        if self.mark.as_ref() != Some(&mark) {
            for service in services {
                let folded = self.folded.entry(service.clone()).or_default();
                let before = stopped(folded);
                folded.read_on(&reader, service).map_err(|error| log_trouble(&error))?;
                changed |= stopped(folded) != before;
            }
        }
        (self.mark, self.reader) = (Some(mark), Some(reader));
        Ok(changed)
    }
}

fn stopped(folded: &Folded) -> Option<Stopped> {
    folded.service.traffic.stopped.clone()
}
