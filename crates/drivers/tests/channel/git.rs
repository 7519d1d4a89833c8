//! Tags of real repositories.

use crate::world::{World, channel, code, names, read, tag};
use std::{path::Path, process::Command};

pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=test", "-c", "user.email=test@test", "-c", "init.defaultBranch=main"])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// A repository with the tags v1.9 (plain), v1.10 (with a message) and v2.0-rc1.
pub(crate) fn repository() -> World {
    let world = World::new();
    world.put("repo/app", "one\r\n");
    world.put("repo/.gitattributes", "app text eol=lf\nversion export-subst\nhidden export-ignore\n");
    world.put("repo/version", "$Format:%H$\n");
    world.put("repo/hidden", "kept");
    let repo = world.path("repo");
    git(&repo, &["init", "--quiet"]);
    for (content, tagging) in [
        ("one", ["tag", "v1.9"].as_slice()),
        ("two", &["tag", "-a", "-m", "second", "v1.10"]),
        ("three", &["tag", "v2.0-rc1"]),
    ] {
        world.put("repo/app", content);
        git(&repo, &["add", "--all"]);
        git(&repo, &["commit", "--quiet", "-m", content]);
        git(&repo, tagging);
    }
    world
}

#[test]
fn the_newest_tag_is_offered_with_its_commit() {
    let world = repository();
    let commit = git(&world.path("repo"), &["rev-parse", "v1.10^{commit}"]);
    let offer = channel(r#"git = "repo", tags = "v*""#).newest(&world.context).unwrap();
    assert_eq!((offer.tag.as_str(), offer.mark), ("v1.10", Some(commit)));
    let but = |tags: &[&str]| {
        let except: Vec<_> = tags.iter().map(|one| tag(one)).collect();
        channel(r#"git = "repo", tags = "v*""#).newest_but(&except, &world.context).unwrap().map(|offer| offer.tag)
    };
    assert_eq!(but(&["v1.10"]), Some(tag("v1.9")));
    assert_eq!(but(&["v1.10", "v1.9"]), None);
    let candidates = channel(r#"git = "repo", tags = "v*-rc*""#);
    assert_eq!(candidates.newest(&world.context).unwrap().tag.as_str(), "v2.0-rc1");
    assert!(candidates.belongs(&tag("v1.10")).is_err());
    assert_eq!(code(channel(r#"git = "repo", tags = "w*""#).newest(&world.context)), "channel-nothing-offered");
}

#[test]
fn what_is_installed_is_what_was_committed() {
    let world = repository();
    let installed = world.install_newest(&channel(r#"git = "repo", tags = "v*""#)).unwrap();
    assert_eq!(names(Path::new(&installed.path)), [".gitattributes", "app", "hidden", "version"]);
    assert_eq!(read(&installed.path, "app"), "two");
    assert_eq!(read(&installed.path, "version"), "$Format:%H$\n");
    assert_eq!(installed.release.digest, installed.tree);
    assert_eq!(installed.release.origin, "git:repo");
    let again = world.install_newest(&channel(r#"git = "repo", tags = "v*""#)).unwrap();
    assert_eq!(again, installed);
}

#[test]
fn a_tag_that_was_moved_is_refused() {
    let world = repository();
    let channel = channel(r#"git = "repo""#);
    let offer = channel.offer_of(&tag("v1.9"), &world.context).unwrap();
    git(&world.path("repo"), &["tag", "--force", "v1.9", "v1.10^{commit}"]);
    assert_eq!(code(world.install(&channel, &offer)), "digest-mismatch");
    assert_eq!(world.left(), [""; 0]);
    assert_ne!(channel.offer_of(&tag("v1.9"), &world.context).unwrap().mark, offer.mark);
}

#[test]
fn a_tag_that_is_gone_and_a_name_that_is_no_tag_are_refused() {
    let world = repository();
    let channel = channel(r#"git = "repo""#);
    let mut offer = channel.offer_of(&tag("v1.9"), &world.context).unwrap();
    git(&world.path("repo"), &["tag", "--delete", "v1.9"]);
    assert_eq!(code(channel.offer_of(&tag("v1.9"), &world.context)), "channel-release-gone");
    assert_eq!(code(world.install(&channel, &offer)), "channel-release-gone");
    for name in ["main", "v1.10^{commit}", "x:refs/heads/main", "v1.*"] {
        assert_eq!(code(channel.offer_of(&tag(name), &world.context)), "channel-release-gone");
        offer.tag = tag(name);
        assert_eq!(code(world.install(&channel, &offer)), "channel-release-gone");
    }
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn a_repository_that_is_not_there_is_named_without_credentials() {
    let world = World::new();
    let error = channel(r#"git = "https://bob:hunter2@127.0.0.1:9/x.git""#).newest(&world.context).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("git ls-remote") && !text.contains("hunter2"), "{text}");
    assert_eq!(code(channel(r#"git = "absent""#).newest(&world.context)), "channel-client-failed");
}

#[test]
fn a_committed_link_out_of_the_release_is_refused() {
    let world = repository();
    let repo = world.path("repo");
    std::os::unix::fs::symlink("/etc/passwd", repo.join("link")).unwrap();
    git(&repo, &["add", "--all"]);
    git(&repo, &["commit", "--quiet", "-m", "link"]);
    git(&repo, &["tag", "v3"]);
    assert_eq!(code(world.install_newest(&channel(r#"git = "repo""#))), "unpack-link-leaves");
    assert_eq!(world.left(), [""; 0]);
}
