//! Tells the daemon that something was written, so that it needn't look all the time.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("wake.sock")
}

/// Rings the daemon's bell; nobody listening is no trouble, for then nobody drives.
pub fn ring(state_dir: &Path) {
    let bell = UnixDatagram::unbound().and_then(|bell| bell.set_nonblocking(true).map(|()| bell));
    if let Ok(bell) = bell {
        // One that is full of rings rings already, however long its owner stands still.
        let _ = bell.send_to(&[1], socket(state_dir));
    }
}

/// Listens for the bell. A socket left by a killed daemon is replaced: the driver's lock tells who is alive.
pub fn listen(state_dir: &Path) -> io::Result<UnixDatagram> {
    let path = socket(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixDatagram::bind(&path),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bell_that_nobody_hears_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let _deaf = super::listen(folder.path()).unwrap();
        (0..2_000).for_each(|_| super::ring(folder.path()));
    }
}
