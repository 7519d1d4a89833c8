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
    /// Tells whether a stop of new entries was set, changed or lifted since the last look, and the first trouble with looking.
    /// What can't be read counts as changed and is read anew at the next look; it keeps no other service from being seen.
    pub(super) fn have_changed(&mut self, app: &App, services: &[ServiceName]) -> (bool, Option<Trouble>) {
        let reader = match self.reader.take().map_or_else(|| app.reader(), |reader| Ok(Some(reader))) {
            Ok(Some(reader)) => reader,
            Ok(None) => return (false, None),
            Err(trouble) => return (true, Some(trouble)),
        };
        let mark = match reader.change_mark() {
            Ok(mark) => mark,
            Err(error) => return (true, Some(Trouble::new(Exit::Failed, &error))),
        };
        let (mut changed, mut first) = (false, None);
        if self.mark.as_ref() != Some(&mark) {
            for service in services {
                let before = self.folded.remove(service);
                let was = before.as_ref().map(stopped);
                let mut folded = before.unwrap_or_default();
                match folded.read_on(&reader, service) {
                    Ok(()) => {
                        changed |= was != Some(stopped(&folded));
                        self.folded.insert(service.clone(), folded);
                    }
                    Err(error) => {
                        changed = true;
                        first = first.or_else(|| Some(log_trouble(&error)));
                    }
                }
            }
        }
        self.reader = Some(reader);
        self.mark = first.is_none().then_some(mark);
        (changed, first)
    }
}

fn stopped(folded: &Folded) -> Option<Stopped> {
    folded.service.traffic.stopped.clone()
}
