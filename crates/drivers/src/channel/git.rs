//! Comes next.
use super::{ChannelError, Fetched, deadline::Deadline, staging::Staging, unpack::Limits};
use lastgood_domain::{facts::Offer, terms::ReleaseTag};
#[derive(Debug, Clone)]
pub(crate) struct Git;
impl Git {
    pub(crate) fn new(_: &str, _: Option<super::order::Pattern>) -> Result<Self, String> { Err("not built yet".into()) }
    pub(crate) fn name(&self) -> String { String::new() }
    pub(crate) fn belongs(&self, _: &str) -> Result<(), String> { Ok(()) }
    pub(crate) fn newest(&self, _: &Deadline<'_>) -> Result<Offer, ChannelError> { Err(ChannelError::NothingOffered { channel: self.name(), wanted: String::new() }) }
    pub(crate) fn offer_of(&self, tag: &ReleaseTag, _: &Deadline<'_>) -> Result<Offer, ChannelError> { Err(ChannelError::ReleaseGone { channel: self.name(), tag: tag.clone() }) }
    pub(crate) fn fetch(&self, offer: &Offer, _: &Staging<'_>, _: Limits, _: &Deadline<'_>) -> Result<Fetched, ChannelError> { Err(ChannelError::ReleaseGone { channel: self.name(), tag: offer.tag.clone() }) }
}
