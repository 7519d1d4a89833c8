//! Every rule is said: for each state a service can be in, and for each event, with its numbers, who and how.

use crate::{
    golden,
    walk::{Walk, breaking, digest, failed, hindered, instance, reason, settings, tag},
};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Event, Record, Verdict},
    facts::{Busyness, Loss, Outcomes, Standing},
    operations::hold::InFlight,
    rollout::Input,
    service::Service,
    terms::{Actor, HoldId, ServiceName, Span, Timestamp},
    words,
};
use std::{collections::BTreeSet, fmt::Write as _};

fn notes() -> ServiceName {
    ServiceName::new("notes").expect("a valid name")
}

fn base() -> Walk {
    Walk::promoted(&["alice", "bob"], &["1.0"])
}

/// A run on 2.0 that ends as these answers make it end.
fn ended(special: &dyn Fn(&Effect) -> Option<Answer>) -> Walk {
    let mut walk = base();
    walk.track("2.0");
    walk.end_with(special);
    walk
}

fn said(event: Event) -> Walk {
    let mut walk = base();
    walk.say(event);
    walk
}

fn hold(until: Option<Timestamp>) -> Event {
    Event::HoldSet { hold: HoldId(0), reason: reason("audit"), until, origin: None, in_flight: InFlight::Pause }
}

fn of_bob(effect: &Effect) -> bool {
    effect.instance() == Some(&instance("bob"))
}

