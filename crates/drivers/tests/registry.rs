//! Promises of the npm and PyPI channels, kept with the real clients and real packages. Needs the network.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

#[path = "channel/world.rs"]
#[expect(dead_code, reason = "shared with the tests that need no network")]
mod world;

use lastgood_domain::{facts::Standing, terms::Digest};
use lastgood_drivers::channel::{verify_fast, verify_full};
use std::{fs, path::Path, process::Command};
use world::{World, channel, code, read, tag};

const SIX_1_16: &str = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254";
const IS_NUMBER_7: &str =
    "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng==";

/// Gives every file below `folder` that contains `needle`.
fn mentions(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let item = item.unwrap();
        if item.file_type().unwrap().is_dir() {
            found.extend(mentions(&item.path(), needle));
        } else if fs::read(item.path())
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle.as_bytes()))
        {
            found.push(item.path().display().to_string());
        }
    }
    found
}

fn output(program: impl AsRef<Path>, args: &[&str]) -> String {
    let output = Command::new(program.as_ref()).args(args).env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

#[test]
fn npm_offers_the_dist_tag_with_its_integrity_and_date() {
    let world = World::new();
    let channel = channel(r#"npm = "is-number""#);
    let offer = channel.offer_of(&tag("7.0.0"), &world.context).unwrap();
    assert_eq!(offer.mark.as_deref(), Some(IS_NUMBER_7));
    assert_eq!(offer.origin, "npm:is-number");
    assert!(offer.published.is_some());
    let newest = channel.newest(&world.context).unwrap();
    assert_ne!(channel.standing(&newest.tag, &tag("7.0.0")), Standing::Older);
    assert_eq!(channel.belongs(&newest.tag), Ok(()));
}

#[test]
fn npm_ranges_and_patterns_give_the_newest_that_fits() {
    let world = World::new();
    let newest = |keys: &str| channel(keys).newest(&world.context).map(|offer| offer.tag.to_string());
    assert_eq!(newest(r#"npm = "is-number", range = "^2""#).unwrap(), "2.1.0");
    assert_eq!(newest(r#"npm = "is-number", matching = "1.*""#).unwrap(), "1.1.2");
    let but = |keys: &str, tags: &[&str]| {
        let except: Vec<_> = tags.iter().map(|one| tag(one)).collect();
        channel(keys).newest_but(&except, &world.context).unwrap().map(|offer| offer.tag.to_string())
    };
    assert_eq!(but(r#"npm = "is-number", range = "^2""#, &["2.1.0"]).as_deref(), Some("2.0.2"));
    assert_eq!(but(r#"npm = "is-number", matching = "1.*""#, &["1.1.2", "1.1.1"]).as_deref(), Some("1.1.0"));
    assert_eq!(but(r#"npm = "is-number", range = "2.1.0""#, &["2.1.0"]), None);
    // A dist-tag names one release and no other.
    let latest = channel(r#"npm = "is-number""#).newest(&world.context).unwrap().tag;
    assert_eq!(but(r#"npm = "is-number""#, &[latest.as_str()]), None);
    assert_eq!(code(newest(r#"npm = "is-number", range = "^99""#)), "channel-nothing-offered");
    assert_eq!(code(newest(r#"npm = "is-number", tag = "no-such-tag""#)), "channel-nothing-offered");
    assert_eq!(code(newest(r#"npm = "@lastgood-none/no-such-package""#)), "channel-nothing-offered");
}

#[test]
fn an_npm_release_is_installed_verified_and_found_again() {
    let world = World::new();
    // to-regex-range needs is-number: dependencies are part of the installation.
    let channel = channel(r#"npm = "to-regex-range", range = "^5""#);
    let installed = world.install_newest(&channel).unwrap();
    assert_eq!(installed.version, installed.release.tag.as_str());
    assert!(read(&installed.path, "node_modules/is-number/package.json").contains("\"is-number\""));
    let program = format!("console.log(require('{}/node_modules/to-regex-range')(1, 5))", installed.path);
    assert_eq!(output("/usr/bin/node", &["-e", &program]), "[1-5]");
    assert_eq!(mentions(Path::new(&installed.path), ".making-"), [""; 0]);
    assert_eq!(verify_fast(&installed).unwrap().read_again, 0);
    verify_full(&installed).unwrap();
    assert_eq!(world.install_newest(&channel).unwrap(), installed);
    assert_eq!(world.left().len(), 1);
}

#[test]
fn an_npm_program_runs_after_the_move() {
    let world = World::new();
    let channel = channel(r#"npm = "semver", range = "7.6.3""#);
    let installed = world.install_newest(&channel).unwrap();
    let program = Path::new(&installed.path).join("node_modules/.bin/semver");
    assert_eq!(output(program, &["-i", "minor", "1.2.3"]), "1.3.0");
}

#[test]
fn npm_bytes_that_are_not_the_announced_ones_are_refused() {
    let world = World::new();
    let channel = channel(r#"npm = "is-number""#);
    let mut offer = channel.offer_of(&tag("7.0.0"), &world.context).unwrap();
    offer.mark = Some(IS_NUMBER_7.replace("41Cifkg6", "42Cifkg6"));
    assert_eq!(code(world.install(&channel, &offer)), "digest-mismatch");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn an_npm_version_that_does_not_exist_is_gone_and_a_dist_tag_is_no_version() {
    let world = World::new();
    let channel = channel(r#"npm = "is-number""#);
    assert_eq!(code(channel.offer_of(&tag("99.0.0"), &world.context)), "channel-release-gone");
    assert_eq!(code(channel.offer_of(&tag("latest"), &world.context)), "channel-release-gone");
    let mut offer = channel.offer_of(&tag("7.0.0"), &world.context).unwrap();
    offer.tag = tag("99.0.0");
    assert_eq!(code(world.install(&channel, &offer)), "channel-release-gone");
}

#[test]
fn an_npm_release_larger_than_configured_is_refused_before_npm_unpacks_it() {
    let world = World::new();
    let channel = channel(r#"npm = "is-number", bytes_max = 4000, files_max = 1"#);
    assert_eq!(code(world.install_newest(&channel)), "unpack-too-many-files");
    let channel = world::channel(r#"npm = "semver", range = "7.6.3", bytes_max = 30000"#);
    assert_eq!(code(world.install_newest(&channel)), "unpack-too-many-bytes");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn pip_offers_the_newest_in_range_with_its_hash() {
    let world = World::new();
    let newest = |keys: &str| channel(keys).newest(&world.context).map(|offer| (offer.tag.to_string(), offer.mark));
    assert_eq!(newest(r#"pypi = "six", range = "==1.16.0""#).unwrap(), ("1.16.0".into(), Some(SIX_1_16.into())));
    assert_eq!(newest(r#"pypi = "six", matching = "1.1[0-6].*""#).unwrap().0, "1.16.0");
    assert_eq!(newest(r#"pypi = "six", range = ">=1.10,<1.12""#).unwrap().0, "1.11.0");
    let but = |keys: &str, tags: &[&str]| {
        let except: Vec<_> = tags.iter().map(|one| tag(one)).collect();
        channel(keys).newest_but(&except, &world.context).unwrap().map(|offer| offer.tag.to_string())
    };
    assert_eq!(but(r#"pypi = "six", range = ">=1.10,<1.12""#, &["1.11.0"]).as_deref(), Some("1.10.0"));
    assert_eq!(but(r#"pypi = "six", matching = "1.1[0-6].*""#, &["1.16.0"]).as_deref(), Some("1.15.0"));
    assert_eq!(but(r#"pypi = "six", range = "==1.16.0""#, &["1.16.0"]), None);
    let newest_of_all = channel(r#"pypi = "six""#).newest(&world.context).unwrap().tag;
    assert!(but(r#"pypi = "six""#, &[newest_of_all.as_str()]).is_some_and(|tag| tag != newest_of_all.as_str()));
    assert_eq!(code(newest(r#"pypi = "six", range = ">=99""#)), "channel-nothing-offered");
    assert_eq!(code(newest(r#"pypi = "six", matching = "99.*""#)), "channel-nothing-offered");
    let six = channel(r#"pypi = "six""#);
    assert_eq!(code(six.offer_of(&tag("99.0"), &world.context)), "channel-release-gone");
    assert_eq!(code(six.offer_of(&tag("latest"), &world.context)), "channel-release-gone");
}

#[test]
fn a_pypi_release_is_installed_runs_after_the_move_and_is_found_again() {
    let world = World::new();
    let channel = channel(r#"pypi = "six""#);
    let offer = channel.offer_of(&tag("1.16.0"), &world.context).unwrap();
    let installed = world.install(&channel, &offer).unwrap();
    assert_eq!(installed.release.digest, SIX_1_16.parse::<Digest>().unwrap());
    assert_eq!(installed.version, "1.16.0");
    let python = Path::new(&installed.path).join("bin/python");
    let program = "import six; print(six.__version__, six.__file__)";
    assert_eq!(output(&python, &["-c", program]), format!("1.16.0 {}/lib/six.py", installed.path));
    assert_eq!(mentions(Path::new(&installed.path), ".making-"), [""; 0]);
    // Running it must not change it, not even for root.
    assert_eq!(verify_fast(&installed).unwrap().read_again, 0);
    verify_full(&installed).unwrap();
    assert_eq!(world.install(&channel, &offer).unwrap(), installed);
}

#[test]
fn a_program_of_a_pypi_release_and_its_dependencies_run_after_the_move() {
    let world = World::new();
    // markdown-it-py needs mdurl and brings a program.
    let channel = channel(r#"pypi = "markdown-it-py", range = "==3.0.0""#);
    let installed = world.install_newest(&channel).unwrap();
    let page = world.put("page.md", "*hello*");
    let program = Path::new(&installed.path).join("bin/markdown-it");
    assert_eq!(output(program, &[page.to_str().unwrap()]), "<p><em>hello</em></p>");
    assert_eq!(verify_fast(&installed).unwrap().read_again, 0);
}

#[test]
fn pypi_bytes_that_are_not_the_announced_ones_are_refused() {
    let world = World::new();
    let channel = channel(r#"pypi = "six""#);
    let mut offer = channel.offer_of(&tag("1.16.0"), &world.context).unwrap();
    offer.mark = Some(SIX_1_16.replace("8abb", "8abc"));
    assert_eq!(code(world.install(&channel, &offer)), "digest-mismatch");
    assert_eq!(world.left(), [""; 0]);
}
