//! What a release must prove of where it comes from, and what a moved tag comes to.

use crate::walk::{Walk, digest, installation, tag};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Gate, Verdict},
    facts::{Offer, Standing},
    provenance::{Environment, GitTag, Policy, Provenance, Signature, weigh},
};

fn git_tag(named: Option<&str>, signature: Option<Signature>) -> Option<GitTag> {
    Some(GitTag { commit: "c0ffee".into(), named: named.map(Into::into), signature })
}

fn good() -> Option<Signature> {
    Some(Signature::Good { signer: "alice".into() })
}

/// Demands everything, and finds everything as it should be for 2.0.
fn all_well() -> (Policy, Provenance) {
    let policy = Policy {
        tags: Some("2*".into()),
        annotated: true,
        signed: true,
        digests: [(tag("2.0"), digest("2.0"))].into(),
        passed_in: Some("staging".into()),
    };
    let found = Provenance {
        fits: Some(true),
        git_tag: git_tag(Some("2.0"), good()),
        environment: Some(Environment::Promoted { signed: 9 }),
    };
    (policy, found)
}

#[test]
fn every_demand_must_be_met_and_what_nobody_looked_at_is_not() {
    let release = installation("2.0").release;
    let (policy, found) = all_well();
    assert_eq!(weigh(&policy, &release, Some(&found)).0, Verdict::Pass);
    assert_eq!(weigh(&policy, &release, None).0, Verdict::CannotTell);
    let with = |change: &dyn Fn(&mut Provenance)| {
        let mut found = found.clone();
        change(&mut found);
        weigh(&policy, &release, Some(&found))
    };
    type Change = Box<dyn Fn(&mut Provenance)>;
    let bad = || Some(Signature::Bad { why: "by a stranger".into() });
    let rows: Vec<(Change, Verdict, &str)> = vec![
        (Box::new(|found| found.fits = None), Verdict::CannotTell, "nobody looked whether 2.0 fits 2*"),
        (Box::new(|found| found.fits = Some(false)), Verdict::Fail, "2.0 does not fit the policy's tags 2*"),
        (Box::new(|found| found.git_tag = None), Verdict::CannotTell, "nobody looked at the git tag 2.0"),
        (
            Box::new(|found| found.git_tag = git_tag(None, good())),
            Verdict::Fail,
            "2.0 is a lightweight git tag: it has no signature",
        ),
        (
            Box::new(|found| found.git_tag = git_tag(Some("1.0"), good())),
            Verdict::Fail,
            "the git tag 2.0 was made as 1.0 and put under another name",
        ),
        (
            Box::new(|found| found.git_tag = git_tag(Some("2.0"), Some(Signature::Missing))),
            Verdict::Fail,
            "the git tag 2.0 is not signed",
        ),
        (
            Box::new(move |found| found.git_tag = git_tag(Some("2.0"), bad())),
            Verdict::Fail,
            "the signature of the git tag 2.0 is refused: by a stranger",
        ),
        (
            Box::new(|found| found.git_tag = git_tag(Some("2.0"), None)),
            Verdict::CannotTell,
            "nobody looked at the signature of the git tag 2.0",
        ),
        (Box::new(|found| found.environment = None), Verdict::CannotTell, "nobody asked staging about 2.0"),
        (
            Box::new(|found| found.environment = Some(Environment::NotYet { because: "never seen".into() })),
            Verdict::Hold,
            "2.0 has not passed in staging yet: never seen",
        ),
        (
            Box::new(|found| found.environment = Some(Environment::Rejected { because: "by bob: slow".into() })),
            Verdict::Fail,
            "2.0 was rejected in staging by bob: slow",
        ),
        (
            Box::new(|found| found.environment = Some(Environment::CannotTell { because: "no file".into() })),
            Verdict::CannotTell,
            "nobody can tell whether 2.0 passed in staging: no file",
        ),
    ];
    for (change, verdict, because) in rows {
        assert_eq!(with(&change), (verdict, because.to_owned()));
    }
}

