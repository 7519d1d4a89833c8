//! What the built-in proxy costs, against HAProxy and nginx of Debian's packages, in rounds that alternate.
//!
//! Each splits 95 to 5 by a hash of the cookie over two upstreams, keeps connections on both sides, adds the forwarding
//! headers. Ours measures besides: classes, histograms, people, by release.

mod load;
mod peers;

use crate::{Bench, numbers::Rounds, say};
use load::{Paced, paced, wrk};
use peers::Peer;
use std::time::Duration;

/// How long a round of full load lasts.
const FULL: Duration = Duration::from_secs(4);
/// How long a round of half load lasts.
const HALF: Duration = Duration::from_secs(4);
/// Idle connections that are opened.
const IDLE: usize = 5_000;
/// Flips that are timed.
const FLIPS: usize = 20;

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    peers::need()?;
    let upstreams = peers::Upstreams::start(bench)?;
    let peers =
        [Peer::lastgood(bench, &upstreams)?, Peer::haproxy(bench, &upstreams)?, Peer::nginx(bench, &upstreams)?];
    let script = load::script(bench)?;
    for peer in &peers {
        wrk(&script, peer.address, Duration::from_secs(1))?;
    }
    let full = full(bench, &peers, &script)?;
    // The same rate for all: half of what the slowest takes.
    let slowest = full.iter().map(|(rate, _)| rate.middle()).fold(f64::INFINITY, f64::min);
    half(bench, &peers, &upstreams, slowest / 2.0)?;
    memory(&peers)?;
    flips(&peers[0], &upstreams)
}

/// Measures requests a second and processor time a request.
fn full(bench: &Bench, peers: &[Peer; 3], script: &std::path::Path) -> Result<Vec<(Rounds, Rounds)>, String> {
    let mut all = vec![(Rounds::default(), Rounds::default()); peers.len()];
    let (mut rate, mut cost) = (Rounds::default(), Rounds::default());
    for round in 0..bench.rounds {
        let mut one = Vec::new();
        // Each goes first in turn: what warms up or tires helps nobody.
        for at in (0..peers.len()).map(|at| (at + round) % peers.len()) {
            let before = peers[at].processor()?;
            let requests = wrk(script, peers[at].address, FULL)?;
            let micros = (peers[at].processor()? - before) * 1e6 / requests as f64;
            let rate = requests as f64 / FULL.as_secs_f64();
            all[at].0.add(rate);
            all[at].1.add(micros);
            one.push((at, rate, micros));
        }
        one.sort_by_key(|(at, ..)| *at);
        rate.add(one[0].1 / one[1].1.max(one[2].1));
        cost.add(one[0].2 / one[1].2.min(one[2].2));
    }
    say(&format!("\nsmall bodies, 32 kept connections, full load, {} alternating rounds", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    for (peer, (rate, cost)) in peers.iter().zip(&all) {
        say(&rate.row(peer.name, "requests/s"));
        say(&cost.row(peer.name, "us of processor a request"));
    }
    say(&rate.row("lastgood / the faster of the two, requests a second", "x"));
    say(&cost.row("lastgood / the cheaper of the two, processor a request", "x"));
    Ok(all)
}

/// Measures what each adds to the 99th percentile at a rate that is the same for all.
fn half(bench: &Bench, peers: &[Peer; 3], upstreams: &peers::Upstreams, rate: f64) -> Result<(), String> {
    let mut all = vec![(Rounds::default(), Rounds::default()); peers.len() + 1];
    for round in 0..bench.rounds {
        for at in (0..=peers.len()).map(|at| (at + round) % (peers.len() + 1)) {
            let address = peers.get(at).map_or(upstreams.old, |peer| peer.address);
            let Paced { median, p99 } = paced(address, rate, HALF)?;
            all[at].0.add(median);
            all[at].1.add(p99);
        }
    }
    say(&format!("\n{rate:.0} requests/s, half of the slowest's full load"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    let names = peers.iter().map(|peer| peer.name).chain(["the upstream itself"]);
    for (name, (median, p99)) in names.zip(&all) {
        say(&median.row(&format!("{name}, 50th percentile"), "us"));
        say(&p99.row(&format!("{name}, 99th percentile"), "us"));
    }
    Ok(())
}

fn memory(peers: &[Peer; 3]) -> Result<(), String> {
    say(&format!("\nmemory for each of {IDLE} idle connections that have carried one request"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    for peer in peers {
        let before = peer.memory()?;
        let idle = load::idle(peer.address, IDLE)?;
        let mut rounds = Rounds::default();
        rounds.add((peer.memory()? - before) / IDLE as f64);
        drop(idle);
        say(&rounds.row(peer.name, "KiB"));
    }
    Ok(())
}

/// Measures the time from a table's message to the last request that still went the old way.
fn flips(proxy: &Peer, upstreams: &peers::Upstreams) -> Result<(), String> {
    let (mut answered, mut last) = (Rounds::default(), Rounds::default());
    for flip in 0..FLIPS {
        let to_candidate = flip % 2 == 0;
        let (took, until_last) = load::flip(proxy.address, to_candidate, || {
            peers::route(proxy, upstreams, if to_candidate { 10_000 } else { 0 })
        })?;
        answered.add(took);
        last.add(until_last);
    }
    say(&format!("\n{FLIPS} flips of all traffic under load"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&answered.row("message sent → acknowledged, stored on disk", "ms"));
    say(&last.row("message sent → last new request on the other release", "ms"));
    Ok(())
}
