//! `[approvals]`: how other people are asked: by links, on what terms, and who is paged.

use super::{Config, people::actor_of};
use lastgood_domain::{
    operations::{
        approval::{EXPIRES_AFTER, EXTENDED_MAX, Matter, Policy, Terms},
        people::Person,
    },
    terms::{Actor, RoleName, Span},
};
use lastgood_drivers::{config_terms::Length, notice::EndpointConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// People must have time to see it.
const EXPIRES_MIN: Length = Length::seconds(60);
/// A lowering that was signed is carried out within a day; so is its request.
const LOWER_MAX: Span = Span::minutes(24 * 60);

/// How people are asked to approve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsConfig {
    /// The address under which people reach the daemon's `listen` through a front door of yours, such as
    /// `https://ops.example`. With it everybody who may answer a request gets a link of their own. Default: no links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The chain that is paged at four fifths of a request's time. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
    /// An incident's plan. How many must agree is said by level, in `[runbook] approvals`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<TermsConfig>,
    /// A release or a commit that may pass a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<TermsConfig>,
    /// An analysis that is owed, an item of a checklist or a proof that is let be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waive: Option<TermsConfig>,
    /// An unmet row of an unfreeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_risk: Option<TermsConfig>,
    /// A lower level of an incident; `expires` is at most 24 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<TermsConfig>,
    /// The end of what turned out to be no incident. Default: nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_down: Option<TermsConfig>,
    /// What scripts ask by `lastgood approval ask`; the command may ask for more people and fewer of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<TermsConfig>,
}

/// How many of whom must agree, and within what time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsConfig {
    /// How many people besides who asks must agree. Default 1.
    #[serde(default = "need")]
    pub need: u32,
    /// Who may agree, by name. Default, if `roles` is empty too: everybody who may approve.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub from: BTreeSet<String>,
    /// Who may agree, by role.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub roles: BTreeSet<RoleName>,
    /// How long a request stands: `1m` to `7d`; no longer than what is asked for. Default `24h`.
    #[serde(default = "expires")]
    pub expires: Length,
}

const fn need() -> u32 {
    1
}

const fn expires() -> Length {
    Length(EXPIRES_AFTER)
}

impl ApprovalsConfig {
    fn terms(&self) -> impl Iterator<Item = (Matter, &TermsConfig)> {
        let all = [
            (Matter::Plan, &self.plan),
            (Matter::Exempt, &self.exempt),
            (Matter::Waive, &self.waive),
            (Matter::AcceptRisk, &self.accept_risk),
            (Matter::Lower, &self.lower),
            (Matter::StandDown, &self.stand_down),
            (Matter::Ask, &self.ask),
        ];
        all.into_iter().filter_map(|(matter, terms)| Some((matter, terms.as_ref()?)))
    }

    /// Gives the terms as decisions take them. Names that [`wrong`] finds wrong are left out.
    pub(super) fn policy(&self, people: &BTreeMap<Actor, Person>) -> Policy {
        self.terms().map(|(matter, terms)| (matter, terms.of(people))).collect()
    }
}

impl TermsConfig {
    fn of(&self, people: &BTreeMap<Actor, Person>) -> Terms {
        let named = self.from.iter().filter_map(|name| actor_of(name).ok());
        let having = people.iter().filter(|(_, person)| !self.roles.is_disjoint(&person.roles));
        let is_open = self.from.is_empty() && self.roles.is_empty();
        let from = (!is_open).then(|| named.chain(having.map(|(actor, _)| actor.clone())).collect());
        Terms { needed: self.need, from, expires: self.expires.0 }
    }

    /// Finds what is wrong: what, and a line that would work.
    fn wrong(&self, matter: Matter, config: &Config) -> Option<(String, &'static str)> {
        if let Some(unknown) = self.from.iter().find(|name| !config.person.contains_key(*name)) {
            return Some((format!("there is no [person.{unknown}]"), "from = [\"alice\", \"bob\"]"));
        }
        if matter == Matter::Plan && self.need != need() {
            return Some(("how many is said by level".into(), "[runbook] with approvals = { L2 = 1, L3 = 2 }"));
        }
        let max = if matter == Matter::Lower { LOWER_MAX } else { EXTENDED_MAX };
        if self.expires < EXPIRES_MIN || self.expires.0 > max {
            return Some((format!("expires is at least 1m and at most {max}"), "expires = \"8h\""));
        }
        if self.need == 0 {
            return Some(("at least one must agree".into(), "need = 1"));
        }
        let people = config.people();
        if people.all.is_empty() && self.roles.is_empty() {
            return None;
        }
        let may = people.who_may_agree(matter);
        let possible: BTreeSet<Actor> = match self.of(&people.all).from {
            Some(from) => from.intersection(&may).cloned().collect(),
            None => may,
        };
        // Who asks is not among them; where everybody is, it is one less.
        let possible = possible.len() - usize::from(!possible.is_empty() && possible.len() == people.all.len());
        let by_level = config.runbook.approvals.values().copied().max().filter(|_| matter == Matter::Plan);
        let need = by_level.unwrap_or(0).max(self.need);
        (need as usize > possible).then(|| {
            let what = format!("{need} must agree, and only {possible} people may");
            (what, if matter == Matter::Plan { "[runbook] with approvals = { L2 = 1, L3 = 1 }" } else { "need = 1" })
        })
    }
}

