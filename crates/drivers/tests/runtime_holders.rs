//! Who has data open: the proof before a restore.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

use lastgood_drivers::runtime::holders::{Holder, holders};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A process that opened `files` and says so.
struct Opener(Child);

impl Opener {
    fn new(prefix: &[&str], files: &[&Path]) -> Self {
        let text = "import sys, time\nheld = [open(name, 'r+') for name in sys.argv[1:]]\n\
            print('open', flush=True)\ntime.sleep(1000)\n";
        let mut words = prefix.to_vec();
        words.extend(["python3", "-c", text]);
        let mut child = Command::new(words[0]).args(&words[1..]).args(files).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        Self(child)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_holder_is_named_with_its_program_its_file_and_whose_data_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    let names: Vec<_> = (0..20).map(|number| root.join(format!("instance-{number}"))).collect();
    for name in &names {
        fs::create_dir_all(name.join("deep/er")).unwrap();
        fs::write(name.join("deep/er/app.db"), "x").unwrap();
    }
    // instance-1 is not held by one who holds instance-10.
    let files = [names[10].join("deep/er/app.db"), names[3].join("deep/er/app.db")];
    let opener = Opener::new(&[], &[&files[0], &files[1]]);
    let paths: Vec<&Path> = names.iter().map(AsRef::as_ref).collect();
    let found = holders(&paths).unwrap();
    let holder =
        |below: usize, path: &Path| Holder { pid: opener.0.id(), program: "python3".into(), path: path.into(), below };
    assert_eq!(found.holders, [holder(10, &files[0]), holder(3, &files[1])]);
    drop(opener);
    assert_eq!(holders(&paths).unwrap().holders, []);
}

#[test]
fn a_holder_is_found_through_a_link_after_a_removal_and_if_it_is_ourselves() {
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::write(root.join("data/app.db"), "x").unwrap();
    std::os::unix::fs::symlink(root.join("data"), root.join("link")).unwrap();
    let held = File::open(root.join("data/app.db")).unwrap();
    let count = |path: &Path| holders(&[path]).unwrap().holders.len();
    assert_eq!(count(&root.join("link")), 1);
    assert_eq!(count(&root.join("link/app.db")), 1);
    // Removed, and a new file put in its place: the old one is still written to.
    fs::remove_file(root.join("data/app.db")).unwrap();
    fs::write(root.join("data/app.db"), "y").unwrap();
    assert_eq!(count(&root.join("data/app.db")), 1);
    assert_eq!(count(&root.join("not-there")), 0);
    drop(held);
    assert_eq!(count(&root.join("data")), 0);
}

#[test]
fn a_holder_in_a_container_that_sees_the_data_under_another_path_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::create_dir(root.join("inside")).unwrap();
    fs::write(root.join("data/app.db"), "x").unwrap();
    let mount = format!("mount --bind {0}/data {0}/inside && exec \"$@\"", root.display());
    let inside = root.join("inside/app.db");
    let prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let opener = Opener::new(&prefix, &[&inside]);
    let found = holders(&[&root.join("data")]).unwrap();
    assert_eq!(found.holders.len(), 1, "{found:?}");
    assert_eq!(found.holders[0].pid, opener.0.id());
}
