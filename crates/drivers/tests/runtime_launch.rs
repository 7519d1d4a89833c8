//! What a program gets when it is started as an instance: its environment, and nothing of ours.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

#[expect(dead_code, reason = "shared with the tests of processes, which need all of it")]
mod runtime_kit;

use lastgood_drivers::runtime::Runtime as _;
use runtime_kit::{World, heard, pipe};
use std::process::Command;

#[test]
fn a_program_gets_the_environment_it_was_given_an_empty_input_and_no_open_files_of_ours() {
    let world = World::new();
    pipe(&world.path("said"));
    let text = "#!/bin/sh\nexec 9>$FOLDER/said\n{ env | sort | cut -d= -f1; echo input:$(cat | wc -c)\n\
        echo files: $(ls /proc/$$/fd); echo folder:$(pwd); } >&9\n";
    world.runtime.start(&world.launch("v1", world.script("run", text))).unwrap();
    let said = heard(&world.path("said"));
    let folder = world.folder.path().display();
    // What the test itself was given to inherit it passes on; the rest must be the script's own.
    let direct = Command::new(world.path("run")).env("FOLDER", world.folder.path()).spawn();
    let plain = heard(&world.path("said"));
    direct.unwrap().wait().unwrap();
    let files = plain.lines().find(|line| line.starts_with("files:")).unwrap();
    assert_eq!(said, format!("FOLDER\nLASTGOOD_INSTANCE\nPATH\nPWD\ninput:0\n{files}\nfolder:{folder}"));
}

#[test]
fn secrets_of_the_environment_are_not_shown() {
    let world = World::new();
    let mut launch = world.launch("v1", "/bin/true".into());
    launch.env.insert("TOKEN".into(), "hunter2".into());
    let shown = format!("{launch:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}
