//! `lastgood hold`: named, owned, reasoned stops of forward moves.

mod check;
mod exempt;
mod list;
mod wide;

pub(super) use list::{enforcers_text, review_words};

use super::Ended;
use crate::{app::App, enforce, exit::Exit, screen::Trouble};
use check::Check;
use clap::{Args, Subcommand, ValueEnum};
use exempt::Exempt;
use lastgood_domain::{
    event::Event,
    service,
    terms::{HoldId, Reason, ServiceName, Span, Timestamp, WideHoldId},
};
use serde_json::json;

/// Set, lift and list holds: they stop rollouts, never rollbacks.
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Set a hold on one or several services; it stops rollouts, never rollbacks.
    Set(Box<Set>),
    /// Lift one hold.
    Lift {
        /// A hold over several services, such as hold-3; or the service that has the hold.
        what: String,
        /// The service's hold, such as h0.
        hold: Option<HoldId>,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// List active holds and whether they are enforced.
    List {
        /// The service [default: all].
        service: Option<String>,
    },
    /// Check whether an action is allowed, and what stops it.
    Check(Check),
    /// Request that one release or one commit may pass a hold; needs a second person's approval.
    Exempt(Box<Exempt>),
    /// Push holds to the external enforcers and read them back.
    Sync,
}

/// Set a hold on one or several services; it stops rollouts, never rollbacks.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The service [default: the only one].
    #[arg(conflicts_with_all = ["all", "services", "labels", "kinds"])]
    service: Option<String>,
    /// All services, including ones added later.
    #[arg(long, conflicts_with_all = ["services", "labels"])]
    all: bool,
    /// These services, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    services: Vec<ServiceName>,
    /// Services with this label, such as tier=api; several are combined with AND.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = wide::label)]
    labels: Vec<(String, String)>,
    /// Kinds of change to stop, comma-separated [default: deploy].
    #[arg(long = "kind", value_enum, value_delimiter = ',', value_name = "KINDS")]
    kinds: Vec<Kind>,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Duration, such as 2h [default: until lifted].
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
    /// When to ask the owner whether it is still needed, such as 7d or 2026-12-01T08:00:00Z.
    #[arg(long, alias = "review-at", value_name = "TIME", conflicts_with = "span")]
    review: Option<Review>,
    /// What to do with a run in progress [default: pause].
    #[arg(long, value_enum, value_name = "WHAT")]
    in_flight: Option<Flight>,
}

/// When an owner is asked.
#[derive(Debug, Clone, Copy)]
enum Review {
    At(Timestamp),
    In(Span),
}

impl std::str::FromStr for Review {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text.parse(), wide::time(text)) {
            (Ok(span), _) => Ok(Self::In(span)),
            (Err(_), Ok(at)) => Ok(Self::At(at)),
            (Err(_), Err(_)) => Err("write it like 7d or 2026-12-01T08:00:00Z".into()),
        }
    }
}

