//! The daemon's side of notices: they are delivered, and each that is given up is told.

use crate::{app::App, drive, exit::Exit, screen::Trouble};
use lastgood_domain::words;
use lastgood_engine::{deliver::Wake, letter::rfc3339, world};
use lastgood_store::{MessageId, NoticeState};

/// Threads that deliver notices.
const DELIVERY_THREADS: usize = 4;

/// Delivers until the daemon ends; trouble is said.
pub(super) fn deliver(app: &App, wake: &Wake) {
    match drive::deliverer(app, DELIVERY_THREADS) {
        Err(trouble) => app.screen.trouble(&trouble),
        Ok(mut deliverer) => deliverer.run_forever(&world::now, wake, &mut |seen| {
            let told = match seen {
                Ok(report) => tell_dead(app, &report.dead),
                Err(error) => Err(Trouble::new(Exit::Failed, error)),
            };
            if let Err(trouble) = told {
                app.screen.trouble(&trouble);
            }
        }),
    }
}

/// Tells of each notice that is given up.
fn tell_dead(app: &App, dead: &[MessageId]) -> Result<(), Trouble> {
    /// Dead messages looked at: more than anybody leaves lying.
    const LOOK_MAX: usize = 10_000;
    if dead.is_empty() {
        return Ok(());
    }
    let Some(reader) = app.reader()? else { return Ok(()) };
    let failed = reader.notices(NoticeState::Failed, LOOK_MAX).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    for row in failed.iter().filter(|row| dead.contains(&row.id)) {
        let tries = words::count(row.attempts.into(), "try");
        let why = row.why.as_deref().map_or_else(String::new, |why| format!(" ({})", words::one_line(why)));
        app.screen.tell(&format!(
            "{} notice {} of {}#{} to {} is dead after {tries}{why}; send it again: lastgood notices replay {}",
            rfc3339(app.now()),
            row.id,
            row.chain,
            row.seq,
            row.endpoint,
            row.id
        ));
    }
    Ok(())
}
