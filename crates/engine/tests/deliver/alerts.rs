//! What an Alertmanager is told over time.

use crate::world::{Sink, hook};
use lastgood_domain::{
    alarm::Alarm,
    notice::NoticeKind,
    terms::{ServiceName, Timestamp},
};
use lastgood_drivers::notice::NoticeConfig;
use lastgood_engine::alerts::Reconciler;
use std::collections::BTreeMap;

fn alarm(kind: NoticeKind) -> Alarm {
    Alarm { kind, service: ServiceName::new("app").unwrap(), since: Timestamp(0), summary: "too long".into() }
}

fn reconciler(url: &str, more: &str) -> Reconciler {
    Reconciler::new(&toml::from_str(&format!("alertmanager = \"{url}\"\n{more}")).unwrap()).unwrap()
}

#[test]
fn firing_alerts_are_sent_every_minute_and_ended_ones_for_five() {
    let sink = Sink::new(|_, _| "200 OK");
    let mut reconciler = reconciler(&sink.url, "");
    let stale = [alarm(NoticeKind::Stale)];
    let mut posted = Vec::new();
    for second in 0..=600_i64 {
        let now = if second < 130 { &stale[..] } else { &[] };
        if reconciler.reconcile(now, Timestamp(second * 1_000)).unwrap() > 0 {
            posted.push(second);
        }
    }
    assert_eq!(posted, [0, 60, 120, 130, 190, 250, 310, 370, 430]);
    let bodies: Vec<_> = sink.taken().into_iter().map(|(_, body)| body).collect();
    assert_eq!(
        bodies[0],
        r#"[{"annotations":{"summary":"too long"},"endsAt":"1970-01-01T00:04:00.000Z","labels":{"alertname":"lastgood-stale","job":"lastgood","service":"app"},"startsAt":"1970-01-01T00:00:00.000Z"}]"#
    );
    for ended in &bodies[3..] {
        assert!(ended.contains(r#""endsAt":"1970-01-01T00:02:10.000Z""#), "{ended}");
    }
}

#[test]
fn an_alert_that_was_not_taken_is_sent_again_at_once_and_one_that_comes_back_fires_again() {
    let sink = Sink::new(|_, taken| if taken.len() == 1 { "500 Oops" } else { "200 OK" });
    let mut reconciler = reconciler(&sink.url, "");
    let stale = [alarm(NoticeKind::Stale)];
    assert!(reconciler.reconcile(&stale, Timestamp(0)).is_err());
    assert_eq!(reconciler.reconcile(&stale, Timestamp(1_000)).unwrap(), 1);
    assert_eq!(reconciler.reconcile(&[], Timestamp(2_000)).unwrap(), 1);
    assert_eq!(reconciler.reconcile(&stale, Timestamp(3_000)).unwrap(), 1);
    assert!(sink.taken()[3].1.contains(r#""endsAt":"1970-01-01T00:04:03.000Z""#));
}

#[test]
fn only_the_kinds_asked_for_are_sent() {
    let sink = Sink::new(|_, _| "200 OK");
    let mut reconciler = reconciler(&sink.url, "kinds = [\"stale\"]");
    assert_eq!(reconciler.reconcile(&[alarm(NoticeKind::Stale), alarm(NoticeKind::Broken)], Timestamp(0)).unwrap(), 1);
}

#[test]
fn other_places_are_not_reconciled() {
    let configs: BTreeMap<String, NoticeConfig> = toml::from_str(&hook("ops", "http://127.0.0.1:1/")).unwrap();
    assert!(Reconciler::new(&configs["ops"]).is_none());
}
