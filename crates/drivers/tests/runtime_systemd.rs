//! Instances as units of a real systemd, booted for each test.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

#[expect(dead_code, reason = "shared with the tests of processes, which need all of it")]
mod runtime_kit;
mod systemd_kit;
#[path = "systemd_kit/world.rs"]
mod systemd_world;

use lastgood_domain::{
    facts::Liveness,
    failure::Coded as _,
    terms::{Digest, Span},
};
use lastgood_drivers::runtime::{
    Launch, Runtime as _, RuntimeError, Stopped,
    systemd::{Output, SystemdConfig, SystemdRuntime},
    wait_exit,
};
use runtime_kit::{SHIM, alice, heard, pipe, runs, script, service, until};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};
use systemd_kit::in_systemd;
use systemd_world::{GRACE, SAYS_TAG, TEMPLATE, UNIT, World, driver, systemctl};

#[test]
fn a_unit_is_started_stopped_and_moved_to_the_next_release_by_one_link() {
    in_systemd("a_unit_is_started_stopped_and_moved_to_the_next_release_by_one_link", || {
        let world = World::new(TEMPLATE, Output::File);
        let (v1, v2) = (world.launch("v1", SAYS_TAG), world.launch("v2", SAYS_TAG));
        let log = || fs::read_to_string(world.path("log")).unwrap_or_default();
        let started = world.runtime.start(&v1).unwrap();
        assert!(!started.already && runs(started.pid));
        until("v1's line", || log() == "running installed-v1\n");
        assert!(world.runtime.start(&v1).unwrap().already);
        assert_eq!(world.liveness(), Liveness::Up { pid: started.pid, release: Some(Digest::of(b"v1")) });
        assert_eq!(world.runtime.start(&v2).unwrap_err().code(), "instance-runs-other-release");
        assert!(runs(started.pid));
        // Another driver, as after a restart of the daemon, knows what runs.
        let later = driver(world.folder.path(), Output::File);
        assert_eq!(later.liveness(&service(), &alice()).unwrap(), world.liveness());
        let watched = later.watch(&service(), &alice()).unwrap().unwrap();
        let drop_in = format!("/etc/systemd/system/{UNIT}.d/50-lastgood.conf");
        let before = fs::metadata(&drop_in).unwrap().ino();
        assert_eq!(world.stop(GRACE), Stopped::Asked);
        assert_eq!(wait_exit(&[watched], None, GRACE).unwrap(), [0]);
        assert_eq!(world.stop(GRACE), Stopped::NotRunning);
        assert_eq!(world.liveness(), Liveness::Down { why: "stopped by lastgood".into() });
        world.runtime.start(&v2).unwrap();
        until("v2's line", || log() == "running installed-v1\nrunning installed-v2\n");
        assert_eq!(fs::metadata(&drop_in).unwrap().ino(), before, "the drop-in was written again");
        world.stop(GRACE);
    });
}

#[test]
fn a_rollback_starts_although_systemd_would_refuse_one_more_start() {
    in_systemd("a_rollback_starts_although_systemd_would_refuse_one_more_start", || {
        // Without us: the default limit refuses the sixth start within ten seconds.
        let world = World::new("[Service]\nExecStart=/bin/sleep 1000\n", Output::Journal);
        let refused = (0..8).find(|_| !systemctl(&["restart", UNIT]).0);
        assert_eq!(refused, Some(5), "this systemd has no start limit, so the test proves nothing");
        assert_eq!(systemctl(&["show", "-P", "Result", UNIT]).1, "start-limit-hit");
        // With us: from that very state, and over any number of quick moves.
        let (v1, v2) = (world.launch("v1", SAYS_TAG), world.launch("v2", SAYS_TAG));
        for round in 0..10 {
            let launch = if round % 2 == 0 { &v1 } else { &v2 };
            world.runtime.start(launch).unwrap();
            assert_eq!(world.stop(GRACE), Stopped::Asked, "round {round}");
        }
        world.runtime.start(&v1).unwrap();
        assert!(matches!(world.liveness(), Liveness::Up { .. }));
        // Nor is systemd's own restart of a crashing instance refused.
        assert!((0..8).all(|_| systemctl(&["restart", UNIT]).0));
        world.stop(GRACE);
    });
}

