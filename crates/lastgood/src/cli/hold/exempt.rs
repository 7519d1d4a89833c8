//! The hotfix lane: what passes a hold once a second person agrees.

use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::{
        approval::Standing,
        hold::{self, EXEMPT_FOR, Exemption, MergeExemption},
    },
    terms::{ApprovalId, CommitId, Digest, Reason, ReleaseTag, Span, WideHoldId},
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// Request that one release or one commit may pass a hold; needs a second person's approval.
#[derive(Debug, Args)]
pub(crate) struct Exempt {
    /// The hold, such as hold-3.
    hold: WideHoldId,
    /// The service whose release may pass.
    #[arg(long, value_name = "NAME", required_unless_present = "commit")]
    service: Option<String>,
    /// The release, as its channel names it.
    #[arg(long, value_name = "TAG", requires = "service", required_unless_present = "commit")]
    release: Option<ReleaseTag>,
    /// The release's digest; required if lastgood has not seen it yet.
    #[arg(long, value_name = "SHA256", requires = "release")]
    digest: Option<Digest>,
    /// The commit that a held branch may be moved to, by its whole id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["service", "release", "digest"])]
    commit: Option<CommitId>,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Duration, such as 4h [default: 24h].
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
}

impl Exempt {
    pub(super) fn run(self, app: &App) -> Ended {
        let until = app.now().after(self.span.unwrap_or(EXEMPT_FOR));
        match (self.commit, self.service, self.release) {
            (Some(commit), ..) => merge(app, self.hold, MergeExemption { commit, reason: self.reason, until }),
            (None, Some(service), Some(tag)) => {
                let release = bytes(app, &service, &tag, self.digest)?;
                deploy(app, self.hold, &service, Exemption { release, tag, reason: self.reason, until })
            }
            (None, ..) => Err(Trouble::say(
                Exit::Usage,
                "arguments",
                "say what is to pass",
                "--service NAME --release TAG, or --commit ID",
            )),
        }
    }
}

/// Gives the bytes that a tag stands for.
fn bytes(app: &App, service: &str, tag: &ReleaseTag, named: Option<Digest>) -> Result<Digest, Trouble> {
    let service = app.service(Some(service))?;
    let seen = app.look(&service)?.service.tags.get(tag).copied();
    match (named, seen) {
        (Some(named), Some(seen)) if named != seen => Err(Trouble::say(
            Exit::Refused,
            "hold-release-other",
            format!("{tag} is {seen} here, not {named}"),
            "a tag that has moved passes nothing: ask for a new one",
        )),
        (Some(named), _) => Ok(named),
        (None, Some(seen)) => Ok(seen),
        // A tag is a name that others choose: without its bytes nobody would know what the second person agrees to.
        (None, None) => Err(Trouble::say(
            Exit::Usage,
            "hold-release-unseen",
            format!("nobody here has seen the bytes of {service} {tag}"),
            &format!("name them: --digest sha256:…, which this shows: lastgood run {service} --dry-run"),
        )),
    }
}

fn deploy(app: &App, hold: WideHoldId, service: &str, exemption: Exemption) -> Ended {
    let service = app.service(Some(service))?;
    let (now, subject) = (app.now(), app.config.service[&service].subject());
    let (_, after) =
        app.say_operations(&|state| hold::ask(state, &app.actor, (hold, &service, &subject), exemption.clone(), now))?;
    let approval = hold::asked_already(&after, (hold, &service), &exemption, now);
    let approval = approval.expect("an exemption is asked for or stands");
    // Asked before, it ends when it did then.
    let Exemption { release, tag, reason, until } = after.holds.asked[&approval].exemption.clone();
    let data = json!({
        "hold": hold, "service": service, "approval": approval, "release": tag, "digest": release, "until": until,
        "reason": reason,
    });
    let what = format!("{service} {tag} ({}) may pass {hold} until {}", release.short(), rfc3339(until));
    let is_open = after.approvals.all[&approval].standing == Standing::Approved;
    say(app, approval, is_open, data, (&what, &format!("go on: lastgood run {service} --now")))
}

fn merge(app: &App, hold: WideHoldId, exemption: MergeExemption) -> Ended {
    let now = app.now();
    let (_, after) = app.say_operations(&|state| hold::ask_merge(state, &app.actor, hold, exemption.clone(), now))?;
    let approval = hold::merge_asked_already(&after, hold, &exemption, now);
    let approval = approval.expect("an exemption is asked for or stands");
    let MergeExemption { commit, reason, until } = after.holds.merges[&approval].exemption.clone();
    let data = json!({ "hold": hold, "approval": approval, "commit": commit, "until": until, "reason": reason });
    let what = format!("commit {commit} may pass {hold} until {}", rfc3339(until));
    let is_open = after.approvals.all[&approval].standing == Standing::Approved;
    say(app, approval, is_open, data, (&what, "see that its enforcers have heard of it: lastgood hold sync"))
}

fn say(app: &App, approval: ApprovalId, is_open: bool, data: Value, (what, next): (&str, &str)) -> Ended {
    let text = match is_open {
        true => format!("{what} already, by {approval}\n{next}"),
        false => format!("{approval} asks that {what}\nhave another person run: lastgood approval approve {approval}"),
    };
    app.screen.show("hold-exemption", &data, &text);
    Ok(if is_open { Exit::Done } else { Exit::Pending })
}
