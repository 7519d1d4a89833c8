//! Slack and what speaks like it.

use crate::{
    deliver, endpoint,
    sink::{Sink, say},
};
use lastgood_drivers::notice::{Delivery, Endpoint};

fn chat(port: u16) -> Endpoint {
    let url = format!("http://127.0.0.1:{port}/services/T000/B000/hunter2hunter2");
    endpoint("slack = \"chat\"\nallow_private = true", &[("chat", &url)])
}

#[test]
fn the_text_says_what_happened_and_what_to_type_and_wakes_nobody_by_accident() {
    let sink = Sink::new(|_| say("200 OK", "", "ok"));
    assert_eq!(deliver(&chat(sink.port)), Delivery::Delivered { code: Some(200) });
    let request = sink.taken().remove(0);
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        r#"{"text":"*critical* app: rolled back &lt;now&gt;\n`lastgood why app`"}"#
    );
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(!request.headers.contains_key("webhook-signature"));
}

#[test]
fn refusals_are_final_and_say_why_and_a_busy_channel_is_tried_again() {
    for (status, word) in [
        ("400 Bad Request", "invalid_payload"),
        ("403 Forbidden", "action_prohibited"),
        ("404 Not Found", "channel_not_found"),
        ("410 Gone", "channel_is_archived"),
    ] {
        let sink = Sink::new(move |_| say(status, "", word));
        let Delivery::Dead { why, .. } = deliver(&chat(sink.port)) else { panic!("{status} is tried again") };
        assert_eq!(why, format!("answered {}: {word}", &status[..3]));
    }
    let sink = Sink::new(|_| say("429 Slow Down", "retry-after: 30\r\n", ""));
    assert!(matches!(deliver(&chat(sink.port)), Delivery::Retry { after: Some(span), .. } if span.0 == 30_000));
}

#[test]
fn the_address_is_never_shown_even_if_the_answer_repeats_it() {
    let sink = Sink::new(|request| say("404 Not Found", "", &format!("no {} here", request.line)));
    let chat = chat(sink.port);
    let said = format!("{chat:?} {:?}", deliver(&chat));
    assert!(!said.contains("hunter2") && said.contains("no POST"), "{said}");
    let closed = self::chat(1);
    let said = format!("{:?}", deliver(&closed));
    assert!(!said.contains("hunter2") && said.contains("connection-failed"), "{said}");
}
