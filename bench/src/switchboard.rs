//! A daemon with flags and switches and nothing else, for the rows that ask it.

use crate::{Bench, notebook::said};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A daemon that does not answer by then has failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// A running daemon; it is ended when this is dropped.
pub(crate) struct Switchboard {
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    lastgood: PathBuf,
    daemon: Child,
}

impl Switchboard {
    /// Writes a configuration with more lines in `[switches]`, and serves it after these commands were run.
    pub(crate) fn open(bench: &Bench, name: &str, more: &str, commands: &[Vec<String>]) -> Result<Self, String> {
        let folder = bench.scratch.join(name);
        said(fs::create_dir_all(&folder))?;
        let free = || said(said(TcpListener::bind("127.0.0.1:0"))?.local_addr());
        let (metrics, address) = (free()?, free()?);
        // No beat comes while something is measured.
        let text = format!(
            "state_dir = \"state\"\nlisten = \"{metrics}\"\n[switches]\nlisten = \"{address}\"\nlease = \"1h\"\n\
             subsystems = [\"auth\", \"transport\", \"crypto\"]\n{more}"
        );
        said(fs::write(folder.join("lastgood.toml"), text))?;
        for command in commands {
            let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            run(&bench.lastgood, &folder, &arguments)?;
        }
        let daemon = Command::new(&bench.lastgood)
            .arg("serve")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let board = Self { address, folder, lastgood: bench.lastgood.clone(), daemon: said(daemon)? };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > ANSWERS_WITHIN {
                return Err("the daemon does not answer".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(board)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Runs a command beside the daemon.
    pub(crate) fn lastgood(&self, arguments: &[&str]) -> Result<(), String> {
        run(&self.lastgood, &self.folder, arguments)
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        // It has nothing to end but itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn run(lastgood: &PathBuf, folder: &PathBuf, arguments: &[&str]) -> Result<(), String> {
    let output = said(Command::new(lastgood).args(arguments).current_dir(folder).stdin(Stdio::null()).output())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("lastgood {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}

/// Sends a request on a kept connection and reads its answer.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, String> {
    said(stream.write_all(request))?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let count = said(stream.read(&mut buffer))?;
        if count == 0 {
            return Err("the daemon has hung up".into());
        }
        answer.extend_from_slice(&buffer[..count]);
        if is_whole(&answer) {
            return Ok(answer);
        }
    }
}

/// Tells whether an answer is all there.
pub(crate) fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        value.trim().parse::<usize>().ok().filter(|_| name.eq_ignore_ascii_case("content-length"))
    });
    answer.len() >= end + 4 + length.unwrap_or(0)
}