#[test]
fn what_is_wrong_for_good_is_said_before_what_only_has_to_be_awaited() {
    let release = installation("2.0").release;
    let (policy, mut found) = all_well();
    found.environment = Some(Environment::NotYet { because: "never seen".into() });
    found.fits = None;
    assert_eq!(weigh(&policy, &release, Some(&found)).0, Verdict::CannotTell);
    found.git_tag = git_tag(None, None);
    let (verdict, because) = weigh(&policy, &release, Some(&found));
    assert_eq!((verdict, because.as_str()), (Verdict::Fail, "2.0 is a lightweight git tag: it has no signature"));
}

#[test]
fn a_digest_from_elsewhere_must_be_this_one_and_a_tag_without_one_waits() {
    let release = installation("2.0").release;
    let with = |digests| weigh(&Policy { digests, ..Policy::default() }, &release, None).0;
    assert_eq!(with([(tag("2.0"), digest("2.0"))].into()), Verdict::Pass);
    assert_eq!(with([(tag("2.0"), digest("other"))].into()), Verdict::Fail);
    assert_eq!(with([(tag("1.0"), digest("2.0"))].into()), Verdict::Hold);
}

#[test]
fn an_annotated_tag_is_enough_where_no_signature_is_asked_for() {
    let release = installation("2.0").release;
    let policy = Policy { annotated: true, ..Policy::default() };
    let with = |git_tag| weigh(&policy, &release, Some(&Provenance { git_tag, ..Provenance::default() })).0;
    assert_eq!(with(git_tag(Some("2.0"), None)), Verdict::Pass);
    assert_eq!(with(git_tag(None, None)), Verdict::Fail);
}

fn not_yet(effect: &Effect) -> Option<Answer> {
    installed_with(effect, Environment::NotYet { because: "never seen".into() })
}

fn installed_with(effect: &Effect, environment: Environment) -> Option<Answer> {
    let Effect::Install { offer } = effect else { return None };
    let found = Provenance { environment: Some(environment), ..Provenance::default() };
    Some(Answer::Installed { installation: installation(offer.tag.as_str()), provenance: Some(Box::new(found)) })
}

#[test]
fn a_release_that_has_not_passed_elsewhere_waits_and_is_taken_once_it_has() {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    walk.settings.policy.passed_in = Some("staging".into());
    walk.newest = "2.0";
    walk.begin(Aim::Track);
    let because = "2.0 has not passed in staging yet: never seen".to_owned();
    assert_eq!(walk.end_with(&not_yet), End::Refused { gate: Gate::Provenance, because: because.clone() });
    let held = Event::Gated { gate: Gate::Provenance, verdict: Verdict::Hold, because };
    assert!(walk.records.iter().any(|record| record.event == held));
    assert!(walk.service.rejected.is_empty());
    assert_eq!(walk.runs("one"), "1.0");
    // An old driver's answer says nothing of where it comes from: that is no yes.
    walk.begin(Aim::Track);
    assert!(matches!(walk.end(), End::Refused { gate: Gate::Provenance, .. }));
    walk.begin(Aim::Track);
    let passed = |effect: &Effect| installed_with(effect, Environment::Promoted { signed: 9 });
    assert_eq!(walk.end_with(&passed), End::Promoted);
    assert_eq!(walk.runs("one"), "2.0");
}

#[test]
fn a_policy_stands_in_the_way_of_no_rollback_and_of_nobody_left_behind() {
    let mut walk = Walk::promoted(&["one", "two"], &["1.0", "2.0"]);
    walk.settings.policy.passed_in = Some("staging".into());
    walk.settings.instances.push(crate::walk::instance("three"));
    walk.begin(Aim::Drain);
    assert_eq!(walk.end_with(&not_yet), End::Promoted);
    assert_eq!(walk.runs("three"), "2.0");
    walk.begin(Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason: "slow".into() });
    assert!(matches!(walk.end_with(&not_yet), End::RolledBack { .. }));
    assert_eq!(walk.runs("one"), "1.0");
}

