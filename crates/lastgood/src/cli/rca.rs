//! `lastgood rca`: the analysis that a service owes after a rollback or an incident.

use super::Ended;
use crate::{
    app::{App, Ask},
    exit::Exit,
    screen::Trouble,
};
use clap::{Args, Subcommand};
use lastgood_domain::{
    event,
    operations::{
        Event, approval,
        cap::Risky,
        people::Act,
        rca::{self, Owed},
    },
    terms::{Digest, Reason, ReleaseTag, ServiceName, Span},
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};
use std::{collections::BTreeSet, io::Write as _, path::PathBuf};

/// Longest analysis: text for people.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// Submit and accept root-cause analyses.
#[derive(Debug, Subcommand)]
pub(crate) enum Rca {
    /// List analyses that are owed.
    List {
        /// The service [default: all].
        service: Option<String>,
    },
    /// Submit an analysis.
    Submit {
        /// The service.
        service: String,
        /// The document.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Accept another person's analysis; rollouts are allowed again.
    Accept {
        /// The service.
        service: String,
    },
    /// Continue without one for a limited time; needs a second person's approval.
    Waive(Waive),
}

/// Continue without one for a limited time; needs a second person's approval.
#[derive(Debug, Args)]
pub(crate) struct Waive {
    /// The service.
    service: String,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Duration, such as 7d; at most 14d.
    #[arg(long = "for", value_name = "TIME")]
    span: Span,
    /// Only for this release (a hotfix).
    #[arg(long)]
    release: Option<ReleaseTag>,
}

impl Rca {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List { service } => list(app, service.as_deref()),
            Self::Submit { service, file } => submit(app, &service, &file),
            Self::Accept { service } => {
                let service = app.service(Some(&service))?;
                say(app, &service, &|one| rca::accept(one, &app.actor))?;
                shown(app, &service, &format!("accepted; go on: lastgood run {service} --now"))
            }
            Self::Waive(waive) => waive.run(app),
        }
    }
}

type Deciding<'a> = &'a dyn Fn(&lastgood_domain::service::Service) -> Result<event::Event, rca::Refused>;

fn say(app: &App, service: &ServiceName, decide: Deciding<'_>) -> Result<(), Trouble> {
    let exit = |error: &rca::Refused| match error {
        rca::Refused::Own { .. } => Exit::NotAllowed,
        rca::Refused::TooLong { .. } => Exit::Usage,
        rca::Refused::Another { .. } => Exit::Moved,
        rca::Refused::NotOwed | rca::Refused::NotSubmitted => Exit::Failed,
    };
    app.say(service, |one| match decide(one) {
        Ok(event) => Ok(vec![event]),
        Err(error) => {
            let mut trouble = Trouble::new(exit(&error), &error);
            trouble.failure.hint = trouble.failure.hint.map(|hint| hint.replace("SERVICE", service.as_str()));
            Err(trouble)
        }
    })?;
    Ok(())
}

fn submit(app: &App, service: &str, file: &std::path::Path) -> Ended {
    let service = app.service(Some(service))?;
    let unreadable = |what: String| {
        let message = format!("{} can't be taken: {what}", file.display());
        Trouble::say(Exit::Usage, "rca-file-unreadable", message, "name a text of at most 1 MiB: --file analysis.md")
    };
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size == 0 || size > DOCUMENT_BYTES_MAX {
        return Err(unreadable(format!("it has {size} bytes")));
    }
    let document = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let digest = Digest::of(&document);
    // Kept under its digest before it is spoken of: the evidence names what can be read.
    app.store()?;
    let kept = app.home.root().join("analyses").join(format!("{digest}.md"));
    let keep = || {
        std::fs::create_dir_all(kept.parent().expect("a folder of the state folder"))?;
        // Whole or not at all: what a kill left half-written would lie under the digest of the whole.
        let aside = kept.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(&document)?;
        file.sync_all()?;
        std::fs::rename(&aside, &kept)
    };
    keep().map_err(|error| {
        let message = format!("{} can't be written: {error}", kept.display());
        Trouble::say(Exit::Failed, "rca-file-unwritable", message, "check the state folder")
    })?;
    say(app, &service, &|one| rca::submit(one, digest))?;
    shown(app, &service, &format!("submitted\nhave another person run: lastgood rca accept {service}"))
}

