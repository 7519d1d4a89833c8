//! What can be said about a resume gate before anything runs, and servers that no real service should be.
//! The gate against a real service, good and bad, is in examples/last-layer.

use crate::world::{LONG, free_port, raw, target};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::probe::{Known, ResumeConfig, ResumePart};
use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tungstenite::Message;

const GOOD: &str = r#"
    path = "/live"
    resume_path = "/live?after={last}"
    send = "{id}"
    id = "$.id"
    position = "$.seq"
    "#;

fn read(text: &str) -> Result<ResumeConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn keys_that_can_not_work_are_refused_with_what_to_write() {
    assert!(read(GOOD).is_ok());
    for (from, to, says) in [
        ("?after={last}", "", "resume_path needs {last}"),
        ("\"{id}\"", "\"hello\"", "what is sent needs {id}"),
        ("send = \"{id}\"", "", "give send or send_json"),
        ("send = \"{id}\"", "send = \"{id}\"\nsend_json = { id = \"{id}\" }", "give send or send_json"),
        ("\"/live\"", "\"live\"", "must start with /"),
        ("\"$.id\"", "\"id\"", "not a path into JSON"),
        ("send", "messages = 3\nsend", "messages must be 4 to 500"),
        ("send", "clients = 1\nsend", "clients must be 2 to 50"),
        ("send", "timeout = \"0s\"\nsend", "timeout must be longer"),
        ("send", "seq = 1\nsend", "unknown field `seq`"),
        ("resume_path = \"/live?after={last}\"", "", "resume_path needs {last}"),
        ("resume_path = \"/live?after={last}\"", "resume_send = \"back\"", "resume_send needs {last} or {session}"),
        ("{last}", "{session}", "{session} needs session"),
        ("send", "resume_send = \"{last}\"\nresume_send_json = { after = \"{last}\" }\nsend", "not both"),
    ] {
        let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_variable_is_known_only_where_it_has_a_value() {
    let known = Known { secrets: BTreeSet::from(["chat"]), vars: BTreeSet::from(["account"]) };
    let check = |text: &str| read(text).unwrap().check(&known).map_err(|problem| problem.to_string());
    assert_eq!(check(GOOD), Ok(()));
    let with_token = format!(
        "{GOOD}\nheaders = {{ A = \"{{token}} {{run}} {{account}} {{secret:chat}}\" }}\n[[before]]\nname = \"log in\"\n\
         http = {{ path = \"/login\" }}\ncapture = {{ token = {{ json = \"$.token\" }} }}"
    );
    assert_eq!(check(&with_token), Ok(()));
    for (from, to, says) in [
        ("\"/live\"", "\"/live?{last}\"", "path: `{last}` is unknown"),
        ("\"/live\"", "\"/live?{id}\"", "path: `{id}` is unknown"),
        ("send = \"{id}\"", "send = \"{id} {last}\"", "what is sent: `{last}` is unknown"),
        ("send", "headers = { A = \"{token}\" }\nsend", "headers: `{token}` is unknown"),
        ("send", "headers = { A = \"{secret:other}\" }\nsend", "headers: there is no [secret.other]"),
    ] {
        let error = check(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with(says), "{says}: {error}");
    }
}

/// How much later a message is pushed a second time.
const LATER: Duration = Duration::from_millis(60);

/// How a chat in memory goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    TurnsOrderAround,
    PushesTwice,
    HasNoPosition,
    ForgetsLateComers,
}

/// A chat in memory, on a port of its own for each release: one list of all messages, sent in batches.
struct Chat {
    all: Arc<Mutex<Vec<String>>>,
}

impl Chat {
    fn serve(&self, wrong: Wrong) -> u16 {
        let all = Arc::clone(&self.all);
        let connections = AtomicUsize::new(0);
        raw(move |stream| {
            let is_late = connections.fetch_add(1, Ordering::SeqCst) >= 5;
            let mut after = all.lock().unwrap().len();
            let read_after = |request: &tungstenite::handshake::server::Request, response| {
                if let Some((_, given)) = request.uri().to_string().split_once("after=") {
                    after = given.parse().unwrap();
                }
                Ok(response)
            };
            let Ok(mut socket) = tungstenite::accept_hdr(stream, read_after) else { return };
            socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let mut again: Option<(Instant, (usize, String))> = None;
            loop {
                match socket.read() {
                    Ok(Message::Text(id)) => all.lock().unwrap().push(id.to_string()),
                    Ok(Message::Close(_)) => return,
                    Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(_) => {}
                    Err(_) => return,
                }
                let mut news: Vec<(usize, String)> =
                    all.lock().unwrap().iter().cloned().enumerate().skip(after).collect();
                after += news.len();
                match wrong {
                    Wrong::TurnsOrderAround => news.reverse(),
                    // As by a second process that pushes too, a little later.
                    Wrong::PushesTwice => match again.take_if(|(due, _)| *due < Instant::now()) {
                        Some((_, message)) => news.push(message),
                        None => again = news.last().map(|last| (Instant::now() + LATER, last.clone())).or(again),
                    },
                    Wrong::ForgetsLateComers if is_late => continue,
                    Wrong::Nothing | Wrong::HasNoPosition | Wrong::ForgetsLateComers => {}
                }
                if news.is_empty() {
                    continue;
                }
                let list: Vec<_> = news
                    .iter()
                    .map(|(at, id)| match wrong {
                        Wrong::HasNoPosition => serde_json::json!({ "text": id }),
                        _ => serde_json::json!({ "text": id, "at": (at + 1).to_string() }),
                    })
                    .collect();
                if socket.send(Message::text(serde_json::json!({ "new": list }).to_string())).is_err() {
                    return;
                }
            }
        })
    }
}

fn batches() -> ResumeConfig {
    let text = GOOD.replace("$.id", "$.new[*].text").replace("$.seq", "$.new[*].at");
    read(&format!("{text}\ntimeout = \"2s\"")).unwrap()
}

#[test]
fn a_protocol_of_batches_without_ids_of_its_own_passes() {
    let chat = Chat { all: Arc::default() };
    let (one, two) = (chat.serve(Wrong::Nothing), chat.serve(Wrong::Nothing));
    let facts = batches().run(&target(one), &target(two), LONG).unwrap();
    assert_eq!(facts.sent, facts.delivered);
    // 20 and a way there, 20 and a way back of at least 20 each, and 4 clients with 20.
    assert!(facts.sent >= 160 && facts.replayed >= 20, "{facts:?}");
    assert_eq!(chat.all.lock().unwrap().len(), facts.sent as usize);
}

/// Says in its first message who it is that comes back, as many services want it.
const BY_MESSAGE: &str = r#"
    path = "/live"
    session = "$.session"
    resume_send = '{"resume":"{session}","after":{last}}'
    send = "{id}"
    id = "$.new[*].text"
    position = "$.new[*].at"
    timeout = "2s"
    "#;

/// Tells each new client an id, and goes on from where a client that names one says it was. `sessions` are of both
/// releases, or of one that forgets them.
fn serve_sessions(all: &Arc<Mutex<Vec<String>>>, sessions: &Arc<Mutex<BTreeSet<String>>>) -> u16 {
    serve_sessions_of(all, sessions, |number| format!("session-{number:08}"))
}

/// The same, with ids of this form.
fn serve_sessions_of(
    all: &Arc<Mutex<Vec<String>>>,
    sessions: &Arc<Mutex<BTreeSet<String>>>,
    name: fn(usize) -> String,
) -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (all, sessions) = (Arc::clone(all), Arc::clone(sessions));
    raw(move |stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let mut after = all.lock().unwrap().len();
        let id = name(NEXT.fetch_add(1, Ordering::SeqCst));
        sessions.lock().unwrap().insert(id.clone());
        if socket.send(Message::text(serde_json::json!({ "session": id }).to_string())).is_err() {
            return;
        }
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        // Until it has said something, nobody knows whether it is new or comes back.
        let mut is_known = false;
        loop {
            let heard = socket.read();
            is_known |= matches!(heard, Ok(Message::Text(_)));
            match heard {
                Ok(Message::Text(text)) => match serde_json::from_str::<serde_json::Value>(&text) {
                    Ok(said) if said["resume"].is_string() => {
                        let id = said["resume"].as_str().unwrap();
                        if !sessions.lock().unwrap().contains(id) {
                            let refused = serde_json::json!({ "error": format!("{id} is unknown") });
                            let _ = socket.send(Message::text(refused.to_string()));
                            continue;
                        }
                        after = said["after"].as_u64().unwrap() as usize;
                    }
                    _ => all.lock().unwrap().push(text.to_string()),
                },
                Ok(Message::Close(_)) => return,
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(_) => {}
                Err(_) => return,
            }
            let list: Vec<_> = (after..)
                .zip(all.lock().unwrap().iter().skip(after))
                .map(|(at, id)| serde_json::json!({ "text": id, "at": at + 1 }))
                .collect();
            if !is_known {
                continue;
            }
            after += list.len();
            if !list.is_empty() && socket.send(Message::text(serde_json::json!({ "new": list }).to_string())).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_client_that_says_who_it_is_after_connecting_finds_what_it_missed() {
    let (all, sessions) = (Arc::default(), Arc::default());
    let (one, two) = (serve_sessions(&all, &sessions), serve_sessions(&all, &sessions));
    let facts = read(BY_MESSAGE).unwrap().run(&target(one), &target(two), LONG).unwrap();
    assert!(facts.sent == facts.delivered && facts.sent >= 160 && facts.replayed >= 20, "{facts:?}");
    // As JSON of its own, where the service takes texts.
    let json = "resume_send_json = { resume = \"{session}\", after = \"{last}\" }";
    let config = read(&BY_MESSAGE.replace("resume_send = '{\"resume\":\"{session}\",\"after\":{last}}'", json));
    assert!(config.is_ok(), "{config:?}");
}

#[test]
fn a_candidate_that_does_not_know_the_session_loses_what_was_missed_and_the_id_is_not_shown() {
    let all = Arc::default();
    let (one, two) = (serve_sessions(&all, &Arc::default()), serve_sessions(&all, &Arc::default()));
    let failure = read(BY_MESSAGE).unwrap().run(&target(one), &target(two), LONG).unwrap_err();
    assert_eq!((failure.part, failure.code()), (ResumePart::Forward, "resume-forward"));
    let said = failure.to_string();
    assert!(said.contains("missing") && !said.contains("session-0"), "{said}");
    // One that tells no id at all is no service of this kind: nothing is known of the candidate.
    let silent = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
    });
    let failure = read(BY_MESSAGE).unwrap().run(&target(silent), &target(two), LONG).unwrap_err();
    assert_eq!(failure.code(), "resume-cannot-tell");
    assert!(failure.to_string().contains("no session's id in time"), "{failure}");
}

#[test]
fn no_part_of_a_sessions_id_is_shown_however_short_it_is() {
    let all = Arc::default();
    let serve = || serve_sessions_of(&all, &Arc::default(), |number| format!("~{number}"));
    let failure = read(BY_MESSAGE).unwrap().run(&target(serve()), &target(serve()), LONG).unwrap_err();
    let said = failure.to_string();
    assert!(said.contains("[captured session]") && !said.contains('~'), "{said}");
    // A long message that ends, cut, within it; an older id before it is shown as a shorter label.
    let cut = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let long = format!("~{}", "z".repeat(199));
        socket.send(Message::text(serde_json::json!({ "session": long }).to_string())).unwrap();
        let _ = socket.read();
        let begin = format!(r#"{{"new":[{{"text":"1"}}],"old":"{long}","pad":""#);
        let (then, end) = (r#"","session":""#, r#"","tail":""#);
        let (pad, tail) = ("p".repeat(297 - begin.len() - then.len()), "q".repeat(400));
        let _ = socket.send(Message::text(format!("{begin}{pad}{then}~k9x{end}{tail}\"}}")));
        while socket.read().is_ok() {}
    });
    let failure = read(BY_MESSAGE).unwrap().run(&target(cut), &target(cut), LONG).unwrap_err();
    let said = failure.to_string();
    assert!(said.contains("1 values at $.new[*].text and 0 at") && said.ends_with("qqq…"), "{said}");
    assert!(!said.contains('~'), "{said}");
}

#[test]
fn wrong_order_repetition_and_deliveries_without_a_position_are_told_apart() {
    let run = |wrong: Wrong| {
        let chat = Chat { all: Arc::default() };
        let (one, two) = (chat.serve(Wrong::Nothing), chat.serve(wrong));
        batches().run(&target(one), &target(two), LONG).unwrap_err()
    };
    let failure = run(Wrong::TurnsOrderAround);
    assert!(!failure.disordered.is_empty() && failure.missing.is_empty() && failure.doubled.is_empty(), "{failure}");
    let failure = run(Wrong::PushesTwice);
    assert!(!failure.doubled.is_empty() && failure.missing.is_empty(), "{failure}");
    assert_eq!(failure.part, ResumePart::Forward, "late, and still told of the part in which it was: {failure}");
    let said = run(Wrong::HasNoPosition).to_string();
    assert!(said.contains("values at $.new[*].text and 0 at $.new[*].at"), "{said}");
}

#[test]
fn what_one_client_does_not_find_several_do() {
    let chat = Chat { all: Arc::default() };
    // Up to the last part the candidate has four connections.
    let (one, two) = (chat.serve(Wrong::Nothing), chat.serve(Wrong::ForgetsLateComers));
    let failure = batches().run(&target(one), &target(two), LONG).unwrap_err();
    assert_eq!((failure.part, failure.code()), (ResumePart::Conservation, "resume-conservation"));
    assert!(failure.missing.len() >= 4 && failure.doubled.is_empty(), "{failure}");
}

#[test]
fn whoever_hangs_refuses_or_is_not_there_is_named_and_cut_at_the_time_out() {
    let chat = Chat { all: Arc::default() };
    let good = chat.serve(Wrong::Nothing);
    let config =
        read(&format!("{GOOD}\ntimeout = \"300ms\"").replace("$.id", "$.new[*].text").replace("$.seq", "$.new[*].at"))
            .unwrap();
    let hanging = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let refusing = raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    });
    let silent = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.read().is_ok() {}
    });
    let run = |last_good: u16, candidate: u16| {
        config
            .run(&target(last_good), &target(candidate), LONG)
            .map_err(|failure| (failure.code(), failure.to_string()))
    };
    let said = "handshake with the candidate: the candidate gave ";
    assert_eq!(run(good, hanging), Err(("resume-handshake", format!("{said}no WebSocket in time"))));
    let refused = run(good, refusing).unwrap_err();
    assert!(refused.1.starts_with(&format!("{said}status 403 instead of 101")), "{}", refused.1);
    let gone = run(good, free_port()).unwrap_err();
    assert!(gone.1.starts_with(&format!("{said}no connection to")), "{}", gone.1);
    let unheard = config.run(&target(good), &target(silent), Duration::MAX).unwrap_err();
    assert_eq!(unheard.part, ResumePart::Forward);
    assert!(unheard.missing.len() >= 20, "{unheard}");
    // A last-good that does not work says nothing of the candidate.
    for bad in [hanging, refusing, silent, free_port()] {
        let failure = run(bad, good).unwrap_err();
        assert_eq!(failure.0, "resume-cannot-tell", "{}", failure.1);
    }
}

