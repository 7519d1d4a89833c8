//! A program as a probe step.

use super::{
    expand::Scope,
    expect::{Good, Got},
};
use rustix::process::{Pid, Signal, kill_process_group};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Most output kept: enough to say what went wrong.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// How often the end of the program is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program with its arguments; no shell is involved. Instance values and captures are in its environment as
/// `LASTGOOD_PORT`, `LASTGOOD_TOKEN` and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CommandRun(pub Vec<String>);

impl CommandRun {
    pub(super) fn run(&self, scope: &Scope, until: Instant) -> Result<Got, String> {
        let argv = self.0.iter().map(|part| scope.fill(part)).collect::<Result<Vec<_>, _>>()?;
        let (program, arguments) = argv.split_first().ok_or("the command names no program")?;
        let variable = |name: &str| format!("LASTGOOD_{}", name.to_ascii_uppercase().replace(['-', '.'], "_"));
        let mut child = Command::new(program)
            .args(arguments)
            .envs(scope.values().map(|(name, value)| (variable(name), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Its own group, so that a time-out ends everything it started.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{program} can't be run: {error}"))?;
        let output = gather(child.stdout.take());
        let status = wait(&mut child, until).map_err(|error| format!("{program}: {error}"))?;
        // Those it left behind may hold the pipe open; what came so far is enough.
        let body = output.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
        Ok(Got { status: Some(status), headers: Vec::new(), body, good: Good::Exit })
    }
}

fn gather(stdout: Option<ChildStdout>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = stdout {
        thread::spawn(move || {
            let mut all = Vec::new();
            let mut limited = stdout.take(OUTPUT_BYTES_MAX);
            let _ = limited.read_to_end(&mut all);
            let _ = sender.send(all);
            // The rest is read and dropped, so that the program never waits for a full pipe.
            let _ = io::copy(&mut limited.into_inner(), &mut io::sink());
        });
    }
    receiver
}

fn wait(child: &mut Child, until: Instant) -> io::Result<i32> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or(-1));
        }
        if Instant::now() >= until {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time and was killed"));
        }
        thread::sleep(LOOK_EVERY);
    }
}
