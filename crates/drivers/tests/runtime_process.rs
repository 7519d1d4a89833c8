//! Instances as processes: started once, found again, stopped whole.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod runtime_kit;

use lastgood_domain::{
    facts::Liveness,
    failure::Coded as _,
    terms::{Digest, Span},
};
use lastgood_drivers::runtime::{Launch, Runtime as _, RuntimeError, Stopped, wait_exit};
use runtime_kit::{SHIM, World, alice, heard, pipe, runs, service, until};
use std::{
    fs,
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    process::{Child, Command, Stdio},
};

const SLEEPER: &str = "#!/bin/sh\nexec sleep 1000\n";
/// Long enough that no test reaches it on a loaded machine: what must end by itself does so before.
const GRACE: Span = Span::seconds(20);

fn liveness(world: &World) -> Liveness {
    world.runtime.liveness(&service(), &alice()).unwrap()
}

fn stop(world: &World, grace: Span) -> Stopped {
    world.runtime.stop(&service(), &alice(), grace).unwrap()
}

fn wait_down(world: &World) {
    if let Some(watched) = world.runtime.watch(&service(), &alice()).unwrap() {
        assert_eq!(wait_exit(&[watched], None, GRACE).unwrap(), [0]);
    }
    assert!(matches!(liveness(world), Liveness::Down { .. }), "it did not end by itself");
}

/// All living processes started with this folder in their environment.
fn processes_of(world: &World) -> Vec<u32> {
    let wanted = format!("FOLDER={}", world.folder.path().display());
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        runs(pid) && environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    })
    .collect()
}

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
    assert_eq!(liveness(&world), up);
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    assert!(!runs(started.pid));
    assert_eq!(stop(&world, GRACE), Stopped::NotRunning);
    assert_eq!(liveness(&world), Liveness::Down { why: "stopped by lastgood".into() });
}

#[test]
fn another_release_is_not_started_beside_the_one_that_runs() {
    let world = World::new();
    let program = world.script("run", SLEEPER);
    let started = world.runtime.start(&world.launch("v1", program.clone())).unwrap();
    let error = world.runtime.start(&world.launch("v2", program)).unwrap_err();
    assert_eq!(error.code(), "instance-runs-other-release");
    assert!(runs(started.pid), "the running release was touched");
}

#[test]
fn a_process_that_ignores_the_request_to_end_is_killed_after_the_grace() {
    let world = World::new();
    pipe(&world.path("deaf"));
    let text = "#!/usr/bin/env python3\nimport os, signal, time\n\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        if os.fork() == 0:\n    open(os.environ['FOLDER'] + '/deaf', 'w').write(str(os.getpid()))\n\
        while True: time.sleep(1000)\n";
    let started = world.runtime.start(&world.launch("v1", world.script("run", text))).unwrap();
    let child: u32 = heard(&world.path("deaf")).parse().unwrap();
    assert_eq!(stop(&world, Span(50)), Stopped::Killed);
    assert!(!runs(started.pid) && !runs(child));
}

#[test]
fn a_daemon_that_left_the_group_the_session_and_its_files_is_still_found() {
    let world = World::new();
    pipe(&world.path("gone"));
    // The classic double fork: new session, second fork, standard files to /dev/null, parent ends.
    let text = "#!/usr/bin/env python3\nimport os, time, signal\n\
        if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
        null = os.open('/dev/null', os.O_RDWR)\n        [os.dup2(null, fd) for fd in (0, 1, 2)]\n        \
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        \
        open(os.environ['FOLDER'] + '/gone', 'w').write(str(os.getpid()))\n        time.sleep(1000)\n    \
        os._exit(0)\ntime.sleep(1000)\n";
    world.runtime.start(&world.launch("v1", world.script("run", text))).unwrap();
    let daemon: u32 = heard(&world.path("gone")).parse().unwrap();
    assert_eq!(stop(&world, Span(50)), Stopped::Killed);
    assert!(!runs(daemon));
}

#[test]
fn a_child_that_wrote_its_title_over_its_environment_is_known_by_its_session() {
    let world = World::new();
    pipe(&world.path("titled"));
    // An empty environment stands for one that was overwritten in place.
    let text = "#!/bin/sh\nenv -i sleep 1000 &\necho $! > $FOLDER/titled\nwait\n";
    let started = world.runtime.start(&world.launch("v1", world.script("run", text))).unwrap();
    let child: u32 = heard(&world.path("titled")).parse().unwrap();
    // The main process alone is killed, so that nothing but the session tells of the child.
    kill(started.pid, "KILL");
    wait_down(&world);
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    assert!(!runs(child));
}

