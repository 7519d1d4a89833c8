//! What proves that something was done: a program that was run to its end, a page that was fetched. Each within a time.

use lastgood_domain::terms::{Digest, Span};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    io::{self, Read},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Longest page that is fetched: reports and status pages are some kilobytes, archives of evidence some megabytes.
pub const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Longest time for a page.
pub const PAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// Kept of each of a program's two outputs; the rest is read and dropped.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// How often a program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A grandchild may hold a pipe open after the program's end.
const PIPE_WAIT: Duration = Duration::from_millis(500);

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; -1 if it was killed.
    pub exit: i32,
    /// What it printed, then what it complained about.
    pub output: Vec<u8>,
    /// How long it took.
    pub took: Span,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// The program can't be started or waited for.
    #[error("{program:?} can't be run: {source}")]
    Program {
        /// Which.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program took too long.
    #[error("{program:?} did not end within {within}; it and all that it had started was killed")]
    TooSlow {
        /// Which.
        program: String,
        /// Its time.
        within: Span,
    },
    /// The page can't be reached from here.
    #[error("{url} could not be fetched: {why}")]
    Page {
        /// Which.
        url: String,
        /// What happened.
        why: String,
    },
    /// The page answered, and not with itself.
    #[error("{url} is not evidence: {why}")]
    Answered {
        /// Which.
        url: String,
        /// What it answered.
        why: String,
    },
    /// No page's address, or one with a password in it, which is not repeated.
    #[error("not a URL: it must begin with http:// or https:// and contain no user or password")]
    Address,
}

/// Runs a program in `folder`. What it leaves running is ended with it; one that takes longer than `within` is killed with
/// all that it started.
///
/// Errors: [`NoProof::Program`], [`NoProof::TooSlow`].
pub fn run(argv: &[String], folder: &Path, within: Span) -> Result<Ran, NoProof> {
    let begun = Instant::now();
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |source| NoProof::Program { program: program.clone(), source };
    let mut command = Command::new(&program);
    command.args(argv.iter().skip(1)).current_dir(folder).stdin(Stdio::null());
    // A group of its own, so that the end of its time ends all it started.
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let (out, complaint) = (listen(child.stdout.take()), listen(child.stderr.take()));
    let status = loop {
        match has_ended(&child) {
            // What it left behind holds its output open, and would run on with no limit.
            true => break end_group(&mut child).map_err(failed)?,
            false if begun.elapsed() < within.duration() => thread::sleep(LOOK_EVERY),
            false => {
                end_group(&mut child).map_err(failed)?;
                return Err(NoProof::TooSlow { program, within });
            }
        }
    };
    let mut output = out.recv_timeout(PIPE_WAIT).unwrap_or_default();
    output.extend(complaint.recv_timeout(PIPE_WAIT).unwrap_or_default());
    let took = Span(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(Ran { exit: status.code().unwrap_or(-1), output, took })
}

/// Tells whether the program has ended, and leaves it to be waited for.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(Some(_)) | Err(_))
}

/// Kills all of the program that still runs, and gives how it ended.
fn end_group(child: &mut Child) -> io::Result<ExitStatus> {
    // The child is not waited for yet, so its id is still its own and names no other group.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait()
}

fn listen(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept);
            // Read on before it is told, or a full pipe would hold the program.
            let _ = io::copy(&mut pipe, &mut io::sink());
            let _ = tell.send(kept);
        });
    }
    told
}

/// Fetches a page and gives its digest and length. Redirects are not followed: what they lead to is another page.
///
/// Errors: [`NoProof::Page`]: no answer within `within`; [`NoProof::Answered`]: another status than 2xx, more than
/// [`PAGE_BYTES_MAX`]; [`NoProof::Address`].
pub fn fetch(url: &str, within: Duration) -> Result<(Digest, u64), NoProof> {
    let failed = |why: String| NoProof::Page { url: url.to_owned(), why };
    let answered = |why: String| NoProof::Answered { url: url.to_owned(), why };
    let uri = url.parse::<ureq::http::Uri>().map_err(|_| NoProof::Address)?;
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !is_plain || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(NoProof::Address);
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("lastgood")
        .timeout_global(Some(within))
        .build();
    let agent: ureq::Agent = config.new_agent();
    let answer = agent.get(url).call().map_err(|error| {
        failed(match &error {
            ureq::Error::Timeout(_) => format!("no answer within {} s", within.as_secs_f32()),
            error => crate::notice::in_words(error).1,
        })
    })?;
    if !answer.status().is_success() {
        return Err(answered(format!("it answers with status {}", answer.status().as_u16())));
    }
    let mut bytes = Vec::new();
    let body = answer.into_body().into_reader();
    body.take(PAGE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(error.kind().to_string()))?;
    match bytes.len() as u64 {
        length if length <= PAGE_BYTES_MAX => Ok((Digest::of(&bytes), length)),
        _ => Err(answered(format!("it is longer than {} MiB", PAGE_BYTES_MAX >> 20))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, net::TcpListener};

    fn words(text: &str) -> Vec<String> {
        vec!["/bin/sh".into(), "-c".into(), text.into()]
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let ran = run(&words("echo out; echo oh >&2; exit 3"), folder.path(), Span::seconds(60)).unwrap();
        assert_eq!((ran.exit, ran.output.as_slice()), (3, &b"out\noh\n"[..]));
        // What it leaves behind hides nothing that it said.
        let left = run(&words("echo said; sleep 600 & exit 0"), folder.path(), Span::seconds(60)).unwrap();
        assert_eq!((left.exit, left.output.as_slice()), (0, &b"said\n"[..]));
        // The grandchild would outlive its parent if only that were killed.
        let slow = words("sleep 600 & echo $! > pid; wait");
        let error = run(&slow, folder.path(), Span(1_500)).unwrap_err();
        assert!(matches!(error, NoProof::TooSlow { .. }), "{error}");
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        // It is told to end at once, and ends when the system gets round to it.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
            !matches!(state, None | Some('Z'))
        };
        let given = Instant::now() + Duration::from_secs(60);
        while runs() && Instant::now() < given {
            thread::sleep(LOOK_EVERY);
        }
        assert!(!runs(), "the grandchild lives on");
        assert!(matches!(run(&["/no/such".into()], folder.path(), Span(1)), Err(NoProof::Program { .. })));
    }

    #[test]
    fn a_page_is_digested_and_one_that_is_refused_or_hangs_is_no_proof() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let answers =
                ["200 OK\r\nContent-Length: 4\r\n\r\npage", "302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"];
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                write!(stream, "HTTP/1.1 {answer}").unwrap();
            }
            let held = listener.accept();
            std::thread::sleep(Duration::from_secs(60));
            drop(held);
        });
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(fetch(&url, PAGE_TIME_MAX).unwrap(), (Digest::of(b"page"), 4));
        let answered = fetch(&url, PAGE_TIME_MAX).unwrap_err();
        assert!(
            matches!(answered, NoProof::Answered { .. }) && answered.to_string().contains("status 302"),
            "{answered}"
        );
        assert!(matches!(fetch(&url, Duration::from_millis(200)), Err(NoProof::Page { .. })));
        for wrong in ["gopher://x", "trust me", "https://alice:pass@example.invalid/"] {
            let said = fetch(wrong, PAGE_TIME_MAX).unwrap_err();
            assert!(matches!(said, NoProof::Address) && !said.to_string().contains("pass@"), "{said}");
        }
    }
}
