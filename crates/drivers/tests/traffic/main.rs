//! What routers promise: the share that is asked for, nobody cut, nobody failed, and no number where nothing is known.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod builtin;
mod closed;
mod counts;
mod move_traffic;
mod shares;
mod trouble;
mod world;

use lastgood_drivers::traffic::{HaproxyConfig, Stick};

#[test]
fn a_wrong_key_or_name_is_refused_and_a_right_one_is_written_as_it_was_read() {
    let whole = "socket = \"127.0.0.1:9999\"\nbackend = \"chat\"\nstick = \"cookie\"\n";
    let config: HaproxyConfig = toml::from_str(whole).unwrap();
    assert_eq!(config.stick, Stick::Cookie);
    assert_eq!(toml::from_str::<HaproxyConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    for (toml, wanted) in [
        ("socket = \"admin.sock\"\nbackend = \"a\"\nstick = \"hash\"", "must be an absolute path"),
        ("socket = \"10.0.0.1:9999\"\nbackend = \"a\"\nstick = \"hash\"", "not on loopback"),
        ("socket = \"/s\"\nbackend = \"a;show info\"\nstick = \"hash\"", "HAProxy's names have"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nserver = \"web\"", "{instance} or {port}"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nserver = \"{instance} \"", "{instance} or {port}"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nservers = { a = \"b c\" }", "HAProxy's names have"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nclosed_map = \"closed.map\"", "a path is absolute"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nstate_file = \"/a\\n/b\"", "a path is absolute"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"often\"", "unknown variant"),
        ("socket = \"/s\"\nbackend = \"a\"", "missing field `stick`"),
        ("socket = \"/s\"\nbackend = \"a\"\nstick = \"hash\"\nweight = 1", "unknown field"),
    ] {
        let error = toml::from_str::<HaproxyConfig>(toml).unwrap_err();
        assert!(error.message().contains(wanted), "{toml}: {}", error.message());
    }
}
