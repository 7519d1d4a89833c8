//! A person at a command line: what they typed came to something, they wait, and they take ports that nobody has.

use std::{
    net::{TcpListener, UdpSocket},
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

/// Nothing here takes a second on an idle machine; a loaded one gets time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at something that can't be awaited.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Gives itself if it ended with this exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Gives itself if it says this, to either side.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let all = format!("{}{}", self.out, self.err);
        assert!(all.contains(text), "not {text:?} in stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    assert_ne!(code, 124, "it hung: {}", text(&output.stderr));
    Said { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

/// Waits until something is so that takes its time.
#[track_caller]
pub(crate) fn until_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Takes a port that no other test takes, outside of the range that connections draw theirs from.
pub(crate) fn reserve() -> (u16, UdpSocket) {
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 18_000;
    let begin = std::process::id().wrapping_mul(37) % COUNT;
    for step in 0..COUNT {
        let port = FIRST + u16::try_from((begin + step) % COUNT).unwrap();
        let Ok(socket) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, socket);
        }
    }
    panic!("no port is free");
}