#[test]
fn what_a_crashed_instance_left_behind_is_stopped_before_it_is_started_again() {
    let world = World::new();
    pipe(&world.path("left"));
    let text = "#!/bin/sh\nsleep 1000 &\necho $! > $FOLDER/left\nexit 7\n";
    let launch = world.launch("v1", world.script("run", text));
    world.runtime.start(&launch).unwrap();
    let child: u32 = heard(&world.path("left")).parse().unwrap();
    wait_down(&world);
    assert_eq!(liveness(&world), Liveness::Down { why: "exit status 7".into() });
    match world.runtime.start(&launch).unwrap_err() {
        RuntimeError::LeftOver { pids, .. } => assert_eq!(pids, [child]),
        other => panic!("{other}"),
    }
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    assert!(!runs(child));
    let again = world.launch("v1", world.script("run", SLEEPER));
    assert!(!world.runtime.start(&again).unwrap().already);
}

#[test]
fn a_crash_is_told_with_its_status_and_the_lines_of_this_start_only() {
    let world = World::new();
    let first = world.launch("v1", world.script("run", "#!/bin/sh\necho first start\nexit 1\n"));
    world.runtime.start(&first).unwrap();
    wait_down(&world);
    stop(&world, GRACE);
    let second = world.launch("v2", world.script("run", "#!/bin/sh\necho cannot open ledger >&2\nkill -SEGV $$\n"));
    world.runtime.start(&second).unwrap();
    wait_down(&world);
    assert_eq!(liveness(&world), Liveness::Down { why: "killed by signal 11".into() });
    let reason = world.runtime.post_mortem(&service(), &alice()).unwrap().unwrap();
    assert_eq!(reason.code(), "instance-exited");
    assert_eq!(
        reason.to_string(),
        "notes/alice: ended by itself: killed by signal 11; last log lines:\ncannot open ledger"
    );
    // Who knows which instance died and that it did is not told again.
    assert_eq!(reason.end(), "killed by signal 11; last log lines:\ncannot open ledger");
    // A driver that came later reads what the first one wrote down.
    let later = world.another_driver().post_mortem(&service(), &alice()).unwrap().unwrap();
    assert_eq!(later.to_string(), reason.to_string());
}

#[test]
fn a_taken_port_is_named_as_the_reason() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!("#!/usr/bin/env python3\nimport socket\ns = socket.socket()\ns.bind(('127.0.0.1', {port}))\n");
    world.runtime.start(&world.launch("v1", world.script("run", &text))).unwrap();
    wait_down(&world);
    let reason = world.runtime.post_mortem(&service(), &alice()).unwrap().unwrap();
    assert_eq!(reason.code(), "instance-port-in-use");
    assert!(reason.to_string().contains("exit status 1"), "{reason}");
}

#[test]
fn each_way_a_launch_can_be_wrong_has_its_own_code_and_leaves_nothing_running() {
    let world = World::new();
    let good = world.script("run", SLEEPER);
    fs::write(world.path("plain"), "text").unwrap();
    let no_interpreter = world.script("orphan", "#!/no/such/interpreter\n");
    fs::create_dir(world.path("folder")).unwrap();
    let at = |name: &str| world.path(name).display().to_string();
    let with = |change: &dyn Fn(&mut Launch)| {
        let mut launch = world.launch("v1", good.clone());
        change(&mut launch);
        world.runtime.start(&launch).map_err(|error| (error.code(), error.hint().is_some())).unwrap_err()
    };
    let program = |name: String| with(&|launch| launch.argv = vec![name.clone()]);
    assert_eq!(program(at("missing")), ("instance-program-missing", true));
    assert_eq!(program(at("plain")), ("instance-program-not-executable", true));
    assert_eq!(program(at("folder")), ("instance-program-not-executable", true));
    assert_eq!(program(no_interpreter), ("instance-program-not-executable", true));
    assert_eq!(program("run".into()), ("instance-launch-invalid", true));
    assert_eq!(program(at("ru\0n")), ("instance-launch-invalid", true));
    assert_eq!(with(&|launch| launch.argv.clear()), ("instance-launch-invalid", true));
    assert_eq!(with(&|launch| launch.workdir = world.path("nowhere")), ("instance-workdir-missing", true));
    assert_eq!(with(&|launch| launch.workdir = world.path("plain")), ("instance-workdir-missing", true));
    assert_eq!(with(&|launch| launch.user = Some("no-such-user".into())), ("instance-user-unknown", true));
    assert_eq!(with(&|launch| launch.log = world.path("plain/log")), ("instance-log-unwritable", true));
    assert_eq!(with(&|launch| launch.log = world.path("folder")), ("instance-log-unwritable", true));
    assert_eq!(processes_of(&world), [0; 0]);
    // None of the failures stands in the way of a right start.
    world.runtime.start(&world.launch("v1", good)).unwrap();
}

