//! Delivers notices while the daemon runs, and tells of those that are given up.

use crate::{app::App, drive, exit::Exit, screen::Trouble};
use lastgood_domain::{
    terms::{Span, Timestamp},
    words,
};
use lastgood_engine::{deliver::Wake, letter::rfc3339, world};
use lastgood_store::MessageId;
use std::time::Duration;

/// Threads that deliver notices.
const DELIVERY_THREADS: usize = 4;

/// Pause before it is tried again to become the sender: a command that delivers what it wrote has seldom more to send.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a notice that was delivered is kept, to be looked up: its record stays for ever.
const DELIVERED_KEPT: Span = Span::minutes(30 * 24 * 60);

/// Removes notices that were delivered long ago.
pub(super) fn clear(app: &App) {
    let before = Timestamp(app.now().0.saturating_sub_unsigned(DELIVERED_KEPT.0));
    let cleared = app.store().and_then(|mut store| {
        // Some at a time: whoever writes evidence meanwhile gets in between.
        while store.clear_delivered(before).map_err(|error| Trouble::new(Exit::Failed, &error))? > 0 {}
        Ok(())
    });
    if let Err(trouble) = cleared {
        app.screen.trouble(&trouble);
    }
}

/// Delivers until it is told to stop. While another process delivers, or the store can't be used, it waits for its turn:
/// that one may end, and nobody else would ever send.
pub(super) fn deliver(app: &App, wake: &Wake) {
    let mut said = None;
    while !wake.is_stopped() {
        let mut deliverer = match drive::deliverer(app, DELIVERY_THREADS) {
            Ok(deliverer) => deliverer,
            Err(trouble) => {
                // The same trouble every few seconds is no news.
                if said.as_ref() != Some(&trouble.failure) {
                    app.screen.trouble(&trouble);
                    said = Some(trouble.failure);
                }
                wake.wait(AGAIN);
                continue;
            }
        };
        deliverer.run_forever(&world::now, wake, &mut |seen| {
            let told = match seen {
                Ok(report) => tell_dead(app, &report.dead),
                Err(error) => Err(Trouble::new(Exit::Failed, error)),
            };
            if let Err(trouble) = told {
                app.screen.trouble(&trouble);
            }
        });
    }
}

/// Tells of each notice that is given up.
fn tell_dead(app: &App, dead: &[MessageId]) -> Result<(), Trouble> {
    if dead.is_empty() {
        return Ok(());
    }
    let Some(reader) = app.reader()? else { return Ok(()) };
    for id in dead {
        // Each by itself: whatever else lies dead is not in its way.
        let Some(row) = reader.notice(id).map_err(|error| Trouble::new(Exit::Failed, &error))? else { continue };
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
