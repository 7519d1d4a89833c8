//! Releases that a command names and another fetches: for every channel that has no driver of its own.

use super::{
    ChannelError, Fetched, Refusal,
    client::{Call, program, said, scrub},
    deadline::Deadline,
    directory::{is_archive, unpack_copy},
    settle::{Readers, settle},
    staging::Staging,
    unpack::Limits,
};
use lastgood_domain::{
    facts::Offer,
    terms::{ReleaseTag, Timestamp},
};
use serde::Deserialize;
use std::{fs, path::Path};

/// Longest mark: digests in text have up to about 100 characters.
const MARK_CHARS_MAX: usize = 256;
/// Most arguments of one command.
const ARGUMENTS_MAX: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Command {
    check: Vec<String>,
    fetch: Vec<String>,
}

/// The answer as an object.
#[derive(Deserialize)]
struct Answer {
    tag: ReleaseTag,
    mark: Option<String>,
    published: Option<String>,
}

impl Command {
    pub(crate) fn new(check: &[String], fetch: &[String]) -> Result<Self, String> {
        for (key, command) in [("command", check), ("fetch", fetch)] {
            if command.first().is_none_or(String::is_empty) || command.len() > ARGUMENTS_MAX {
                return Err(format!(
                    "{key} needs a program and at most {ARGUMENTS_MAX} words, such as [\"./newest.sh\"]"
                ));
            }
        }
        if !fetch.iter().any(|word| word.contains("{into}")) {
            return Err("fetch must be told where to: [\"./fetch.sh\", \"{tag}\", \"{into}\"]".into());
        }
        Ok(Self { check: check.into(), fetch: fetch.into() })
    }

    /// Names the program only: an argument may be a secret.
    pub(crate) fn name(&self) -> String {
        format!("command:{}", scrub(&self.check[0]))
    }

    pub(crate) fn newest(&self, except: &[ReleaseTag], deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let folder = folder_of(deadline);
        let what = self.check[0].clone();
        let answer =
            Call::new(program(&self.check[0], &folder), &folder, what, deadline).args(&self.check[1..]).run()?;
        let unreadable = |why: String| ChannelError::AnswerUnreadable {
            what: self.check[0].clone(),
            why,
            began: said(&answer[..answer.len().min(200)]),
        };
        let text = std::str::from_utf8(&answer).map_err(|_| unreadable("it is not UTF-8".into()))?.trim();
        let read = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?
        } else {
            let tag = ReleaseTag::new(text).map_err(|error| unreadable(error.to_string()))?;
            Answer { tag, mark: None, published: None }
        };
        if let Some(mark) = &read.mark
            && (mark.is_empty() || mark.len() > MARK_CHARS_MAX || !mark.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(unreadable(format!("mark must be 1 to {MARK_CHARS_MAX} visible characters")));
        }
        let published = read
            .published
            .map(|text| text.parse::<jiff::Timestamp>().map_err(|error| unreadable(format!("published: {error}"))))
            .transpose()?
            .map(|at| Timestamp(at.as_millisecond()));
        if except.contains(&read.tag) {
            return Err(ChannelError::NothingOffered { channel: self.name(), wanted: "another release".into() });
        }
        Ok(Offer { tag: read.tag, origin: self.name(), mark: read.mark, published })
    }

    /// Offers a release by its name alone: whether it exists shows when it is fetched.
    pub(crate) fn offer_of(&self, tag: &ReleaseTag) -> Offer {
        Offer { tag: tag.clone(), origin: self.name(), mark: None, published: None }
    }

    pub(crate) fn fetch(
        &self,
        offer: &Offer,
        staging: &Staging<'_>,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Fetched, ChannelError> {
        let folder = folder_of(deadline);
        let into = staging.fetched();
        let filled = |word: &String| {
            word.replace("{tag}", offer.tag.as_str())
                .replace("{mark}", offer.mark.as_deref().unwrap_or_default())
                .replace("{into}", &into.to_string_lossy())
        };
        Call::new(program(&self.fetch[0], &folder), &folder, self.fetch[0].clone(), deadline)
            .args(self.fetch[1..].iter().map(filled))
            .making(staging.folder())
            .run()?;
        if let Some(archive) = only_archive(&into)? {
            let digest = unpack_copy(&into.join(archive), &staging.tree(), limits, deadline)?;
            return Ok(Fetched { artefact: Some(digest), version: None });
        }
        let tree = staging.tree();
        fs::remove_dir(&tree).map_err(|error| ChannelError::io("remove", &tree, error))?;
        fs::rename(&into, &tree).map_err(|error| ChannelError::io("move", &into, error))?;
        settle(&tree, staging.folder(), Readers::AsGiven, limits, deadline)?;
        Ok(Fetched { artefact: None, version: None })
    }
}

fn folder_of(deadline: &Deadline<'_>) -> std::path::PathBuf {
    let folder = &deadline.context().folder;
    if folder.as_os_str().is_empty() { ".".into() } else { folder.clone() }
}

/// Gives the archive's name where the command fetched one archive and nothing else.
fn only_archive(folder: &Path) -> Result<Option<String>, ChannelError> {
    let failed = |error| ChannelError::io("read the folder", folder, error);
    let mut items = fs::read_dir(folder).map_err(failed)?;
    let Some(first) = items.next().transpose().map_err(failed)? else {
        return Err(ChannelError::Refused { what: "what fetch put there".into(), source: Refusal::Empty });
    };
    if items.next().is_some() || !first.file_type().map_err(failed)?.is_file() {
        return Ok(None);
    }
    Ok(first.file_name().into_string().ok().filter(|name| is_archive(name)))
}
