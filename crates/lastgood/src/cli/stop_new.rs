//! `lastgood stop-new`: refuse new entries at once, let what runs finish, and let people in again.

use super::Ended;
use crate::{app::App, drive, exit::Exit, screen::Trouble, traffic};
use clap::Args;
use lastgood_domain::{
    event::Event,
    failure::Failure,
    terms::{Reason, ServiceName, Span},
    traffic::{RoutePattern, Stopped, TrafficEvent},
    words,
};
use lastgood_engine::world::Site;
use serde_json::{Value, json};

/// Refuse new sessions of a service with shared traffic; existing ones finish.
#[derive(Debug, Args)]
pub(crate) struct StopNew {
    /// The service [default: the only one].
    service: Option<String>,
    /// Only these requests, such as "POST /rooms/*" [default: all]. Repeatable.
    #[arg(long = "route", value_name = "ROUTE", conflicts_with = "lift")]
    routes: Vec<RoutePattern>,
    /// Retry-After for refused clients.
    #[arg(long, value_name = "TIME", default_value = "30s", conflicts_with = "lift")]
    retry_after: Span,
    /// Accept new sessions again.
    #[arg(long)]
    lift: bool,
    /// Why; kept in the evidence. Without it, only the remaining sessions are shown.
    #[arg(long)]
    reason: Option<Reason>,
}

impl StopNew {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(self.service.as_deref())?;
        if app.config.service[&service].traffic.is_none() {
            return Err(Trouble::say(
                Exit::Usage,
                "traffic-unset",
                format!("{service} has no shared traffic: nothing stands before it that could refuse anybody"),
                "set up service.NAME.traffic; or stop forward moves only: lastgood hold set",
            ));
        }
        let Some(reason) = self.reason.clone() else {
            if self.lift || !self.routes.is_empty() {
                return Err(Trouble::say(Exit::Usage, "reason-missing", "say why", "add --reason …"));
            }
            return show(app, &service);
        };
        let lift = self.lift;
        let after = app.say(&service, |folded| match (lift, &folded.traffic.stopped) {
            (true, None) => Err(Trouble::say(
                Exit::Failed,
                "entries-open",
                format!("{service} does not refuse new sessions"),
                &format!("see how it stands: lastgood status {service}"),
            )),
            (true, Some(_)) => Ok(vec![Event::Traffic(TrafficEvent::EntriesResumed { reason: reason.clone() })]),
            (false, _) => Ok(vec![Event::Traffic(TrafficEvent::EntriesStopped {
                routes: self.routes.clone(),
                retry_after: self.retry_after,
                reason: reason.clone(),
            })]),
        })?;
        let confirmed = traffic::assert_table(app, &service)?;
        let says = match (lift, confirmed) {
            (_, false) => "it never had traffic; this holds from its first release on".to_owned(),
            (true, true) => "the router accepts new sessions again".to_owned(),
            (false, true) => {
                let what = after.traffic.stopped.as_ref().map_or_else(String::new, Stopped::what);
                format!("the router refuses {what}; existing sessions finish")
            }
        };
        let (left, text, _) = left(app, &service)?;
        let next = match lift {
            true => format!("see it: lastgood status {service}"),
            false => format!("accept them again: lastgood stop-new {service} --lift --reason …"),
        };
        app.screen.show(
            "stop-new",
            &json!({ "service": service, "stopped": after.traffic.stopped, "confirmed": confirmed, "left": left }),
            &format!("{service}: {says}\n{text}{next}"),
        );
        Ok(Exit::Done)
    }
}

fn show(app: &App, service: &ServiceName) -> Ended {
    let folded = app.look(service)?.service;
    let (left, text, exit) = left(app, service)?;
    let says = match &folded.traffic.stopped {
        None => "new sessions are accepted".to_owned(),
        Some(stopped) => {
            format!(
                "new sessions are refused by {} ({} ago): {}",
                stopped.by,
                app.now().since(stopped.since),
                stopped.reason
            )
        }
    };
    let next = match folded.traffic.stopped {
        None => format!("stop them: lastgood stop-new {service} --reason …"),
        Some(_) => format!("accept them again: lastgood stop-new {service} --lift --reason …"),
    };
    app.screen.show(
        "stop-new",
        &json!({ "service": service, "stopped": folded.traffic.stopped, "left": left }),
        &format!("{service}: {says}\n{text}{next}"),
    );
    Ok(exit)
}

/// Says what each release still has under way; with exit 11 if the router can't be asked.
pub(super) fn left(app: &App, service: &ServiceName) -> Result<(Value, String, Exit), Trouble> {
    let site = Site::open(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let loads = match site.router.as_ref().map(|router| router.look(service)) {
        Some(Ok(loads)) => loads,
        Some(Err(error)) => {
            let says = format!("  the router does not say what runs: {error}\n");
            return Ok((Value::Null, says, Exit::of_router(&Failure::of(&error))));
        }
        None => return Ok((Value::Null, String::new(), Exit::Done)),
    };
    let folded = app.look(service)?.service;
    let text = loads.iter().map(|load| {
        let name = folded.name_of(Some(&load.release));
        format!(
            "  {name:<14} {} under way{}{}\n",
            load.in_flight,
            load.tunnels.map_or_else(String::new, |open| format!(", {}", words::count(open, "tunnel"))),
            load.people.map_or_else(String::new, |seen| format!(", {} in the last minute", words::count(seen, "user")))
        )
    });
    Ok((json!(loads), text.collect(), Exit::Done))
}
