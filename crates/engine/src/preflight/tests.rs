use super::*;
use std::sync::mpsc::{Receiver, Sender};

fn question(name: &str, timeout_ms: u64, ask: impl FnOnce() -> u32 + Send + 'static) -> Question<u32> {
    let ask = Box::new(move |_| ask());
    Question { name: name.into(), timeout: Duration::from_millis(timeout_ms), ask }
}

fn channel() -> (Sender<()>, Receiver<()>) {
    mpsc::channel()
}

#[test]
fn what_hangs_is_given_up_alone_and_not_asked_again_until_it_has_ended() {
    let asker = Asker::default();
    let (release, hangs) = channel();
    let (ended, has_ended) = channel();
    let hanging = question("mount", 50, move || {
        let _ = hangs.recv();
        let _ = ended.send(());
        1
    });
    let answers = asker.ask(vec![hanging, question("quick", 50, || 2)], ALL_MAX);
    assert_eq!(answers[0].0, Answer::Late { waited: Duration::from_millis(50) });
    assert_eq!(answers[1].0, Answer::Told(2));

    // It still hangs: a second thread would hang as well, and so every hour.
    let again = asker.ask(vec![question("mount", 50, || 3), question("quick", 50, || 4)], ALL_MAX);
    assert_eq!((&again[0].0, &again[1].0), (&Answer::Hangs, &Answer::Told(4)));

    release.send(()).unwrap();
    has_ended.recv().unwrap();
    let free = || asker.ask(vec![question("mount", 50, || 5)], ALL_MAX).remove(0).0;
    while free() == Answer::Hangs {
        thread::yield_now();
    }
    assert_eq!(free(), Answer::Told(5));
}

#[test]
fn the_whole_is_back_in_time_however_long_each_may_take() {
    let asker = Asker::default();
    let (release, hangs) = channel();
    let (ended, has_ended) = channel();
    let patient = question("patient", 3_600_000, move || {
        let _ = hangs.recv();
        let _ = ended.send(());
        1
    });
    let answers = asker.ask(vec![patient], Duration::from_millis(300));
    assert_eq!(answers[0].0, Answer::Late { waited: Duration::from_millis(100) });
    // It is back while the look still lasts, which ends only now.
    assert!(has_ended.try_recv().is_err());
    release.send(()).unwrap();
    has_ended.recv().unwrap();
}

#[test]
fn a_look_that_panics_is_no_answer_and_keeps_nobody_waiting() {
    let asker = Asker::default();
    let answers = asker.ask(vec![question("broken", 3_600_000, || panic!("on purpose"))], Duration::from_secs(3_600));
    assert!(matches!(answers[0].0, Answer::Late { .. }), "{answers:?}");
}

fn seen(name: &str, severity: Severity, state: State) -> Report {
    let failure = (state != State::Pass).then(|| Failure::new("preflight-file-old", "26 h old", Some("ls")));
    let says = if state == State::Pass { "fine" } else { "26 h old" };
    Report { name: name.into(), kind: "file", severity, state, says: says.into(), failure, took: Duration::ZERO }
}

#[test]
fn only_a_required_check_holds_a_move_and_cannot_tell_is_no_yes() {
    use {Severity::*, State::*};
    let judge = |reports: &[Report]| {
        let checked = weigh(reports, Duration::from_millis(7));
        (checked.verdict, checked.because)
    };
    assert_eq!(
        judge(&[seen("a", Required, Pass), seen("b", Recommended, Fail)]),
        (Verdict::Pass, "1 of 2 checks pass, in 7 ms".into())
    );
    assert_eq!(
        judge(&[seen("a", Required, CannotTell), seen("b", Required, Pass)]),
        (Verdict::CannotTell, "a: 26 h old [preflight-file-old]; 1 of 2 checks pass, in 7 ms".into())
    );
    let (verdict, because) = judge(&[seen("a", Required, CannotTell), seen("b", Required, Fail)]);
    assert_eq!(verdict, Verdict::Hold);
    assert!(because.starts_with("b: 26 h old [preflight-file-old]; a: "), "{because}");
}
