//! `lastgood why` and `lastgood explain`: the rule, the numbers, who can change it, and how.

use super::{Ended, log::Telling, switch};
use crate::{
    app::App,
    drive,
    exit::Exit,
    page,
    screen::{Screen, Trouble},
};
use clap::Args;
use lastgood_domain::words;
use lastgood_engine::letter::rfc3339;
use serde_json::json;

/// Explain a service's state: the rule, the numbers, who can change it and how.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The service [default: the only one].
    service: Option<String>,
}

/// Explain one event of the log, or an error code.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The event's number, as `lastgood log` shows it (12, or service#12), or an error code (`busy-none`).
    #[arg(value_name = "EVENT|CODE")]
    event: String,
    /// The service, if only the number is given [default: the only one].
    #[arg(long)]
    service: Option<String>,
}

impl Why {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(self.service.as_deref())?;
        let folded = app.look(&service)?.service;
        let file = app.config.freeze_file().display().to_string();
        let frozen = app.frozen();
        let frozen = frozen.as_deref().map(|because| words::FrozenBy { file: &file, because });
        let mut reasons = words::why(&service, &folded, frozen, app.now());
        of_incidents(app, &mut reasons)?;
        reasons.extend(switch::closed(app, &service)?.into_iter().map(|closed| words::Why {
            rule: "a tripped switch closes the routes that name it",
            because: format!(
                "{} is tripped: {} is answered {}",
                closed.switch,
                closed.routes.join(", "),
                closed.status
            ),
            who: "anyone, with a reason; a second person where [switches] wants one",
            how: format!("lastgood switch reset {} --reason …", closed.switch),
        }));
        if let Some(run) = &folded.run
            && drive::is_undriven(app, &service, &folded)?
        {
            reasons.insert(0, words::undriven(&service, run, app.now()));
        }
        let mut text = String::new();
        for why in &reasons {
            text +=
                &format!("{}\n  because  {}\n  who      {}\n  how      {}\n", why.rule, why.because, why.who, why.how);
        }
        if reasons.is_empty() {
            let last_good = folded.name_of(folded.last_good.as_ref());
            text = format!("nothing keeps {service} from moving: it runs {last_good}\n");
        }
        app.screen.show("why", &reasons, &text);
        Ok(Exit::Done)
    }
}

/// Says of holds that belong to an incident who lifts them: nobody does so one by one.
fn of_incidents(app: &App, reasons: &mut [words::Why]) -> Result<(), Trouble> {
    if !reasons.iter().any(|why| why.how.starts_with("lastgood hold lift ")) {
        return Ok(());
    }
    for (id, hold) in &app.operations()?.holds.all {
        let Some(incident) = hold.incident else { continue };
        for why in reasons.iter_mut().filter(|why| why.how == format!("lastgood hold lift {id} --reason …")) {
            why.who = "whoever leads the incident, when every row is met";
            why.how = format!("lastgood incident unfreeze {incident}");
        }
    }
    Ok(())
}

/// Says that there is no such code, and which are like it.
fn no_page(code: &str) -> Trouble {
    let what = format!("{code:?} is neither the number of an event nor an error code");
    let like = page::like(code).join(", ");
    Trouble::say(
        Exit::Failed,
        "event-unknown",
        what,
        &format!("did you mean one of: {like}? Events have numbers: lastgood log"),
    )
}

impl Explain {
    /// Prints the page of an error code, if one was named; that needs no configuration.
    pub(crate) fn page(&self, screen: Screen) -> Option<Ended> {
        let code = self.event.trim_matches(['[', ']']);
        let Some(page) = page::of(code) else {
            let is_event = code.contains('#') || code.parse::<u64>().is_ok();
            return (!is_event).then(|| Err(no_page(code)));
        };
        let text = page::text(page);
        screen.show("error-page", &json!({ "code": code, "text": text }), &text);
        Some(Ok(Exit::Done))
    }

    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let (service, number) = match self.event.split_once('#') {
            Some((service, number)) => (Some(service.trim_start_matches("service/").to_owned()), number),
            None => (self.service, self.event.as_str()),
        };
        let service = app.service(service.as_deref())?;
        let unknown = || {
            Trouble::say(
                Exit::Failed,
                "event-unknown",
                format!("{service} has no event {number}"),
                &format!(
                    "list events: lastgood log {service}; or give an error code, such as: lastgood explain busy-none"
                ),
            )
        };
        let seq: u64 = number.parse().map_err(|_| unknown())?;
        let reader = app.reader()?.ok_or_else(unknown)?;
        let mut told = None;
        Telling::begin(app, &reader, &service, seq)?.take(&reader, 1, |_, context, record| {
            told = Some((words::explain(&service, context, record), record.clone()));
        })?;
        let (words::Explained { sentence, rule, who, how }, record) = told.ok_or_else(unknown)?;
        let details = serde_json::to_value(&record.event).unwrap_or_default();
        let text = format!(
            "{sentence}\n  when     {}\n  by       {}\n  rule     {rule}\n  who      {who}\n  how      {how}\n  details  {}\n",
            rfc3339(record.at),
            record.by,
            serde_json::to_string_pretty(&details).unwrap_or_default().replace('\n', "\n           "),
        );
        let data = json!({
            "service": service, "seq": seq, "sentence": sentence, "rule": rule, "who": who, "how": how,
            "record": record,
        });
        app.screen.show("explain", &data, &text);
        Ok(Exit::Done)
    }
}
