//! A real bare repository, real pushes.

use crate::{enforcer, found, held};
use lastgood_drivers::enforcer::{Enforcer, Held};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let one = Self { folder: tempfile::tempdir().unwrap() };
        let path = one.folder.path();
        well(&git(path, &["init", "--quiet", "--bare", "--initial-branch=main", "web.git"]));
        well(&git(path, &["clone", "--quiet", "web.git", "work"]));
        one.commit("one");
        well(&one.push("main"));
        one
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("web.git")
    }

    fn commit(&self, text: &str) {
        let work = self.folder.path().join("work");
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"];
        let commit: Vec<&str> =
            who.into_iter().chain(["commit", "--quiet", "--allow-empty", "--message", text]).collect();
        well(&git(&work, &commit));
    }

    fn push(&self, branch: &str) -> Output {
        let refs = format!("HEAD:refs/heads/{branch}");
        git(&self.folder.path().join("work"), &["push", "--quiet", "origin", &refs])
    }

    fn enforcer(&self, more: &str) -> Enforcer {
        enforcer(self.folder.path(), &format!("git = \"web.git\"\n{more}"))
    }

    fn hook(&self) -> PathBuf {
        self.bare().join("hooks/pre-receive")
    }

    fn write_hook(&self, text: &str) {
        fs::create_dir_all(self.bare().join("hooks")).unwrap();
        fs::write(self.hook(), text).unwrap();
        fs::set_permissions(self.hook(), Permissions::from_mode(0o755)).unwrap();
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.output().unwrap()
}

fn well(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_push_to_a_held_branch_is_refused_with_hold_owner_and_reason_until_it_is_lifted() {
    let repository = Repository::new();
    let enforcer = repository.enforcer("branches = [\"main\", \"release/*\"]");
    assert_eq!(found(&enforcer), [""; 0]);
    enforcer.set(&held("hold-3")).unwrap();
    enforcer.set(&held("hold-4")).unwrap();
    enforcer.set(&held("hold-4")).unwrap();
    assert_eq!(found(&enforcer), ["hold-3", "hold-4"]);
    repository.commit("two");
    for branch in ["main", "release/1.2"] {
        let refused = repository.push(branch);
        let words = said(&refused);
        assert!(!refused.status.success());
        for word in [&format!("refs/heads/{branch}"), "hold-3", "hold-4", "person:alice", "orders are doubled"] {
            assert!(words.contains(word), "{words}");
        }
    }
    well(&repository.push("a-fix"));
    enforcer.lift("hold-3").unwrap();
    assert!(!repository.push("main").status.success(), "the other one stands");
    enforcer.lift("hold-4").unwrap();
    enforcer.lift("hold-4").unwrap();
    assert_eq!(found(&enforcer), [""; 0]);
    well(&repository.push("main"));
}

#[test]
fn a_hook_that_was_there_is_kept_and_called_with_the_same_input() {
    let repository = Repository::new();
    repository.write_hook("#!/bin/sh\ncat > seen\ntest ! -e deny\n");
    let enforcer = repository.enforcer("");
    enforcer.set(&held("hold-3")).unwrap();
    repository.commit("two");
    assert!(!repository.push("main").status.success());
    assert!(!repository.bare().join("seen").exists(), "what is held does not come so far");
    enforcer.lift("hold-3").unwrap();
    well(&repository.push("main"));
    let seen = fs::read_to_string(repository.bare().join("seen")).unwrap();
    assert!(seen.ends_with("refs/heads/main\n") && seen.lines().count() == 1, "{seen:?}");
    fs::write(repository.bare().join("deny"), "").unwrap();
    repository.commit("three");
    assert!(!repository.push("main").status.success(), "its no is still a no");
    assert_eq!(found(&enforcer), [""; 0], "reading back does not call it");
}

#[test]
fn a_hold_ends_by_itself_with_lastgood_dead() {
    let repository = Repository::new();
    let enforcer = repository.enforcer("");
    enforcer.set(&Held { until_seconds: Some(1), ..held("hold-3") }).unwrap();
    assert_eq!(found(&enforcer), [""; 0]);
    repository.commit("two");
    well(&repository.push("main"));
    repository.commit("three");
    enforcer.set(&Held { until_seconds: Some(32_503_680_000), ..held("hold-3") }).unwrap();
    assert!(!repository.push("main").status.success());
}

#[test]
fn what_the_hook_cannot_read_refuses_or_passes_as_configured() {
    for (more, passes) in [("", false), ("when_unreadable = \"allow\"", true)] {
        let repository = Repository::new();
        let enforcer = repository.enforcer(more);
        enforcer.set(&held("hold-3")).unwrap();
        enforcer.lift("hold-3").unwrap();
        repository.commit("two");
        fs::write(repository.bare().join("lastgood/holds/hold-9"), "garbage").unwrap();
        assert_eq!(repository.push("main").status.success(), passes);
        repository.commit("three");
        fs::remove_dir_all(repository.bare().join("lastgood")).unwrap();
        assert_eq!(repository.push("main").status.success(), passes);
        repository.commit("four");
        well(&repository.push("a-fix"));
    }
}

#[test]
fn what_somebody_changes_at_the_repository_is_read_back() {
    let repository = Repository::new();
    let enforcer = repository.enforcer("");
    let held = held("hold-3");
    let remark = || enforcer.read(&[]).unwrap().remark.unwrap_or_default();
    enforcer.set(&held).unwrap();
    assert_eq!(found(&enforcer), ["hold-3"]);
    fs::set_permissions(repository.hook(), Permissions::from_mode(0o644)).unwrap();
    assert_eq!((found(&enforcer).len(), remark().contains("not executable")), (0, true));
    enforcer.set(&held).unwrap();
    assert_eq!(found(&enforcer), ["hold-3"]);
    repository.write_hook("#!/bin/sh\nexit 0\n");
    assert_eq!((found(&enforcer).len(), remark().contains("not lastgood's")), (0, true));
    enforcer.set(&held).unwrap();
    assert_eq!(found(&enforcer), ["hold-3"]);
    repository.write_hook("#!/bin/sh\nexit 0\n");
    assert!(enforcer.set(&held).unwrap_err().to_string().contains("before-lastgood"), "no hook is ever lost");
    fs::remove_file(repository.hook()).unwrap();
    assert_eq!((found(&enforcer).len(), remark().contains("there is no hook")), (0, true));
    fs::remove_file(repository.bare().join("lastgood/holds/hold-3")).unwrap();
    enforcer.set(&held).unwrap();
    well(&git(&repository.bare(), &["config", "core.hooksPath", "elsewhere"]));
    assert_eq!(found(&enforcer), [""; 0], "git looks for hooks in another folder now");
    enforcer.set(&held).unwrap();
    assert_eq!(found(&enforcer), ["hold-3"]);
    repository.commit("two");
    assert!(!repository.push("main").status.success());
}

#[test]
fn what_is_no_repository_is_an_error_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let enforcer = enforcer(folder.path(), "git = \"nothing.git\"");
    assert!(enforcer.read(&[]).unwrap_err().to_string().contains("no bare git repository"));
    assert!(enforcer.set(&held("hold-3")).is_err());
}

