//! Answers at the control socket, each connection in a thread of its own: a slow asker keeps nobody waiting.

use super::lines::{Lines, SOCKETS_MAX};
use crate::proxy::{NotRouted, Proxy};
use lastgood_domain::traffic::wire::{Ask, SOCKET, Told};
use std::{
    fs, io,
    os::{
        fd::AsFd as _,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// The most askers at once; more wait.
const ASKERS_MAX: usize = 64;
/// How long a write to an asker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives the socket at which a process stays reachable when another one listens at the control socket.
pub(crate) fn own_socket(state_dir: &Path, pid: u32) -> PathBuf {
    state_dir.join(format!("{SOCKET}.{pid}"))
}

/// Tells whether a path is such a socket.
pub(crate) fn is_own_socket(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pid = name.strip_prefix(SOCKET).and_then(|rest| rest.strip_prefix('.'));
    pid.is_some_and(|pid| pid.parse::<u32>().is_ok())
}

/// Listens at the control socket in `state_dir`, in the place of whoever listened before, and at one of its own.
pub(crate) fn listen(proxy: &Arc<Proxy>, state_dir: &Path) -> io::Result<()> {
    let own = own_socket(state_dir, std::process::id());
    let _ = fs::remove_file(&own);
    let listener = UnixListener::bind(&own)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600))?;
    let beside = own.with_extension("new");
    let _ = fs::remove_file(&beside);
    fs::hard_link(&own, &beside)?;
    fs::rename(&beside, state_dir.join(SOCKET))?;
    let proxy = proxy.clone();
    thread::Builder::new().name("control".into()).spawn(move || {
        let askers = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            while askers.load(Ordering::Acquire) >= ASKERS_MAX {
                thread::sleep(Duration::from_millis(10));
            }
            askers.fetch_add(1, Ordering::AcqRel);
            let (proxy, counted) = (proxy.clone(), askers.clone());
            let answering = thread::Builder::new().name("asked".into()).spawn(move || {
                // An asker that sends nonsense or goes away is its own trouble.
                let _ = serve(&proxy, stream);
                counted.fetch_sub(1, Ordering::AcqRel);
            });
            if answering.is_err() {
                askers.fetch_sub(1, Ordering::AcqRel);
            }
        }
    })?;
    Ok(())
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// Anybody.
    Any,
    /// Has got the sockets and is not ready yet.
    Taking,
    /// Has taken over.
    Successor,
}

fn serve(proxy: &Proxy, stream: UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = Lines::new(stream);
    let mut asker = Asker::Any;
    let ended = loop {
        let ask = match lines.read::<Ask>() {
            Ok(Some(ask)) => ask,
            Ok(None) => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                lines.write(&refused(format!("it can't be read: {error}")))?;
                break Err(error);
            }
            Err(error) => break Err(error),
        };
        let told = match ask {
            Ask::HandOver => {
                hand_over(proxy, &mut lines)?;
                asker = Asker::Taking;
                // Whoever takes over is ready within this time or is given up.
                lines.stream().set_read_timeout(Some(PATIENCE * 6))?;
                continue;
            }
            Ask::Ready if asker == Asker::Taking => {
                asker = Asker::Successor;
                lines.stream().set_read_timeout(None)?;
                proxy.stop_accepting();
                Told::Stopping
            }
            Ask::Ready => refused("nothing was handed over to you".into()),
            Ask::Succeed if proxy.has_handed_over() => {
                asker = Asker::Successor;
                Told::Stopping
            }
            Ask::Succeed => refused("it serves by itself".into()),
            Ask::Route { table } => {
                let routed = if asker == Asker::Successor { proxy.route_along(table) } else { proxy.route(table) };
                match routed {
                    Ok(epoch) => Told::Routed { epoch },
                    Err(NotRouted { why, epoch }) => Told::Refused { why, epoch },
                }
            }
            Ask::Slices { service, after } => match proxy.slices(&service, after) {
                Some((slices, finished)) => Told::Slices { slices, finished },
                None => refused(format!("{service} is not served here")),
            },
            Ask::Look { service } => match proxy.look(&service) {
                Some(look) => Told::Looked(look),
                None => refused(format!("{service} is not served here")),
            },
            Ask::Stop { grace_seconds } => {
                proxy.stop(Duration::from_secs(u64::from(grace_seconds)));
                Told::Stopping
            }
        };
        lines.write(&told)?;
    };
    if asker == Asker::Taking {
        // It died before it was ready: everything goes on here.
        proxy.handing_over(false);
    }
    ended
}

fn hand_over(proxy: &Proxy, lines: &mut Lines) -> io::Result<()> {
    proxy.handing_over(true);
    let sockets = proxy.sockets();
    let count = sockets.len().min(SOCKETS_MAX);
    let listening = sockets[..count].iter().map(|socket| socket.listening(proxy.doors())).collect();
    let handles: Vec<_> = sockets[..count].iter().map(|socket| socket.listener.as_fd()).collect();
    let handed = lines.write_with(&Told::Listening { sockets: listening, heard: proxy.heard() }, &handles);
    if handed.is_err() {
        proxy.handing_over(false);
    }
    handed
}

fn refused(why: String) -> Told {
    Told::Refused { why, epoch: None }
}