#[test]
fn nothing_starts_a_closed_instance_until_lastgood_opens_it() {
    in_systemd("nothing_starts_a_closed_instance_until_lastgood_opens_it", || {
        // A unit that lastgood has never started is closed by its first stop.
        let world = World::new("[Service]\nExecStart=/bin/sleep 1000\n", Output::Journal);
        systemctl(&["start", UNIT]);
        assert_eq!(
            world.runtime.start(&world.launch("v1", SAYS_TAG)).unwrap_err().code(),
            "instance-runs-other-release"
        );
        assert_eq!(world.stop(GRACE), Stopped::Asked);
        systemctl(&["start", UNIT]);
        systemctl(&["restart", UNIT]);
        assert_eq!(systemctl(&["show", "-P", "ActiveState,ConditionResult", UNIT]).1, "inactive\nno");
        // A systemd that starts anew reads the same drop-ins, as after a boot.
        systemctl(&["daemon-reexec"]);
        systemctl(&["start", UNIT]);
        assert_eq!(systemctl(&["is-active", UNIT]).1, "inactive");
        world.runtime.start(&world.launch("v1", SAYS_TAG)).unwrap();
        assert!(matches!(world.liveness(), Liveness::Up { .. }));
        world.stop(GRACE);
    });
}

#[test]
fn a_unit_that_is_missing_masked_or_broken_is_named_with_the_reason() {
    in_systemd("a_unit_that_is_missing_masked_or_broken_is_named_with_the_reason", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let launch = world.launch("v1", SAYS_TAG);
        let with = |unit: &str| {
            let config = SystemdConfig {
                unit: unit.into(),
                drop_in_dir: "/etc/systemd/system".into(),
                output: Output::Journal,
                bus: None,
            };
            let runtime = SystemdRuntime::new(config, &world.path("state")).unwrap();
            let start = runtime.start(&launch).unwrap_err();
            assert_eq!(runtime.stop(&service(), &alice(), GRACE).unwrap_err().code(), start.code(), "{unit}");
            (start.code(), start.to_string())
        };
        let missing = with("absent@{instance}.service");
        assert_eq!(missing.0, "systemd-unit-missing");
        assert!(missing.1.contains("absent@alice.service") && missing.1.contains("not-found"), "{}", missing.1);
        assert_eq!(with("absent@{instance}").0, "systemd-unit-missing");
        assert_eq!(with("../{instance}.service").0, "systemd-unit-missing");
        fs::write("/etc/systemd/system/broken@.service", "[Service]\nExecStart=not/absolute\n").unwrap();
        assert_eq!(with("broken@{instance}.service").0, "systemd-unit-missing");
        systemctl(&["mask", "notes@alice.service"]);
        let masked = with("notes@{instance}.service");
        assert!(masked.0 == "systemd-unit-missing" && masked.1.contains("masked"), "{masked:?}");
        let nowhere = SystemdConfig {
            unit: "notes@{instance}.service".into(),
            drop_in_dir: "/etc/systemd/system".into(),
            output: Output::Journal,
            bus: Some("unix:path=/no/such/bus".into()),
        };
        let runtime = SystemdRuntime::new(nowhere, &world.path("state")).unwrap();
        assert_eq!(runtime.start(&launch).unwrap_err().code(), "systemd-unreachable");
    });
}

#[test]
fn a_unit_that_ignores_sigterm_and_one_that_leaves_processes_behind_are_stopped_whole() {
    in_systemd("a_unit_that_ignores_sigterm_and_one_that_leaves_processes_behind_are_stopped_whole", || {
        let world = World::new(TEMPLATE, Output::Journal);
        pipe(&world.path("deaf"));
        let deaf = "#!/bin/sh\ntrap '' TERM\necho $$ > $FOLDER/deaf\nwhile :; do sleep 1000; done\n";
        let started = world.runtime.start(&world.launch("v1", deaf)).unwrap();
        assert_eq!(heard(&world.path("deaf")), started.pid.to_string());
        assert_eq!(world.stop(Span(100)), Stopped::Killed);
        assert!(!runs(started.pid));
        // KillMode=process leaves all but the main process alone: systemd calls the unit stopped.
        fs::write("/etc/systemd/system/notes@.service", format!("{TEMPLATE}KillMode=process\n")).unwrap();
        systemctl(&["daemon-reload"]);
        pipe(&world.path("left"));
        let leaves = "#!/bin/sh\nsetsid sleep 1000 </dev/null &\necho $! > $FOLDER/left\nexec sleep 1000\n";
        world.runtime.start(&world.launch("v2", leaves)).unwrap();
        let left: u32 = heard(&world.path("left")).parse().unwrap();
        assert_eq!(world.stop(GRACE), Stopped::Killed);
        assert!(!runs(left));
    });
}