#[test]
fn the_whole_gate_ends_at_its_deadline() {
    let chat = Chat { all: Arc::default() };
    let good = chat.serve(Wrong::Nothing);
    let hanging = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let config =
        read(&format!("{GOOD}\ntimeout = \"7d\"").replace("$.id", "$.new[*].text").replace("$.seq", "$.new[*].at"))
            .unwrap();
    let failure = config.run(&target(good), &target(hanging), Duration::from_secs(3)).unwrap_err();
    assert_eq!(failure.code(), "resume-handshake");
}

#[test]
fn no_secret_and_no_captured_token_is_shown() {
    let token = "tok-93841-abcdef";
    let port = raw(move |mut stream| {
        let mut read = [0; 4096];
        let count = stream.read(&mut read).unwrap_or(0);
        let request = String::from_utf8_lossy(&read[..count]).into_owned();
        let body = if request.starts_with("GET /login") {
            format!("{{\"token\":\"{token}\"}}")
        } else {
            format!("you are {}", request.lines().find(|line| line.starts_with("x-token")).unwrap_or("nobody"))
        };
        let status = if request.starts_with("GET /login") { "200 OK" } else { "403 Forbidden" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    });
    let config = read(&format!(
        "{GOOD}\nheaders = {{ x-token = \"{{token}}\" }}\n[[before]]\nname = \"log in\"\nhttp = {{ path = \"/login\" }}\n\
         capture = {{ token = {{ json = \"$.token\" }} }}"
    ))
    .unwrap();
    let failure = config.run(&target(port), &target(port), LONG).unwrap_err();
    assert_eq!(failure.part, ResumePart::LastGood);
    let said = failure.to_string();
    assert!(said.contains("status 403 instead of 101"), "{said}");
    assert!(!said.contains(token), "{said}");
}
