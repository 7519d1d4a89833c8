//! Signed webhooks.

use crate::{
    BODY, NOW, deliver, endpoint, message,
    sink::{Reply, Request, Sink, say},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use lastgood_domain::{failure::Coded as _, terms::Span};
use lastgood_drivers::notice::{Delivery, Endpoint, Message, Sender};
use sha2::{Digest as _, Sha256};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xk";

/// HMAC-SHA-256 written out from RFC 2104, independent of the library that signs.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64);
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Checks as a receiver does.
fn is_signed_with(request: &Request, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut text = format!("{}.{}.", request.headers["webhook-id"], request.headers["webhook-timestamp"]).into_bytes();
    text.extend_from_slice(&request.body);
    let wanted = format!("v1,{}", STANDARD.encode(hmac(&key, &text)));
    request.headers["webhook-signature"].split(' ').any(|signature| signature == wanted)
}

fn hook(url: &str) -> Endpoint {
    endpoint(&format!("webhook = \"{url}\"\nsecret = \"s\"\nallow_private = true"), &[("s", SECRET)])
}

fn answered(status: &'static str, headers: &'static str) -> Delivery {
    let sink = Sink::new(move |_| say(status, headers, "words"));
    deliver(&hook(&sink.url()))
}

#[test]
fn a_receiver_can_check_who_sent_it_when_and_that_no_byte_was_changed() {
    let sink = Sink::new(|_| say("204 No Content", "", ""));
    assert_eq!(deliver(&hook(&sink.url())), Delivery::Delivered { code: Some(204) });
    let mut request = sink.taken().remove(0);
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!(request.headers["webhook-id"], "msg_0123");
    assert_eq!(request.headers["webhook-timestamp"], "1740787200");
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    assert_eq!(request.body, BODY);
    assert!(is_signed_with(&request, SECRET));
    assert!(!is_signed_with(&request, OLD));
    request.body[3] ^= 1;
    assert!(!is_signed_with(&request, SECRET), "the check finds nothing");
}

#[test]
fn each_attempt_is_signed_anew_over_the_same_bytes_and_id() {
    let sink = Sink::new(|_| say("503 Busy", "", ""));
    let (sender, hook) = (Sender::new(1), hook(&sink.url()));
    sender.deliver(&hook, &message());
    sender.deliver(&hook, &Message { attempt_at: NOW.after(Span::seconds(300)), ..message() });
    let [first, second]: [Request; 2] = sink.taken().try_into().unwrap();
    assert!(is_signed_with(&first, SECRET) && is_signed_with(&second, SECRET));
    assert_eq!((&first.body, &first.headers["webhook-id"]), (&second.body, &second.headers["webhook-id"]));
    assert_eq!(second.headers["webhook-timestamp"], "1740787500");
    assert_ne!(first.headers["webhook-signature"], second.headers["webhook-signature"]);
    assert_eq!(*sink.connections.lock().unwrap(), 1, "the connection was not kept");
}

#[test]
fn during_a_rotation_old_and_new_secret_are_both_good() {
    let sink = Sink::new(|_| say("200 OK", "", "ok"));
    let toml = format!("webhook = \"{}\"\nsecret = \"n\"\nold_secret = \"o\"\nallow_private = true", sink.url());
    deliver(&endpoint(&toml, &[("n", SECRET), ("o", OLD)]));
    let request = sink.taken().remove(0);
    assert!(is_signed_with(&request, SECRET) && is_signed_with(&request, OLD));
}

#[test]
fn only_2xx_is_success_and_each_refusal_has_its_end() {
    assert_eq!(answered("202 Accepted", ""), Delivery::Delivered { code: Some(202) });
    let class = |delivery: Delivery| match delivery {
        Delivery::Delivered { .. } => "delivered".to_owned(),
        Delivery::Retry { class, .. } => format!("retry {class}"),
        Delivery::Dead { class, .. } => format!("dead {class}"),
        Delivery::Gone { class, .. } => format!("gone {class}"),
    };
    for (status, end) in [
        ("304 Not Modified", "retry http-304"),
        ("400 Bad Request", "dead http-400"),
        ("401 Unauthorized", "retry http-401"),
        ("403 Forbidden", "retry http-403"),
        ("404 Not Found", "retry http-404"),
        ("410 Gone", "gone http-410"),
        ("413 Too Large", "dead http-413"),
        ("422 Unprocessable", "dead http-422"),
        ("429 Slow Down", "retry http-429"),
        ("500 Oops", "retry http-500"),
        ("503 Busy", "retry http-503"),
    ] {
        assert_eq!(class(answered(status, "")), end);
    }
}

#[test]
fn a_redirect_is_a_failure_and_never_followed() {
    let target = Sink::new(|_| say("200 OK", "", ""));
    let location = format!("location: {}\r\n", target.url());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = location.clone();
        let sink = Sink::new(move |_| say(status, &location, ""));
        let Delivery::Retry { code, .. } = deliver(&hook(&sink.url())) else { panic!("{status} was success") };
        assert_eq!(code, status[..3].parse().ok());
    }
    assert!(target.taken().is_empty(), "the redirect was followed");
}

