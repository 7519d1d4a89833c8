//! `lastgood flag`: feature flags, off until they are turned on.

use super::{
    Ended,
    switch::{configured, look, say},
};
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand};
use lastgood_domain::{
    switches::{
        self, Definition, FlagKind, Live, Refused, Serve,
        typed::{self, Percent, RuleText, Variant, parts, serves},
    },
    terms::{FlagKey, Reason, SwitchName, VariantName},
};
use lastgood_engine::letter::rfc3339;
use serde_json::json;
use std::collections::BTreeMap;

/// Manage feature flags (off by default).
#[derive(Debug, Subcommand)]
pub(crate) enum Flag {
    /// Set a flag's values, rules and shares, without turning it on or off.
    Set(Box<Set>),
    /// Turn a flag on.
    On {
        /// The flag.
        flag: FlagKey,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Turn a flag off.
    Off {
        /// The flag.
        flag: FlagKey,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// List all flags.
    List,
    /// Show a flag.
    Show {
        /// The flag.
        flag: FlagKey,
    },
    /// Delete a flag's settings; a flag declared in the configuration stays and is off.
    Remove {
        /// The flag.
        flag: FlagKey,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
}

/// What `flag set` changes; what is not named stays as it is.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The flag.
    flag: FlagKey,
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Type of a new flag: boolean, string, number or object [default: boolean].
    #[arg(long = "type", value_name = "TYPE", value_parser = typed::kind)]
    kind: Option<FlagKind>,
    /// A named value, such as long="Good day" (strings need no quotes). Repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    variant: Vec<Variant>,
    /// The value while the flag is off, and when no rule or share matches.
    #[arg(long, value_name = "VARIANT")]
    off: Option<VariantName>,
    /// The value when no rule matches.
    #[arg(long, value_name = "VARIANT", conflicts_with = "percent")]
    serve: Option<VariantName>,
    /// Percentage of users that get a value, such as 5 or long=2.5. Repeatable.
    #[arg(long, value_name = "[VARIANT=]PERCENT")]
    percent: Vec<Percent>,
    /// A rule, such as "plan in pro,team && app >= 1.4.0 => long", or "… => long=5" for a share. All rules are replaced by
    /// those named.
    #[arg(long, value_name = "RULE")]
    rule: Vec<RuleText>,
    /// Remove all rules.
    #[arg(long, conflicts_with = "rule")]
    no_rules: bool,
    /// The kill switch that turns this flag off while tripped.
    #[arg(long, value_name = "SWITCH")]
    subsystem: Option<SwitchName>,
    /// Seed for choosing users [default: the flag's key].
    #[arg(long, value_name = "TEXT")]
    salt: Option<String>,
    /// What the flag is for.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

impl Flag {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Set(set) => set.run(app),
            Self::On { flag, reason } => turn(app, &flag, &reason, true),
            Self::Off { flag, reason } => turn(app, &flag, &reason, false),
            Self::List => list(app),
            Self::Show { flag } => show(app, &flag),
            Self::Remove { flag, reason } => remove(app, &flag, &reason),
        }
    }
}

impl Set {
    fn run(self, app: &App) -> Ended {
        let flag = &self.flag;
        let (_, after) = say(app, &|state, declared, _| {
            let set = state.flags.get(flag).and_then(|one| one.definition.as_ref());
            let was = set.or_else(|| declared.flags.get(flag));
            let definition = self.change(was)?;
            switches::set(state, declared, flag, definition, &self.reason)
        })?;
        let on = after.flags.get(flag).is_some_and(|one| one.on);
        let next = match on {
            true => format!("{flag} is set, and on\nsee it: lastgood flag show {flag}"),
            false => format!("{flag} is set, and off\nturn it on: lastgood flag on {flag} --reason …"),
        };
        app.screen.show("flag-set", &json!({ "flag": flag, "on": on, "epoch": after.epoch }), &next);
        Ok(Exit::Done)
    }