#[test]
fn every_character_of_a_command_and_its_environment_arrives_as_it_was() {
    in_systemd("every_character_of_a_command_and_its_environment_arrives_as_it_was", || {
        let world = World::new(&format!("{TEMPLATE}Environment=OF_THE_UNIT=1\n"), Output::Journal);
        pipe(&world.path("said"));
        let text = "#!/bin/sh\nexec 9>$FOLDER/said\nprintf '<%s>\\n' \"$@\" >&9\n\
            printf '[%s] [%s] [%s] %s\\n' \"$ODD\" \"$OF_THE_UNIT\" \"$LASTGOOD_INSTANCE\" \"$(pwd)\" >&9\nexec 9>&-\nexec sleep 1000\n";
        let mut launch = world.launch("v1", text);
        let odd = ["100%", "%n %i", "$HOME ${HOME} $$", "a\"b'c\\d\\n", "", ";", "ä€", " x ", "`id`"];
        launch.argv.extend(odd.map(str::to_owned));
        launch.env.insert("ODD".into(), odd.join("|"));
        launch.workdir = world.path("odd 50% $HOME folder");
        fs::create_dir(&launch.workdir).unwrap();
        world.runtime.start(&launch).unwrap();
        let mut lines: Vec<String> = odd.iter().map(|word| format!("<{word}>")).collect();
        let owner = Digest::of(world.path("state").as_os_str().as_encoded_bytes()).short();
        let folder = launch.workdir.display();
        lines.push(format!("[{}] [] [notes/alice@{owner}] {folder}", odd.join("|")));
        assert_eq!(heard(&world.path("said")), lines.join("\n"));
        // What the environment holds is not for everyone's eyes.
        let shown = systemctl(&["show", UNIT]).1 + &systemctl(&["cat", UNIT]).1;
        assert!(!shown.contains("`id`|") && !shown.contains("ODD="), "{shown}");
        world.stop(GRACE);
        launch.argv.push("two\nlines".into());
        assert_eq!(world.runtime.start(&launch).unwrap_err().code(), "systemd-text-refused");
    });
}

#[test]
fn a_unit_runs_as_its_user_and_each_wrong_launch_has_its_own_code() {
    in_systemd("a_unit_runs_as_its_user_and_each_wrong_launch_has_its_own_code", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let with = |change: &dyn Fn(&mut Launch)| {
            let mut launch = world.launch("v1", SAYS_TAG);
            change(&mut launch);
            world.runtime.start(&launch).unwrap_err().code()
        };
        assert_eq!(with(&|launch| launch.argv = vec!["/no/such".into()]), "instance-program-missing");
        assert_eq!(with(&|launch| launch.argv = vec!["/etc/passwd".into()]), "instance-program-not-executable");
        assert_eq!(with(&|launch| launch.argv = vec!["run".into()]), "instance-launch-invalid");
        assert_eq!(with(&|launch| launch.workdir = "/no/such".into()), "instance-workdir-missing");
        assert_eq!(with(&|launch| launch.user = Some("no-such-user".into())), "instance-user-unknown");
        fs::set_permissions("/root", fs::Permissions::from_mode(0o711)).unwrap();
        let mut launch = world.launch("v1", "#!/bin/sh\nexec sleep 1000\n");
        launch.user = Some("www-data".into());
        let started = world.runtime.start(&launch).unwrap();
        until("the user", || fs::metadata(format!("/proc/{}", started.pid)).is_ok_and(|found| found.uid() == 33));
        world.stop(GRACE);
    });
}