impl Waive {
    fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        let folded = app.look(&service)?.service;
        // Asked before anybody else is: who may not waive has nothing to ask for.
        let may = app.config.people().check(&app.actor, Act::Waive);
        may.map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
        app.check_cap(Risky::Waive)?;
        let (now, span) = (app.now(), self.span);
        let seen = folded.analysis.as_ref().ok_or(rca::Refused::NotOwed);
        let owed = seen.map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let decide = |one: &_| rca::waive(one, owed, self.reason.clone(), span, self.release.clone(), now);
        decide(&folded).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let only = match &self.release {
            None => "every release".into(),
            Some(tag) if folded.tags.contains_key(tag) => format!("{tag} only"),
            // A tag is a name that others choose: who agrees must know.
            Some(tag) => format!("{tag} only, whatever bytes the channel offers as it: nobody here has seen them"),
        };
        let what = format!("{service} goes on for {span} without the analysis it owes ({only}): {}", self.reason);
        // Bound to what is owed: after another rollback it is asked for anew. A no is one to this analysis and this release,
        // whatever the words.
        let only_tag = self.release.as_ref().map_or_else(String::new, |tag| format!("/{tag}"));
        let subject = format!("rca/{service}/waiver/{}{only_tag}", owed.last.0);
        let plan = Digest::of(format!("{what}\n{}\n{}", owed.last.0, owed.because).as_bytes());
        app.need_approval(&Ask { subject: subject.clone(), what, plan, needed: 1, of: BTreeSet::new() })?;
        // Used before it is acted on: a crash in between costs one question, never a second waiver.
        app.say_operations(&|state| {
            let used = approval::used(&state.approvals, &subject, &plan);
            Ok(used.into_iter().map(Event::Approval).chain(app.counted(Risky::Waive)).collect())
        })?;
        say(app, &service, &decide)?;
        shown(app, &service, &format!("waived for {span}; go on: lastgood run {service} --now"))
    }
}

fn data(service: &ServiceName, owed: Option<&Owed>) -> Value {
    match owed {
        None => json!({ "service": service, "owed": false }),
        Some(owed) => json!({
            "service": service, "owed": true, "since": owed.since, "because": owed.because, "due": owed.due,
            "incident": owed.incident, "owner": owed.owner,
            "submitted": owed.submitted.as_ref().map(|one| json!({
                "document": one.document.to_string(), "by": one.by, "at": one.at,
            })),
            "waiver": owed.waiver.as_ref().map(|one| json!({
                "by": one.by, "reason": one.reason, "until": one.until, "release": one.release,
            })),
        }),
    }
}

fn shown(app: &App, service: &ServiceName, text: &str) -> Ended {
    let folded = app.look(service)?.service;
    app.screen.show("rca", &data(service, folded.analysis.as_ref()), text);
    Ok(Exit::Done)
}

fn list(app: &App, service: Option<&str>) -> Ended {
    let (mut rows, mut text) = (Vec::new(), String::new());
    let now = app.now();
    for service in app.services(service)? {
        let folded = app.look(&service)?.service;
        let Some(owed) = &folded.analysis else { continue };
        rows.push(data(&service, Some(owed)));
        let late = if owed.is_overdue(now) { "overdue since" } else { "due" };
        text += &format!("{service}  since {}, {late} {}: {}\n", rfc3339(owed.since), rfc3339(owed.due), owed.because);
        if let Some(one) = &owed.submitted {
            text += &format!("  submitted by {}: lastgood rca accept {service}\n", one.by);
        }
        if let Some(one) = owed.waiver.as_ref().filter(|one| now < one.until) {
            text += &format!("  waived by {} until {}: {}\n", one.by, rfc3339(one.until), one.reason);
        }
    }
    if text.is_empty() {
        text = "no analysis is owed\n".into();
    }
    app.screen.show("rca", &rows, &text);
    Ok(Exit::Done)
}
