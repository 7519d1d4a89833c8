//! `lastgood gate`: which gates there are, what each says now, and whether what they name still exists.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand};
use lastgood_domain::{
    event::Verdict,
    failure::Failure,
    service::Service,
    terms::{Digest, GateName, ServiceName},
    words,
};
use lastgood_drivers::{
    channel,
    gate::{self, Asked, GateConfig, Subject},
    probe::Secrets,
};
use lastgood_engine::world;
use serde_json::{Value, json};

/// List and evaluate the gates a release must pass.
#[derive(Debug, Subcommand)]
pub(crate) enum Gate {
    /// List the gates, their owners and the services that require them.
    List,
    /// Evaluate one gate now; changes nothing.
    Run(Run),
    /// Check that the tests, checks, programs and files named by gates exist.
    Check,
}

/// Evaluate one gate now; changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The gate.
    name: String,
    /// Evaluate for this service's newest release [default: the only service that requires the gate].
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Evaluate for this commit instead of the channel's newest release.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
}

impl Gate {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List => Ok(list(app)),
            Self::Run(run) => run.run(app),
            Self::Check => check(app),
        }
    }
}

fn list(app: &App) -> Exit {
    let (mut all, mut text) = (Vec::new(), String::new());
    for (name, gate) in &app.config.gate {
        let services: Vec<&ServiceName> = app.config.requiring(name).collect();
        let word = gate.kind().map_or("nothing", |kind| kind.word());
        let required = match services.as_slice() {
            [] => "required by no service".to_owned(),
            some => format!("required by {}", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let owner = gate.owner.as_deref().map_or_else(|| "nobody owns it".to_owned(), |owner| format!("owner {owner}"));
        text += &format!("{name:<16} {word:<11} {required}; {owner}; proof at most {} old\n", gate.max_age.0);
        all.push(json!({
            "gate": name, "asks": word, "owner": gate.owner, "services": services,
            "max_age": gate.max_age, "timeout": gate.timeout,
        }));
    }
    text += match all.is_empty() {
        true => "no gate is configured: there is no [gate.NAME]",
        false => "ask one: lastgood gate run NAME",
    };
    app.screen.show("gates", &all, &text);
    Exit::Done
}

impl Run {
    fn run(self, app: &App) -> Ended {
        let (name, config) = find(app, &self.name)?;
        let requiring: Vec<&ServiceName> = app.config.requiring(name).collect();
        let service = match (&self.service, requiring.as_slice()) {
            (Some(service), _) => Some(app.service(Some(service))?),
            (None, [only]) => Some((*only).clone()),
            (None, _) => None,
        };
        let mut subject = service.map_or_else(|| Ok(Subject::default()), |service| offered(app, &service))?;
        if let Some(commit) = self.commit {
            // What is known of the channel's offer is about another one.
            subject = Subject { service: subject.service, commit: Some(commit), ..Subject::default() };
        }
        let secrets = secrets(app)?;
        let asked = Asked { folder: &app.config.folder, secrets: &secrets, now: app.now(), any_age: false };
        let (verdict, because) = gate::ask(config, &subject, &asked);
        let about = about(&subject);
        let data =
            json!({ "gate": name, "about": about, "verdict": verdict, "because": because, "owner": config.owner });
        let mut text = format!("{name} about {}\n{}\n", said(&subject), words::one_line(&because));
        text += words::verdict_name(verdict);
        app.screen.show("gate", &data, &text);
        Ok(exit_of(verdict))
    }
}

const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Pass => Exit::Done,
        Verdict::Fail => Exit::Failed,
        Verdict::Hold | Verdict::CannotTell => Exit::CannotTell,
    }
}

fn find<'a>(app: &'a App, name: &str) -> Result<(&'a GateName, &'a GateConfig), Trouble> {
    app.config.gate.iter().find(|(known, _)| known.as_str() == name).ok_or_else(|| {
        let known: Vec<String> = app.config.gate.keys().map(ToString::to_string).collect();
        let hint = match known.as_slice() {
            [] => "add one: [gate.unit] with report, command or another kind".to_owned(),
            some => format!("one of: {}", some.join(", ")),
        };
        Trouble::say(Exit::Usage, "gate-unknown", format!("there is no gate {name:?}"), &hint)
    })
}

fn secrets(app: &App) -> Result<Secrets, Trouble> {
    Secrets::load(&app.config.secret, &app.config.folder).map_err(|error| Trouble::new(Exit::Usage, &error))
}

/// Gives what the service's channel offers now, and what is known of it.
fn offered(app: &App, name: &ServiceName) -> Result<Subject, Trouble> {
    let context = channel::Context { folder: app.config.folder.clone(), ..channel::Context::default() };
    let offer = app.config.service[name]
        .channel
        .newest(&context)
        .map_err(|error| Trouble { exit: Exit::CannotTell, failure: Failure::of(&error) })?;
    let folded = app.look(name)?.service;
    let known = folded.tags.get(&offer.tag).map(|release| about_release(app, name, &folded, release));
    let commit = Subject::commit_of(offer.mark.as_deref());
    Ok(Subject { service: Some(name.clone()), tag: Some(offer.tag), commit, ..known.unwrap_or_default() })
}

fn about_release(app: &App, name: &ServiceName, service: &Service, release: &Digest) -> Subject {
    world::subject(name, service, release, app.config.service[name].commit.as_deref())
}

fn about(subject: &Subject) -> Value {
    json!({
        "service": subject.service, "tag": subject.tag, "digest": subject.digest, "commit": subject.commit,
    })
}

fn said(subject: &Subject) -> String {
    let service = subject.service.as_ref().map(|service| format!("{service} "));
    let tag = subject.tag.as_ref().map(ToString::to_string);
    let commit = subject.commit.as_ref().map(|commit| format!("commit {commit}"));
    match (tag, commit) {
        (None, None) => "no release".to_owned(),
        (tag, commit) => {
            let parts: Vec<String> = tag.into_iter().chain(commit).collect();
            service.unwrap_or_default() + &parts.join(", ")
        }
    }
}

fn check(app: &App) -> Ended {
    let secrets = secrets(app)?;
    let (mut all, mut text, mut exit) = (Vec::new(), String::new(), Exit::Done);
    for (name, config) in &app.config.gate {
        // What serves today was asked about once: what it was asked for must still be there.
        let mut subject = Subject::default();
        for service in app.config.requiring(name) {
            let folded = app.look(service)?.service;
            if let Some(last_good) = folded.last_good {
                subject = about_release(app, service, &folded, &last_good);
                break;
            }
        }
        let asked = Asked { folder: &app.config.folder, secrets: &secrets, now: app.now(), any_age: true };
        let missing = gate::standing(config, &subject, &asked);
        let missing = missing.map(|because| words::one_line(&because));
        text += &match &missing {
            None => format!("{name:<16} everything it names exists ({})\n", said(&subject)),
            Some(because) => format!("{name:<16} {because}\n"),
        };
        all.push(json!({ "gate": name, "about": about(&subject), "missing": missing }));
        if missing.is_some() {
            exit = Exit::CannotTell;
        }
    }
    text += match exit {
        Exit::Done => "every gate can be evaluated",
        _ => "NOT every gate can be evaluated: a release would be held",
    };
    app.screen.show("gate-check", &all, &text);
    Ok(exit)
}
