//! Required gates, asked again before each share: a real command that changes its mind while people are on the candidate.

use crate::kit::{Chat, nobody_lost_anything, until};
use std::{fs, time::Duration};

/// A gate that says of every release but the first what a file says, as an exit status.
const GATE: &str = r#"
[gate.load]
command = { argv = ["sh", "load.sh", "{tag}"] }

[person.alice]

[person.bob]

[overrides]
load = "alice"
"#;

fn chat() -> Chat {
    let chat = Chat::new("");
    chat.configure(|text| text.replace("[service.chat]\n", "[service.chat]\ngates = [\"load\"]\n") + GATE);
    let script = "echo asked $1 >> asked\ntest $1 = 1.0.0 && exit 0\nexit $(cat verdict)\n";
    fs::write(chat.path("load.sh"), script).unwrap();
    says(&chat, 0);
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    chat
}

fn says(chat: &Chat, status: u8) {
    fs::write(chat.path("verdict"), status.to_string()).unwrap();
}

#[test]
fn a_gate_that_turns_bad_while_a_quarter_is_on_the_candidate_takes_it_back_and_rejects_it() {
    let chat = chat();
    chat.lastgood(&["plan"]).ended(0).says("before each share and the promotion, ask those gates again");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    says(&chat, 1);
    let people = chat.people(60, Duration::from_secs(15));
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 5, "{said:?}\n{report:#?}");
    said.says("at 25 % of the traffic a required gate failed: load: exit status 1");
    nobody_lost_anything(&report);
    assert_eq!((chat.version(), chat.share()), ("1.0.0".into(), 0.0));
    assert!(!chat.log().contains("50 % of the traffic"));
    assert_eq!(chat.status()["rejected"][0]["release"], "1.1.0");
    let asked = fs::read_to_string(chat.path("asked")).unwrap();
    let of = |tag: &str| asked.matches(&format!("asked {tag}")).count();
    // Before it was copied, before its first share, before the second. 1.0.0: before both of its own, and as the control.
    assert_eq!((of("1.1.0"), of("1.0.0")), (3, 2 + 1), "{asked}");
}

#[test]
fn a_gate_that_can_t_tell_keeps_the_share_until_its_owner_overrides_it() {
    let chat = chat();
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    says(&chat, 7);
    let people = chat.people(60, Duration::from_secs(50));
    until("the doubt", || chat.lastgood(&["why"]).out.contains("could not evaluate gate load: exit status 7"));
    assert_eq!(chat.share(), 25.0);
    let give =
        ["override", "give", "load", "--service", "chat", "--release", "1.1.0", "--reason", "the lab has no power"];
    chat.lastgood_with(&give, "SUDO_USER", "alice").ended(0);
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 0, "{said:?}\n{report:#?}");
    said.says("overridden by");
    nobody_lost_anything(&report);
    assert_eq!(chat.version(), "1.1.0");
}

#[test]
fn a_freeze_file_made_while_a_quarter_is_on_the_candidate_keeps_the_share_until_it_is_removed() {
    let chat = Chat::running("");
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let freeze = chat.path("state/FREEZE");
    fs::write(&freeze, "").unwrap();
    let people = chat.people(60, Duration::from_secs(40));
    until("a healthy verdict", || chat.log().contains("guards at 25 %: healthy"));
    // Far beyond the bake time: a share that nothing held would be at 100 % by now.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(chat.share(), 25.0);
    assert!(!run.is_finished());
    chat.lastgood(&["why"]).ended(0).says("a freeze file holds every service").says(&freeze.display().to_string());
    fs::remove_file(&freeze).unwrap();
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 0, "{said:?}\n{report:#?}");
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&report);
}
