//! `lastgood approval`: what waits for people, and their answers.

use super::{
    Ended,
    incident::{known, person},
};
use crate::{
    app::{App, Ask},
    enforce,
    exit::Exit,
    screen::Trouble,
};
use clap::{Args, Subcommand};
use lastgood_domain::{
    operations::{
        Event, Operations,
        approval::{self, Approval as Found, Standing},
        incident::{Signature, plan},
        people::Act,
    },
    terms::{ApprovalId, Digest, Reason, Span},
};
use lastgood_engine::{letter::rfc3339, links::Link};
use serde_json::{Value, json};
use std::path::PathBuf;

/// List approval requests and answer them.
#[derive(Debug, Subcommand)]
pub(crate) enum Approval {
    /// List open requests.
    List {
        /// Include closed requests.
        #[arg(long)]
        all: bool,
    },
    /// Show one request.
    Show {
        /// The request, such as a3.
        approval: ApprovalId,
    },
    /// Request approval for a script's next step; exits 0 once approved, 8 while pending.
    Ask(Question),
    /// Approve a request that somebody else made.
    Approve {
        /// The request, such as a3.
        approval: ApprovalId,
        /// The plan you reviewed, as `approval show` prints it; refused if the plan has changed since.
        #[arg(long, value_name = "HASH")]
        plan: Option<String>,
    },
    /// Reject a request; this closes it.
    Reject {
        /// The request, such as a3.
        approval: ApprovalId,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Print one person's link to answer a request, for somebody notices can't reach. Printing it is recorded.
    Link {
        /// The request, such as a3.
        approval: ApprovalId,
        /// The person, as in `[person.NAME]`: whoever holds the link answers as this person.
        #[arg(long, value_name = "NAME")]
        person: String,
    },
    /// Extend a request's deadline.
    Extend {
        /// The request, such as a3.
        approval: ApprovalId,
        /// Time from now, such as 24h; at most 7d.
        #[arg(long = "for", value_name = "TIME")]
        span: Span,
    },
}

/// Request approval for a script's next step; exits 0 once approved, 8 while pending.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// A one-word subject; a new request with the same subject replaces the old one.
    subject: String,
    /// What would happen, in one sentence.
    #[arg(long)]
    what: Reason,
    /// The plan file. If its content changes, the approval no longer counts.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Number of approvals needed.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    needed: u32,
    /// People who may approve, comma-separated [default: everybody with the right].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    of: Vec<String>,
}

impl Question {
    fn run(self, app: &App) -> Ended {
        let plan = std::fs::read(&self.plan).map_err(|error| {
            let message = format!("{} can't be read: {error}", self.plan.display());
            Trouble::say(Exit::Usage, "approval-plan-unreadable", message, "name the file that says what is done")
        })?;
        let plan = Digest::of(&plan);
        // A place of their own: nobody asks here for what lastgood itself asks for.
        let subject = format!("asked/{}", self.subject);
        let of = self.of.iter().map(|name| known(app, name)).collect::<Result<_, _>>()?;
        let what = self.what.to_string();
        app.need_approval(&Ask { subject: subject.clone(), what: what.clone(), plan, needed: self.needed, of })?;
        let data = json!({ "subject": subject, "what": what, "plan": plan.to_string(), "approved": true });
        app.screen.show("approval-asked", &data, &format!("approved: {what}"));
        Ok(Exit::Done)
    }
}

impl Approval {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List { all } => list(app, all),
            Self::Show { approval } => show(app, approval),
            Self::Ask(question) => question.run(app),
            Self::Approve { approval, plan } => approve(app, approval, plan.as_deref()),
            Self::Reject { approval, reason } => {
                let (now, by) = (app.now(), &app.actor);
                answer(app, approval, &|state| approval::reject(&state.approvals, by, approval, reason.clone(), now))
            }
            Self::Link { approval, person } => link(app, approval, &person),
            Self::Extend { approval, span } => {
                let (now, by) = (app.now(), &app.actor);
                answer(app, approval, &|state| approval::extend(&state.approvals, by, approval, span, now))
            }
        }
    }
}

/// Reads the digest that somebody saw: whole, or its beginning as it is shown.
fn seen(found: &Found, written: &str) -> Result<Digest, Trouble> {
    let asked = found.request.plan;
    let hex = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    let (written_hex, asked_hex) = (hex(written), hex(&asked.to_string()));
    // What `short` gives is told apart from any other plan that people could have seen.
    let is_digest = written_hex.len() >= asked.short().len() && written_hex.chars().all(|c| c.is_ascii_hexdigit());
    match (is_digest, asked_hex.starts_with(&written_hex)) {
        (true, true) => Ok(asked),
        // Whatever it is, it is another one; its own digest is not known from a part of it.
        (true, false) => Ok(written.parse().unwrap_or_else(|_| Digest::of(written.as_bytes()))),
        (false, _) => Err(Trouble::say(
            Exit::Usage,
            "approval-plan-unreadable",
            format!("{written:?} is no digest of a plan"),
            "copy what it shows: lastgood approval show",
        )),
    }
}

