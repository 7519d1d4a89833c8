//! What counting promises: no line twice, none lost over a rotation, and no number where nothing is known.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod log;
mod prometheus;
mod releases;

use lastgood_domain::facts::Outcomes;
use lastgood_drivers::metric::WatchConfig;

pub(crate) fn config(toml: &str) -> WatchConfig {
    toml::from_str(toml).unwrap()
}

pub(crate) fn outcomes(good: u64, degraded: u64, broken: u64) -> Outcomes {
    Outcomes { good, degraded, broken }
}

#[test]
fn limits_have_their_documented_defaults() {
    let watch = config("log = \"{data}/access.log\"\ngood = \"ok\"\nbroken = \"bad\"");
    assert_eq!((watch.broken_percent, watch.degraded_percent, watch.outcomes_min), (5, 20, 20));
    assert_eq!(watch.log(), Some("{data}/access.log"));
    assert_eq!(toml::from_str::<WatchConfig>(&toml::to_string(&watch).unwrap()).unwrap(), watch);
}

#[test]
fn a_wrong_key_or_pattern_is_refused() {
    for (toml, wanted) in [
        ("good = \"a\"\nbroken = \"b\"", "give either log"),
        ("log = \"x\"\nprometheus = \"http://a\"\ngood = \"a\"\nbroken = \"b\"", "give either log"),
        ("log = \"x\"\ngood = \"(\"\nbroken = \"b\"", "good is not a regular expression"),
        ("log = \"x\"\ngood = \"a\"", "missing field `broken`"),
        ("log = \"x\"\ngood = \"a\"\nbroken = \"b\"\nbroken_percent = 101", "broken_percent is 101"),
        ("log = \"x\"\ngood = \"a\"\nbroken = \"b\"\nbad = \"c\"", "unknown field `bad`"),
        ("prometheus = \"127.0.0.1\"\ngood = \"a\"\nbroken = \"b\"", "must be an http://"),
        ("prometheus = \"http://u:hunter2@a\"\ngood = \"a\"\nbroken = \"b\"", "without user and password"),
    ] {
        let error = toml::from_str::<WatchConfig>(toml).unwrap_err();
        assert!(error.message().contains(wanted), "{toml}: {}", error.message());
    }
}
