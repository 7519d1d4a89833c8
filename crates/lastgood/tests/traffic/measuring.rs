//! What a daemon tells of shared traffic on its metrics page.

use crate::kit::{Chat, until};

/// The switch's own server takes any port.
const SWITCHES: &str = r#"
[switches]
subsystems = ["auth"]
listen = "127.0.0.1:0"
"#;

#[test]
fn the_page_has_shares_counts_of_each_release_the_proxy_and_the_switches() {
    let chat = Chat::running(SWITCHES);
    let mut daemon = chat.begin(&["serve"]);
    until("the page", || chat.metrics().contains("lastgood_proxy_up{service=\"chat\"} 1\n"));
    assert_eq!(chat.metric("lastgood_traffic_share_ratio{service=\"chat\"}"), Some(0.0));
    assert_eq!(chat.metric("lastgood_switch_tripped{environment=\"production\",switch=\"auth\"}"), Some(0.0));
    chat.publish("1.1.0");
    let mut run = chat.begin(&["run", "--now"]);
    until("the first share", || chat.metric("lastgood_traffic_share_ratio{service=\"chat\"}") == Some(0.25));
    assert_eq!(chat.metric("lastgood_traffic_stage{service=\"chat\"}"), Some(1.0));
    let requests =
        |release| chat.metric(&format!("lastgood_traffic_requests_total{{service=\"chat\",release=\"{release}\"}}"));
    // New people come until both releases have some.
    until("the counts of both", || {
        drop(chat.version());
        requests("1.0.0") > Some(0.0) && requests("1.1.0") > Some(0.0)
    });
    until("what the guards say", || {
        chat.metric("lastgood_guard_verdict{service=\"chat\",verdict=\"cannot-tell\"}") == Some(1.0)
    });
    assert!(chat.metric("lastgood_proxy_table_epoch{service=\"chat\"}") > Some(0.0));
    chat.lastgood(&["switch", "trip", "auth", "--reason", "tokens leak"]).ended(0);
    assert_eq!(chat.metric("lastgood_switch_tripped{environment=\"production\",switch=\"auth\"}"), Some(1.0));
    for process in [&mut run, &mut daemon] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