fn approve(app: &App, id: ApprovalId, plan: Option<&str>) -> Ended {
    let operations = app.operations()?;
    let found = find(&operations, id)?;
    // Without a digest the plan that was asked for now is meant; one that changes meanwhile is another.
    let plan = plan.map_or(Ok(found.request.plan), |written| seen(found, written))?;
    let (now, by) = (app.now(), &app.actor);
    let (_, after) = app
        .say_operations(&|state| Ok(vec![Event::Approval(approval::approve(&state.approvals, by, id, plan, now)?)]))?;
    if after.holds.merges.contains_key(&id) {
        enforce::at_once(app);
    }
    let found = find(&after, id)?;
    let mut text = format!("{id} is {}", standing(app, found));
    if found.standing == Standing::Approved {
        text += &format!("\n{}", took_effect(&after, id, found));
    }
    app.screen.show("approval", &data(app, id, found), &text);
    Ok(Exit::Done)
}

/// Says what is so now that a request is approved, and where nothing is yet, what to type.
fn took_effect(operations: &Operations, id: ApprovalId, found: &Found) -> String {
    if let Some(asked) = operations.holds.asked.get(&id) {
        let (service, tag, until) = (&asked.service, &asked.exemption.tag, rfc3339(asked.exemption.until));
        return format!("{service} {tag} may pass {} until {until}: lastgood run {service} --now", asked.hold);
    }
    if let Some(asked) = operations.holds.merges.get(&id) {
        let (commit, until) = (&asked.exemption.commit, rfc3339(asked.exemption.until));
        return format!("commit {commit} may pass {} until {until}: lastgood hold list", asked.hold);
    }
    for (incident, one) in &operations.incidents.all {
        let is_this = |signature: &Signature| signature.approval == id;
        let mut items = one.checklist.iter().filter_map(|(item, entry)| Some((item, &entry.waiver.as_ref()?.0)));
        if let Some((item, signature)) = items.find(|(_, signature)| is_this(signature)) {
            return format!("{item} of incident {incident} is waived until {}", rfc3339(signature.until));
        }
        if let Some((row, (signature, _))) = one.unfreeze.risks.iter().find(|(_, (signature, _))| is_this(signature)) {
            let (row, until) = (row.as_str(), rfc3339(signature.until));
            return format!("the risk of {row} is taken until {until}: lastgood incident unfreeze {incident}");
        }
        if let Some(lower) = one.lowering.as_ref().filter(|lower| is_this(&lower.signature)) {
            return format!("lower it: lastgood incident level {incident} {} --reason …", lower.level.as_str());
        }
        if found.request.subject == plan::subject(*incident) {
            return format!("run it: lastgood incident run {incident}");
        }
    }
    format!("{} may go on: {}", found.by, found.request.what)
}

type Deciding<'a> = &'a dyn Fn(&Operations) -> Result<approval::ApprovalEvent, approval::Refused>;

fn answer(app: &App, id: ApprovalId, decide: Deciding<'_>) -> Ended {
    let (_, after) = app.say_operations(&|state| Ok(vec![Event::Approval(decide(state)?)]))?;
    let found = find(&after, id)?;
    app.screen.show("approval", &data(app, id, found), &format!("{id} is {}", standing(app, found)));
    Ok(Exit::Done)
}

fn link(app: &App, id: ApprovalId, name: &str) -> Ended {
    let links = app.links()?.ok_or_else(|| {
        let message = "there is no address under which a link could be opened";
        let hint = "write in lastgood.toml: [approvals] with url = \"https://ops.example\"";
        Trouble::say(Exit::Usage, "approval-links-off", message, hint)
    })?;
    let person = person(name)?;
    let people = app.config.people();
    if !people.all.contains_key(&person) {
        let message = format!("there is no [person.{name}]");
        return Err(Trouble::say(Exit::Usage, "person-name", message, "a link is for somebody who is configured"));
    }
    people.check(&person, Act::Approve).map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
    let (now, by) = (app.now(), &app.actor);
    let (_, after) = app.say_operations(&|state| {
        Ok(vec![Event::Approval(approval::give_link(&state.approvals, by, id, &person, now)?)])
    })?;
    let one = find(&after, id)?;
    let address = links.address(&Link::of(id, one, &person));
    let until = rfc3339(one.request.expires);
    app.screen.tell(&format!("whoever has this link answers {id} as {person}, once, until {until}"));
    let data = json!({ "approval": id, "person": person, "link": address, "expires": one.request.expires });
    app.screen.show("approval-link", &data, &address);
    Ok(Exit::Done)
}

