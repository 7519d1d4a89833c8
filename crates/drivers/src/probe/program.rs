//! Runs a program as a step: without a shell, with a clean environment, in a process group of its own that ends with it.

use super::{
    answer::{Answer, Lookup, Outcome},
    run::no_value,
    variables::{self, Place},
    wire::Trouble,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Most bytes a command may write: what is compared is a line or a page.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Pauses while its end is awaited: from what a small program takes to what nobody notices.
const PAUSE_FIRST: Duration = Duration::from_micros(500);
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// What a command gets of our own environment; the rest may hold what is not its business.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LOGNAME"];

/// A command with what it is told.
pub(crate) struct Call<'c> {
    pub argv: &'c [String],
    pub env: &'c BTreeMap<String, String>,
    /// Variables it gets as `LASTGOOD_NAME`, if they are no secrets.
    pub shared: &'c BTreeMap<String, String>,
    pub folder: &'c Path,
}

/// Runs it to its end.
pub(crate) fn run(call: &Call<'_>, value: Lookup<'_>, until: Instant) -> Result<Answer, Trouble> {
    let expand = |text: &String| variables::expand(text, Place::Plain, value).map_err(no_value);
    let argv = call.argv.iter().map(expand).collect::<Result<Vec<_>, _>>()?;
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Trouble::config("no program"));
    };
    // A relative path starts at the folder of lastgood.toml, wherever lastgood runs; a bare name is looked up in PATH.
    let place = if program.contains('/') { call.folder.join(program) } else { program.into() };
    let mut command = Command::new(place);
    command.args(arguments).env_clear().process_group(0).stdin(Stdio::null());
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let shared = call.shared.iter().filter(|(name, _)| !name.contains(':'));
    command.envs(shared.map(|(name, value)| (variable_name(name), value)));
    for (name, text) in call.env {
        command.env(name, expand(text)?);
    }
    if !call.folder.as_os_str().is_empty() {
        command.current_dir(call.folder);
    }
    let no_file = |error: io::Error| Trouble::config(format!("no room for its output ({error})"));
    // Files and not pipes: something left in the background can't hold them open against us.
    let (mut out, mut err) = (tempfile::tempfile().map_err(no_file)?, tempfile::tempfile().map_err(no_file)?);
    command.stdout(out.try_clone().map_err(no_file)?).stderr(err.try_clone().map_err(no_file)?);
    let child = command.spawn().map_err(|error| Trouble::config(format!("{program:?} can't be started ({error})")))?;
    let ended = Group(child).wait(until, &[&out, &err]);
    let written = read(&mut out).map_err(no_file)?;
    let mut complaint = || {
        let text = read(&mut err).unwrap_or_default();
        String::from_utf8_lossy(if text.is_empty() { &written } else { &text }).trim().to_owned()
    };
    match ended {
        Ended::Itself(status) => {
            let exit = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            let body = if written.is_empty() && exit != 0 { complaint().into_bytes() } else { written };
            Ok(Answer { outcome: Outcome::Exit(exit), body, ..Answer::default() })
        }
        Ended::TimedOut => Err(Trouble::timeout(format!("no end in time; it wrote {:?}", complaint()))),
        Ended::WroteTooMuch => Err(Trouble::failed(format!("more than {OUTPUT_BYTES_MAX} bytes of output"))),
        Ended::Lost(why) => Err(Trouble::failed(format!("no exit status ({why})"))),
    }
}

/// Runs a command that takes no `{…}`, and gives its exit status and what it wrote.
///
/// Errors: in words, that it could not be run or did not end in time.
pub(crate) fn run_plain(
    argv: &[String],
    env: &BTreeMap<String, String>,
    folder: &Path,
    until: Instant,
) -> Result<(i32, String), String> {
    let none = BTreeMap::new();
    let call = Call { argv, env, shared: &none, folder };
    let answer = run(&call, &|_| None, until).map_err(|trouble| trouble.got)?;
    let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
    match answer.outcome {
        Outcome::Exit(status) => Ok((status, said)),
        Outcome::Done | Outcome::Status(_) => Err("it has no exit status".into()),
    }
}

/// `account` is `LASTGOOD_ACCOUNT`.
fn variable_name(name: &str) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
    };
    format!("LASTGOOD_{}", name.chars().map(upper).collect::<String>())
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

enum Ended {
    Itself(ExitStatus),
    TimedOut,
    WroteTooMuch,
    Lost(io::Error),
}

/// A process with everything it starts; nothing of it outlives this value.
struct Group(Child);

impl Group {
    fn wait(mut self, until: Instant, files: &[&File]) -> Ended {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.has_ended() {
                Ok(true) => {
                    // Before it is reaped its number can't be another's, so the group can still be ended safely.
                    self.kill();
                    return self.0.wait().map_or_else(Ended::Lost, Ended::Itself);
                }
                Ok(false) => {}
                Err(error) => return Ended::Lost(error),
            }
            if files.iter().any(|file| file.metadata().is_ok_and(|facts| facts.len() > OUTPUT_BYTES_MAX)) {
                return Ended::WroteTooMuch;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ended::TimedOut;
            }
            thread::sleep(pause.min(left));
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }

    /// Tells whether the process has ended, and leaves it to be reaped.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = self.pid() else {
            return Ok(true);
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(pid), options)?.is_some())
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(pid) = self.pid() {
            // It fails only when nobody is left in the group.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Once reaped its number may be another's.
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.0.wait();
        }
    }
}