    /// Makes the definition after the changes.
    fn change(&self, was: Option<&Definition>) -> Result<Definition, Refused> {
        let wrong = |what: String| Refused::Definition(switches::DefinitionError { flag: self.flag.clone(), what });
        let kind = self.kind.or_else(|| was.map(|was| was.kind)).unwrap_or(FlagKind::Boolean);
        let mut new = match was {
            Some(was) => Definition { kind, ..was.clone() },
            None if kind == FlagKind::Boolean => Definition::boolean(),
            None => Definition { kind, variants: BTreeMap::new(), off: None, ..Definition::boolean() },
        };
        for Variant { name, value } in &self.variant {
            let value = typed::value(value, kind).map_err(wrong)?;
            new.variants.insert(name.clone(), value);
        }
        if let Some(off) = &self.off {
            new.off = Some(off.clone());
        }
        let first = self.variant.first().map(|one| one.name.clone());
        if let Some(serve) = self.serve.clone().or_else(|| first.filter(|_| was.is_none())) {
            new.serve = Serve::Variant(serve);
        }
        if !self.percent.is_empty() {
            new.serve = Serve::Split(parts(&self.percent, &new).map_err(wrong)?);
        }
        if self.no_rules {
            new.rules.clear();
        }
        if !self.rule.is_empty() {
            new.rules = self.rule.iter().map(|rule| rule.against(&new)).collect::<Result<_, _>>().map_err(wrong)?;
        }
        new.subsystem = self.subsystem.clone().or(new.subsystem);
        new.salt = self.salt.clone().or(new.salt);
        new.comment = self.comment.clone().unwrap_or(new.comment);
        Ok(new)
    }
}

fn turn(app: &App, flag: &FlagKey, reason: &Reason, on: bool) -> Ended {
    let (_, after) = say(app, &|state, declared, _| match on {
        true => switches::turn_on(state, declared, flag, reason),
        false => switches::turn_off(state, declared, flag, reason),
    })?;
    let environment = &configured(app)?.environment;
    let word = if on { "on" } else { "off" };
    app.screen.show(
        "flag-turned",
        &json!({ "environment": environment, "flag": flag, "on": on, "epoch": after.epoch }),
        &format!("{flag} is {word} in {environment}\nsee it: lastgood flag show {flag}"),
    );
    Ok(Exit::Done)
}

fn remove(app: &App, flag: &FlagKey, reason: &Reason) -> Ended {
    let (_, after) = say(app, &|state, _, _| switches::remove(state, flag, reason))?;
    let declared = configured(app)?.flag.contains_key(flag);
    let text = match declared {
        true => format!("{flag} is off, and as it is declared\nsee it: lastgood flag show {flag}"),
        false => format!("{flag} is gone; programs get the value in their own code"),
    };
    app.screen.show("flag-removed", &json!({ "flag": flag, "declared": declared, "epoch": after.epoch }), &text);
    Ok(Exit::Done)
}

fn list(app: &App) -> Ended {
    let declared = configured(app)?.declared();
    let folded = look(app)?;
    let live = folded.state.live(&declared.flags);
    let width = live.iter().map(|(key, _)| key.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, live) in &live {
        let state = state_word(live);
        text += &format!("{key:width$}  {:7}  {state:7}  {}\n", live.definition.kind, gives(live));
    }
    if live.is_empty() {
        text = "there is no flag\nmake one: lastgood flag set NAME --reason …\n".into();
    }
    let rows: Vec<_> = live.iter().map(|(key, live)| row(key, live)).collect();
    text += &super::switch::damage(&folded);
    app.screen.show("flags", &json!({ "epoch": folded.state.epoch, "flags": rows }), &text);
    Ok(Exit::Done)
}

fn show(app: &App, flag: &FlagKey) -> Ended {
    let declared = configured(app)?.declared();
    let folded = look(app)?;
    let live = folded.state.live(&declared.flags);
    let Some((_, live)) = live.iter().find(|(key, _)| *key == flag) else {
        return Err(Trouble::new(Exit::Failed, &Refused::UnknownFlag { flag: flag.clone() }));
    };
    let definition = live.definition;
    let mut text = format!("{flag}  {}  {}\n", definition.kind, state_word(live));
    if !definition.comment.is_empty() {
        text += &format!("for: {}\n", definition.comment);
    }
    if live.conflict {
        text += "it is declared with another type in lastgood.toml: nothing is given\n";
    }
    for (name, value) in &definition.variants {
        let off = if definition.off.as_ref() == Some(name) { "  (when off)" } else { "" };
        text += &format!("  {name} = {value}{off}\n");
    }
    for rule in &definition.rules {
        text += &format!("  if {}\n", typed::says(rule));
    }
    text += &format!("  else {}\n", serves(&definition.serve));
    if let Some(switch) = &definition.subsystem {
        text += &format!("  off while {switch} is tripped\n");
    }
    if let Some(seq) = live.set.and_then(|set| set.doubt) {
        text += &format!(
            "it was on and counts as off: record {seq} can't be read and may have turned it off\n\
             turn it on again if it may be: lastgood flag on {flag} --reason …\n"
        );
    }
    if let Some(set) = live.set {
        text += &format!("changed {} by {}: {}\n", rfc3339(set.at), set.by, set.reason);
    }
    app.screen.show("flag", &row(flag, live), &text);
    Ok(Exit::Done)
}

fn state_word(live: &Live<'_>) -> &'static str {
    match (live.on, &live.tripped) {
        (false, _) if live.set.is_some_and(|set| set.doubt.is_some()) => "DOUBT",
        (true, Some(_)) => "TRIPPED",
        (true, None) => "on",
        (false, _) => "off",
    }
}

/// Says in some words who gets what now.
fn gives(live: &Live<'_>) -> String {
    let definition = live.definition;
    if !live.on || live.tripped.is_some() {
        return definition.off.as_ref().map_or_else(|| "the program's own value".into(), ToString::to_string);
    }
    let rules = match definition.rules.len() {
        0 => String::new(),
        1 => "1 rule, else ".into(),
        n => format!("{n} rules, else "),
    };
    format!("{rules}{}", serves(&definition.serve))
}

fn row(key: &FlagKey, live: &Live<'_>) -> serde_json::Value {
    let variants: BTreeMap<_, _> = live
        .definition
        .variants
        .iter()
        .map(|(name, value)| (name, serde_json::from_str::<serde_json::Value>(value.as_str()).unwrap_or_default()))
        .collect();
    json!({
        "flag": key, "type": live.definition.kind, "on": live.on, "tripped": live.tripped,
        "doubt": live.set.and_then(|set| set.doubt),
        "conflict": live.conflict, "variants": variants, "off": live.definition.off,
        "rules": live.definition.rules, "serve": live.definition.serve, "subsystem": live.definition.subsystem,
        "salt": live.definition.salt, "comment": live.definition.comment,
        "changed": live.set.map(|set| json!({ "at": set.at, "by": set.by, "reason": set.reason })),
    })
}
