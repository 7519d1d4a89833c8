//! A program as receiver: the body on its standard input, its exit status as the answer.

use super::{Delivery, Message, one_line};
use lastgood_domain::terms::Span;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use std::{
    io::{self, Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// `EX_TEMPFAIL` of sysexits: try again later.
const EXIT_TRY_LATER: i32 = 75;
/// Kept of what it complains about; the rest is read and dropped, so that it does not block.
const COMPLAINT_BYTES_MAX: usize = 2 * 1024;
/// A grandchild may hold the pipe open after the program's end; its words are not waited for.
const COMPLAINT_WAIT: Duration = Duration::from_millis(200);
/// Variables that are passed on; nothing else, so that no secret of ours is.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Runs the program for one message.
pub(super) fn deliver(argv: &[String], timeout: Span, message: &Message<'_>) -> Delivery {
    let deadline = Instant::now() + timeout.duration();
    let mut child = match start(argv, message) {
        Ok(child) => child,
        Err(error) => return retry("not-started", format!("{} can't be started: {}", program(argv), error.kind())),
    };
    feed(&mut child, message.body);
    let complaint = listen(&mut child);
    match wait(&mut child, deadline) {
        Ok(Some(status)) => ended(status, &complaint.recv_timeout(COMPLAINT_WAIT).unwrap_or_default()),
        Ok(None) => {
            end_group(&mut child);
            retry("timeout", format!("{} did not end within {timeout} and was killed", program(argv)))
        }
        Err(error) => {
            end_group(&mut child);
            retry("not-watched", format!("{} can't be waited for: {}", program(argv), error.kind()))
        }
    }
}

fn program(argv: &[String]) -> &str {
    argv.first().map_or("", String::as_str)
}

fn retry(class: &str, why: String) -> Delivery {
    Delivery::Retry { code: None, after: None, class: class.into(), why }
}

fn start(argv: &[String], message: &Message<'_>) -> io::Result<Child> {
    let [program, arguments @ ..] = argv else { return Err(io::ErrorKind::InvalidInput.into()) };
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))))
        .env("LASTGOOD_NOTICE_KIND", message.kind)
        .env("LASTGOOD_NOTICE_ID", message.id)
        .env("LASTGOOD_NOTICE_SUBJECT", message.subject)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own, so that a time-out ends all it started.
        .process_group(0)
        .spawn()
}

/// Writes in a thread: a program that reads nothing must not hold us. It ends with the pipe's other side.
fn feed(child: &mut Child, body: &[u8]) {
    if let Some(mut stdin) = child.stdin.take() {
        let body = body.to_vec();
        thread::spawn(move || {
            // A program that does not want its input is free to close it.
            let _ = stdin.write_all(&body);
        });
    }
}

fn listen(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = stderr.by_ref().take(COMPLAINT_BYTES_MAX as u64).read_to_end(&mut kept);
            let _ = tell.send(kept);
            let _ = io::copy(&mut stderr, &mut io::sink());
        });
    }
    told
}

/// Waits for the end on the kernel's word; `None` when the time is over.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&time)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn end_group(child: &mut Child) {
    // The child is not waited for yet, so its id is still its own and names no other group.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

fn ended(status: ExitStatus, complaint: &[u8]) -> Delivery {
    let code = status.code().and_then(|code| u16::try_from(code).ok());
    let said = match one_line(complaint) {
        words if words.is_empty() => String::new(),
        words => format!(": {words}"),
    };
    match status.code() {
        Some(0) => Delivery::Delivered { code },
        Some(EXIT_TRY_LATER) => Delivery::Retry {
            code,
            after: None,
            class: "exit-75".into(),
            why: format!("asked to be tried later{said}"),
        },
        // Most programs have one status for everything, no network included: what they refuse is not known to be
        // refused for good. The outbox gives up after its last try.
        Some(other) => Delivery::Retry {
            code,
            after: None,
            class: format!("exit-{other}"),
            why: format!("ended with status {other}{said}"),
        },
        // Killed by somebody: nothing was refused.
        None => {
            let signal = status.signal().unwrap_or_default();
            retry("killed", format!("was ended by signal {signal}{said}"))
        }
    }
}
