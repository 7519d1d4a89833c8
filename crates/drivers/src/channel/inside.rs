//! What stays inside a folder: names, links, and the modes that files are installed with.

use super::Refusal;
use std::collections::BTreeMap;

/// Longest path within a release in bytes: Linux takes 4,096 for a whole path, and ours go before it.
pub(crate) const PATH_BYTES_MAX: usize = 3_000;
/// Most links followed in one path, as in the kernel.
const LINKS_FOLLOWED_MAX: u32 = 40;

/// Mode of unpacked folders: the caller may still remove them.
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// Gives the mode a file is installed with: nobody writes, its owner can always read.
///
/// Read-only costs one call for each file and stops the commonest damage, a program or a person that edits
/// the installed release by mistake; the seal finds the rest.
pub(crate) fn file_mode(mode: u32) -> u32 {
    mode & 0o555 | 0o400
}

/// Makes a safe relative path of a name in an archive; none for the folder itself.
pub(crate) fn clean(raw: &[u8]) -> Result<Option<String>, Refusal> {
    let shown = || String::from_utf8_lossy(raw).chars().take(200).collect::<String>();
    let text = std::str::from_utf8(raw).map_err(|_| Refusal::BadName(shown()))?;
    if text.is_empty() || text.len() > PATH_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Refusal::BadName(shown()));
    }
    if text.starts_with('/') {
        return Err(Refusal::AbsolutePath(shown()));
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Refusal::ParentPath(shown())),
            // Linux takes 255 bytes for one name.
            part if part.len() > 255 => return Err(Refusal::BadName(shown())),
            part => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Reads a link's target as text; refuses what no link can hold.
pub(crate) fn link_target(path: &str, raw: Vec<u8>) -> Result<String, Refusal> {
    let bad = || Refusal::BadName(path.into());
    let target = String::from_utf8(raw).map_err(|_| bad())?;
    let usable = !target.is_empty() && target.len() <= PATH_BYTES_MAX && !target.chars().any(char::is_control);
    usable.then_some(target).ok_or_else(bad)
}

/// Follows a link as the kernel would, in a tree whose links are `links`, and tells whether it stays inside.
///
/// Words alone can't tell: with `a/b -> ../..`, the target `a/b/..` looks harmless and leads out.
pub(crate) fn stays_inside(path: &str, target: &str, links: &BTreeMap<&str, &str>) -> bool {
    let mut here: Vec<&str> = path.split('/').collect();
    here.pop();
    let mut ahead: Vec<&str> = target.split('/').rev().collect();
    let mut followed = 0;
    if target.starts_with('/') {
        return false;
    }
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => {}
            ".." => {
                if here.pop().is_none() {
                    return false;
                }
            }
            name => {
                here.push(name);
                if let Some(next) = links.get(here.join("/").as_str()) {
                    followed += 1;
                    // A loop leads nowhere, but nobody needs one: refuse it with the rest.
                    if followed > LINKS_FOLLOWED_MAX || next.starts_with('/') {
                        return false;
                    }
                    here.pop();
                    ahead.extend(next.split('/').rev());
                }
            }
        }
    }
    true
}
