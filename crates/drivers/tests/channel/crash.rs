//! An install that is killed: the real process, the real signal, at many points.

use crate::archive::{file, tar};
use crate::world::{World, channel, has_ended, names, read};
use lastgood_drivers::channel::verify_full;
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Starts a process that installs the newest release, and can be killed.
fn start(world: &World, keys: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lastgood-driver-test-shim"))
        .args(["install", keys])
        .arg(world.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn published(world: &World) -> Vec<String> {
    world.left().into_iter().filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn an_install_killed_at_two_dozen_instants_is_whole_after_it_is_repeated() {
    let world = World::new();
    let members: Vec<_> = (0..1_500).map(|n| file(&format!("d{}/f{n}", n % 40), &format!("content {n}"))).collect();
    world.put("releases/v1.tar", tar(&members));
    let keys = r#"directory = "releases""#;
    // How long an undisturbed one takes, so that the kills spread over all of it.
    let began = std::time::Instant::now();
    assert!(start(&world, keys).wait().unwrap().success());
    let took = began.elapsed();
    fs::remove_dir_all(world.installations()).unwrap();

    let (mut killed, mut unseen) = (0, 0);
    for round in 0..24_u32 {
        let mut child = start(&world, keys);
        std::thread::sleep(took * (round * 5 % 24 + 1) / 24);
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
        // Whatever is visible is whole at once, without any repair.
        if published(&world).is_empty() {
            unseen += u32::from(!world.left().is_empty());
        } else {
            let seen = lastgood_drivers::channel::ChannelConfig::installed(&world.installations()).unwrap();
            assert_eq!(seen.len(), 1);
            verify_full(&seen[0]).unwrap();
            fs::remove_dir_all(world.installations()).unwrap();
        }
    }
    assert!(killed >= 12 && unseen >= 3, "only {killed} were killed, {unseen} of them half-way");
    let installed = world.install_newest(&channel(keys)).unwrap();
    assert_eq!(verify_full(&installed).unwrap().read_again, 1_500);
    assert_eq!(read(&installed.path, "d7/f7"), "content 7");
    assert_eq!(world.left().len(), 1, "{:?}", world.left());
}

#[test]
fn what_a_killed_install_started_is_ended_by_the_next() {
    let world = World::new();
    for (name, body) in [
        ("newest.sh", "echo v1"),
        (
            "fetch.sh",
            "if [ -e again ]; then echo ok > \"$1/app\"; exit; fi; echo $$ > self; while :; do echo x >> \"$1/app\"; done",
        ),
    ] {
        let at = world.put(name, format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let keys = r#"command = ["./newest.sh"], fetch = ["./fetch.sh", "{into}"]"#;
    let mut child = start(&world, keys);
    let writer = loop {
        match fs::read_to_string(world.path("self")) {
            Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(PathBuf::from(format!("/proc/{writer}")).exists(), "the writer should have outlived the kill");
    world.put("again", "");
    let installed = world.install_newest(&channel(keys)).unwrap();
    assert_eq!(read(&installed.path, "app"), "ok\n");
    assert_eq!(world.left().len(), 1);
    assert!(has_ended(&writer), "the writer still runs");
}

#[test]
fn two_installs_at_once_give_one_installation() {
    let world = World::new();
    let members: Vec<_> = (0..300).map(|n| file(&format!("f{n}"), "x")).collect();
    world.put("releases/v1.tar", tar(&members));
    let keys = r#"directory = "releases""#;
    let mut children: Vec<Child> = (0..4).map(|_| start(&world, keys)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(world.left().len(), 1);
    assert_eq!(names(&world.path("")), ["installations", "releases"]);
}

#[test]
fn an_install_waits_for_another_only_as_long_as_configured() {
    let world = World::new();
    world.put("releases/v1/app", "x");
    let at = world.put("installations/.lock", "");
    let held = fs::File::open(at).unwrap();
    held.lock().unwrap();
    let channel = channel(r#"directory = "releases", install_timeout = "200ms""#);
    assert_eq!(crate::world::code(world.install_newest(&channel)), "install-busy");
    held.unlock().unwrap();
    world.install_newest(&channel).unwrap();
}