#[test]
fn retry_after_is_honoured_in_full_in_both_forms() {
    for (header, asked) in [
        ("retry-after: 86400\r\n", Some(Span::seconds(86_400))),
        // One hour after NOW, which is 999 ms past the second.
        ("retry-after: Sat, 01 Mar 2025 01:00:00 GMT\r\n", Some(Span(3_600_000 - 999))),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        for status in ["429 Slow Down", "502 Bad Gateway", "503 Busy", "504 Late"] {
            let Delivery::Retry { after, .. } = answered(status, header) else { panic!("{status} was final") };
            assert_eq!(after, asked, "{status} {header}");
        }
    }
}

#[test]
fn a_receiver_that_hangs_is_given_up_after_the_time_limit() {
    let sink = Sink::new(|_| Reply::Hang);
    let Delivery::Retry { code: None, class, why, .. } = deliver(&hook(&sink.url())) else { panic!("it was final") };
    assert_eq!((class.as_str(), why.as_str()), ("timeout", "no answer within 15.0 s"));
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let sink = Sink::new(|_| Reply::Endless);
    let Delivery::Retry { code, why, .. } = deliver(&hook(&sink.url())) else { panic!("it was final") };
    assert_eq!(code, Some(500));
    assert!(why.len() < 300, "{} bytes were kept", why.len());
}

#[test]
fn a_success_whose_body_never_ends_is_a_success() {
    let sink = Sink::new(|_| Reply::Say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1".into()));
    assert_eq!(deliver(&hook(&sink.url())), Delivery::Delivered { code: Some(200) });
}

#[test]
fn what_is_not_http_and_what_is_not_there_are_tried_again() {
    let noise = Sink::new(|_| Reply::Say("SSH-2.0-x\r\n\r\n".into()));
    let Delivery::Retry { class, .. } = deliver(&hook(&noise.url())) else { panic!("it was final") };
    assert_eq!(class, "bad-answer");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Delivery::Retry { class, .. } = deliver(&hook(&format!("http://127.0.0.1:{port}/"))) else { panic!("final") };
    assert_eq!(class, "connection-failed");
}

#[test]
fn a_private_address_is_not_connected_to_by_number_or_by_name_unless_allowed() {
    let sink = Sink::new(|_| say("200 OK", "", ""));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"] {
        let toml = format!("webhook = \"http://{host}:{}/\"\nsecret = \"s\"", sink.port);
        let Delivery::Retry { class, why, .. } = deliver(&endpoint(&toml, &[("s", SECRET)])) else { panic!("{host}") };
        assert_eq!(class, "private-address", "{host}");
        assert!(why.contains("allow_private = true"), "{why}");
    }
    assert_eq!(*sink.connections.lock().unwrap(), 0, "it was connected to");
}

#[test]
fn a_secret_that_is_missing_or_malformed_is_named_and_never_shown() {
    let config = crate::config("webhook = \"https://a.example/\"\nsecret = \"s\"");
    let missing = Endpoint::prepare("ops", &config.endpoint, &|_| None).unwrap_err();
    assert_eq!(missing.to_string(), "notice endpoint ops: there is no secret s");
    let malformed = Endpoint::prepare("ops", &config.endpoint, &|_| Some("hunter2".into())).unwrap_err();
    assert_eq!(malformed.code(), "notice-secret-malformed");
    assert!(!format!("{malformed} {malformed:?} {:?}", malformed.hint()).contains("hunter2"));
    let whole = format!("{:?}", hook("http://127.0.0.1:1/"));
    assert!(!whole.contains("MfKQ") && !whole.contains("[49, 242"), "{whole}");
}
