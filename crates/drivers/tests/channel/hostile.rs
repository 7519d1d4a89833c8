//! Archives that nobody should unpack: each is refused with its own code, and nothing of it stays.

use crate::archive::{Member, file, folder, gzip, hard_link, link, member, tar, unended};
use crate::world::{World, channel, code, names, read};
use lastgood_domain::terms::Digest;
use proptest::prelude::*;
use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};
use tar::EntryType;

/// Offers `bytes` as the archive v1.tar and tells how its install ends.
fn refusal_of(bytes: &[u8]) -> &'static str {
    refusal_with(bytes, "")
}

fn refusal_with(bytes: &[u8], limits: &str) -> &'static str {
    let world = World::new();
    world.put("releases/v1.tar", bytes);
    let code = code(world.install_newest(&channel(&format!(r#"directory = "releases"{limits}"#))));
    assert_eq!(world.left(), [""; 0], "something was left");
    assert_eq!(names(&world.path("")), ["installations", "releases"], "something was written outside");
    code
}

fn of(members: &[Member]) -> &'static str {
    refusal_of(&tar(members))
}

#[test]
fn a_good_archive_is_installed_whole_plain_or_zipped() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let members = [
        folder("./"),
        folder("bin/"),
        Member { mode: 0o777, ..file("bin/app", "run") },
        file("lib/deep/er/data", "data"),
        link("current", "lib/deep"),
        link("lib/up", "../bin/app"),
        hard_link("bin/same", "bin/app"),
        Member { content: long.clone().into(), ..member("././@LongLink", EntryType::GNULongName, "") },
        file("short", "long name"),
        Member { content: b"17 path=p/f\xc3\xa4ile\n".to_vec(), ..member("pax", EntryType::XHeader, "") },
        file("plain", "pax name"),
    ];
    for (name, bytes) in
        [("v1.tar", tar(&members)), ("v1.tar.gz", gzip(&tar(&members))), ("v1.tgz", gzip(&tar(&members)))]
    {
        let world = World::new();
        world.put(&format!("releases/{name}"), &bytes);
        let installed = world.install_newest(&channel(r#"directory = "releases""#)).unwrap();
        assert_eq!(installed.release.tag.as_str(), "v1");
        assert_eq!(installed.release.digest, Digest::of(&bytes));
        assert_eq!(read(&installed.path, "bin/same"), "run");
        assert_eq!(read(&installed.path, "current/er/data"), "data");
        assert_eq!(read(&installed.path, "lib/up"), "run");
        assert_eq!(read(&installed.path, &long), "long name");
        assert_eq!(read(&installed.path, "p/fäile"), "pax name");
        let mode =
            |name: &str| fs::metadata(Path::new(&installed.path).join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("bin/app"), mode("lib/deep/er/data"), mode("bin")), (0o555, 0o444, 0o755));
    }
}

#[test]
fn a_path_out_of_the_folder_is_refused() {
    assert_eq!(of(&[file("/etc/evil", "x")]), "unpack-absolute-path");
    assert_eq!(of(&[file("../evil", "x")]), "unpack-parent-path");
    assert_eq!(of(&[file("a/../../evil", "x")]), "unpack-parent-path");
    assert_eq!(of(&[folder("../evil/")]), "unpack-parent-path");
    let long = Member { content: b"../../evil".to_vec(), ..member("x", EntryType::GNULongName, "") };
    assert_eq!(of(&[long, file("harmless", "x")]), "unpack-parent-path");
    let pax = Member { content: b"16 path=../evil\n".to_vec(), ..member("x", EntryType::XHeader, "") };
    assert_eq!(of(&[pax, file("harmless", "x")]), "unpack-parent-path");
}

#[test]
fn a_name_that_is_no_file_name_is_refused() {
    assert_eq!(of(&[file("a\nb", "x")]), "unpack-bad-name");
    assert_eq!(of(&[file("", "x")]), "unpack-bad-name");
    let mut bytes = tar(&[file("name", "x")]);
    bytes[0] = 0xff;
    // The checksum counts the byte too.
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..512]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(refusal_of(&bytes), "unpack-bad-name");
}

#[test]
fn a_link_out_of_the_folder_is_refused() {
    assert_eq!(of(&[link("a", "/etc/passwd")]), "unpack-link-leaves");
    assert_eq!(of(&[link("a", "../x")]), "unpack-link-leaves");
    assert_eq!(of(&[link("a/b/c", "../../../x")]), "unpack-link-leaves");
    assert_eq!(of(&[hard_link("a", "/etc/passwd")]), "unpack-link-leaves");
    assert_eq!(of(&[hard_link("a", "../x")]), "unpack-link-leaves");
    assert_eq!(of(&[hard_link("a", "missing")]), "unpack-link-to-nothing");
    assert_eq!(of(&[link("a", "a")]), "unpack-link-leaves");
}

#[test]
fn a_link_that_leaves_only_through_another_link_is_refused() {
    // By words x/y/up/.. is x/y; through the link it is above the root.
    let members = [folder("x"), folder("x/y"), link("x/y/up", "../.."), link("out", "x/y/up/../evil")];
    assert_eq!(of(&members), "unpack-link-leaves");
}

#[test]
fn nothing_is_written_through_an_earlier_link() {
    assert_eq!(of(&[link("a", "b"), file("a/evil", "x")]), "unpack-through-link");
    assert_eq!(of(&[folder("b"), link("a", "b"), folder("a/evil")]), "unpack-through-link");
    assert_eq!(of(&[file("a", "x"), file("a/b", "x")]), "unpack-through-link");
    assert_eq!(of(&[link("a", "b"), hard_link("c", "a")]), "unpack-link-to-nothing");
}

#[test]
fn devices_fifos_and_foreign_rights_are_refused() {
    assert_eq!(of(&[member("null", EntryType::Char, "")]), "unpack-special-file");
    assert_eq!(of(&[member("disk", EntryType::Block, "")]), "unpack-special-file");
    assert_eq!(of(&[member("pipe", EntryType::Fifo, "")]), "unpack-special-file");
    assert_eq!(of(&[Member { mode: 0o4755, ..file("su", "x") }]), "unpack-set-user-id");
    assert_eq!(of(&[Member { mode: 0o2755, ..file("sg", "x") }]), "unpack-set-user-id");
    assert_eq!(of(&[member("odd", EntryType::new(b'Z'), "")]), "unpack-unreadable");
    assert_eq!(of(&[member("sparse", EntryType::GNUSparse, "")]), "unpack-unreadable");
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    assert_eq!(of(&[file("a", "good"), file("a", "evil")]), "unpack-duplicate-name");
    assert_eq!(of(&[file("a", "good"), file("./a", "evil")]), "unpack-duplicate-name");
    assert_eq!(of(&[link("a", "b"), file("a", "evil")]), "unpack-duplicate-name");
    assert_eq!(of(&[folder("a"), folder("a")]), "unpack-duplicate-name");
}

#[test]
fn an_archive_with_more_than_allowed_is_refused() {
    let zeros = Member { content: vec![0; 8 << 20], ..file("zeros", "") };
    let bomb = gzip(&tar(&[zeros]));
    assert!(bomb.len() < 20_000);
    assert_eq!(refusal_with(&bomb, ", bytes_max = 1000000"), "unpack-too-many-bytes");
    let many: Vec<Member> = (0..20).map(|n| file(&format!("f{n}"), "")).collect();
    assert_eq!(refusal_with(&tar(&many), ", files_max = 19"), "unpack-too-many-files");
    // One entry may bring many folders with it.
    assert_eq!(refusal_with(&tar(&[file("a/b/c/d/e/f", "")]), ", files_max = 5"), "unpack-too-many-files");
    // And an archive of nothing but headers is no less endless.
    let headers: Vec<Member> = (0..50)
        .map(|_| Member { content: b"11 a=b=c=d\n".to_vec(), ..member("g", EntryType::XGlobalHeader, "") })
        .collect();
    assert_eq!(refusal_with(&tar(&headers), ", files_max = 9"), "unpack-too-many-files");
}

#[test]
fn headers_that_would_fill_the_memory_or_mislead_are_refused() {
    let long = Member { content: vec![b'a'; 1 << 20], ..member("x", EntryType::GNULongName, "") };
    assert_eq!(of(&[long, file("a", "x")]), "unpack-unreadable");
    let size = Member { content: b"12 size=999\n".to_vec(), ..member("x", EntryType::XHeader, "") };
    assert_eq!(of(&[size, file("a", "x")]), "unpack-unreadable");
    let global = Member { content: b"13 path=evil\n".to_vec(), ..member("x", EntryType::XGlobalHeader, "") };
    assert_eq!(of(&[global, file("a", "x")]), "unpack-unreadable");
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused() {
    let whole = tar(&[file("a", &"x".repeat(700)), file("b", "y")]);
    // The last block is the second half of the end mark, and padding.
    for length in (1..=whole.len() - 1024).step_by(97).chain([512, 1024, 2048]) {
        assert_eq!(refusal_of(&whole[..length]), "unpack-truncated", "cut at {length}");
    }
    let zipped = gzip(&whole);
    for length in 2..zipped.len() {
        assert_eq!(refusal_of(&zipped[..length]), "unpack-truncated", "zipped, cut at {length}");
    }
    assert_eq!(refusal_of(&unended(&[file("a", "x")])), "unpack-truncated");
}

#[test]
fn damaged_foreign_and_empty_archives_are_refused() {
    let mut zipped = gzip(&tar(&[file("a", &"x".repeat(700))]));
    let at = zipped.len() - 6;
    zipped[at] ^= 1;
    assert_eq!(refusal_of(&zipped), "unpack-unreadable");
    assert_eq!(refusal_of(&[b"PK\x03\x04".as_slice(), &[7; 2000]].concat()), "unpack-unreadable");
    assert_eq!(refusal_of(&[0; 1024]), "unpack-empty");
    assert_eq!(refusal_of(b""), "unpack-truncated");
    let mut trailed = tar(&[file("a", "x")]);
    trailed.resize(3 << 20, 7);
    assert_eq!(refusal_of(&trailed), "unpack-unreadable");
}

fn any_member() -> impl Strategy<Value = Member> {
    let part = || prop::sample::select(vec!["a", "b", "c", "..", ".", "", "a", "b"]);
    let path = || prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
    ]);
    (path(), kind, path()).prop_map(|(name, kind, target)| {
        let content = if kind == EntryType::Regular { b"new".to_vec() } else { Vec::new() };
        Member { name, kind, mode: 0o755, target, content }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_archive_writes_or_points_outside_its_folder(members in prop::collection::vec(any_member(), 1..8)) {
        let world = World::new();
        world.put("releases/v1.tar", tar(&members));
        for name in ["a", "b", "c", "releases/a", "releases/b"] {
            world.put(name, "old");
        }
        let result = world.install_newest(&channel(r#"directory = "releases""#));
        for name in ["a", "b", "c", "releases/a", "releases/b"] {
            prop_assert_eq!(fs::read_to_string(world.path(name)).unwrap(), "old");
        }
        prop_assert_eq!(names(&world.path("")), ["a", "b", "c", "installations", "releases"]);
        prop_assert_eq!(names(&world.path("releases")), ["a", "b", "v1.tar"]);
        match result {
            Ok(installed) => invariant_every_path_resolves_inside(Path::new(&installed.path)),
            Err(_) => prop_assert_eq!(world.left(), [""; 0]),
        }
    }
}

/// Asks the kernel, not our own rules, where each name leads.
fn invariant_every_path_resolves_inside(tree: &Path) {
    let root = tree.canonicalize().unwrap();
    let mut ahead = vec![root.clone()];
    while let Some(at) = ahead.pop() {
        for item in fs::read_dir(at).unwrap() {
            let item = item.unwrap();
            match item.path().canonicalize() {
                Ok(real) => assert!(real.starts_with(&root), "{} leads to {}", item.path().display(), real.display()),
                // It leads nowhere.
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory), "{error}")
                }
            }
            if item.file_type().unwrap().is_dir() {
                ahead.push(item.path());
            }
        }
    }
}
