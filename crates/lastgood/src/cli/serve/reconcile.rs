//! What is wrong now, as Alertmanagers are told.

use crate::{
    app::{App, log_trouble},
    exit::Exit,
    screen::Trouble,
};
use lastgood_domain::alarm::Alarm;
use lastgood_engine::{alerts::Reconciler, drive::LogError};
use lastgood_server::Pages;

/// Keeps every Alertmanager equal to what is wrong now.
pub(super) fn reconcile(app: &App, pages: &Pages, reconcilers: &mut [Reconciler]) {
    if reconcilers.is_empty() {
        return;
    }
    let snapshot = pages();
    if let Some(why) = &snapshot.failure {
        app.screen.trouble(&log_trouble(&LogError::damaged(why.clone())));
        return;
    }
    let wrong: Vec<Alarm> = snapshot.services.into_values().flat_map(|view| view.alarms).collect();
    for reconciler in reconcilers {
        if let Err(error) = reconciler.reconcile(&wrong, snapshot.at) {
            app.screen.trouble(&Trouble::new(Exit::Failed, &error));
        }
    }
}
