//! What every kind of place promises, against real servers and programs.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod alertmanager;
mod command;
mod sink;
mod slack;
mod webhook;

use lastgood_domain::terms::Timestamp;
use lastgood_drivers::notice::{Delivery, Endpoint, Message, NoticeConfig, Sender};

pub(crate) const BODY: &[u8] =
    br#"{"id":"x","data":{"severity":"critical","summary":"app: rolled back <now>","hint":"lastgood why app"}}"#;
/// 2025-03-01T00:00:00.999Z.
pub(crate) const NOW: Timestamp = Timestamp(1_740_787_200_999);

pub(crate) fn config(toml: &str) -> NoticeConfig {
    toml::from_str(toml).unwrap()
}

pub(crate) fn endpoint(toml: &str, secrets: &[(&str, &str)]) -> Endpoint {
    let find = |name: &str| secrets.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Endpoint::prepare("ops", &config(toml).endpoint, &find).unwrap()
}

pub(crate) fn message() -> Message<'static> {
    Message { id: "msg_0123", kind: "rolled-back", subject: "service/app", body: BODY, attempt_at: NOW }
}

pub(crate) fn deliver(endpoint: &Endpoint) -> Delivery {
    Sender::new(2).deliver(endpoint, &message())
}

#[test]
fn exactly_one_place_is_given_and_a_wrong_key_is_refused() {
    for (toml, wanted) in [
        ("", "give one of"),
        ("webhook = \"https://a.example/\"\nsecret = \"s\"\nslack = \"t\"", "several places"),
        ("webhook = \"https://a.example/\"", "a webhook needs secret"),
        ("webhook = \"ftp://a.example/\"\nsecret = \"s\"", "starts with neither"),
        ("webhook = \"https://u:hunter2@a.example/\"\nsecret = \"s\"", "put credentials into a secret"),
        ("slack = \"https://hooks.slack.com/services/T/B/x\"", "slack takes the NAME"),
        ("slack = \"s\"\nsecret = \"x\"", "secret goes with webhook only"),
        ("command = []", "command needs a program"),
        ("command = [\"x\"]\ntimeout = \"2m\"", "timeout must be between"),
        ("slack = \"s\"\nkind = [\"stale\"]", "unknown field `kind`"),
        ("slack = \"s\"\nkinds = [\"stael\"]", "unknown variant `stael`"),
    ] {
        // `message`, not `to_string`: the latter quotes the file, whose reader may print it anyway.
        let error = toml::from_str::<NoticeConfig>(toml).unwrap_err();
        assert!(error.message().contains(wanted), "{toml}: {}", error.message());
        assert!(!error.message().contains("hunter2"));
    }
}

#[test]
fn what_was_read_is_written_back_the_same() {
    for toml in [
        "webhook = \"https://a.example/x\"\nsecret = \"new\"\nold_secret = \"old\"\nallow_private = true\n",
        "slack = \"chat\"\nkinds = [\"stale\", \"rolled-back\"]\n",
        "alertmanager = \"http://127.0.0.1:9093\"\n",
        "command = [\"/bin/tell\", \"--all\"]\ntimeout = \"20s\"\n",
    ] {
        let config = config(toml);
        assert_eq!(toml::from_str::<NoticeConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}

#[test]
fn the_examples_of_the_guide_are_accepted() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/notices.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut read = 0;
    for example in guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let mut file: toml::Table = example.parse().unwrap();
        let notices = file.remove("notice").unwrap();
        read += notices.try_into::<std::collections::BTreeMap<String, NoticeConfig>>().unwrap().len();
    }
    assert_eq!(read, 6);
}