#[test]
fn a_launcher_that_ends_or_hangs_up_without_a_word_is_an_error() {
    let world = World::new();
    for launcher in ["/bin/true", "/no/such/launcher"] {
        let state = world.path("other-state");
        let runtime = lastgood_drivers::runtime::process::ProcessRuntime::new(&state, launcher.as_ref()).unwrap();
        let error = runtime.start(&world.launch("v1", world.script("run", SLEEPER))).unwrap_err();
        assert_eq!(error.code(), "instance-launcher-failed", "{launcher}: {error}");
    }
}

#[test]
fn an_instance_outlives_its_driver_and_the_next_one_takes_it_over() {
    let world = World::new();
    let program = world.script("run", SLEEPER);
    let status = Command::new(SHIM).arg("start").arg(world.folder.path()).arg(&program).arg("v1").status();
    assert!(status.unwrap().success());
    let Liveness::Up { pid, release } = liveness(&world) else { panic!("it did not outlive its driver") };
    assert_eq!(release, Some(Digest::of(b"v1")));
    assert!(world.runtime.start(&world.launch("v1", program)).unwrap().already);
    let watched = world.runtime.watch(&service(), &alice()).unwrap().unwrap();
    assert_eq!(watched.pid, pid);
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    assert_eq!(wait_exit(&[watched], None, GRACE).unwrap(), [0]);
}

fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.split_whitespace().nth(21).unwrap().parse().unwrap()
}

