//! Where one process of the service lives, from its arguments or its environment.

use crate::{LastLayerError, Release};
use clap::Parser;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where one process of the service lives, and which release it plays.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "last-layer",
    about = "A chat service over HTTP and WebSocket; `publish FOLDER` lays out its releases"
)]
pub struct Place {
    /// Port to listen on; 0 takes a free one, which the first line of the log names.
    #[arg(long, env = "LAST_LAYER_PORT")]
    pub port: u16,
    /// Address to listen on.
    #[arg(long, env = "LAST_LAYER_BIND", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Folder of the data; several processes may share it.
    #[arg(long, env = "LAST_LAYER_DATA")]
    pub data: PathBuf,
    /// A version of the catalogue, such as 1.1.0, or the path of a release.json.
    #[arg(long, env = "LAST_LAYER_RELEASE")]
    pub release: String,
}

impl Place {
    /// Finds the release that is named.
    pub fn release(&self) -> Result<Release, LastLayerError> {
        match Release::of_catalogue(&self.release) {
            Some(release) => Ok(release),
            None if self.release.contains('/') => Release::read(self.release.as_ref()),
            None => Err(LastLayerError::NoSuchRelease(self.release.clone())),
        }
    }

    /// Gives address and port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }
}
