//! `[switches]`: the environment, its kill switches, who resets them, and the flags that programs may count on.

use lastgood_domain::{
    switches::{ALL, Declared, Definition, FlagKind, FlagValue, Serve},
    terms::{EnvironmentName, FlagKey, SwitchName, VariantName},
};
use lastgood_drivers::config_terms::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Shortest lease: a heartbeat comes four times in it, and a busy machine is late by some hundred milliseconds.
const LEASE_MIN: Length = Length::seconds(1);
/// Longest lease: who is cut off for longer must not go on as it was.
const LEASE_MAX: Length = Length::seconds(3_600);
/// The variant that a declared `default` becomes.
const DEFAULT: &str = "default";

/// Kill switches and feature flags of one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchesConfig {
    /// What these flags and switches are set for. Default `production`.
    #[serde(default = "environment")]
    #[schemars(with = "String")]
    pub environment: EnvironmentName,
    /// Kill switches besides `all`, such as `["auth", "transport", "crypto"]`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub subsystems: Vec<SwitchName>,
    /// Whether a reset needs a second person: one asks, another confirms. Default `false`.
    #[serde(default)]
    pub reset_needs_second: bool,
    /// How long a program goes on without hearing from the daemon before it does what `safe` says. Default `10s`.
    #[serde(default = "lease")]
    pub lease: Length,
    /// Where `lastgood serve` answers flags (OpenFeature Remote Evaluation Protocol) and tells programs of switches.
    /// Loopback only. Default `127.0.0.1:9465`.
    #[serde(default = "listen")]
    pub listen: std::net::SocketAddr,
    /// The secret that a program must send as a bearer token to trip a switch over HTTP. Default: none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What programs do by themselves once the lease is over, by switch. Default `tripped` for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Safe>")]
    pub safe: BTreeMap<SwitchName, Safe>,
    /// Flags that programs may count on, by key. They are off until `lastgood flag on`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, FlagConfig>")]
    pub flag: BTreeMap<FlagKey, FlagConfig>,
    /// Where what was signed of their chain is kept elsewhere.
    #[serde(skip)]
    pub anchor: PathBuf,
}

/// What a program that hears nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Safe {
    /// Blocks, whatever it heard last.
    #[default]
    Tripped,
    /// Stays as it heard last: open stays open, tripped stays tripped.
    AsHeard,
}

impl Safe {
    /// Gives the word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tripped => "tripped",
            Self::AsHeard => "as-heard",
        }
    }
}

/// One declared flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlagConfig {
    /// `boolean`, `string`, `number` or `object`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: FlagKind,
    /// What it gives while it is off. Default: `false` of a boolean flag; of others the value in the program's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// Its values by name; a boolean flag has `on` and `off` without saying so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub variants: BTreeMap<VariantName, serde_json::Value>,
    /// The kill switch that turns it off while it is tripped; `all` does so with every flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subsystem: Option<SwitchName>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

impl Default for SwitchesConfig {
    fn default() -> Self {
        Self {
            environment: environment(),
            subsystems: Vec::new(),
            reset_needs_second: false,
            lease: lease(),
            listen: listen(),
            token: None,
            safe: BTreeMap::new(),
            flag: BTreeMap::new(),
            anchor: PathBuf::new(),
        }
    }
}

impl SwitchesConfig {
    /// Gives what decisions depend on. Flags that [`Self::wrong`] finds wrong are left out.
    pub fn declared(&self) -> Declared {
        let flags = self.flag.iter().filter_map(|(key, flag)| Some((key.clone(), flag.definition().ok()?)));
        Declared {
            subsystems: self.subsystems.iter().filter(|name| name.as_str() != ALL).cloned().collect(),
            reset_needs_second: self.reset_needs_second,
            flags: flags.collect(),
        }
    }

    /// Gives what programs do with a switch once their lease is over.
    pub fn safe_of(&self, switch: &SwitchName) -> Safe {
        self.safe.get(switch).copied().unwrap_or_default()
    }

    /// Finds what is wrong: the key, what, and a line that would work.
    pub(super) fn wrong(&self) -> Option<(String, String, &'static str)> {
        let wrong = |key: &str, what: String, example| Some((format!("switches{key}"), what, example));
        if !self.listen.ip().is_loopback() {
            let what = format!("{} is not a loopback address", self.listen);
            return wrong(".listen", what, "listen = \"127.0.0.1:9465\"");
        }
        if self.lease < LEASE_MIN || self.lease > LEASE_MAX {
            return wrong(".lease", format!("{} is not between 1s and 1h", self.lease.0), "lease = \"10s\"");
        }
        let declared = self.declared();
        let unknown = |name: &&SwitchName| !declared.knows(name);
        if let Some(name) = self.safe.keys().find(unknown) {
            return wrong(".safe", format!("there is no switch {name}"), "subsystems = [\"auth\"]");
        }
        for (key, flag) in &self.flag {
            let place = format!(".flag.{key}");
            match flag.definition() {
                Err(what) => return wrong(&place, what, "type = \"boolean\""),
                Ok(definition) => {
                    if let Err(error) = definition.check(key) {
                        return wrong(&place, error.what, "variants = { short = \"Hi\", long = \"Good day\" }");
                    }
                }
            }
            if let Some(name) = flag.subsystem.iter().find(unknown) {
                return wrong(&place, format!("there is no switch {name}"), "subsystems = [\"auth\"]");
            }
        }
        None
    }
}

impl FlagConfig {
    /// Makes the definition that stands until `lastgood flag set`.
    fn definition(&self) -> Result<Definition, String> {
        let value = |value: &serde_json::Value| FlagValue::new(&value.to_string()).map_err(|error| error.to_string());
        let name = |text| VariantName::new(text).expect("a fixed valid name");
        let mut definition = match self.kind {
            FlagKind::Boolean => Definition::boolean(),
            kind => Definition { kind, variants: BTreeMap::new(), off: None, ..Definition::boolean() },
        };
        for (name, one) in &self.variants {
            definition.variants.insert(name.clone(), value(one)?);
        }
        if let Some(default) = &self.default {
            let default = value(default)?;
            let known = definition.variants.iter().find(|(_, one)| **one == default).map(|(name, _)| name.clone());
            let off = known.unwrap_or_else(|| name(DEFAULT));
            definition.variants.insert(off.clone(), default);
            definition.off = Some(off);
        }
        if self.kind != FlagKind::Boolean {
            let others = definition.variants.keys().find(|name| Some(*name) != definition.off.as_ref());
            let first = others.or(definition.off.as_ref()).cloned();
            let first = first.ok_or_else(|| "a flag that is no boolean needs a default or variants".to_owned())?;
            definition.serve = Serve::Variant(first);
        }
        definition.subsystem = self.subsystem.clone();
        definition.comment = self.comment.clone();
        Ok(definition)
    }
}

fn environment() -> EnvironmentName {
    EnvironmentName::new("production").expect("a fixed valid name")
}
fn listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 9465))
}
const fn lease() -> Length {
    Length::seconds(10)
}
