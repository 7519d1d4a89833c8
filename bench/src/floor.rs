//! The bare floor of a way back: stop, copy back and sync, start, one answer. It checks nothing.

use crate::notebook::{Notebooks, copy_all, said};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Between two tries to connect; an instance needs some milliseconds to listen.
const PAUSE: Duration = Duration::from_millis(1);
/// A notebook that does not answer by then never will.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Brings all of `service` to `bad`, takes it back to 1.0.0 with the data it had, and gives the milliseconds back.
pub(crate) fn round(service: &Notebooks, bad: &str) -> Result<f64, String> {
    let mut running = Vec::new();
    for number in 0..service.ports.len() {
        let kept = service.folder.join("kept").join(number.to_string());
        if !kept.exists() {
            copy_all(&service.data(number), &kept)?;
        }
        running.push(start(service, number, bad)?);
    }
    for port in &service.ports {
        answer(*port)?;
    }
    let began = Instant::now();
    let back: Vec<Result<Child, String>> = thread::scope(|scope| {
        let threads: Vec<_> = running
            .into_iter()
            .enumerate()
            .map(|(number, child)| scope.spawn(move || back(service, number, child)))
            .collect();
        threads.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let took = began.elapsed();
    for child in back {
        stop(child?)?;
    }
    Ok(took.as_secs_f64() * 1e3)
}

fn back(service: &Notebooks, number: usize, running: Child) -> Result<Child, String> {
    stop(running)?;
    let (data, kept) = (service.data(number), service.folder.join("kept").join(number.to_string()));
    for entry in said(fs::read_dir(&data))? {
        let entry = said(entry)?;
        if !entry.file_name().to_string_lossy().starts_with("access.log") {
            said(fs::remove_file(entry.path()))?;
        }
    }
    for entry in said(fs::read_dir(&kept))? {
        let entry = said(entry)?;
        said(copy(&entry.path(), &data.join(entry.file_name())))?;
    }
    said(File::open(&data).and_then(|folder| folder.sync_all()))?;
    let child = start(service, number, "1.0.0")?;
    answer(service.ports[number])?;
    Ok(child)
}

fn copy(from: &Path, to: &PathBuf) -> std::io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Starts one instance of a release.
pub(crate) fn start(service: &Notebooks, number: usize, version: &str) -> Result<Child, String> {
    let data = service.data(number);
    let mut command = Command::new(service.release(version).join("notebook"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("NOTEBOOK_BIND", "127.0.0.1").env("NOTEBOOK_DATA", &data);
    command.env("NOTEBOOK_PORT", service.ports[number].to_string()).current_dir(&data);
    said(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
}

fn stop(mut child: Child) -> Result<(), String> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        said(rustix::process::kill_process(pid, rustix::process::Signal::TERM))?;
    }
    said(child.wait()).map(drop)
}

/// Waits for the first answer of the health page.
pub(crate) fn answer(port: u16) -> Result<(), String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let until = Instant::now() + ANSWER_WAIT;
    while Instant::now() < until {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let mut answer = Vec::new();
            let asked = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            if asked.and_then(|()| stream.read_to_end(&mut answer)).is_ok() && answer.starts_with(b"HTTP/1.1 200") {
                return Ok(());
            }
        }
        thread::sleep(PAUSE);
    }
    Err(format!("nothing answers on port {port}"))
}

/// Waits until nothing listens on a port any more.
pub(crate) fn silence(port: u16) -> Result<(), String> {
    let until = Instant::now() + ANSWER_WAIT;
    while Instant::now() < until {
        if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(format!("something still listens on port {port}"))
}
