//! Runs the ordinary clients (npm, pip, git) and configured commands, with an end, a bound and no secrets shown.
//!
//! Each runs in a process group of its own that is ended as a whole; its settings are the user's own.

use super::{ChannelError, deadline::Deadline, staging::MAKING};
use regex::Regex;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::OFlags,
    process::{Pid, PidfdFlags, Signal},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Bytes kept of what a client says beside its answer: its last words name the failure.
pub(crate) const OUTPUT_BYTES_KEPT: usize = 64 << 10;
/// Longest answer of a registry: the list of ten thousand versions with their times has about 1 MiB.
pub(crate) const REGISTRY_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Characters of a client's last words in an error: what fits on a screen.
const SAID_CHARS_MAX: usize = 800;
/// Time between the polite and the impolite end: npm and pip remove their temporary files in far less.
const GRACE: Duration = Duration::from_secs(2);
/// How often a cancel is looked for while nothing happens.
const CANCEL_SEEN_WITHIN: Duration = Duration::from_millis(100);

/// One call of an outside program.
pub(crate) struct Call<'a> {
    /// The act, for errors.
    what: String,
    command: Command,
    program: OsString,
    /// The Debian package of a well-known client.
    package: Option<&'static str>,
    module: Option<(&'static str, &'static str)>,
    answer_bytes_max: usize,
    deadline: &'a Deadline<'a>,
}

impl<'a> Call<'a> {
    /// Prepares `program` to run in `folder`.
    pub(crate) fn new(program: impl AsRef<OsStr>, folder: &Path, what: String, deadline: &'a Deadline<'a>) -> Self {
        let mut command = Command::new(&program);
        command.current_dir(folder).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = program.as_ref().to_owned();
        Self { what, command, program, package: None, module: None, answer_bytes_max: OUTPUT_BYTES_KEPT, deadline }
    }

    /// Names the Debian package that brings the program.
    pub(crate) fn debian_package(mut self, package: &'static str) -> Self {
        self.package = Some(package);
        self
    }

    /// Allows an answer as long as registries give.
    pub(crate) fn registry_answer(mut self) -> Self {
        self.answer_bytes_max = REGISTRY_ANSWER_BYTES_MAX;
        self
    }

    /// Marks it and all it starts as working for a hidden folder, so that it never outlives that folder.
    pub(crate) fn making(self, folder: &Path) -> Self {
        self.env(MAKING, folder)
    }

