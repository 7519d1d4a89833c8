//! The part of the page about shared traffic, and about flags and switches.

use crate::{
    Snapshot,
    snapshot::ServiceView,
    text::{Kind::Counter, Kind::Gauge, Page},
};
use lastgood_domain::{event::Verdict, service::Phase, terms::ServiceName, traffic::SEATS};
use lastgood_engine::traffic::Total;

/// Writes where each service whose traffic is shared stands: from the evidence, and from its proxy.
pub(super) fn traffic(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        "lastgood_traffic_share_ratio",
        Gauge,
        "The candidate's share of the people, 0 to 1; 0 without a candidate.",
    );
    for (name, view) in shared(snapshot) {
        let share = f64::from(view.state.traffic.share().seats()) / f64::from(SEATS);
        family.sample(&[("service", name.as_str())], share);
    }
    let mut family = page.family(
        "lastgood_traffic_stage",
        Gauge,
        "Which of its shares the candidate has: 1 the first; 0 without a candidate or before its first share.",
    );
    for (name, view) in shared(snapshot) {
        let stage = match view.state.run.as_ref().map(|run| &run.phase) {
            Some(Phase::Shifting { ordered, .. }) => u64::from(*ordered),
            _ => 0,
        };
        family.sample(&[("service", name.as_str())], stage);
    }
    let mut family = page.family(
        "lastgood_guard_verdict",
        Gauge,
        "1 for what the guards said last of the release on trial; all 0 before they said anything.",
    );
    for (name, view) in shared(snapshot) {
        let said = view.state.traffic.judged.as_ref().map(|judged| judged.verdict);
        let verdicts = [
            ("healthy", said == Some(Verdict::Pass)),
            ("failed", said == Some(Verdict::Fail)),
            ("cannot-tell", matches!(said, Some(Verdict::CannotTell | Verdict::Hold))),
        ];
        for (verdict, is) in verdicts {
            family.sample(&[("service", name.as_str()), ("verdict", verdict)], is);
        }
    }
    proxied(page, snapshot);
}

fn shared(snapshot: &Snapshot) -> impl Iterator<Item = (&ServiceName, &ServiceView)> {
    let is_shared = |name: &ServiceName, view: &ServiceView| {
        view.state.traffic.route.is_some() || snapshot.proxied.contains_key(name)
    };
    snapshot.services.iter().filter(move |(name, view)| is_shared(name, view))
}

fn proxied(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family("lastgood_proxy_up", Gauge, "1 while the proxy answers.");
    for (name, metered) in &snapshot.proxied {
        family.sample(&[("service", name.as_str())], metered.up);
    }
    let mut family = page.family(
        "lastgood_proxy_table_epoch",
        Gauge,
        "The epoch of the table that the proxy carries; it only grows; absent without one.",
    );
    for (name, metered) in &snapshot.proxied {
        if let Some(epoch) = metered.epoch {
            family.sample(&[("service", name.as_str())], epoch);
        }
    }
    type Count = fn(&Total) -> u64;
    let counts: [(&'static str, _, &str, Count); 8] = [
        ("lastgood_traffic_requests_total", Counter, "Requests that came to an end.", |total| total.requests),
        (
            "lastgood_traffic_failures_total",
            Counter,
            "Failures by the release's fault: 5xx, no whole answer, tunnels cut or closed with an error.",
            |total| total.failed,
        ),
        (
            "lastgood_traffic_retries_total",
            Counter,
            "Requests that failed at the release and were sent to another one.",
            |total| total.retried,
        ),
        ("lastgood_traffic_saved_total", Counter, "Retried requests that the other release answered.", |total| {
            total.saved
        }),
        (
            "lastgood_traffic_degraded_total",
            Counter,
            "Requests that were answered by a fallback, as `traffic.degraded` says what counts as one.",
            |total| total.degraded,
        ),
        ("lastgood_traffic_in_flight", Gauge, "Requests under way, without tunnels.", |total| total.in_flight),
        ("lastgood_traffic_tunnels", Gauge, "Open WebSocket tunnels.", |total| total.tunnels),
        ("lastgood_traffic_people", Gauge, "People seen within the last minute.", |total| total.people),
    ];
    for (name, kind, help, count) in counts {
        let mut family = page.family(name, kind, help);
        for (service, release, total) in each_release(snapshot) {
            family.sample(&[("service", service.as_str()), ("release", &release)], count(total));
        }
    }
}

/// Lists the releases that proxies told of, by their tags.
fn each_release(snapshot: &Snapshot) -> impl Iterator<Item = (&ServiceName, String, &Total)> {
    snapshot.proxied.iter().flat_map(|(name, metered)| {
        let state = snapshot.services.get(name).map(|view| &view.state);
        metered.releases.iter().map(move |(release, total)| {
            let tag = state.map_or_else(|| release.short(), |state| state.name_of(Some(release)));
            (name, tag, total)
        })
    })
}

/// Writes which switches are tripped and who hears of it.
pub(super) fn switches(page: &mut Page, snapshot: &Snapshot) {
    let view = snapshot.switches.as_ref();
    let mut family = page.family("lastgood_switch_tripped", Gauge, "1 while the switch is tripped, else 0.");
    for (view, (switch, tripped)) in view.iter().flat_map(|view| view.tripped.iter().map(move |one| (view, one))) {
        family.sample(&[("environment", view.environment.as_str()), ("switch", switch.as_str())], *tripped);
    }
    let mut family =
        page.family("lastgood_switch_epoch", Gauge, "Records of the environment's flags and switches; it only grows.");
    if let Some(view) = view {
        family.sample(&[("environment", view.environment.as_str())], view.epoch);
    }
    let mut family = page.family(
        "lastgood_switch_subscribers",
        Gauge,
        "Programs that keep a connection: to hear of switches, or that flags changed.",
    );
    for (view, (stream, count)) in
        view.iter().flat_map(|view| ["switches", "flags"].into_iter().zip(view.subscribers).map(move |one| (view, one)))
    {
        family.sample(&[("environment", view.environment.as_str()), ("stream", stream)], count);
    }
}
