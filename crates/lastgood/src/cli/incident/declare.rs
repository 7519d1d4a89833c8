//! Declaring an incident, and saying whether one should be declared.

use super::{Level, data, lead::known, services_words};
use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::{
        Event, Operations,
        hold::HoldKind,
        incident::{
            self, Declaration, IncidentEvent, checklist,
            message::{self, MessageKind},
            recommend::{self, News, Recommendation},
        },
    },
    terms::{Actor, IncidentId, Reason, ServiceName, Span, Timestamp},
};
use lastgood_engine::operations::{self as engine, observe};
use serde_json::json;

/// Declare an incident: all changes except rollbacks are held at once.
#[derive(Debug, Args)]
pub(crate) struct Declare {
    /// Level: L1 code and configuration; L2 also schema and data; L3 also evidence and credentials.
    #[arg(long, value_enum, ignore_case = true)]
    level: Level,
    /// What triggered it.
    #[arg(long)]
    trigger: Reason,
    /// Affected services, comma-separated [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    services: Vec<ServiceName>,
    /// Incident commander [default: you].
    #[arg(long, value_name = "NAME")]
    ic: Option<String>,
    /// How long ago it began, such as 20m.
    #[arg(long, value_name = "TIME")]
    began: Option<Span>,
    /// User-visible impact [default: the trigger].
    #[arg(long, value_name = "TEXT")]
    impact: Option<String>,
    /// A drill: nothing is held and nothing outside lastgood is touched.
    #[arg(long)]
    drill: bool,
}

impl Declare {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        for service in &self.services {
            app.service(Some(service.as_str()))?;
        }
        let commander = match &self.ic {
            None => app.actor.clone(),
            Some(name) => known(app, name)?,
        };
        let declaration = Declaration {
            level: self.level.into(),
            trigger: self.trigger,
            services: self.services.into_iter().collect(),
            commander,
            drill: self.drill,
        };
        let _kept_open = crate::room::make(app);
        let now = app.now();
        let began = self.began.map(|ago| Timestamp(now.0.saturating_sub_unsigned(ago.0)));
        let decide = |state: &Operations| Ok(declared(app, state, &declaration, began, self.impact.as_deref(), now));
        let (records, after) = app.say_operations(&decide)?;
        let id = records.iter().find_map(|record| match record.event {
            Event::Incident { incident, .. } => Some(incident),
            _ => None,
        });
        let id = id.expect("a declaration begins with the incident");
        let found = &after.incidents.all[&id];
        let held = match declaration.drill {
            true => "drill: nothing is held".into(),
            false => {
                let kinds = HoldKind::ALL.map(HoldKind::as_str).join(", ");
                format!("held: {kinds} of {}; rollbacks stay possible", services_words(found))
            }
        };
        let text = format!(
            "incident {id} is declared at {}, led by {}\n{held}\nsee what is next: lastgood incident show {id}",
            found.level.as_str(),
            found.commander
        );
        app.screen.show("incident", &data(id, found), &text);
        // After the answer: what enforces the holds outside may be down, and they stand all the same.
        crate::enforce::at_once(app);
        Ok(Exit::Done)
    }
}

/// Gives all that a declaration says: the incident, its holds, its checklist, its first message.
fn declared(
    app: &App,
    state: &Operations,
    declaration: &Declaration,
    began: Option<Timestamp>,
    impact: Option<&str>,
    now: Timestamp,
) -> Vec<Event> {
    let incident = IncidentId(state.incidents.next);
    let mut events = incident::declare(state, declaration.clone());
    let of = |event| Event::Incident { incident, event };
    events.extend(began.map(|at| of(IncidentEvent::Began { at })));
    events.extend(checklist::added(&[], declaration.level, &app.config.incident.items(), now).map(of));
    events.extend(first_message(app, state, incident, &events, impact, now));
    events
}

/// Writes the declared message. A template that does not fit must not keep anybody from declaring: ours is sent then.
fn first_message(
    app: &App,
    state: &Operations,
    id: IncidentId,
    events: &[Event],
    impact: Option<&str>,
    now: Timestamp,
) -> Option<Event> {
    let mut after = state.clone();
    for event in events {
        use lastgood_domain::operations::Record;
        after.take(&Record { v: Record::VERSION, at: now, by: app.actor.clone(), event: event.clone() });
    }
    let found = after.incidents.all.get(&id)?;
    let kind = MessageKind::Declared;
    let impact = impact.map_or_else(|| found.trigger.to_string(), ToOwned::to_owned);
    let fields = [("impact".to_owned(), impact)].into();
    let next = now.after(app.config.incident.update_every.0);
    let text = engine::message::write(&app.config, kind, id, found, &fields, Some(next)).or_else(|error| {
        app.screen.trouble(&Trouble::new(Exit::Failed, &error));
        engine::message::write_shipped(kind, id, found, &fields, Some(next))
    });
    message::send(&after, id, kind, fields, &text.ok()?, Some(next)).ok()
}

/// Says whether to declare one, and why; changes nothing.
pub(super) fn recommend(app: &App) -> Ended {
    let said = recommended(app)?;
    let text = said.as_ref().map_or_else(|| "no incident is recommended\n".to_owned(), recommended_words);
    app.screen.show("incident-recommendation", &json!({ "recommendation": said }), &text);
    Ok(if said.is_some() { Exit::Warnings } else { Exit::Done })
}

/// Gives the events that make news of what the logs say: told, and where it is configured declared.
pub(in crate::cli) fn recommendation(
    app: &App,
    by: &Actor,
    state: &Operations,
    news: News,
    automatic: bool,
) -> Vec<Event> {
    let mut events: Vec<Event> = news.seen.map(|signs| Event::Seen { signs }).into_iter().collect();
    events.extend(news.told.map(|recommendation| Event::Recommended { recommendation }));
    if let Some(one) = news.declare.filter(|_| automatic) {
        let line: String = one.why.join("; ").chars().filter(|c| !c.is_control()).take(400).collect();
        let trigger = Reason::new(&line).unwrap_or_else(|_| Reason::new("rules speak for it").expect("a fixed reason"));
        let declaration =
            Declaration { level: one.level, trigger, services: one.services, commander: by.clone(), drill: false };
        events.extend(declared(app, state, &declaration, None, None, app.now()));
    }
    events
}

/// Gives what speaks for an incident now.
pub(in crate::cli) fn recommended(app: &App) -> Result<Option<Recommendation>, Trouble> {
    let Some(reader) = app.reader()? else { return Ok(None) };
    let folded = engine::Folded::read(&reader, &app.scope()).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    Ok(recommend::recommend(
        &folded.state,
        &observe::observe(&reader, &app.config, &mut Default::default(), &folded.damaged),
    ))
}

/// Says what a recommendation is, why, and what to type.
pub(in crate::cli) fn recommended_words(one: &Recommendation) -> String {
    let why: String = one.why.iter().map(|line| format!("  {line}\n")).collect();
    let services = one.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let services = if services.is_empty() { String::new() } else { format!(" --services {services}") };
    let level = one.level.as_str();
    format!(
        "an incident at {level} is recommended:\n{why}\
         declare it: lastgood incident declare --level {level}{services} --trigger …\n"
    )
}
