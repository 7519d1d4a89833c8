//! What every world of incidents is configured with: services, people, enforcers and a runbook.

use lastgood_domain::terms::Actor;
use lastgood_engine::config::Config;
use std::{path::Path, sync::LazyLock};

/// Services of all configurations; a configuration has the first two, three or all of them.
pub(crate) const SERVICES: [&str; 4] = ["api", "jobs", "web", "mail"];

/// Fewest services of a configuration.
const FEWEST: usize = 2;

/// Everybody there is. Mallory is nobody's colleague.
pub(crate) const PEOPLE: [&str; 5] = ["alice", "bob", "carol", "dave", "mallory"];

/// By how many services they have, from [`FEWEST`] on.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let counts = FEWEST..=SERVICES.len();
    counts.filter_map(|count| Config::parse(&text(count), Path::new("/lastgood.toml"), Path::new("/")).ok()).collect()
});

/// Gives the configuration with `count` services; `None` if the text below is none, which a test shows not to be.
pub(crate) fn config(count: usize) -> Option<&'static Config> {
    CONFIGS.get(count.checked_sub(FEWEST)?)
}

/// Names somebody.
pub(crate) fn actor(name: &str) -> Option<Actor> {
    Actor::new(&format!("person:{name}")).ok()
}

fn text(count: usize) -> String {
    let mut text = String::from(COMMON);
    for (number, name) in (0_u16..).zip(SERVICES.iter().take(count)) {
        let tier = if number % 2 == 0 { "front" } else { "back" };
        let port = 8_000 + number * 10;
        let one = |name: &str, at: u16| format!("{{ name = \"{name}\", port = {}, data = \"{name}\" }}", port + at);
        let instances = [one(&format!("{name}-1"), 1), one(&format!("{name}-2"), 2)].join(", ");
        text += &format!(
            r#"
[service.{name}]
channel = {{ directory = "releases", version_file = "VERSION" }}
command = ["{{release}}/run"]
state = {{ directory = "{{data}}" }}
labels = {{ tier = "{tier}" }}
probe = [{{ name = "works", http = {{ method = "GET", path = "/" }}, expect = {{ status = 200 }} }}]
instance = [{instances}]
"#
        );
    }
    text
}

/// Of the last steps of the chains, one reaches somebody and one nobody; the chain for approvals begins at nobody.
const COMMON: &str = r#"
[person.alice]
roles = ["incident-commander"]
notice = ["pager-alice"]

[person.bob]
roles = ["incident-commander", "api", "infrastructure"]
notice = ["pager-bob"]

[person.carol]
roles = ["data-and-evidence", "security"]
notice = ["pager-carol"]

[person.dave]

[role.incident-commander]
may = ["lead", "lift"]

[notice.pager-alice]
command = ["page", "alice"]
kinds = ["page"]

[notice.pager-bob]
command = ["page", "bob"]
kinds = ["page"]

[notice.pager-carol]
command = ["page", "carol"]
kinds = ["page"]

[escalation.default]
steps = [
  { to = ["alice"], within = "15m" },
  { roles = ["communications"], within = "30m" },
  { to = ["bob"], within = "20m" },
]

[escalation.approvals]
steps = [
  { to = ["dave"], within = "5m" },
  { roles = ["security"], within = "30m" },
  { roles = ["communications"], within = "10m" },
]

[approvals]
escalation = "approvals"

[caps]
rollback = 2
override = 2

[overrides]
preflight = "alice"

[incident]
update_every = "2h"
stable_for = "10m"
watch = "10m"

[incident.verify]
fresh = "1h"
required = ["check/ci"]

[[incident.verify.check]]
name = "ci"
command = ["ci"]

[runbook]
approvals = { L2 = 1, L3 = 2 }

[runbook.step.clear-cache]
area = "application"
do = [{ name = "do", command = ["clear-cache"] }]
repeatable = true
attempts = 3
undo = "it fills again"

[runbook.step.rebuild-totals]
area = "data"
do = [{ name = "do", command = ["rebuild-totals"] }]
precondition = { ask = [{ name = "need", command = ["writers-stopped"] }] }
verify = [{ name = "see", command = ["totals-fit"] }]
undo = "rebuild them again"
attempts = 2

[runbook.step.refund]
area = "data"
do = [{ name = "do", command = ["refund"] }]
irreversible = "money is gone"
precondition = { ask = [{ name = "need", command = ["account-covered"] }] }
risk = { level = "severe", what = "money goes out" }

[runbook.step.tell-partners]
area = "data"
do = [{ name = "do", command = ["tell-partners"] }]
undo = "tell them again"
may_fail = true

[runbook.check.isolation]
ask = [{ name = "ask", command = ["isolated"] }]

[secret.token]
file = "token"

[credential.token]
secret = "token"
kind = "file"
attempt = ["attempt"]

[enforcer.claims]
kinds = ["claim"]
command = { set = ["set"], lift = ["lift"], read = ["read"] }

[enforcer.repository]
kinds = ["merge", "deploy"]
command = { set = ["set"], lift = ["lift"], read = ["read"] }
"#;

#[cfg(test)]
mod tests {
    use super::{COMMON, SERVICES, config, text};
    use lastgood_engine::config::Config;
    use std::path::Path;

    #[test]
    fn every_configuration_is_one() {
        assert!(!COMMON.is_empty());
        for count in 2..=SERVICES.len() {
            let parsed = Config::parse(&text(count), Path::new("/lastgood.toml"), Path::new("/"));
            if let Err(error) = &parsed {
                panic!("{count}: {error:?}");
            }
            assert_eq!(config(count).map(|config| config.service.len()), Some(count));
        }
    }
}
