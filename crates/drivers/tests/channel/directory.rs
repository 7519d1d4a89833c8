//! A folder of releases, and what every installation promises whatever channel it came from.

use crate::world::{World, channel, code, names, read, tag, try_channel};
use lastgood_domain::facts::Standing;
use lastgood_drivers::channel::{ChannelConfig, ChannelError, discard, verify_fast, verify_full};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

fn two_releases() -> (World, ChannelConfig) {
    let world = World::new();
    world.put("releases/v1.9.0/bin/app", "one");
    world.put("releases/v1.10.0/bin/app", "two");
    world.put("releases/v1.10.0/VERSION", "1.10.0\n");
    (world, channel(r#"directory = "releases""#))
}

#[test]
fn the_newest_folder_is_offered_by_number_and_not_by_letter() {
    let (world, channel) = two_releases();
    let offer = channel.newest(&world.context).unwrap();
    assert_eq!(offer.tag.as_str(), "v1.10.0");
    assert_eq!(offer.origin, "directory:releases");
    assert_eq!(channel.standing(&tag("v1.10.0"), &tag("v1.9.0")), Standing::Newer);
}

#[test]
fn a_release_is_installed_beside_the_others_and_found_again() {
    let (world, channel) = two_releases();
    let first = world.install(&channel, &channel.offer_of(&tag("v1.9.0"), &world.context).unwrap()).unwrap();
    let second = world.install_newest(&channel).unwrap();
    assert_eq!(read(&first.path, "bin/app"), "one");
    assert_eq!(read(&second.path, "bin/app"), "two");
    assert_eq!(second.release.digest, second.tree);
    assert_eq!(second.bytes, 10);
    assert_eq!(second.version, "v1.10.0");
    assert_eq!(world.install_newest(&channel).unwrap(), second);
    assert_eq!(world.left().len(), 2);
    assert_eq!(ChannelConfig::installed(&world.installations()).unwrap(), [second, first]);
}

#[test]
fn installed_files_are_read_only() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    let mode = fs::metadata(Path::new(&installed.path).join("bin/app")).unwrap().permissions().mode();
    assert_eq!(mode & 0o222, 0);
}

#[test]
fn the_same_tag_with_other_bytes_gives_another_digest_and_another_folder() {
    let (world, channel) = two_releases();
    let before = channel.newest(&world.context).unwrap();
    let first = world.install(&channel, &before).unwrap();
    world.put("releases/v1.10.0/bin/app", "2wo");
    let after = channel.newest(&world.context).unwrap();
    assert_ne!(before.mark, after.mark);
    let second = world.install(&channel, &after).unwrap();
    assert_ne!(first.release.digest, second.release.digest);
    assert_ne!(first.path, second.path);
    assert_eq!(read(&first.path, "bin/app"), "two");
}

#[test]
fn a_release_that_changed_between_offer_and_install_is_refused() {
    let (world, channel) = two_releases();
    let offer = channel.newest(&world.context).unwrap();
    world.put("releases/v1.10.0/bin/app", "changed");
    assert_eq!(code(world.install(&channel, &offer)), "digest-mismatch");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn an_installed_version_other_than_the_one_asked_for_is_refused() {
    let (world, _) = two_releases();
    let channel = channel(r#"directory = "releases", version_file = "VERSION""#);
    assert_eq!(world.install_newest(&channel).unwrap().version, "1.10.0");
    world.put("releases/v1.11.0/VERSION", "1.10.0\n");
    assert_eq!(code(world.install_newest(&channel)), "version-mismatch");
    world.put("releases/v1.12.0/app", "no version");
    assert_eq!(code(world.install_newest(&channel)), "version-unreadable");
    assert_eq!(world.left().len(), 1);
}

#[test]
fn a_version_file_that_is_a_link_out_of_the_release_is_refused() {
    let (world, _) = two_releases();
    let channel = channel(r#"directory = "releases", version_file = "VERSION""#);
    world.put("secret", "v2");
    fs::create_dir(world.path("releases/v2")).unwrap();
    symlink("../../secret", world.path("releases/v2/VERSION")).unwrap();
    assert_eq!(code(world.install_newest(&channel)), "unpack-link-leaves");
}

#[test]
fn the_newest_but_some_is_offered_until_there_is_no_other() {
    let (world, channel) = two_releases();
    let but = |tags: &[&str]| {
        let except: Vec<_> = tags.iter().map(|one| tag(one)).collect();
        channel.newest_but(&except, &world.context).unwrap().map(|offer| offer.tag.to_string())
    };
    assert_eq!(but(&[]).as_deref(), Some("v1.10.0"));
    assert_eq!(but(&["v1.10.0"]).as_deref(), Some("v1.9.0"));
    assert_eq!(but(&["v1.10.0", "v1.9.0"]), None);
    // LATEST names one release and no other.
    world.put("releases/LATEST", "v1.9.0\n");
    assert_eq!(but(&["v1.9.0"]), None);
}

#[test]
fn the_file_latest_names_the_current_release_even_an_older_one() {
    let (world, channel) = two_releases();
    world.put("releases/LATEST", "v1.9.0\n");
    assert_eq!(channel.newest(&world.context).unwrap().tag.as_str(), "v1.9.0");
    world.put("releases/LATEST", "v7\n");
    assert_eq!(code(channel.newest(&world.context)), "channel-release-gone");
    world.put("releases/LATEST", "not a tag\n");
    assert_eq!(code(channel.newest(&world.context)), "channel-answer-unreadable");
}

#[test]
fn a_pattern_narrows_the_channel_and_what_belongs_to_it() {
    let (world, _) = two_releases();
    world.put("releases/v1.11.0-rc.1/app", "soon");
    world.put("releases/nightly-2024-10-01/app", "tonight");
    let stable = channel(r#"directory = "releases", matching = "v*""#);
    assert_eq!(stable.newest(&world.context).unwrap().tag.as_str(), "v1.10.0");
    assert!(stable.belongs(&tag("nightly-2024-10-01")).is_err());
    let nightly = channel(r#"directory = "releases", matching = "nightly-*""#);
    assert_eq!(nightly.newest(&world.context).unwrap().tag.as_str(), "nightly-2024-10-01");
    assert!(nightly.belongs(&tag("v1.10.0")).is_err());
    assert_eq!(code(channel(r#"directory = "releases""#).newest(&world.context)), "channel-unordered");
    assert_eq!(
        code(channel(r#"directory = "releases", matching = "w*""#).newest(&world.context)),
        "channel-nothing-offered"
    );
}

#[test]
fn a_change_in_an_installation_is_named_by_both_checks() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    let tree = Path::new(&installed.path);
    assert_eq!(verify_fast(&installed).unwrap().read_again, 0);
    assert_eq!(verify_full(&installed).unwrap().read_again, 2);

    let app = tree.join("bin/app");
    fs::set_permissions(&app, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&app, "TWO").unwrap();
    fs::write(tree.join("extra"), "").unwrap();
    fs::remove_file(tree.join("VERSION")).unwrap();
    for check in [verify_fast, verify_full] {
        let Err(ChannelError::Damaged { mut changes, count, .. }) = check(&installed) else { panic!("not found") };
        changes.sort();
        assert_eq!(changes, ["changed: bin/app", "extra: extra", "missing: VERSION"]);
        assert_eq!(count, 3);
    }
    // It is neither returned as whole nor repaired under the feet of what runs from it.
    assert_eq!(code(world.install_newest(&channel)), "installation-damaged");
}

#[test]
fn a_file_replaced_by_one_of_the_same_length_and_time_is_found_by_the_fast_check() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    let app = Path::new(&installed.path).join("bin/app");
    let time = fs::metadata(&app).unwrap().modified().unwrap();
    fs::remove_file(&app).unwrap();
    fs::write(&app, "2wo").unwrap();
    fs::File::open(&app).unwrap().set_modified(time).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(code(verify_fast(&installed)), "installation-damaged");
}

#[test]
fn a_copy_with_new_times_is_read_again_and_passes() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    fs::File::open(Path::new(&installed.path).join("bin/app"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(verify_fast(&installed).unwrap().read_again, 1);
}

#[test]
fn a_forged_seal_is_found_because_the_record_names_the_tree() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    let seal = Path::new(&installed.path).parent().unwrap().join("seal.jsonl");
    let text = fs::read_to_string(&seal).unwrap();
    fs::write(&seal, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(code(verify_fast(&installed)), "installation-unsealed");
    fs::remove_file(&seal).unwrap();
    assert_eq!(code(verify_full(&installed)), "installation-unsealed");
}

#[test]
fn a_discarded_installation_is_gone_and_discarding_it_again_is_the_same() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    discard(&installed).unwrap();
    discard(&installed).unwrap();
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn only_our_own_installation_of_that_very_tree_is_discarded() {
    let (world, channel) = two_releases();
    let mut installed = world.install_newest(&channel).unwrap();
    let other = world.install(&channel, &channel.offer_of(&tag("v1.9.0"), &world.context).unwrap()).unwrap();
    installed.path = other.path;
    assert_eq!(code(discard(&installed)), "installation-unsealed");
    installed.path = world.path("releases").to_str().unwrap().into();
    assert_eq!(code(discard(&installed)), "installation-unsealed");
    assert_eq!(names(&world.path("releases")), ["v1.10.0", "v1.9.0"]);
}

#[test]
fn a_folder_that_holds_a_socket_or_a_leaving_link_is_refused_and_leaves_nothing() {
    let (world, channel) = two_releases();
    symlink("/etc/hostname", world.path("releases/v1.10.0/link")).unwrap();
    assert_eq!(code(world.install_newest(&channel)), "unpack-link-leaves");
    fs::remove_file(world.path("releases/v1.10.0/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("releases/v1.10.0/socket")).unwrap();
    assert_eq!(code(world.install_newest(&channel)), "unpack-special-file");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn a_release_larger_than_configured_is_refused() {
    let (world, _) = two_releases();
    assert_eq!(
        code(channel(r#"directory = "releases", bytes_max = 9"#).newest(&world.context)),
        "unpack-too-many-bytes"
    );
    assert_eq!(
        code(channel(r#"directory = "releases", files_max = 2"#).newest(&world.context)),
        "unpack-too-many-files"
    );
}

#[test]
fn an_empty_release_is_refused() {
    let world = World::new();
    fs::create_dir_all(world.path("releases/v1")).unwrap();
    assert_eq!(code(world.install_newest(&channel(r#"directory = "releases""#))), "unpack-empty");
}

#[test]
fn a_cancelled_install_leaves_nothing() {
    let (world, channel) = two_releases();
    let offer = channel.newest(&world.context).unwrap();
    world.context.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(code(world.install(&channel, &offer)), "channel-cancelled");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn a_tag_that_looks_like_a_path_stays_in_the_installations_folder() {
    let (world, _) = two_releases();
    let channel = channel(r#"command = ["/bin/echo", "../../v1"], fetch = ["/bin/cp", "/etc/hostname", "{into}"]"#);
    let installed = world.install_newest(&channel).unwrap();
    assert!(Path::new(&installed.path).starts_with(world.installations()));
    assert_eq!(installed.release.tag.as_str(), "../../v1");
}

#[test]
fn a_wrong_configuration_says_which_key_is_wrong() {
    let said = |keys: &str| try_channel(keys).unwrap_err();
    assert!(said(r#"directory = "a", npm = "b""#).contains("exactly one of npm, pypi"));
    assert!(said("").contains("exactly one of npm, pypi"));
    assert!(said(r#"directory = "a", range = "^1""#).contains("range means nothing for a channel of kind directory"));
    assert!(said(r#"directory = "a", mathcing = "v*""#).contains("unknown field `mathcing`"));
    assert!(said(r#"directory = "a", matching = "[""#).contains("is not a pattern"));
    assert!(said(r#"directory = "a", timeout = "0s""#).contains("longer than 0s"));
    assert!(said(r#"directory = "a", version_file = "../x""#).contains("a path within the release"));
    assert!(said(r#"command = ["./newest.sh"]"#).contains("command needs fetch"));
}

#[test]
fn the_configuration_is_described_for_editors_and_written_as_it_was_read() {
    let schema = serde_json::to_string(&schemars::schema_for!(ChannelConfig)).unwrap();
    for key in ["npm", "pypi", "directory", "git", "command", "install_timeout", "files_max"] {
        assert!(schema.contains(&format!("\"{key}\":{{\"description\"")), "{key} is not described");
    }
    let keys = r#"directory = "releases", matching = "v*", timeout = "5s""#;
    let written = toml::to_string(&channel(keys)).unwrap();
    assert_eq!(toml::from_str::<ChannelConfig>(&written).unwrap(), channel(keys));
    assert!(!written.contains("npm"));
}

#[test]
fn a_file_overwritten_in_place_is_found_though_its_length_and_time_are_put_back() {
    let (world, channel) = two_releases();
    let installed = world.install_newest(&channel).unwrap();
    let app = Path::new(&installed.path).join("bin/app");
    let time = fs::metadata(&app).unwrap().modified().unwrap();
    // Root writes read-only files without asking.
    fs::write(&app, "2wo").unwrap();
    fs::File::options().write(true).open(&app).unwrap().set_modified(time).unwrap();
    assert_eq!(code(verify_fast(&installed)), "installation-damaged");
}
