//! Fuzz targets for what channels read.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::{
    Context, Limits,
    deadline::Deadline,
    git_tag::{name, signature_begins, signer},
    inside::{clean, stays_inside},
    npm::Npm,
    order::{Order, Pattern},
    pypi::Pypi,
    unpack::{refuse_bomb, unpack},
};
use crate::config_terms::Length;
use lastgood_domain::{facts::Standing, terms::Span};
use std::{collections::BTreeMap, fs, path::Path, str};

/// The order of versions is one: neither of two is newer than the other and older, and no three go in a circle.
pub(crate) fn versions(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let names: Vec<&str> = text.lines().take(4).collect();
    for order in [Order::Semver, Order::Pep440, Order::Natural] {
        let is_newer = |one: &str, other: &str| order.standing(one, other) == Standing::Newer;
        for one in &names {
            assert_eq!(order.standing(one, one), Standing::Same);
            let _ = order.is_pre_release(one);
            for other in &names {
                let back = match order.standing(one, other) {
                    Standing::Newer => Standing::Older,
                    Standing::Older => Standing::Newer,
                    same => same,
                };
                assert_eq!(order.standing(other, one), back, "{order:?}: {one:?} and {other:?}");
                for third in &names {
                    let circle = is_newer(one, other) && is_newer(other, third) && is_newer(third, one);
                    assert!(!circle, "{order:?}: {one:?}, {other:?} and {third:?} go in a circle");
                }
            }
        }
        if let Ok(Some(newest)) = order.newest(&names) {
            assert!(names.iter().all(|other| !is_newer(other, newest)), "{order:?}: {newest:?} is not the newest");
        }
    }
}

/// Names, ranges and patterns are taken or refused; what they take is a version.
pub(crate) fn channel_names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let (name, choice, tag) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for (one, range, matching) in [(Some(choice), None, None), (None, Some(choice), None), (None, None, Some(choice))] {
        if let Ok(npm) = Npm::new(name, one, range, matching, false) {
            assert!(!name.contains([' ', ':', '\\']) && !name.starts_with(['-', '.']), "{name:?} is more than a name");
            assert!(npm.belongs(tag).is_err() || tag.trim_start_matches('v').contains('.'), "{tag:?} belongs");
        }
        if let Ok(pypi) = Pypi::new(name, range, matching, one) {
            assert!(
                !name.contains([' ', '/', ':', '[', '=']) && !name.starts_with('-'),
                "{name:?} is more than a name"
            );
            let _ = pypi.belongs(tag);
        }
    }
    if let Ok(pattern) = Pattern::new(choice) {
        for order in [Order::Semver, Order::Pep440, Order::Natural] {
            let _ = pattern.fits(tag, order);
        }
    }
}

/// A tag's name is one line of its head, and its signature starts a line; nothing of it is lost between.
pub(crate) fn git_tag(bytes: &[u8]) {
    let named = name(bytes);
    assert!(!named.contains('\n'));
    let head = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(bytes, |end| &bytes[..=end]);
    assert_eq!(name(head), named, "the name is read out of the message");
    if let Some(begin) = signature_begins(bytes) {
        assert!(bytes[begin..].starts_with(b"-----BEGIN ") && (begin == 0 || bytes[begin - 1] == b'\n'));
        // What is signed has no signature of its own that would be looked at instead.
        assert_eq!(signature_begins(&bytes[begin..]), Some(0));
    }
    assert!(!signer(&String::from_utf8_lossy(bytes)).contains('\n'));
}

/// Whatever an archive holds, nothing is written beside its folder, over its limits or through a link.
pub(crate) fn archive(bytes: &[u8]) {
    const LIMITS: Limits = Limits { bytes_max: 64 << 10, files_max: 20 };
    let folder = tempfile::tempdir().unwrap();
    let (packed, into) = (folder.path().join("archive"), folder.path().join("into"));
    fs::write(&packed, bytes).unwrap();
    fs::create_dir(&into).unwrap();
    let context = Context::default();
    let deadline = Deadline::start("unpack".into(), Length(Span::seconds(60)), &context);
    let _ = refuse_bomb(&packed, LIMITS, &deadline);
    let unpacked = unpack(&packed, &into, LIMITS, &deadline);
    let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "something was written beside the folder: {beside:?}");
    let (mut files, mut size) = (0, 0);
    look(&into, &fs::canonicalize(&into).unwrap(), unpacked.is_ok(), &mut files, &mut size);
    assert!(files <= LIMITS.files_max && size <= LIMITS.bytes_max, "{files} files of {size} bytes");
}

fn look(folder: &Path, root: &Path, whole: bool, files: &mut u64, size: &mut u64) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let facts = entry.metadata().unwrap();
        *files += 1;
        if facts.is_dir() {
            look(&entry.path(), root, whole, files, size);
        } else if facts.is_symlink() {
            assert!(whole, "a link was made although the archive was refused");
            if let Ok(target) = fs::canonicalize(entry.path()) {
                assert!(target.starts_with(root), "a link leads out to {}", target.display());
            }
        } else {
            assert!(facts.is_file(), "a special file was made");
            *size += facts.len();
        }
    }
}

/// A clean name stays below its folder and is clean again; a link that stays inside does so by the plain rules too.
pub(crate) fn inside(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == b'\n');
    let name = parts.next().unwrap_or_default();
    let Ok(Some(path)) = clean(name) else { return };
    assert!(!path.starts_with('/') && path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
    assert_eq!(clean(path.as_bytes()).unwrap().as_deref(), Some(path.as_str()));
    let Some(target) = parts.next().and_then(|target| str::from_utf8(target).ok()) else { return };
    let links: BTreeMap<&str, &str> =
        parts.filter_map(|link| str::from_utf8(link).ok()?.split_once("->")).take(20).collect();
    let stays = stays_inside(&path, target, &links);
    if links.is_empty() {
        // Without other links it is a matter of counting.
        let mut depth = path.split('/').count() - 1;
        let counted = !target.starts_with('/')
            && target.split('/').all(|part| match part {
                "" | "." => true,
                ".." => depth.checked_sub(1).inspect(|left| depth = *left).is_some(),
                _ => {
                    depth += 1;
                    true
                }
            });
        assert_eq!(stays, counted, "{path:?} -> {target:?}");
    }
}