    /// Adds arguments.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Adds one argument.
    pub(crate) fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Names a module of the program that has a Debian package of its own.
    pub(crate) fn module(mut self, name: &'static str, package: &'static str) -> Self {
        self.module = Some((name, package));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes an environment variable away.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Takes the whole environment away but where programs are, so that no settings of the user or the machine count.
    pub(crate) fn alone(mut self) -> Self {
        self.command.env_clear();
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        self.env("PATH", path).env("LC_ALL", "C")
    }

    /// Gives it a file to read.
    pub(crate) fn reading(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs it to its end and gives what it answered on standard output.
    pub(crate) fn run(self) -> Result<Vec<u8>, ChannelError> {
        self.run_saying().map(|(answer, _)| answer)
    }

    /// Runs it to its end and gives what it answered, and what it said beside that.
    pub(crate) fn run_saying(mut self) -> Result<(Vec<u8>, Vec<u8>), ChannelError> {
        self.deadline.check()?;
        let child = self.command.spawn().map_err(|source| self.not_started(source))?;
        let mut running = Running { child, ended: false };
        let mut answer = Stream::new(running.child.stdout.take(), self.answer_bytes_max);
        let mut talk = Stream::new(running.child.stderr.take(), OUTPUT_BYTES_KEPT);
        let result = self.follow(&mut running, &mut answer, &mut talk);
        let status = running.end();
        let said = || said(if talk.kept.is_empty() { &answer.kept } else { &talk.kept });
        if answer.over && !matches!(result, Err(Stop::Channel(ChannelError::Cancelled { .. }))) {
            return Err(ChannelError::OutputTooLong { what: self.what, limit_bytes: self.answer_bytes_max });
        }
        match result {
            Ok(()) => {}
            Err(Stop::Channel(ChannelError::TimedOut { .. })) => return Err(self.deadline.over(said())),
            Err(Stop::Channel(error)) => return Err(error),
            Err(Stop::System(source)) => return Err(ChannelError::ClientNotStarted { what: self.what, source }),
        }
        let status = status.map_err(|source| ChannelError::ClientNotStarted { what: self.what.clone(), source })?;
        if status.success() {
            return Ok((answer.kept, talk.kept));
        }
        let output = said();
        if let Some((name, package)) = self.module
            && output.contains(&format!("No module named {name}"))
        {
            let client = format!("{} -m {name}", self.program.to_string_lossy());
            return Err(ChannelError::ClientMissing { client, package, source: io::Error::other(output) });
        }
        if output.contains("ENOSPC") || output.contains("No space left on device") {
            return Err(ChannelError::NoSpace {
                path: self.command.get_current_dir().unwrap_or(Path::new(".")).into(),
            });
        }
        Err(ChannelError::ClientFailed { what: self.what, status: status.to_string(), output })
    }

    fn not_started(&self, source: io::Error) -> ChannelError {
        match self.package {
            Some(package) if source.kind() == io::ErrorKind::NotFound => {
                ChannelError::ClientMissing { client: self.program.to_string_lossy().into_owned(), package, source }
            }
            _ => ChannelError::ClientNotStarted { what: self.what.clone(), source },
        }
    }

    /// Reads both streams until the process ends, says too much, or its time is over.
    fn follow(
        &self,
        running: &mut Running,
        answer: &mut Stream<impl Read + AsFd>,
        talk: &mut Stream<impl Read + AsFd>,
    ) -> Result<(), Stop> {
        answer.unblock()?;
        talk.unblock()?;
        let pid = Pid::from_child(&running.child);
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        loop {
            self.deadline.check().map_err(Stop::Channel)?;
            let mut wanted = vec![PollFd::new(&handle, PollFlags::IN)];
            wanted.extend(answer.open.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
            wanted.extend(talk.open.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
            let patience = timespec(self.deadline.left().min(CANCEL_SEEN_WITHIN));
            match rustix::event::poll(&mut wanted, Some(&patience)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Stop::System(error.into())),
            }
            let ended = wanted.first().is_some_and(|process| !process.revents().is_empty());
            answer.take(true);
            talk.take(false);
            // Once it has ended, what it wrote is in the pipes; waiting longer would be for its grandchildren.
            if ended || answer.over {
                return Ok(());
            }
        }
    }
}

/// Why following a process ends early.
enum Stop {
    Channel(ChannelError),
    System(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

fn timespec(span: Duration) -> Timespec {
    // A tenth of a second at most, so both parts fit.
    Timespec { tv_sec: 0, tv_nsec: i64::from(span.subsec_nanos()) }
}

/// A started process; ended with its whole group when dropped.
struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    /// Ends the group, politely first while the process itself still runs, and collects it.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.ended = true;
        let group = Pid::from_child(&self.child);
        let signal = |signal| {
            // Nobody left in the group is what we want.
            let _gone = rustix::process::kill_process_group(group, signal);
        };
        if !self.has_ended() {
            signal(Signal::TERM);
            let until = Instant::now() + GRACE;
            while !self.has_ended() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Before the process is collected, so that its group's number still is its own.
        signal(Signal::KILL);
        self.child.wait()
    }

    /// Tells whether the process has ended, without collecting it.
    fn has_ended(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.end());
        }
    }
}

/// One of its output streams.
struct Stream<S> {
    open: Option<S>,
    kept: Vec<u8>,
    bytes_max: usize,
    over: bool,
}

impl<S: Read + AsFd> Stream<S> {
    fn new(open: Option<S>, bytes_max: usize) -> Self {
        Self { open, kept: Vec::new(), bytes_max, over: false }
    }

    fn unblock(&self) -> io::Result<()> {
        let Some(stream) = &self.open else { return Ok(()) };
        let flags = rustix::fs::fcntl_getfl(stream)?;
        Ok(rustix::fs::fcntl_setfl(stream, flags | OFlags::NONBLOCK)?)
    }

    /// Takes what is there, at most 4 MiB at once; keeps the first bytes of an answer, the last of talk.
    fn take(&mut self, is_answer: bool) {
        let mut chunk = [0; 64 << 10];
        for _ in 0..64 {
            let Some(stream) = &mut self.open else { return };
            match stream.read(&mut chunk) {
                Ok(0) => self.open = None,
                Ok(count) => self.kept.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.open = None,
            }
            if self.kept.len() > self.bytes_max {
                if is_answer {
                    self.over = true;
                    return;
                }
                self.kept.drain(..self.kept.len() - self.bytes_max);
            }
        }
    }
}

/// Makes a client's last words fit for an error: scrubbed, on one line, short.
pub(crate) fn said(output: &[u8]) -> String {
    let text = scrub(&String::from_utf8_lossy(output));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String = lines.join(" | ").chars().filter(|c| !c.is_control()).collect();
    let skipped = line.chars().count().saturating_sub(SAID_CHARS_MAX);
    line.chars().skip(skipped).collect()
}

/// Takes out what looks like a credential: user parts of addresses, tokens, passwords.
pub(crate) fn scrub(text: &str) -> String {
    static RULES: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
        let rule = |pattern: &str| Regex::new(pattern).expect("written here and used by a test");
        [
            // Escape sequences of terminals.
            (rule(r"\x1b\[[0-9;]*[A-Za-z]"), ""),
            (rule(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s]*@"), "$1***@"),
            (
                rule(
                    r#"(?i)((?:_auth\w*|_password|authorization|password|passwd|secret|token|api[_-]?key)["']?\s*[=:]\s*["']?)(?:(?:bearer|basic)\s+)?[^\s"'&,;]+"#,
                ),
                "$1***",
            ),
            (rule(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._=~-]{8,}"), "$1 ***"),
            (rule(r"\b(?:npm_|pypi-|gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}"), "***"),
        ]
    });
    RULES.iter().fold(text.to_owned(), |text, (rule, instead)| rule.replace_all(&text, *instead).into_owned())
}

/// Finds a configured program: a path starts at the configuration's folder, a bare name is left to PATH.
pub(crate) fn program(name: &str, folder: &Path) -> PathBuf {
    if name.contains('/') { folder.join(name) } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_what_clients_say() {
        for (said, shown) in [
            ("GET https://alice:hunter2@registry.test/x", "GET https://***@registry.test/x"),
            ("git+ssh://key@host/x failed", "git+ssh://***@host/x failed"),
            ("//registry.test/:_authToken=abc123", "//registry.test/:_authToken=***"),
            ("_password = aGk=", "_password = ***"),
            ("Authorization: Bearer abc.def", "Authorization: ***"),
            ("sent bearer abcdefgh12", "sent bearer ***"),
            ("npm_0123456789abcdefABCDEF", "***"),
            ("?token=abc&x=1", "?token=***&x=1"),
            ("\"password\": \"p\"", "\"password\": \"***\""),
            ("left-pad@1.3.0 not found", "left-pad@1.3.0 not found"),
        ] {
            assert_eq!(scrub(said), shown);
        }
    }

    #[test]
    fn last_words_are_one_short_line() {
        assert_eq!(super::said(b"\x1b[31mone\x1b[0m\n\n  two\r\n"), "one | two");
        assert_eq!(super::said(&[b'x'; 5_000]).len(), SAID_CHARS_MAX);
    }
}