fn passed_over(older: &[&'static str]) -> Walk {
    let mut walk = said(Event::Rejected { release: digest("2.0"), tag: tag("2.0"), reason: "slow".into() });
    walk.older = older.to_vec();
    walk.track("2.0");
    walk.end();
    walk
}

fn offered(walk: &Walk, standing: Standing, foreign: Option<&str>) -> Option<Answer> {
    Some(Answer::Offered { offer: walk.offer("2.0"), standing: Some(standing), foreign: foreign.map(Into::into) })
}

/// Every situation that keeps a service from something, with what makes it.
fn situations() -> Vec<(&'static str, Walk)> {
    let mut all = vec![
        ("quiet", base()),
        ("nothing ran yet", Walk::new(&["alice"])),
        ("a hold", said(hold(None))),
        ("a hold for a time", said(hold(Some(Timestamp(9_000_000))))),
        ("a pin", said(Event::Pinned { tag: tag("1.0"), reason: reason("audit") })),
        ("rejected", said(Event::Rejected { release: digest("2.0"), tag: tag("2.0"), reason: "slow".into() })),
        ("passed over, another taken", passed_over(&["1.5"])),
        ("passed over, nothing else", passed_over(&[])),
    ];
    all.extend(gates());
    all.extend(instances());
    all.extend(runs());
    all
}

fn gates() -> Vec<(&'static str, Walk)> {
    let check = |effect: &Effect| matches!(effect, Effect::Check { .. });
    let walk = base();
    let other_bytes = |effect: &Effect| match effect {
        Effect::Install { .. } => {
            let mut installation = crate::walk::installation("1.0");
            installation.release.digest = digest("1.0 again");
            Some(Answer::Installed { installation, provenance: None })
        }
        _ => None,
    };
    let mut moved = base();
    moved.settings = settings(&["alice", "bob", "carol"]);
    moved.track("1.0");
    moved.end_with(&other_bytes);
    let version = |effect: &Effect| match effect {
        Effect::Install { .. } => {
            let mut installation = crate::walk::installation("2.0");
            installation.version = "0.9".into();
            Some(Answer::Installed { installation, provenance: None })
        }
        _ => None,
    };
    vec![
        ("the tag moved", moved),
        ("older", ended(&|e| check(e).then(|| offered(&walk, Standing::Older, None)).flatten())),
        ("unordered", ended(&|e| check(e).then(|| offered(&walk, Standing::Unordered, None)).flatten())),
        ("foreign", ended(&|e| check(e).then(|| offered(&walk, Standing::Newer, Some("no nightly"))).flatten())),
        ("another version inside", ended(&version)),
        ("last-good is damaged", ended(&|e| matches!(e, Effect::Verify { .. }).then(failed))),
        ("the channel fails", ended(&|e| check(e).then(hindered))),
        ("the gate is broken", ended(&|e| matches!(e, Effect::Rehearse { leg: Leg::Control, .. }).then(failed))),
        ("a required gate fails", gated(Verdict::Fail, Some(Verdict::Pass))),
        ("nobody can tell of a required gate", gated(Verdict::CannotTell, None)),
        ("the rehearsal failed", ended(&|e| matches!(e, Effect::Rehearse { leg: Leg::Candidate, .. }).then(failed))),
    ]
}

fn gated(verdict: Verdict, control: Option<Verdict>) -> Walk {
    let mut walk = base();
    walk.settings.gates = vec![crate::walk::gate("unit")];
    walk.track("2.0");
    let facts = crate::walk::gate_facts(verdict, control);
    walk.end_with(&|effect| {
        matches!(effect, Effect::AskGate { .. }).then(|| Answer::GateAsked { facts: facts.clone() })
    });
    walk
}

fn busy(why: &Busyness) -> Answer {
    Answer::BusyAsked { busyness: why.clone() }
}

fn instances() -> Vec<(&'static str, Walk)> {
    let in_use = busy(&Busyness::Busy("2 sessions".into()));
    let unknown = busy(&Busyness::CannotTell("no answer".into()));
    let asks = |effect: &Effect| matches!(effect, Effect::AskBusy { .. });
    let baseline = |e: &Effect| matches!(e, Effect::Probe { release, .. } if *release == digest("1.0")) && of_bob(e);
    let mut unrehearsed = ended(&|e| (asks(e) && of_bob(e)).then(|| in_use.clone()));
    unrehearsed.track("3.0");
    unrehearsed.end_with(&|e| (asks(e) && of_bob(e)).then(|| in_use.clone()));
    let mut held = ended(&breaking);
    held.begin(held.back(&[], &[]));
    held.end_with(&|e| {
        matches!(e, Effect::Measure { .. }).then_some(Answer::Measured { loss: Loss { rows: 1_505, files: 3 } })
    });
    let mut stuck = ended(&breaking);
    stuck.begin(stuck.back(&[], &[]));
    stuck.end_with(&|e| matches!(e, Effect::Restore { .. }).then(hindered));
    let mut died = base();
    let (why, settings) = ("exit status 1".to_owned(), died.settings.clone());
    died.put(Input::Died { instance: instance("alice"), why, settings }).expect("a death has a place");
    let mut later = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
    later.settings = crate::walk::settings(&["alice", "bob", "carol"]);
    later.track("2.0");
    later.end();
    vec![
        ("all are busy", ended(&|e| asks(e).then(|| in_use.clone()))),
        ("one is busy", ended(&|e| (asks(e) && of_bob(e)).then(|| in_use.clone()))),
        ("nobody can tell", ended(&|e| (asks(e) && of_bob(e)).then(|| unknown.clone()))),
        ("one fails before the move", ended(&|e| baseline(e).then(failed))),
        ("waits for a rehearsal", unrehearsed),
        ("a loss is held", held),
        ("stuck", stuck),
        ("died", died),
        ("came later than the others", later),
    ]
}

fn runs() -> Vec<(&'static str, Walk)> {
    let at = |wanted: fn(&Effect) -> bool| {
        let mut walk = base();
        walk.settings.soak = Span::seconds(60);
        walk.track("2.0");
        walk.until(wanted);
        walk
    };
    let counted = |outcomes| {
        let mut walk = base();
        let settings = walk.settings.clone();
        walk.put(Input::Counted { outcomes, settings }).expect("a count has a place");
        walk
    };
    let mut soaking = at(|e| matches!(e, Effect::Probe { release, .. } if *release == digest("2.0")));
    soaking.answer_one(&|_| None);
    let mut held = base();
    held.track("2.0");
    held.until(|e| matches!(e, Effect::Start { .. }));
    held.say(hold(None));
    held.end();
    let mut stale = ended(&|e| matches!(e, Effect::Check { .. }).then(hindered));
    stale.now = stale.now.after(Span::minutes(700));
    let settings = stale.settings.clone();
    stale.put(Input::Review { settings }).expect("a review has a place");
    let fails_live = |e: &Effect| matches!(e, Effect::Start { release, .. } if *release == digest("2.0")).then(failed);
    vec![
        ("a run asks the channel", at(|e| matches!(e, Effect::Check { .. }))),
        ("a run rehearses", at(|e| matches!(e, Effect::Rehearse { .. }))),
        ("a run watches a wave", soaking),
        ("held in the middle", held),
        ("rolled back by itself", ended(&fails_live)),
        ("stale", stale),
        ("broken outcomes", counted(Outcomes { good: 5, degraded: 0, broken: 95 })),
        ("degraded outcomes", counted(Outcomes { good: 5, degraded: 95, broken: 0 })),
    ]
}

fn is_typed(how: &str) -> bool {
    how.starts_with("lastgood ") || how.starts_with("rm /")
}

#[test]
fn every_situation_says_its_rule_its_numbers_who_can_change_it_and_how() {
    let mut table = String::new();
    for (situation, walk) in situations() {
        writeln!(table, "{situation}").expect("a text takes text");
        let reasons = words::why(&notes(), &walk.service, None, walk.now);
        assert_eq!(reasons.is_empty(), situation == "quiet", "{situation} says {reasons:?}");
        for why in reasons {
            assert!(!why.rule.is_empty() && !why.because.is_empty() && !why.who.is_empty(), "{situation}: {why:?}");
            assert!(is_typed(&why.how), "{situation}: {why:?}");
            let words::Why { rule, because, who, how } = why;
            writeln!(table, "  {rule}\n    because  {because}\n    who      {who}\n    how      {how}")
                .expect("a text takes text");
        }
    }
    insta::assert_snapshot!("why-by-situation", table);
}

#[test]
fn a_freeze_file_is_the_first_reason_said() {
    let frozen = words::FrozenBy { file: "/srv/FREEZE", because: "the freeze file /srv/FREEZE exists" };
    let reasons = words::why(&notes(), &base().service, Some(frozen), Timestamp(0));
    assert_eq!(
        (reasons[0].because.as_str(), reasons[0].how.as_str()),
        ("the freeze file /srv/FREEZE exists", "rm /srv/FREEZE")
    );
    assert_eq!(reasons.len(), 1);
}

/// Last words of a program, as its log ends.
const TAIL: &str = "it died: exit status 1; last log lines:\nслушаю\n\n  listening\nno such column: body\n";

#[test]
fn lines_of_a_log_stand_on_one_line_with_a_mark_between_them_wherever_one_line_is_said() {
    let said = "it died: exit status 1; last log lines: слушаю / listening / no such column: body";
    assert_eq!(words::one_line(TAIL), said);
    let fails = |effect: &Effect| {
        let failure = lastgood_domain::failure::Failure::new("start-died", TAIL, None);
        matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0"))
            .then_some(Answer::Failed { failure })
    };
    let walk = ended(&fails);
    let (_, _, end) = walk.service.last_end.as_ref().expect("an end");
    assert!(words::end_words(end).contains(said), "{}", words::end_words(end));
    let holds: Vec<_> = walk.service.holds.values().map(|hold| hold.reason.to_string()).collect();
    assert!(holds.len() == 1 && holds[0].contains(said), "{holds:?}");
    let reasons = words::why(&notes(), &walk.service, None, walk.now);
    assert!(reasons.iter().any(|why| why.because.contains(said)), "{reasons:?}");
    assert!(reasons.iter().all(|why| !why.because.contains('\n')), "{reasons:?}");
    let notices: Vec<_> = walk
        .records
        .iter()
        .filter_map(|record| lastgood_domain::notice::notice(&notes(), &walk.service, record))
        .map(|notice| notice.summary)
        .collect();
    assert!(notices.iter().any(|summary| summary.contains(said)), "{notices:?}");
    assert!(notices.iter().all(|summary| !summary.contains('\n')), "{notices:?}");
}

#[test]
fn a_service_is_frozen_after_a_rollback_whatever_letters_its_log_ends_with() {
    let fails = |effect: &Effect| {
        let failure = lastgood_domain::failure::Failure::new("start-died", "нет колонки ".repeat(100), None);
        matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0"))
            .then_some(Answer::Failed { failure })
    };
    assert_eq!(ended(&fails).service.holds.len(), 1);
}

/// Gives an event's kind as it is written in the log.
fn kind(event: &Event) -> String {
    serde_json::to_value(event).expect("an event is JSON")["kind"].as_str().expect("it has a kind").to_owned()
}

/// Lists every kind of event there is: reading an unknown one is refused with all that are known.
fn all_kinds() -> BTreeSet<String> {
    let refused = serde_json::from_str::<Event>(r#"{"kind":"exploded"}"#).expect_err("no such kind").to_string();
    let (_, known) = refused.split_once("expected one of ").expect("the known kinds are listed");
    known.split('`').skip(1).step_by(2).map(Into::into).collect()
}

#[test]
fn every_event_is_explained_by_a_sentence_a_rule_who_can_change_it_and_how() {
    let mut service = Service::default();
    let mut kinds = BTreeSet::new();
    let mut table = String::new();
    for event in golden::all() {
        let by = Actor::new("person:alice").expect("a valid actor");
        let record = Record { v: Record::VERSION, at: Timestamp(1_000), by, event };
        service.apply(&record);
        let said = words::explain(&notes(), &service, &record);
        assert!(!said.sentence.is_empty() && !said.rule.is_empty() && !said.who.is_empty(), "{record:?}");
        assert!(is_typed(&said.how), "{said:?}");
        kinds.insert(kind(&record.event));
        let words::Explained { sentence, rule, who, how } = said;
        writeln!(table, "{}: {sentence}\n  rule  {rule}\n  who   {who}\n  how   {how}", kind(&record.event))
            .expect("a text takes text");
    }
    assert_eq!(kinds, all_kinds(), "a kind of event is not in golden::all");
    insta::assert_snapshot!("explain-by-event", table);
}

#[test]
fn what_a_restore_drops_is_said_with_the_time_in_which_it_was_written() {
    let mut walk = base();
    walk.track("2.0");
    walk.end_with(&breaking);
    walk.now = walk.now.after(Span::minutes(12));
    walk.begin(walk.back(&["alice"], &[]));
    walk.until(|effect| matches!(effect, Effect::Measure { .. }));
    let from = walk.records.len();
    let loss = Loss { rows: 4, files: 0 };
    walk.answer_one(&|effect| matches!(effect, Effect::Measure { .. }).then_some(Answer::Measured { loss }));
    let said = words::sentence(&walk.service, &walk.records[from]).expect("it is said");
    assert_eq!(said, "alice: a restore drops 4 rows and 0 files, all written within 12 min");
}