#[test]
fn one_commit_passes_for_a_time_and_no_other_and_what_was_slipped_in_is_read_back() {
    let repository = Repository::new();
    let enforcer = repository.enforcer("");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    repository.commit("the fix");
    let head = || {
        let out = git(&repository.folder.path().join("work"), &["rev-parse", "HEAD"]);
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let fix = head();
    let lane = |until: i64| Held { passes: [(fix.clone(), until)].into(), ..held("hold-3") };
    enforcer.set(&held("hold-3")).unwrap();
    assert!(said(&repository.push("main")).contains("held by hold-3"));
    // A lane that is over is none.
    enforcer.set(&lane(now - 1)).unwrap();
    assert!(said(&repository.push("main")).contains("held by hold-3"));
    assert_eq!(enforcer.read(&[]).unwrap().passes, Some([("hold-3".into(), [].into())].into()));
    enforcer.set(&lane(now + 600)).unwrap();
    // It is held for everything else, so it counts as enforced.
    let read = enforcer.read(&[]).unwrap();
    assert_eq!(read.holds, ["hold-3".to_owned()].into());
    assert_eq!(read.passes, Some([("hold-3".into(), [fix.clone()].into())].into()));
    // Another hold has no lane.
    enforcer.set(&held("hold-4")).unwrap();
    let refused = said(&repository.push("main"));
    assert!(refused.contains("hold-4") && !refused.contains("hold-3"), "{refused}");
    enforcer.lift("hold-4").unwrap();
    repository.commit("more than the fix");
    assert!(said(&repository.push("main")).contains("held by hold-3"));
    let refs = format!("{fix}:refs/heads/main");
    well(&git(&repository.folder.path().join("work"), &["push", "--quiet", "origin", &refs]));
    // Whoever can write there can open a lane: it is seen.
    let file = repository.bare().join("lastgood/holds/hold-3");
    let text = format!("{}pass={} {}\n", fs::read_to_string(&file).unwrap(), head(), now + 600);
    fs::write(&file, text).unwrap();
    assert_eq!(enforcer.read(&[]).unwrap().passes.unwrap()["hold-3"], [fix.clone(), head()].into());
}
