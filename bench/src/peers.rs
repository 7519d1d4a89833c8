//! The nearest peer that takes many instances back with one command: ansible-core, tuned to a single raw task.
//!
//! It gets every advantage: no facts, no modules, no copying of code to the hosts, a fork for each host, and a shell
//! script that does what the floor does. Its time ends with the last first answer, as the floor's and ours.

use crate::{
    Bench, floor,
    notebook::{Notebooks, copy_all, said},
    numbers::Rounds,
    say,
};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

/// The version of the measured table; `cargo xtask bench --peers` installs it from PyPI.
const ANSIBLE: &str = "ansible-core==2.19.14";
/// Of a slower thing fewer rounds are enough.
const ROUNDS: usize = 3;

/// What one host does; `$1` is its number, `$2` its port.
const BACK: &str = r#"cd "$(dirname "$0")" || exit 1
pid=$(cat "pids/$1")
kill -TERM "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.001; done
cd "data/$1" || exit 1
rm -f notebook.sqlite notebook.sqlite-wal notebook.sqlite-shm
cp ../../kept/"$1"/* . && sync notebook.sqlite .
NOTEBOOK_BIND=127.0.0.1 NOTEBOOK_DATA="$PWD" NOTEBOOK_PORT="$2" setsid ../../releases/1.0.0/notebook >/dev/null 2>&1 </dev/null &
echo $! > "../../pids/$1"
"#;

/// Measures `count` instances back by Ansible, against the floor in the same rounds.
pub(crate) fn measure(bench: &Bench, count: usize) -> Result<(), String> {
    let playbook = install(bench)?;
    let service = Notebooks::new(bench, "ansible", count)?;
    service.publish("2.0.0", "2.0.0")?;
    write_play(&service)?;
    let (mut floors, mut ansible, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let bare = floor::round(&service, "2.0.0")?;
        let took = round(&service, &playbook)?;
        floors.add(bare);
        ansible.add(took);
        ratio.add(took / bare);
    }
    say(&format!("\n{count} instances back with 1 MiB of data each by {ANSIBLE}, {ROUNDS} alternating rounds"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: stop, copy, sync, start, first answer", "ms"));
    say(&ansible.row("ansible-core, one raw task, a fork for each host, local: all answer", "ms"));
    say(&ratio.row("ansible-core / floor", "x"));
    Ok(())
}

/// Makes a Python environment beside the programs, once.
fn install(bench: &Bench) -> Result<PathBuf, String> {
    let folder = bench.lastgood.with_file_name("bench-ansible");
    let playbook = folder.join("bin/ansible-playbook");
    if playbook.exists() {
        return Ok(playbook);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", ANSIBLE]))?;
    Ok(playbook)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = said(command.stdin(Stdio::null()).output())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn write_play(service: &Notebooks) -> Result<(), String> {
    let at = |name: &str| service.folder.join(name);
    let mut hosts = String::from("[all]\n");
    for (number, port) in service.ports.iter().enumerate() {
        let _ = writeln!(hosts, "i{number} ansible_connection=local number={number} port={port}");
    }
    said(fs::write(at("hosts"), hosts))?;
    said(fs::write(at("back.sh"), BACK))?;
    let script = at("back.sh").display().to_string();
    let play = format!(
        "- hosts: all\n  gather_facts: false\n  strategy: free\n  tasks:\n    \
         - ansible.builtin.raw: sh {script} {{{{ number }}}} {{{{ port }}}}\n"
    );
    said(fs::write(at("back.yml"), play))?;
    said(fs::create_dir_all(at("pids")))
}

fn round(service: &Notebooks, playbook: &Path) -> Result<f64, String> {
    let mut reapers = Vec::new();
    for number in 0..service.ports.len() {
        let kept = service.folder.join("kept").join(number.to_string());
        if !kept.exists() {
            copy_all(&service.data(number), &kept)?;
        }
        let mut child = floor::start(service, number, "2.0.0")?;
        said(fs::write(service.folder.join("pids").join(number.to_string()), child.id().to_string()))?;
        // A child that nobody waits for would look alive to the script.
        reapers.push(thread::spawn(move || child.wait()));
    }
    for port in &service.ports {
        floor::answer(*port)?;
    }
    let began = Instant::now();
    let mut command = Command::new(playbook);
    command.args(["-i", "hosts", "back.yml"]).current_dir(&service.folder);
    command.env("ANSIBLE_FORKS", service.ports.len().to_string()).env("ANSIBLE_HOME", service.folder.join("ansible"));
    command.env("ANSIBLE_LOCALHOST_WARNING", "false").env("ANSIBLE_NOCOLOR", "1");
    let played = run(&mut command);
    for port in &service.ports {
        floor::answer(*port)?;
    }
    let took = began.elapsed();
    end(service)?;
    played?;
    for reaper in reapers {
        said(reaper.join().map_err(|_| "a thread panicked")?)?;
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// Ends what the script has started, and waits until nothing listens any more.
fn end(service: &Notebooks) -> Result<(), String> {
    for (number, port) in service.ports.iter().enumerate() {
        let text = said(fs::read_to_string(service.folder.join("pids").join(number.to_string())))?;
        if let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself, which the next line sees.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        floor::silence(*port)?;
    }
    Ok(())
}
