//! `lastgood checklist`: what an incident leaves behind, closed with evidence.

use super::{Ended, credential, evidence, incident::room};
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand};
use lastgood_domain::{
    operations::{
        Event,
        incident::{
            self, Incident, Signed,
            checklist::{self, Evidence, EvidenceKind},
        },
    },
    terms::{ChainName, Digest, IncidentId, ItemName, Reason, Span},
    words,
};
use lastgood_drivers::proof::{self, NoProof};
use lastgood_engine::{
    config::{CREDENTIALS_ROTATED, EVIDENCE_VERIFIED},
    letter::rfc3339,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Close the items of an incident's cleanup checklist, each with evidence.
#[derive(Debug, Subcommand)]
pub(crate) enum Checklist {
    /// List the items by owner.
    List {
        /// The incident, such as i0.
        incident: IncidentId,
    },
    /// Close an item with the evidence it requires.
    Done(Done),
    /// Waive an item for a limited time; needs a second person's approval.
    Waive {
        /// The incident, such as i0.
        incident: IncidentId,
        /// The item.
        item: ItemName,
        /// The accepted risk.
        #[arg(long)]
        risk: Reason,
        /// How long the waiver lasts, such as 2d.
        #[arg(long = "for", value_name = "TIME")]
        span: Span,
    },
}

/// Close an item with the evidence it requires.
#[derive(Debug, Args)]
pub(crate) struct Done {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The item.
    item: ItemName,
    #[command(flatten)]
    evidence: Given,
    /// With --url: the expected SHA-256, 64 hex digits; required if the page can't be fetched from here.
    #[arg(long, value_name = "HEX", requires = "url")]
    sha256: Option<String>,
    /// With --command: time limit, after which it and its children are killed.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    within: Span,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Given {
    /// A command that lastgood runs now in the directory of lastgood.toml; it must exit with 0.
    #[arg(long, num_args = 1.., value_name = "WORDS", allow_hyphen_values = true)]
    command: Vec<String>,
    /// A file; its digest is recorded.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A URL; it is fetched and its digest recorded (at most 64 MiB, 30 s, no redirects).
    #[arg(long)]
    url: Option<String>,
    /// A record in a lastgood chain, such as service/notes#12.
    #[arg(long, value_name = "CHAIN#NUMBER")]
    event: Option<String>,
    /// A written statement.
    #[arg(long, value_name = "TEXT")]
    statement: Option<Reason>,
    /// What lastgood proves itself: credentials-rotated by the plan's steps or by trying each secret again,
    /// evidence-verified by verifying every chain now.
    #[arg(long)]
    proof: bool,
}

impl Checklist {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List { incident } => list(app, incident),
            Self::Done(done) => done.run(app),
            Self::Waive { incident, item, risk, span } => waive(app, incident, &item, &risk, span),
        }
    }
}

fn refused(error: &incident::Refused) -> Trouble {
    Trouble::new(Exit::of_incident(error), error)
}

fn list(app: &App, id: IncidentId) -> Ended {
    let operations = app.operations()?;
    let found = incident::find(&operations, id).map_err(|error| refused(&error))?;
    let now = app.now();
    let open = checklist::open(found, &operations.approvals, now).next();
    let last = match open {
        None => "nothing is open".into(),
        Some(entry) => {
            let (item, typed) = (&entry.item.item, entry.item.evidence.typed());
            format!("close the first: lastgood checklist done {id} {item} {typed}")
        }
    };
    let text = format!("{}{last}", room::checklist(&operations, found, now));
    app.screen.show("checklist", &room::checklist_data(&operations, found, now), &text);
    Ok(Exit::Done)
}

impl Given {
    const fn kind(&self) -> EvidenceKind {
        match self {
            Self { file: Some(_), .. } => EvidenceKind::File,
            Self { url: Some(_), .. } => EvidenceKind::Url,
            Self { event: Some(_), .. } => EvidenceKind::Event,
            Self { statement: Some(_), .. } => EvidenceKind::Statement,
            Self { proof: true, .. } => EvidenceKind::Proof,
            _ => EvidenceKind::Command,
        }
    }