fn find(operations: &Operations, approval: ApprovalId) -> Result<&Found, Trouble> {
    let found = operations.approvals.all.get(&approval);
    found.ok_or_else(|| Trouble::new(Exit::Failed, &approval::Refused::Unknown { approval }))
}

/// Says where a request stands, and what is missing.
fn standing(app: &App, one: &Found) -> String {
    let now = app.now();
    match one.standing_at(now) {
        Standing::Pending => {
            let (yes, needed) = (one.yes.len(), one.request.needed);
            format!("pending: {yes} of {needed}, {} left", one.request.expires.since(now))
        }
        Standing::Rejected { by, reason } => {
            format!("rejected by {by}{}: {reason}", one.rejected_through.words())
        }
        Standing::Approved => format!("approved, for {} from now", one.request.expires.since(now)),
        other => other.words(),
    }
}

/// Gives each answer that came, and by which door.
fn answers(one: &Found) -> Vec<Value> {
    let yes = one.yes.iter().map(|(by, yes)| json!({ "by": by, "said": "yes", "at": yes.at, "door": yes.door }));
    let no = match &one.standing {
        Standing::Rejected { by, .. } => {
            Some(json!({ "by": by, "said": "no", "at": one.ended, "door": one.rejected_through }))
        }
        _ => None,
    };
    yes.chain(no).collect()
}

fn data(app: &App, id: ApprovalId, one: &Found) -> Value {
    let (request, now) = (&one.request, app.now());
    let standing = one.standing_at(now);
    let reason = match &standing {
        Standing::Rejected { reason, .. } => Some(reason.to_string()),
        Standing::Voided { because } => Some(because.clone()),
        _ => None,
    };
    json!({
        "approval": id, "subject": request.subject, "what": request.what, "plan": request.plan.to_string(),
        "asked_by": one.by, "asked_at": one.at, "expires": request.expires,
        "left_seconds": request.expires.since(now).0 / 1_000,
        "needed": request.needed, "of": request.of, "yes": one.yes.keys().collect::<Vec<_>>(),
        "answers": answers(one),
        "standing": standing.word(), "reason": reason,
    })
}

fn list(app: &App, all: bool) -> Ended {
    let approvals = app.operations()?.approvals;
    let open = |one: &Found| one.standing_at(app.now()) == Standing::Pending;
    let chosen: Vec<_> = approvals.all.iter().filter(|(_, one)| all || open(one)).collect();
    let line = |(id, one): &(&ApprovalId, &Found)| {
        let yes = one.yes.iter().map(|(who, yes)| format!("{who}{}", yes.door.words())).collect::<Vec<_>>().join(", ");
        let yes = if yes.is_empty() { yes } else { format!("  yes: {yes}") };
        format!("{id}  {}{yes}  asked by {}: {}\n", standing(app, one), one.by, one.request.what)
    };
    let mut text: String = chosen.iter().map(line).collect();
    match chosen.iter().find(|(_, one)| open(one)) {
        Some((id, _)) => text += &format!("look at one: lastgood approval show {id}\n"),
        None if text.is_empty() => text = "nothing waits for people\n".into(),
        None => {}
    }
    let rows: Vec<Value> = chosen.iter().map(|(id, one)| data(app, **id, one)).collect();
    app.screen.show("approvals", &rows, &text);
    Ok(Exit::Done)
}

fn show(app: &App, id: ApprovalId) -> Ended {
    let operations = app.operations()?;
    let one = find(&operations, id)?;
    let names = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let of = names(&mut one.request.of.iter().map(ToString::to_string));
    let of = if of.is_empty() { "anybody but who asks".into() } else { of };
    let yes = names(&mut one.yes.iter().map(|(who, yes)| format!("{who} at {}{}", rfc3339(yes.at), yes.door.words())));
    let mut text = format!("{id}: {}\n", one.request.what);
    text += &format!("  asked by  {} at {}\n", one.by, rfc3339(one.at));
    text += &format!("  needs     {} of {of}\n", one.request.needed);
    text += &format!("  yes       {}\n", if yes.is_empty() { "nobody yet" } else { &yes });
    text += &format!("  plan      {}\n", one.request.plan.short());
    text += &format!("  until     {}\n", rfc3339(one.request.expires));
    text += &format!("  is        {}\n", standing(app, one));
    if one.standing_at(app.now()) == Standing::Pending {
        text += &format!("approve it: lastgood approval approve {id} --plan {}\n", one.request.plan.short());
    }
    app.screen.show("approval", &data(app, id, one), &text);
    Ok(Exit::Done)
}
