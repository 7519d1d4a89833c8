//! Holds over several services: set, lifted, and opened for one release.

use super::{Flight, Kind, Set};
use crate::{app::App, cli::Ended, enforce, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::{
        Event,
        approval::Standing,
        hold::{self, EXEMPT_FOR, Exemption, HoldEvent, Selector, Wanted},
    },
    terms::{Digest, Reason, ReleaseTag, Span, Timestamp, WideHoldId},
};
use lastgood_engine::letter::rfc3339;
use serde_json::json;
use std::collections::BTreeSet;

/// Sets one over several services and tries to have it enforced at once.
pub(super) fn set(app: &App, asked: Set) -> Ended {
    let Set { all, services, labels, kinds, reason, span, review_at, in_flight, .. } = asked;
    if !all && services.is_empty() && labels.is_empty() {
        return Err(Trouble::say(
            Exit::Usage,
            "hold-unscoped",
            "say which services are meant",
            "--all, --services a,b or --label tier=api",
        ));
    }
    for service in &services {
        app.service(Some(service.as_str()))?;
    }
    let carries = |one: &&(String, String)| app.config.service.values().any(|s| s.labels.get(&one.0) == Some(&one.1));
    if let Some((key, value)) = labels.iter().find(|one| !carries(one)) {
        let known: BTreeSet<String> = app
            .config
            .service
            .values()
            .flat_map(|service| service.labels.iter().map(|(key, value)| format!("{key}={value}")))
            .collect();
        let hint = match known.is_empty() {
            true => "no service has labels; name services: --services a,b".to_owned(),
            false => format!("one of: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let what = format!("no service has the label {key}={value}: the hold would stop nobody");
        return Err(Trouble::say(Exit::Usage, "hold-label-unknown", what, &hint));
    }
    let now = app.now();
    let until = span.map(|span| now.after(span));
    let review = review_at.or_else(|| until.is_none().then(|| now.after(app.config.holds.review_after.0)));
    let kinds = if kinds.is_empty() { vec![Kind::Deploy] } else { kinds };
    let wanted = Wanted {
        kinds: kinds.into_iter().map(Into::into).collect(),
        selector: Selector { services: services.into_iter().collect(), labels: labels.into_iter().collect() },
        reason,
        until,
        review,
        in_flight: in_flight.map_or_else(Default::default, Into::into),
    };
    let (records, _) = app.say_operations(&|state| Ok(vec![Event::Hold(hold::set(&state.holds, wanted.clone())?)]))?;
    let id = records.iter().find_map(|record| match record.event {
        Event::Hold(HoldEvent::Set { hold, .. }) => Some(hold),
        _ => None,
    });
    let id = id.expect("a hold was set");
    enforce::at_once(app);
    let operations = app.operations()?;
    let set = &operations.holds.all[&id];
    let mut text = format!("{id} stops {} of {}\n", set.kinds_words(), set.selector.words());
    text += &super::list::enforcers_text(&operations.holds, id);
    text += &format!("lift it: lastgood hold lift {id} --reason …");
    app.screen.show("hold", &super::list::row(&operations.holds, id, set), &text);
    Ok(Exit::Done)
}

/// Lifts one, everywhere.
pub(super) fn lift(app: &App, id: WideHoldId, reason: Reason) -> Ended {
    app.say_operations(&|state| Ok(vec![Event::Hold(hold::lift(&state.holds, id, reason.clone())?)]))?;
    enforce::at_once(app);
    let operations = app.operations()?;
    let left = operations.holds.standing(app.now()).count();
    let mut text = format!("{id} is lifted\n");
    text += &super::list::enforcers_text(&operations.holds, id);
    text += &match left {
        0 => "no other hold over several services stands: lastgood hold check".to_owned(),
        n => format!("{n} more over several services are active: lastgood hold list"),
    };
    let enforcers = super::list::enforcers(&operations.holds, id);
    app.screen.show("hold-lifted", &json!({ "hold": id, "left": left, "enforcers": enforcers }), &text);
    Ok(Exit::Done)
}

/// Request that one release may pass a hold; needs a second person's approval.
#[derive(Debug, Args)]
pub(crate) struct Exempt {
    /// The hold, such as hold-3.
    hold: WideHoldId,
    /// The service.
    #[arg(long, value_name = "NAME")]
    service: String,
    /// The release, as its channel names it.
    #[arg(long, value_name = "TAG")]
    release: ReleaseTag,
    /// The release's digest; required if lastgood has not seen it yet.
    #[arg(long, value_name = "SHA256")]
    digest: Option<Digest>,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Duration, such as 4h [default: 24h].
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
}

impl Exempt {
    pub(super) fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        let seen = app.look(&service)?.service.tags.get(&self.release).copied();
        let release = match (self.digest, seen) {
            (Some(named), Some(seen)) if named != seen => {
                return Err(Trouble::say(
                    Exit::Refused,
                    "hold-release-other",
                    format!("{} is {seen} here, not {named}", self.release),
                    "a tag that has moved passes nothing: ask for a new one",
                ));
            }
            (Some(named), _) => named,
            (None, Some(seen)) => seen,
            // A tag is a name that others choose: without its bytes nobody would know what the second person agrees to.
            (None, None) => {
                return Err(Trouble::say(
                    Exit::Usage,
                    "hold-release-unseen",
                    format!("nobody here has seen the bytes of {service} {}", self.release),
                    &format!("name them: --digest sha256:…, which this shows: lastgood run {service} --dry-run"),
                ));
            }
        };
        let now = app.now();
        let until = now.after(self.span.unwrap_or(EXEMPT_FOR));
        let exemption = Exemption { release, tag: self.release, reason: self.reason, until };
        let subject = app.config.service[&service].subject();
        let (_, after) = app.say_operations(&|state| {
            hold::ask(state, &app.actor, (self.hold, &service, &subject), exemption.clone(), now)
        })?;
        let approval = hold::asked_already(&after, (self.hold, &service), &exemption, now);
        let approval = approval.expect("an exemption is asked for or stands");
        // Asked before, it ends when it did then.
        let exemption = after.holds.asked[&approval].exemption.clone();
        let is_open = after.approvals.all[&approval].standing == Standing::Approved;
        let data = json!({
            "hold": self.hold, "service": service, "approval": approval, "release": exemption.tag,
            "digest": exemption.release, "until": exemption.until, "reason": exemption.reason,
        });
        let what = format!(
            "{service} {} ({}) may pass {} until {}",
            exemption.tag,
            exemption.release.short(),
            self.hold,
            rfc3339(exemption.until),
        );
        let text = match is_open {
            true => format!("{what} already, by {approval}\ngo on: lastgood run {service} --now"),
            false => {
                format!("{approval} asks that {what}\nhave another person run: lastgood approval approve {approval}")
            }
        };
        app.screen.show("hold-exemption", &data, &text);
        Ok(if is_open { Exit::Done } else { Exit::Pending })
    }
}

/// Reads `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write it like tier=api".into()),
    }
}

/// Reads a time such as `2026-12-01T08:00:00Z`.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| Timestamp(time.as_millisecond())).map_err(|_| "write it like 2026-12-01T08:00:00Z".into())
}

impl From<Kind> for hold::HoldKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Merge => Self::Merge,
            Kind::Claim => Self::Claim,
            Kind::Promote => Self::Promote,
            Kind::Deploy => Self::Deploy,
        }
    }
}

impl From<Flight> for hold::InFlight {
    fn from(flight: Flight) -> Self {
        match flight {
            Flight::Finish => Self::Finish,
            Flight::Pause => Self::Pause,
            Flight::Abort => Self::Abort,
        }
    }
}