    /// Gathers the evidence.
    fn gather(
        self,
        app: &App,
        (incident, item): (&Incident, &ItemName),
        sha256: Option<&str>,
        within: Span,
    ) -> Result<Evidence, Trouble> {
        match self {
            Self { proof: true, .. } => proved(app, incident, item),
            Self { file: Some(file), .. } => digested(&file),
            Self { url: Some(url), .. } => fetched(app, url, sha256),
            Self { event: Some(event), .. } => recorded(app, &event),
            Self { statement: Some(text), .. } => Ok(Evidence::Statement { text }),
            Self { command, .. } => ran(app, command, within),
        }
    }
}

/// Fetches and digests a page. One that can't be fetched from here is taken as the person says, and the record says so.
fn fetched(app: &App, url: String, sha256: Option<&str>) -> Result<Evidence, Trouble> {
    let said: Option<Digest> = sha256.map(|hex| format!("sha256:{hex}").parse()).transpose().map_err(|error| {
        Trouble::say(Exit::Usage, "evidence-digest", format!("{error}"), "give its digest: --sha256 HEX")
    })?;
    match (proof::fetch(&url, proof::PAGE_TIME_MAX), said) {
        (Ok((digest, bytes)), said) if said.is_none_or(|said| said == digest) => {
            Ok(Evidence::Url { url, digest, fetched: Some(bytes) })
        }
        (Ok((digest, _)), _) => {
            let what = format!("{url} is {digest} now, which is not what was said");
            Err(Trouble::say(
                Exit::Refused,
                "evidence-digest",
                what,
                "leave --sha256 out, or name the page that you saw",
            ))
        }
        (Err(NoProof::Address), _) => Err(Trouble::say(
            Exit::Usage,
            "evidence-url",
            NoProof::Address.to_string(),
            "name the page: --url https://…",
        )),
        // What can't be reached from here is taken as it was said; what answers otherwise is not.
        (Err(error @ NoProof::Page { .. }), Some(digest)) => {
            app.screen.tell(&format!("{error}; the digest is taken as it was said"));
            Ok(Evidence::Url { url, digest, fetched: None })
        }
        (Err(error), _) => {
            let hint = "fetch it from where it can be reached, and give its digest: --sha256 HEX";
            Err(Trouble::say(Exit::Failed, "evidence-url", error.to_string(), hint))
        }
    }
}

/// Proves one of the items that lastgood can prove itself.
///
/// Errors: it is not so, or nobody can tell.
fn proved(app: &App, incident: &Incident, item: &ItemName) -> Result<Evidence, Trouble> {
    let what = match item.as_str() {
        EVIDENCE_VERIFIED => {
            let run = evidence::verified(app)?;
            if let Some(finding) = run.findings.first() {
                let hint = "see all: lastgood evidence verify";
                return Err(Trouble::say(Exit::Failed, "evidence-broken", evidence::says(finding), hint));
            }
            format!("{} verified", words::count(run.records, "record"))
        }
        CREDENTIALS_ROTATED => credentials_rotated(app, incident)?,
        _ => {
            let what = format!("lastgood can't prove {item} by itself");
            return Err(Trouble::say(
                Exit::CannotTell,
                "checklist-no-proof",
                what,
                "see what closes it: lastgood checklist list",
            ));
        }
    };
    Ok(Evidence::Proof { what })
}

/// Proves of every credential that the old secret is refused and the new one works: by what the plan saw, or by trying again.
fn credentials_rotated(app: &App, incident: &Incident) -> Result<String, Trouble> {
    if app.config.credential.is_empty() {
        let what = format!("{} has no [credential.NAME] to try", app.config_path.display());
        let hint = "write one, or have a second person sign: lastgood checklist waive";
        return Err(Trouble::say(Exit::CannotTell, "checklist-no-proof", what, hint));
    }
    let mut seen = Vec::new();
    for name in app.config.credential.keys() {
        if incident.planned.as_ref().is_some_and(|planned| planned.proved(name)) {
            seen.push(format!("{name} by the plan"));
            continue;
        }
        let credential = credential::prepared(app, name)?;
        let refused = credential.prove_refused().map_err(|error| credential::trouble(&error))?;
        let works = credential.prove_consumers().map_err(|error| credential::trouble(&error))?;
        seen.push(format!("{name} now: {}, {}", refused.what, works.what));
    }
    Ok(seen.join("; "))
}