/// The kernel counts starts in ticks of 10 ms, and can't hand out all its numbers again within one: a stranger that
/// stands for one that got an old number has to be as late.
fn stranger_started_after(ticks: u64) -> Child {
    loop {
        let mut stranger = Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
        if start_ticks(stranger.id()) > ticks {
            return stranger;
        }
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn a_process_that_got_the_old_number_is_a_stranger_and_is_never_signalled() {
    let world = World::new();
    world.runtime.start(&world.launch("v1", world.script("run", SLEEPER))).unwrap();
    let record = world.path("state/run/notes/alice/record.json");
    let kept = fs::read_to_string(&record).unwrap();
    stop(&world, GRACE);
    let mut value: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let mut stranger = stranger_started_after(value["identity"]["start_ticks"].as_u64().unwrap());
    value["identity"]["pid"] = stranger.id().into();
    fs::write(&record, value.to_string()).unwrap();
    assert!(matches!(liveness(&world), Liveness::Down { .. }));
    assert_eq!(stop(&world, Span::ZERO), Stopped::NotRunning);
    assert!(runs(stranger.id()), "a stranger was killed");
    // Same number and same start time, but before a reboot.
    value["identity"]["start_ticks"] = start_ticks(stranger.id()).into();
    value["identity"]["boot"] = "00000000-0000-0000-0000-000000000000".into();
    fs::write(&record, value.to_string()).unwrap();
    assert_eq!(stop(&world, Span::ZERO), Stopped::NotRunning);
    assert!(runs(stranger.id()), "a stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_damaged_record_is_reported_and_does_not_keep_the_instance_from_being_stopped() {
    let world = World::new();
    let launch = world.launch("v1", world.script("run", SLEEPER));
    let started = world.runtime.start(&launch).unwrap();
    let record = world.path("state/run/notes/alice/record.json");
    let kept = fs::read_to_string(&record).unwrap();
    for bad in [&kept[..kept.len() / 2], "", "{}", &kept.replace("\"version\":1", "\"version\":9")] {
        fs::write(&record, bad).unwrap();
        let error = world.runtime.start(&launch).unwrap_err();
        assert_eq!(error.code(), "instance-record-damaged", "{bad:?}");
    }
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    assert!(!runs(started.pid));
    assert!(!world.runtime.start(&launch).unwrap().already);
}

#[test]
fn a_record_that_a_power_cut_tore_counts_as_down_while_nothing_runs_and_is_replaced_by_the_next_start() {
    let world = World::new();
    let launch = world.launch("v1", world.script("run", SLEEPER));
    let started = world.runtime.start(&launch).unwrap();
    let record = world.path("state/run/notes/alice/record.json");
    kill(started.pid, "KILL");
    wait_down(&world);
    for torn in ["", "{\"version\":1,"] {
        fs::write(&record, torn).unwrap();
        let Liveness::Down { why } = liveness(&world) else { panic!("it runs") };
        assert!(why.contains("damaged"), "{why}");
        let again = world.runtime.start(&launch).unwrap();
        assert!(!again.already);
        // While something of it runs, nobody may believe that nothing does.
        fs::write(&record, torn).unwrap();
        let error = world.runtime.liveness(&service(), &alice()).unwrap_err();
        assert_eq!(error.code(), "instance-record-damaged");
        kill(again.pid, "KILL");
        until("its end", || !runs(again.pid));
    }
}

#[test]
fn a_driver_killed_at_any_instant_of_a_start_leaves_no_process_or_one_that_is_found() {
    let world = World::new();
    let program = world.script("run", SLEEPER);
    let start = || {
        let mut driver = Command::new(SHIM);
        driver.arg("start").arg(world.folder.path()).arg(&program).arg("v1").stderr(Stdio::null()).spawn().unwrap()
    };
    // How long an undisturbed start takes here and now, so that the kills spread over all of it.
    let began = std::time::Instant::now();
    assert!(start().wait().unwrap().success());
    let took = began.elapsed();
    assert!(matches!(stop(&world, GRACE), Stopped::Asked));
    let (mut none, mut one) = (0, 0);
    // From before the launcher is spawned to after the program runs; more rounds where all fell on one side.
    for step in 0..600 {
        if step >= 60 && none > 0 && one > 0 {
            break;
        }
        let mut driver = start();
        std::thread::sleep(took * (step % 60) / 50);
        driver.kill().unwrap();
        driver.wait().unwrap();
        let started = world.runtime.start(&world.launch("v1", program.clone())).unwrap();
        // Between two programs (exec) a process has no environment for a moment.
        until("the program", || !processes_of(&world).is_empty());
        assert_eq!(processes_of(&world), [started.pid], "step {step}");
        if started.already {
            one += 1
        } else {
            none += 1
        }
        assert!(matches!(stop(&world, GRACE), Stopped::Asked));
        assert!(!runs(started.pid));
    }
    assert!(none > 0 && one > 0, "the kills did not fall on both sides: {none} and {one}");
}

#[test]
fn many_drivers_that_start_at_once_start_one_process() {
    let world = World::new();
    let launch = world.launch("v1", world.script("run", SLEEPER));
    let drivers: Vec<_> = (0..8).map(|_| world.another_driver()).collect();
    let started: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = drivers.iter().map(|driver| scope.spawn(|| driver.start(&launch).unwrap())).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(started.iter().filter(|one| !one.already).count(), 1);
    assert!(started.iter().all(|one| one.pid == started[0].pid));
    assert_eq!(processes_of(&world), [started[0].pid]);
}

#[test]
fn a_launcher_on_its_way_when_the_instance_is_closed_starts_nothing() {
    let world = World::new();
    let program = world.script("run", "#!/bin/sh\ntouch $FOLDER/ran\n");
    let launch = world.launch("v1", program);
    world.runtime.start(&launch).unwrap();
    wait_down(&world);
    stop(&world, GRACE);
    fs::remove_file(world.path("ran")).unwrap();
    // The order of a driver that was killed after it had spawned its launcher.
    let seat = world.path("state/run/notes/alice");
    let order = serde_json::json!({
        "release": launch.release, "argv": launch.argv, "env": launch.env, "workdir": launch.workdir,
        "account": null, "log": launch.log, "mark": "notes/alice@test",
        "marker": world.path("state/closed/notes/alice"),
        "lock": seat.join("lock"), "record": seat.join("record.json"),
    });
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut launcher = Command::new(SHIM)
        .args(["internal", "launch"])
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(ours, "{order}").unwrap();
    launcher.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut ours, &mut said).unwrap();
    assert_eq!(said, "\"closed\"\n");
    assert!(!world.path("ran").exists());
    assert_eq!(liveness(&world), Liveness::Down { why: "stopped by lastgood".into() });
}

#[test]
fn a_death_wakes_the_waiter_and_so_does_the_daemons_own_signal() {
    let world = World::new();
    world.runtime.start(&world.launch("v1", world.script("run", SLEEPER))).unwrap();
    let watched = [world.another_driver().watch(&service(), &alice()).unwrap().unwrap()];
    assert_eq!(wait_exit(&watched, None, Span(10)).unwrap(), [] as [usize; 0]);
    let (wake, mut sender) = UnixStream::pair().unwrap();
    sender.write_all(b"!").unwrap();
    assert_eq!(wait_exit(&watched, Some(wake.as_fd()), GRACE).unwrap(), [] as [usize; 0]);
    kill(watched[0].pid, "KILL");
    assert_eq!(wait_exit(&watched, None, GRACE).unwrap(), [0]);
    assert_eq!(liveness(&world), Liveness::Down { why: "killed by signal 9".into() });
}

#[test]
fn a_child_that_ended_is_reaped_without_anyone_asking() {
    let world = World::new();
    let started = world.runtime.start(&world.launch("v1", world.script("run", "#!/bin/sh\nexit 0\n"))).unwrap();
    until("the reaper", || !fs::exists(format!("/proc/{}", started.pid)).unwrap());
}

#[test]
fn an_instance_runs_as_its_user_with_that_users_groups_and_home() {
    let world = World::new();
    let mut launch =
        world.launch("v1", world.script("run", "#!/bin/sh\nid -u; id -G; echo $HOME $USER; exec sleep 1000\n"));
    launch.user = Some("www-data".into());
    let id = |option: &str| {
        let output = Command::new("id").args([option, "www-data"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    if !rustix::process::getuid().is_root() {
        assert_eq!(world.runtime.start(&launch).unwrap_err().code(), "instance-user-not-permitted");
        return;
    }
    let started = world.runtime.start(&launch).unwrap();
    until("its three lines", || world.log().lines().count() == 3);
    assert_eq!(world.log(), format!("{}\n{}\n/var/www www-data\n", id("-u"), id("-G")));
    assert_eq!(fs::metadata(world.path("log")).unwrap().uid().to_string(), id("-u"));
    assert_eq!(fs::metadata(format!("/proc/{}", started.pid)).unwrap().uid().to_string(), id("-u"));
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
}

#[test]
fn a_stop_from_inside_the_instance_is_refused_before_anything_is_touched() {
    let world = World::new();
    pipe(&world.path("said"));
    let text = format!("#!/bin/sh\n{SHIM} stop $FOLDER 2>$FOLDER/said\nexec sleep 1000\n");
    let started = world.runtime.start(&world.launch("v1", world.script("run", &text))).unwrap();
    let said = heard(&world.path("said"));
    assert!(said.contains("[session-not-detached]"), "{said}");
    assert!(runs(started.pid));
    assert!(!world.path("state/closed/notes/alice").exists());
}

#[test]
fn a_rollback_typed_inside_the_instance_outlives_the_instance() {
    let world = World::new();
    pipe(&world.path("said"));
    pipe(&world.path("go"));
    let rollback = world
        .script("rollback", &format!("#!/bin/sh\nread x < $FOLDER/go\n{SHIM} stop $FOLDER; echo $? >$FOLDER/done\n"));
    let text =
        format!("#!/bin/sh\n{SHIM} detach $FOLDER/detached.log {rollback} >$FOLDER/said 2>&1\nexec sleep 1000\n");
    let started = world.runtime.start(&world.launch("v1", world.script("run", &text))).unwrap();
    assert_eq!(heard(&world.path("said")), "hosted by notes/alice; Session");
    // What was typed stops the instance that it was typed in, and lives to say that it could.
    fs::write(world.path("go"), "x\n").unwrap();
    until("the detached stop", || fs::read_to_string(world.path("done")).is_ok_and(|text| text == "0\n"));
    assert!(!runs(started.pid));
    // A stop by another driver does not reach a detached process either.
    world.runtime.start(&world.launch("v1", world.script("run", &text))).unwrap();
    assert_eq!(heard(&world.path("said")), "hosted by notes/alice; Session");
    fs::remove_file(world.path("done")).unwrap();
    assert_eq!(stop(&world, GRACE), Stopped::Asked);
    fs::write(world.path("go"), "x\n").unwrap();
    until("the detached process", || world.path("done").exists());
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}
