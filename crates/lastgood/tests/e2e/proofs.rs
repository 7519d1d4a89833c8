//! What closes an item of a checklist: a page that is really fetched, a program that is really run.

use crate::{approvals::World, sink::Sink};
use lastgood_domain::terms::Digest;
use std::net::TcpListener;

const ITEMS: &str = "[incident.checklist.page-seen]\nwhat = \"the page says so\"\nlevel = \"L1\"\nrole = \"api\"\n\
                     evidence = \"url\"\ndue = \"1h\"\n[incident.checklist.page-said]\nwhat = \"the page said so\"\n\
                     level = \"L1\"\nrole = \"api\"\nevidence = \"url\"\ndue = \"1h\"\n\
                     [incident.checklist.checked]\nwhat = \"it is checked\"\nlevel = \"L1\"\nrole = \"api\"\n\
                     evidence = \"command\"\ndue = \"1h\"\n";

#[test]
fn a_page_closes_an_item_with_the_digest_that_was_fetched_and_a_program_that_hangs_closes_nothing() {
    let world = World::new(ITEMS);
    let page = Sink::new(|_| ("200 OK", "all is well".into()));
    let url = format!("http://127.0.0.1:{}/status", page.port);
    world.by("alice", "incident declare --level L1 --trigger doubled").ended(0);
    let other = "0".repeat(64);
    let done = format!("checklist done i0 page-seen --url {url}");
    world.by("alice", &format!("{done} --sha256 {other}")).ended(9).says("[evidence-digest]");
    let digest = Digest::of(b"all is well");
    let seen = world.json("alice", &done);
    assert_eq!((&seen["evidence"]["digest"], &seen["evidence"]["fetched"]), (&digest.to_string().into(), &11.into()));
    // Nobody listens there: it is taken as it is said, and says so.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = format!("checklist done i0 page-said --url http://127.0.0.1:{gone}/");
    world.by("alice", &said).ended(1).says("[evidence-url]").says("--sha256");
    world.by("alice", &format!("{said} --sha256 {other}")).ended(0).says("it was not fetched");
    let hangs = "checklist done i0 checked --within 300ms --command sleep 600";
    world.by("alice", hangs).ended(1).says("[evidence-command]").says("did not end within 300 ms");
    world.by("alice", "checklist list i0").ended(0).says("close the first: lastgood checklist done i0 checked");
    world.by("alice", "checklist done i0 checked --command true").ended(0);
}