fn marked(release: &str, mark: &str) -> Offer {
    Offer { tag: tag(release), origin: "git:x".into(), mark: Some(mark.into()), published: None }
}

/// Answers checks with 2.0 under this mark.
fn offered(mark: &'static str) -> impl Fn(&Effect) -> Option<Answer> {
    move |effect| match effect {
        Effect::Check { .. } => {
            Some(Answer::Offered { offer: marked("2.0", mark), standing: Some(Standing::Newer), foreign: None })
        }
        _ => None,
    }
}

fn refused_as_moved(end: &End) -> bool {
    matches!(end, End::Refused { gate: Gate::Digest, because } if because.contains("under the same tag"))
}

#[test]
fn a_tag_that_moved_is_refused_even_if_it_was_never_installed_under_its_first_mark() {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    walk.begin(Aim::Track);
    let late = |effect: &Effect| match effect {
        Effect::Install { .. } => Some(crate::walk::hindered()),
        _ => offered("first")(effect),
    };
    assert!(matches!(walk.end_with(&late), End::Stopped { .. }));
    for _ in 0..2 {
        walk.begin(Aim::Track);
        assert!(refused_as_moved(&walk.end_with(&offered("second"))));
    }
    // Back where it was first seen it is the release it was.
    walk.begin(Aim::Track);
    assert_eq!(walk.end_with(&offered("first")), End::Promoted);
}

#[test]
fn a_tag_that_moves_between_the_check_and_the_install_is_refused_and_stays_refused() {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    walk.begin(Aim::Track);
    let moving = |effect: &Effect| match effect {
        Effect::Install { .. } => Some(Answer::NotAsAnnounced { announced: "first".into(), fetched: "second".into() }),
        _ => offered("first")(effect),
    };
    assert!(refused_as_moved(&walk.end_with(&moving)));
    walk.begin(Aim::Track);
    assert!(refused_as_moved(&walk.end_with(&offered("second"))));
    assert_eq!(walk.runs("one"), "1.0");
}

#[test]
fn a_signature_on_another_commit_than_the_installed_one_vouches_for_nothing() {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    walk.settings.policy.signed = true;
    walk.begin(Aim::Track);
    let found = Provenance { git_tag: git_tag(Some("2.0"), good()), ..Provenance::default() };
    let answer = Answer::Installed { installation: installation("2.0"), provenance: Some(Box::new(found)) };
    let vouched = |effect: &Effect| match effect {
        Effect::Install { .. } => Some(answer.clone()),
        _ => offered("deadbeef")(effect),
    };
    assert!(refused_as_moved(&walk.end_with(&vouched)));
}

#[test]
fn a_log_in_which_a_tag_was_installed_under_a_later_mark_stays_at_peace() {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    // As older versions did: the first offer was not remembered, and what came later was installed.
    walk.begin(Aim::Track);
    let order = walk.until(|effect| matches!(effect, Effect::Check { .. }));
    let answer = offered("first")(&Effect::Check { tag: None, except: Vec::new() }).expect("an offer");
    walk.put(lastgood_domain::rollout::Input::Answer { order, answer }).expect("the order is outstanding");
    let mut records = walk.records.clone();
    for record in &mut records {
        if let Event::Ordered { effect: Effect::Install { offer }, .. } = &mut record.event
            && offer.tag == tag("2.0")
        {
            offer.mark = Some("second".into());
        }
    }
    walk.service = lastgood_domain::service::Service::fold(&records);
    assert_eq!(walk.end(), End::Promoted);
    walk.begin(Aim::Track);
    assert_eq!(walk.end_with(&offered("second")), End::UpToDate);
}
