//! A disk that is full: a real, small file system, mounted for the test and unmounted after it.

use crate::archive::{file, gzip, tar};
use crate::world::{World, channel, code, names};
use lastgood_domain::failure::Failure;
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

/// A tmpfs of one mebibyte.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "lastgood-test"]).arg(&at).status().unwrap();
        assert!(status.success(), "these tests need the right to mount: run them as root");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let world = World::new();
    let disk = SmallDisk::mount(world.path("small"), "size=1m");
    let installations = disk.0.join("installations");
    let big = "x".repeat(700_000);
    world.put("releases/v1/small", "small");
    world.put("releases/v2/a", &big);
    world.put("releases/v2/b", &big);
    world.put("releases/v3.tar", tar(&[file("a", &big), file("b", &big)]));
    let channel = channel(r#"directory = "releases""#);
    let install = |tag: &str| {
        let offer = channel.offer_of(&crate::world::tag(tag), &world.context).unwrap();
        channel.install(&offer, &installations, &world.context)
    };
    install("v1").unwrap();
    for tag in ["v2", "v3"] {
        let error = install(tag).unwrap_err();
        let failure = Failure::of(&error);
        assert_eq!(failure.code, "install-no-space");
        assert!(failure.message.contains(installations.to_str().unwrap()), "{}", failure.message);
        assert!(!failure.message.contains(".making-"), "{}", failure.message);
        let left: Vec<_> = names(&installations).into_iter().filter(|name| name != ".lock").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    install("v1").unwrap();
}

#[test]
fn a_disk_without_inodes_is_a_full_disk() {
    let world = World::new();
    let disk = SmallDisk::mount(world.path("small"), "size=1m,nr_inodes=20");
    for n in 0..40 {
        world.put(&format!("releases/v1/f{n}"), "x");
    }
    let channel = channel(r#"directory = "releases""#);
    let offer = channel.newest(&world.context).unwrap();
    assert_eq!(code(channel.install(&offer, &disk.0.join("i"), &world.context)), "install-no-space");
    assert_eq!(names(&disk.0.join("i")), [".lock"]);
}

#[test]
fn a_command_that_fills_the_disk_is_told_from_one_that_fails() {
    let world = World::new();
    let disk = SmallDisk::mount(world.path("small"), "size=1m");
    let at = world.put("fetch.sh", "#!/bin/sh\nhead -c 3000000 /dev/zero > \"$1/app\"\n");
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    let channel = channel(r#"command = ["/bin/echo", "v1"], fetch = ["./fetch.sh", "{into}"]"#);
    let offer = channel.newest(&world.context).unwrap();
    assert_eq!(code(channel.install(&offer, &disk.0.join("i"), &world.context)), "install-no-space");
    assert_eq!(names(&disk.0.join("i")), [".lock"]);
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let world = World::new();
    let disk = SmallDisk::mount(world.path("small"), "size=1m");
    let zeros = "\0".repeat(8 << 20);
    world.put("releases/v1.tar.gz", gzip(&tar(&[file("zeros", &zeros)])));
    let channel = channel(r#"directory = "releases", bytes_max = 900000"#);
    let offer = channel.newest(&world.context).unwrap();
    // Not "no space": not one byte of it was written.
    assert_eq!(code(channel.install(&offer, &disk.0.join("i"), &world.context)), "unpack-too-many-bytes");
    assert_eq!(names(&disk.0.join("i")), [".lock"]);
}