impl Review {
    /// Gives the time that is meant at `now`.
    ///
    /// Errors: exit 2 for one that is over.
    fn ahead(self, now: Timestamp) -> Result<Timestamp, Trouble> {
        let at = match self {
            Self::At(at) => at,
            Self::In(span) => now.after(span),
        };
        match at > now {
            true => Ok(at),
            false => Err(Trouble::say(
                Exit::Usage,
                "hold-review-past",
                format!("{} is over", lastgood_engine::letter::rfc3339(at)),
                "name a time ahead: --review 7d",
            )),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Merges into release branches.
    Merge,
    /// Claims of new work.
    Claim,
    /// Promotions from another environment.
    Promote,
    /// All rollouts.
    Deploy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Flight {
    /// Let it finish.
    Finish,
    /// Start no further wave or share.
    Pause,
    /// Roll it back without rejecting the release.
    Abort,
}

impl Hold {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let _kept_open = matches!(self, Self::Set(_)).then(|| crate::room::make(app));
        match self {
            Self::Set(set) if set.is_wide() => wide::set(app, *set),
            Self::Set(one) => set(app, *one),
            Self::Lift { what, hold, reason } => match (hold, what.parse::<WideHoldId>()) {
                (None, Ok(id)) => wide::lift(app, id, reason),
                (Some(hold), _) => lift(app, &what, hold, reason),
                (None, Err(_)) => Err(Trouble::say(
                    Exit::Usage,
                    "hold-unnamed",
                    format!("{what} is no hold over several services"),
                    "name one: lastgood hold lift hold-3 --reason …, or lastgood hold lift SERVICE h0 --reason …",
                )),
            },
            Self::List { service } => list::list(app, service.as_deref()),
            Self::Check(check) => check.run(app),
            Self::Exempt(exempt) => exempt.run(app),
            Self::Sync => sync(app),
        }
    }
}

impl Set {
    /// Tells whether it is over several services, which are chosen by what they are.
    fn is_wide(&self) -> bool {
        let chosen = self.all || !self.services.is_empty() || !self.labels.is_empty();
        chosen || !self.kinds.is_empty()
    }
}

fn set(app: &App, asked: Set) -> Ended {
    let Set { service, reason, span, review, in_flight, .. } = asked;
    let service = app.service(service.as_deref())?;
    let now = app.now();
    let until = span.map(|span| now.after(span));
    let review = review.map(|review| review.ahead(now)).transpose()?;
    let in_flight = in_flight.map_or_else(Default::default, Into::into);
    let id = std::cell::Cell::new(HoldId(0));
    app.say(&service, |folded| {
        id.set(HoldId(folded.next.hold));
        let set = Event::HoldSet { hold: id.get(), reason: reason.clone(), until, origin: None, in_flight };
        let reviewed = review.map(|review| Event::HoldReviewSet { hold: id.get(), review });
        Ok([set].into_iter().chain(reviewed).collect())
    })?;
    let hold = id.get();
    app.screen.show(
        "hold",
        &json!({
            "service": service, "hold": hold, "reason": reason, "until": until, "review": review, "in_flight": in_flight,
        }),
        &format!("{service} is held by {hold}\nlift it: lastgood hold lift {service} {hold} --reason …"),
    );
    Ok(Exit::Done)
}

/// Asks all enforcers, and fails if any hold is not as it should be at any of them.
fn sync(app: &App) -> Ended {
    let heard = enforce::in_peace(app)?;
    let (operations, now) = (app.operations()?, app.now());
    let open = lastgood_engine::enforce::unconfirmed(&app.config, &operations, now);
    let unconfirmed: usize = open.values().map(std::collections::BTreeSet::len).sum();
    let mut text: String = operations
        .holds
        .enforced
        .keys()
        .map(|id| format!("{id}\n{}", list::enforcers_text(&operations.holds, *id)))
        .collect();
    let all: Vec<_> = operations
        .holds
        .enforced
        .keys()
        .map(|id| json!({ "hold": id, "enforcers": list::enforcers(&operations.holds, *id) }))
        .collect();
    text += match (heard, unconfirmed) {
        (true, 0) => "everything is as it should be",
        (true, _) => "not everything is as it should be: lastgood hold list",
        (false, _) => "not all were heard: lastgood hold sync",
    };
    app.screen.show("hold-sync", &json!({ "heard": heard, "unconfirmed": unconfirmed, "holds": all }), &text);
    Ok(if heard && unconfirmed == 0 { Exit::Done } else { Exit::Failed })
}

fn lift(app: &App, service: &str, hold: HoldId, reason: Reason) -> Ended {
    let service = app.service(Some(service))?;
    let after = app.say(&service, |folded| match folded.holds.get(&hold) {
        Some(service::Hold { origin: Some(origin), .. }) => Err(Trouble::say(
            Exit::Refused,
            "hold-of-several",
            format!("{hold} is {service}'s part of {origin}"),
            &format!("lift it for every service: lastgood hold lift {origin} --reason …"),
        )),
        Some(_) => Ok(vec![Event::HoldLifted { hold, reason: reason.clone() }]),
        None => Err(Trouble::say(
            Exit::Failed,
            "hold-unknown",
            format!("{service} has no hold {hold}"),
            &format!("list them: lastgood hold list {service}"),
        )),
    })?;
    let left = after.standing_holds(app.now()).count();
    let next = match left {
        0 if super::run::owes(app, &service) => {
            format!("a root-cause analysis is owed before any rollout: lastgood rca list {service}")
        }
        0 => format!("rollouts are allowed again: lastgood run {service} --now"),
        n => format!("{n} more are active: lastgood hold list {service}"),
    };
    app.screen.show(
        "hold-lifted",
        &json!({ "service": service, "hold": hold, "left": left }),
        &format!("{hold} is lifted\n{next}"),
    );
    Ok(Exit::Done)
}
