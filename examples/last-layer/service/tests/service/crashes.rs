//! What was acknowledged is kept, whenever a process is killed.

use crate::instance::Instance;
use std::collections::BTreeSet;
use std::sync::Mutex;

#[test]
fn every_message_that_was_acknowledged_survives_a_kill_and_the_numbers_have_no_gap() {
    let world = tempfile::tempdir().unwrap();
    let acknowledged = Mutex::new(BTreeSet::new());
    let survivor = Instance::start("1.0.0", world.path());
    for round in 0..6 {
        let service = Instance::start("1.1.0", world.path());
        let address = service.address();
        std::thread::scope(|scope| {
            for client in 0..4 {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let agent = crate::instance::agent();
                    for number in 0.. {
                        let id = format!("{round}-{client}-{number}");
                        let body = format!(r#"{{"id":"{id}","text":"text"}}"#);
                        let answer = agent.post(format!("http://{address}/rooms/lobby/messages")).send(body);
                        match answer {
                            Ok(answer) if answer.status() == 201 => {
                                acknowledged.lock().unwrap().insert(id);
                            }
                            // Killed: what was under way may be there or not.
                            _ => return,
                        }
                    }
                });
            }
            let before = acknowledged.lock().unwrap().len();
            crate::instance::await_true(|| acknowledged.lock().unwrap().len() >= before + 30);
            service.kill();
        });
    }
    let stored = survivor.get("/rooms/lobby/messages").1["last"].as_i64().unwrap();
    let mut ids = BTreeSet::new();
    let mut numbers = Vec::new();
    while let Some(after) = numbers.last().copied().or(Some(0)).filter(|after| *after < stored) {
        let (_, page) = survivor.get(&format!("/rooms/lobby/messages?after={after}"));
        for message in page["messages"].as_array().unwrap() {
            numbers.push(message["seq"].as_i64().unwrap());
            assert!(ids.insert(message["id"].as_str().unwrap().to_owned()), "stored twice: {message}");
        }
    }
    assert_eq!(numbers, (1..=stored).collect::<Vec<_>>());
    let lost: Vec<_> = acknowledged.lock().unwrap().difference(&ids).cloned().collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
