//! Instances as processes: started once, found again, stopped whole.

mod runtime_kit;

use lastgood_domain::{facts::Liveness, failure::Coded as _, terms::{Digest, Span}};
use lastgood_drivers::runtime::{Runtime as _, Stopped, wait_exit};
use runtime_kit::{World, alice, heard, pipe, runs, service, until};

const SLEEPER: &str = "#!/bin/sh\nexec sleep 1000\n";
const GRACE: Span = Span::seconds(20);

#[test]
fn an_instance_runs_until_it_is_stopped_and_a_second_start_changes_nothing() {
    let world = World::new();
    let launch = world.launch("v1", world.script("run", SLEEPER));
    let started = world.runtime.start(&launch).unwrap();
    assert!(!started.already && runs(started.pid));
    let again = world.runtime.start(&launch).unwrap();
    assert!(again.already);
    assert_eq!(again.pid, started.pid);
    let up = Liveness::Up { pid: started.pid, release: Some(Digest::of(b"v1")) };
    assert_eq!(world.runtime.liveness(&service(), &alice()).unwrap(), up);
    assert_eq!(world.runtime.stop(&service(), &alice(), GRACE).unwrap(), Stopped::Asked);
    assert!(!runs(started.pid));
    assert_eq!(world.runtime.stop(&service(), &alice(), GRACE).unwrap(), Stopped::NotRunning);
}
