//! What `plan` foresees is what a run does, in every situation in which something decides before anything is installed.

use crate::walk::{Walk, digest, reason, tag};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, End, Event, Gate, Verdict},
    operations::{hold::InFlight, rca},
    rollout::{self, Begin, Checked, Foreseen, Input, Next},
    terms::{Actor, HoldId, Span},
};

/// A situation: what happens before, and what the run begins with.
struct Case {
    name: &'static str,
    walk: Walk,
    frozen: Option<String>,
    preflight: Option<Checked>,
}

fn cases() -> Vec<Case> {
    let two = || Walk::promoted(&["alice", "bob"], &["1.0", "1.1"]);
    let case = |name, change: &dyn Fn(&mut Walk)| {
        let mut walk = two();
        walk.newest = "1.2";
        change(&mut walk);
        Case { name, walk, frozen: None, preflight: None }
    };
    let rejected = |walk: &mut Walk| {
        walk.say(Event::Rejected { release: digest("1.2"), tag: tag("1.2"), reason: "slow".into() });
    };
    let hold = |walk: &mut Walk| {
        let (hold, in_flight) = (HoldId(0), InFlight::Pause);
        walk.say(Event::HoldSet { hold, reason: reason("wait"), until: None, origin: None, in_flight });
    };
    let pinned = |walk: &mut Walk, to: &str| walk.say(Event::Pinned { tag: tag(to), reason: reason("stay") });
    let preflight = |verdict| Some(Checked { verdict, because: "1 of 2".into() });
    let mut all = vec![
        Case { name: "first release", walk: Walk::new(&["alice"]), frozen: None, preflight: None },
        case("newer", &|_| {}),
        case("up to date", &|walk| walk.newest = "1.1"),
        case("older", &|walk| walk.newest = "0.9"),
        case("held", &|walk| hold(walk)),
        case("rejected, nothing behind", &|walk| rejected(walk)),
        case("rejected, an older one is newer", &|walk| {
            rejected(walk);
            walk.older = vec!["1.15", "1.1"];
        }),
        case("rejected, only last-good behind", &|walk| {
            rejected(walk);
            walk.older = vec!["1.1"];
        }),
        case("pinned back", &|walk| pinned(walk, "1.0")),
        case("pinned to the newest", &|walk| pinned(walk, "1.2")),
        case("pinned to what runs", &|walk| pinned(walk, "1.1")),
        case("an analysis is owed", &|walk| {
            walk.say(rca::owe("an incident".into(), None, None, None, walk.now));
        }),
        case("a removed instance behind", &|walk| walk.settings.instances.truncate(1)),
        case("a new instance", &|walk| {
            walk.newest = "1.1";
            walk.settings.instances.push(crate::walk::instance("carol"));
        }),
    ];
    all.push(Case { frozen: Some("the freeze file exists".into()), ..case("frozen", &|_| {}) });
    for (name, verdict) in
        [("preflight passes", Verdict::Pass), ("preflight fails", Verdict::Fail), ("unknown", Verdict::CannotTell)]
    {
        all.push(Case { preflight: preflight(verdict), ..case(name, &|_| {}) });
    }
    all
}

fn foresee(case: &Case, aim: Aim) -> Foreseen {
    let begin = Begin {
        aim,
        settings: case.walk.settings.clone(),
        frozen: case.frozen.clone(),
        preflight: case.preflight.clone(),
    };
    let by = Actor::new("person:test").expect("a valid actor");
    rollout::foresee(&case.walk.service, begin, &by, case.walk.now, |tag, except| {
        case.walk.well(&Effect::Check { tag: tag.cloned(), except: except.to_vec() })
    })
}

/// Begins the run for real and answers until it installs, goes back or ends.
fn really(mut case: Case, aim: Aim) -> Next {
    let settings = case.walk.settings.clone();
    let input = Input::Begin { aim, settings, frozen: case.frozen, preflight: case.preflight };
    let from = case.walk.records.len();
    case.walk.put(input).expect("the run begins");
    loop {
        for record in &case.walk.records[from..] {
            match &record.event {
                Event::RunEnded { end, .. } => return Next::Ends(end.clone()),
                Event::ReturnBegun { .. } => return Next::GoesBack,
                Event::Ordered { effect: Effect::Install { offer }, .. } => return Next::Installs(offer.clone()),
                _ => {}
            }
        }
        assert!(case.walk.answer_one(&|_| None), "{}: nothing is awaited", case.name);
    }
}

/// Time goes on between the questions of a real run, and an analysis is owed for so long.
fn timeless(next: &Next) -> String {
    format!("{next:?}").replace("owed for 1.0 s", "owed").replace("owed for 2.0 s", "owed")
}

#[test]
fn what_is_foreseen_is_what_the_run_does() {
    let mut seen = Vec::new();
    for number in 0..cases().len() {
        for aim in [Aim::Track, Aim::DryRun] {
            let case = cases().remove(number);
            let (name, foreseen) = (case.name, foresee(&case, aim.clone()).next);
            assert_eq!(timeless(&foreseen), timeless(&really(case, aim.clone())), "{name}, {aim:?}");
            seen.push(match foreseen {
                Next::Ends(End::Refused { gate, .. }) => format!("{gate:?}"),
                Next::Ends(end) => format!("{end:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
                Next::Installs(_) => "installs".into(),
                Next::GoesBack => "back".into(),
            });
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        ["Held", "Newer", "Preflight", "Rca", "Rejected", "Unproven", "UpToDate", "back", "installs"],
        "the cases see each way in which a run can begin"
    );
}

#[test]
fn nothing_is_written_and_a_run_under_way_is_left_out() {
    let mut case = cases().remove(1);
    case.walk.begin(Aim::Track);
    let before = case.walk.service.clone();
    assert!(matches!(foresee(&case, Aim::Track).next, Next::Installs(offer) if offer.tag == tag("1.2")));
    assert_eq!(case.walk.service, before);
}

#[test]
fn releases_passed_over_are_named_with_their_reasons() {
    let case = cases().into_iter().find(|case| case.name == "rejected, an older one is newer").expect("it is there");
    let foreseen = foresee(&case, Aim::Track);
    assert_eq!(foreseen.passed, [(tag("1.2"), "1.2 was rejected by person:test: slow".to_owned())]);
    assert!(matches!(foreseen.next, Next::Installs(offer) if offer.tag == tag("1.15")));
    let held = cases().into_iter().find(|case| case.name == "held").expect("it is there");
    assert_eq!(foresee(&held, Aim::Track).last_gate, Some((Gate::Hold, Verdict::Hold)));
}

#[test]
fn the_digest_of_a_plan_is_the_same_for_ever() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.settings.soak = Span::seconds(5);
    walk.track("1.1");
    walk.until(|effect| matches!(effect, Effect::Stop { .. }));
    let plans: Vec<String> = walk
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::MoveBegun { plan, .. } => Some(plan.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        plans,
        [
            "sha256:e4dd6b4878715d954375a5f7bc431a1ea0d9baddc8bcd54540d1ec4e964c86f6",
            "sha256:fb8a435eb4eeb5e1a73845062334a3f16b30b4057d90ba661f2abb04a1895554"
        ]
    );
}