fn digested(file: &Path) -> Result<Evidence, Trouble> {
    let bytes = std::fs::read(file).map_err(|error| {
        let what = format!("{} can't be read: {error}", file.display());
        Trouble::say(Exit::Failed, "evidence-file", what, "name a file that is there: --file FILE")
    })?;
    Ok(Evidence::File { path: file.display().to_string(), digest: Digest::of(&bytes), bytes: bytes.len() as u64 })
}

fn recorded(app: &App, event: &str) -> Result<Evidence, Trouble> {
    let unknown = || {
        let what = format!("there is no event {event:?}");
        Trouble::say(Exit::Failed, "evidence-event", what, "see the chains: lastgood evidence verify")
    };
    let (chain, number) = event.rsplit_once('#').ok_or_else(unknown)?;
    let chain = ChainName::new(chain).map_err(|_| unknown())?;
    let number: u64 = number.parse().map_err(|_| unknown())?;
    let reader = app.reader()?.ok_or_else(unknown)?;
    let records = reader.read(&chain, number, 1).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let record = records.first().filter(|record| record.seq == number).ok_or_else(unknown)?;
    Ok(Evidence::Event { chain, number, link: record.link })
}

fn ran(app: &App, argv: Vec<String>, within: Span) -> Result<Evidence, Trouble> {
    let ran = proof::run(&argv, &app.config.folder, within).map_err(|error| {
        let hint = match error {
            NoProof::TooSlow { .. } => "give it more time: --within 30m --command PROGRAM …",
            NoProof::Program { .. } | NoProof::Page { .. } | NoProof::Answered { .. } | NoProof::Address => {
                "name a program that is there: --command PROGRAM …"
            }
        };
        Trouble::say(Exit::Failed, "evidence-command", error.to_string(), hint)
    })?;
    app.screen.tell(String::from_utf8_lossy(&ran.output).trim_end());
    let (output, bytes) = (Digest::of(&ran.output), ran.output.len() as u64);
    Ok(Evidence::Command { argv, exit: ran.exit, output, bytes, took: ran.took })
}

impl Done {
    fn run(self, app: &App) -> Ended {
        let (id, item) = (self.incident, self.item);
        let operations = app.operations()?;
        // Before anything is run for it.
        let kind = self.evidence.kind();
        checklist::may_close(&operations, id, &app.actor, &item, kind).map_err(|error| refused(&error))?;
        let found = incident::find(&operations, id).map_err(|error| refused(&error))?;
        let evidence = self.evidence.gather(app, (found, &item), self.sha256.as_deref(), self.within)?;
        let (_, after) = app.say_operations(&|state| {
            let event = checklist::done(state, id, &app.actor, &item, evidence.clone())?;
            Ok(vec![Event::Incident { incident: id, event }])
        })?;
        let found = incident::find(&after, id).map_err(|error| refused(&error))?;
        let open = checklist::open(found, &after.approvals, app.now()).count();
        let next = match open {
            0 => format!("nothing is open: lastgood incident show {id}"),
            n => format!("{n} open: lastgood checklist list {id}"),
        };
        let data = json!({ "incident": id, "item": item, "evidence": evidence, "open": open });
        app.screen.show("checklist-item", &data, &format!("{item} is done: {}\n{next}", evidence.words()));
        Ok(Exit::Done)
    }
}

fn waive(app: &App, id: IncidentId, item: &ItemName, risk: &Reason, span: Span) -> Ended {
    let now = app.now();
    let until = now.after(span);
    let (_, after) =
        app.say_operations(&|state| checklist::waive(state, id, &app.actor, item, risk.clone(), until, now))?;
    let found = incident::find(&after, id).map_err(|error| refused(&error))?;
    let waiver = found.checklist.get(item).and_then(|entry| entry.waiver.as_ref());
    let (signature, _) = waiver.expect("a waiver is asked for or stands");
    let (approval, until) = (signature.approval, signature.until);
    let is_given = signature.standing(&after.approvals, now) == Signed::Given;
    let text = match is_given {
        true => format!("{item} is waived already, by {approval}, until {}", rfc3339(until)),
        false => format!(
            "{item} stays open until a second person has approved {approval}\n\
             have them run: lastgood approval approve {approval}"
        ),
    };
    let data = json!({ "incident": id, "item": item, "approval": approval, "until": until });
    app.screen.show("checklist-waiver", &data, &text);
    Ok(if is_given { Exit::Done } else { Exit::Pending })
}