#[test]
fn a_crashed_unit_is_reported_with_its_status_and_its_last_lines() {
    in_systemd("a_crashed_unit_is_reported_with_its_status_and_its_last_lines", || {
        for output in [Output::File, Output::Journal] {
            let world = World::new(TEMPLATE, output);
            pipe(&world.path("go"));
            // Fails only after systemd has called it started.
            let text = "#!/bin/sh\nread x < $FOLDER/go\necho listen EADDRINUSE >&2\nexit 7\n";
            world.runtime.start(&world.launch("v1", text)).unwrap();
            let watched = world.runtime.watch(&service(), &alice()).unwrap().unwrap();
            fs::write(world.path("go"), "x\n").unwrap();
            assert_eq!(wait_exit(&[watched], None, GRACE).unwrap(), [0]);
            until("systemd's word", || matches!(world.liveness(), Liveness::Down { .. }));
            assert_eq!(world.liveness(), Liveness::Down { why: "exit status 7".into() });
            until("the journal", || {
                let reason = world.runtime.post_mortem(&service(), &alice()).unwrap().unwrap();
                reason.code() == "instance-port-in-use" && reason.to_string().contains("listen EADDRINUSE")
            });
            world.stop(GRACE);
            assert!(world.runtime.post_mortem(&service(), &alice()).unwrap().is_none());
        }
    });
}

#[test]
fn a_driver_killed_in_the_middle_of_a_move_is_followed_by_one_that_ends_it() {
    in_systemd("a_driver_killed_in_the_middle_of_a_move_is_followed_by_one_that_ends_it", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let (v1, v2) = (world.launch("v1", SAYS_TAG), world.launch("v2", SAYS_TAG));
        let mut ended_early = 0;
        for step in 0..20 {
            let _ = fs::remove_dir_all(format!("/etc/systemd/system/{UNIT}.d"));
            world.runtime.start(&v1).unwrap();
            let mut driver = Command::new(SHIM)
                .args(["systemd-move", &world.folder.path().display().to_string(), "v2"])
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(step * 6));
            ended_early += u32::from(driver.try_wait().unwrap().is_none());
            driver.kill().unwrap();
            driver.wait().unwrap();
            // Whatever was done: what runs is what the link says, and the next driver gets to the end.
            if let Liveness::Up { pid, release } = world.liveness() {
                let runs = fs::read(format!("/proc/{pid}/cwd/log")).is_ok() || runs(pid);
                assert!(runs && release.is_some(), "step {step}");
            }
            match world.runtime.start(&v2) {
                Ok(_) => {}
                Err(RuntimeError::OtherReleaseRuns { .. }) => {
                    world.stop(GRACE);
                    world.runtime.start(&v2).unwrap();
                }
                Err(other) => panic!("step {step}: {other}"),
            }
            let up = world.liveness();
            assert!(matches!(up, Liveness::Up { release: Some(digest), .. } if digest == Digest::of(b"v2")), "{up:?}");
            world.stop(GRACE);
        }
        assert!(ended_early > 5, "only {ended_early} kills came before the move was over");
    });
}

#[test]
fn a_rollback_typed_inside_the_instance_outlives_the_instance() {
    in_systemd("a_rollback_typed_inside_the_instance_outlives_the_instance", || {
        let world = World::new(TEMPLATE, Output::Journal);
        pipe(&world.path("said"));
        pipe(&world.path("go"));
        let text = format!(
            "#!/bin/sh\n{SHIM} detach $FOLDER/detached.log $FOLDER/rollback >$FOLDER/said 2>&1\nexec sleep 1000\n"
        );
        script(
            &world.path("rollback"),
            "#!/bin/sh\nread x < $FOLDER/go\necho host: $LASTGOOD_INSTANCE\ngrep name=systemd /proc/self/cgroup\ntouch $FOLDER/done\n",
        );
        let started = world.runtime.start(&world.launch("v1", &text)).unwrap();
        let said = heard(&world.path("said"));
        assert!(said.starts_with("hosted by notes/alice; Scope(\"lastgood-"), "{said}");
        assert_eq!(world.stop(GRACE), Stopped::Asked);
        assert!(!runs(started.pid));
        fs::write(world.path("go"), "x\n").unwrap();
        until("the detached process", || world.path("done").exists());
        let log = fs::read_to_string(world.path("detached.log")).unwrap();
        assert!(log.starts_with("host:\n") && log.contains("/lastgood-"), "{log}");
    });
}
