//! Who is sent where: the person's id, the seat, the release, the instance.

pub(crate) mod identity;
pub(crate) mod routing;

pub(crate) use identity::{Identity, fingerprint};
pub(crate) use routing::{Choice, Party, Peer, Routing, steady};
