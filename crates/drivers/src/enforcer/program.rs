//! One program, run to its end within a time: what it printed, or what went wrong.

use super::EnforcerError;
use crate::notice::one_line;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::BTreeSet,
    io::{Read, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// More than the ids of all holds anybody sets.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;
/// How often a program is looked at: none of them is waited for by people longer than this for nothing.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A grandchild may hold a pipe open after the program's end.
const PIPE_WAIT: Duration = Duration::from_millis(500);
/// Variables that are passed on; nothing else, so that no secret of ours is.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The groups of programs that run now: who ends before they do ends them.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Ends every program that was begun and not waited for. For a command that does not stay until they are done.
pub(super) fn end_all() {
    for group in &*running() {
        if let Some(group) = Pid::from_raw(*group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a program left.
pub(super) struct Ended {
    /// Its exit status; none if it was killed.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) out: String,
    /// What it complained about.
    pub(super) complaint: String,
}

/// Runs a program in `folder` with these variables and this input. Errors: it can't be started, or takes too long.
pub(super) fn run(
    argv: &[&str],
    folder: Option<&Path>,
    variables: &[(&str, &str)],
    input: &str,
    timeout: Duration,
) -> Result<Ended, EnforcerError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(EnforcerError::program("no program is named"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a time-out ends all it started.
        .process_group(0);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let started = {
        let mut running = running();
        let started = command.spawn();
        running.extend(started.as_ref().ok().map(|child| Pid::from_child(child).as_raw_nonzero().get()));
        started
    };
    let mut child =
        started.map_err(|error| EnforcerError::program(format!("{program} can't be started: {}", error.kind())))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A program that reads nothing must not hold us.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let (out, complaint) = (listen(child.stdout.take()), listen(child.stderr.take()));
    let status = wait(&mut child, timeout).map_err(|why| EnforcerError::program(format!("{program} {why}")))?;
    let text = |from: &mpsc::Receiver<Vec<u8>>| {
        String::from_utf8_lossy(&from.recv_timeout(PIPE_WAIT).unwrap_or_default()).into_owned()
    };
    Ok(Ended { code: status.code(), out: text(&out), complaint: text(&complaint) })
}

/// Runs a program that must end well. Errors: its status and first words.
pub(super) fn must(argv: &[&str], variables: &[(&str, &str)], timeout: Duration) -> Result<String, EnforcerError> {
    let ended = run(argv, None, variables, "", timeout)?;
    if ended.code == Some(0) {
        return Ok(ended.out);
    }
    let status = ended.code.map_or_else(|| "was killed".into(), |code| format!("ended with status {code}"));
    let said = one_line(ended.complaint.as_bytes());
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(EnforcerError::program(format!("{} {status}{said}", argv.first().unwrap_or(&""))))
}

fn listen(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
            let _ = tell.send(kept);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        });
    }
    told
}

fn wait(child: &mut Child, timeout: Duration) -> Result<std::process::ExitStatus, String> {
    let deadline = Instant::now() + timeout;
    let group = Pid::from_child(child).as_raw_nonzero().get();
    loop {
        let ended = {
            // Its id is nobody else's until it is waited for.
            let mut running = running();
            let ended = child.try_wait();
            if !matches!(ended, Ok(None)) {
                running.remove(&group);
            }
            ended
        };
        match ended {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
            Ok(None) => {
                // The child is not waited for yet, so its id is still its own and names no other group.
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let mut running = running();
                let _ = child.wait();
                running.remove(&group);
                return Err(format!("did not end within {} s and was killed", timeout.as_secs_f32()));
            }
            Err(error) => return Err(format!("can't be waited for: {}", error.kind())),
        }
    }
}
