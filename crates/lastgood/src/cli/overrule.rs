//! `lastgood override`: a gate's owner lets one release past the gate.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand};
use lastgood_domain::{
    operations::{
        Event, Refused,
        overrule::{self, Given, Overrule, STANDS_FOR, STANDS_MAX},
    },
    terms::{Reason, ReleaseTag, Span},
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// Let one release pass a gate, as the gate's owner.
#[derive(Debug, Subcommand)]
pub(crate) enum Override {
    /// Let one release of a service pass a gate for a limited time.
    Give(Give),
    /// List active overrides.
    List {
        /// Include closed ones.
        #[arg(long)]
        all: bool,
    },
}

/// Let one release of a service pass a gate for a limited time.
#[derive(Debug, Args)]
pub(crate) struct Give {
    /// The gate, such as preflight.
    gate: String,
    /// The service.
    #[arg(long)]
    service: String,
    /// The release.
    #[arg(long)]
    release: ReleaseTag,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Duration, at most 7d [default: 24h].
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
}

impl Override {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Give(give) => give.run(app),
            Self::List { all } => list(app, all),
        }
    }
}

impl Give {
    fn run(self, app: &App) -> Ended {
        let service = app.service(Some(&self.service))?;
        let span = self.span.unwrap_or(STANDS_FOR);
        if span > STANDS_MAX {
            return Err(Trouble::new(Exit::Usage, &overrule::Refused::TooLong { asked: span }));
        }
        // Where these bytes were seen before, only these pass under the tag.
        let digest = app.look(&service)?.service.tags.get(&self.release).copied();
        let (gate, tag, reason) = (self.gate, self.release, self.reason);
        let until = app.now().after(span);
        let one = Overrule { gate, service, tag, digest, reason, until };
        let (_, after) = app.say_operations(&|_| Ok::<_, Refused>(vec![Event::Overruled(one.clone())]))?;
        let given = after.overrules.all.last().expect("it was just written");
        // A tag is a name that others choose.
        let whatever = match one.digest {
            Some(_) => String::new(),
            None => format!("\nnobody here has seen its bytes: whatever the channel offers as {} passes", one.tag),
        };
        let text = format!(
            "{} passes the gate {} until {}{whatever}\ngo on: lastgood run {} --now",
            one.tag,
            one.gate,
            rfc3339(until),
            one.service
        );
        app.screen.show("override", &data(given), &text);
        Ok(Exit::Done)
    }
}

fn data(given: &Given) -> Value {
    let one = &given.overrule;
    json!({
        "gate": one.gate, "service": one.service, "release": one.tag, "digest": one.digest.map(|one| one.to_string()),
        "reason": one.reason, "by": given.by, "at": given.at, "until": one.until,
    })
}

fn list(app: &App, all: bool) -> Ended {
    let overrules = app.operations()?.overrules;
    let now = app.now();
    let chosen: Vec<&Given> = overrules.all.iter().filter(|given| all || now < given.overrule.until).collect();
    let line = |given: &&Given| {
        let one = &given.overrule;
        let until = rfc3339(one.until);
        format!("{}  {} {}  by {} until {until}: {}\n", one.gate, one.service, one.tag, given.by, one.reason)
    };
    let mut text: String = chosen.iter().map(line).collect();
    if text.is_empty() {
        text = "no gate is overridden\n".into();
    }
    app.screen.show("overrides", &chosen.iter().map(|given| data(given)).collect::<Vec<_>>(), &text);
    Ok(Exit::Done)
}