/// Finds what is wrong with how people are asked: the key, what, and a line that would work.
pub(super) fn wrong(config: &Config) -> Option<(String, String, &'static str)> {
    let approvals = config.approvals.as_ref()?;
    if let Some(chain) = approvals.escalation.as_ref().filter(|chain| !config.escalation.contains_key(*chain)) {
        let what = format!("there is no [escalation.{chain}]");
        return Some(("approvals.escalation".into(), what, "escalation = \"default\""));
    }
    if approvals.url.is_some()
        && let Some(wrong) = in_the_clear(config)
    {
        return Some(wrong);
    }
    for (matter, terms) in approvals.terms() {
        if let Some((what, line)) = terms.wrong(matter, config) {
            return Some((format!("approvals.{}", matter.as_str().replace('-', "_")), what, line));
        }
    }
    let wrong = approvals.url.as_ref().filter(|url| !is_address(url))?;
    let what = format!("{wrong:?} is no https:// address (http:// only of this machine), without query and user");
    Some(("approvals.url".into(), what, "url = \"https://ops.example\""))
}

/// Finds a place of a person that links would be sent to through a network in the clear.
fn in_the_clear(config: &Config) -> Option<(String, String, &'static str)> {
    let places = config.person.values().flat_map(|person| &person.notice);
    places.into_iter().find_map(|name| match &config.notice.get(name)?.endpoint {
        EndpointConfig::Webhook { url, .. } if url.starts_with("http://") && !is_address(url) => {
            let what = format!("links to approve by would be sent to {url} in the clear; http:// only on this machine");
            Some((format!("notice.{name}"), what, "webhook = \"https://pager.example/alice\""))
        }
        _ => None,
    })
}

/// Tells whether links may lead there: what a link allows must not go through a network in the clear.
fn is_address(url: &str) -> bool {
    let plain = url.chars().all(|c| c.is_ascii_graphic() && !"?#@\"'<>\\".contains(c));
    let rest = url.strip_prefix("https://").or_else(|| {
        let rest = url.strip_prefix("http://")?;
        let host = rest.split('/').next()?;
        ["127.0.0.1", "localhost", "[::1]"]
            .iter()
            .any(|here| host.strip_prefix(here).is_some_and(|port| port.is_empty() || port.starts_with(':')))
            .then_some(rest)
    });
    plain && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use lastgood_domain::failure::Coded as _;
    use std::path::Path;

    #[test]
    fn links_are_sent_to_no_webhook_of_a_person_in_the_clear_but_on_this_machine() {
        let of = |webhook: &str, approvals: &str| {
            let text = format!(
                "{approvals}\n[secret.hook]\nfile = \"hook\"\n[person.alice]\nnotice = [\"pager\"]\n\
                 [notice.pager]\nwebhook = \"{webhook}\"\nsecret = \"hook\"\nallow_private = true\n"
            );
            let parsed = Config::parse(&text, Path::new("/lastgood.toml"), Path::new("/"));
            parsed.err().map(|error| (error.code(), error.to_string()))
        };
        let links = "[approvals]\nurl = \"https://ops.example\"";
        for fine in ["https://pager.example/a", "http://127.0.0.1:8080/a", "http://localhost/a", "http://[::1]:9/a"] {
            assert_eq!(of(fine, links), None, "{fine}");
        }
        for wrong in ["http://pager.example/a", "http://10.0.0.1/a", "http://127.0.0.1.pager.example/a"] {
            let (code, says) = of(wrong, links).expect(wrong);
            assert_eq!(code, "config-unfit", "{says}");
            assert!(says.contains("notice.pager") && says.contains("in the clear"), "{says}");
            assert_eq!(of(wrong, ""), None, "without links it is a notice like others");
        }
    }
    #[test]
    fn terms_that_nobody_could_meet_are_found_when_the_file_is_read() {
        let people = "[person.alice]\nroles = [\"security\"]\n[person.bob]\n[person.carol]\n";
        let of = |terms: &str| {
            let parsed = Config::parse(&format!("{people}{terms}"), Path::new("/lastgood.toml"), Path::new("/"));
            parsed.err().map(|error| error.to_string())
        };
        for fine in [
            "[approvals.exempt]\nneed = 2\nfrom = [\"bob\"]\nroles = [\"security\"]\nexpires = \"7d\"",
            "[approvals.waive]\nneed = 2",
            "[approvals.plan]\nfrom = [\"bob\"]\nexpires = \"1m\"",
            "[approvals.stand_down]",
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
        for (wrong, word) in [
            ("[approvals.exempt]\nneed = 3", "only 2 people may"),
            ("[approvals.exempt]\nneed = 2\nfrom = [\"bob\"]", "only 1 people may"),
            ("[approvals.exempt]\nroles = [\"data-and-evidence\"]", "only 0 people may"),
            ("[approvals.exempt]\nneed = 0", "at least one"),
            ("[approvals.exempt]\nfrom = [\"mallory\"]", "[person.mallory]"),
            ("[approvals.exempt]\nexpires = \"8d\"", "at most"),
            ("[approvals.exempt]\nexpires = \"1s\"", "at least 1m"),
            ("[approvals.lower]\nexpires = \"2d\"", "at most"),
            ("[approvals.plan]\nneed = 2", "by level"),
            // Who may is not everybody who is named.
            ("[role.security]\nmay = [\"approve\"]\n[approvals.waive]\nfrom = [\"bob\"]", "only 0 people may"),
            ("[role.security]\nmay = [\"exempt\"]\n[approvals.exempt]\nneed = 2", "only 1 people may"),
            ("[approvals.exempt]\nneed = 3\nfrom = [\"alice\", \"bob\", \"carol\"]", "only 2 people may"),
            ("[runbook]\napprovals = { L3 = 2 }\n[approvals.plan]\nfrom = [\"bob\"]", "2 must agree"),
        ] {
            let says = of(wrong).expect(wrong);
            assert!(says.contains("approvals.") && says.contains(word), "{wrong}: {says}");
        }
    }
}
