//! What stands in the way of putting data back: it is known before anything is stopped, waited for, or finished later.

use crate::kit::{Farm, Plan, kept_aside, until};
use lastgood_notebook::DATA_FILE;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file or folder mounted onto itself, so that no rename moves it; taken away at its end.
struct Mounted(PathBuf);

impl Mounted {
    fn onto_itself(path: &Path) -> Self {
        assert!(Command::new("mount").arg("--bind").args([path, path]).status().unwrap().success());
        Self(path.into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).status();
    }
}

/// A farm on 2.0.0, whose data 1.0.0 can't read; and what 1.0.0 left.
fn moved(service: &str) -> (Farm, String) {
    let rollout = r#"{ soak = "0s", wave_size = 2 }"#;
    let farm = Farm::running(Plan { rollout, service: service.into(), ..Plan::default() });
    for name in farm.names() {
        fs::write(farm.data(name).join("photo"), "a photo").unwrap();
    }
    let old = farm.dump("alice");
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
    (farm, old)
}

#[test]
fn a_restore_that_failed_half_way_starts_nothing_on_half_of_the_data_until_a_rollback_finishes_it() {
    // Whatever a restore drops is too old to drop without a person's word: half of the data must not look like a loss.
    let (farm, old) = moved(r#"restore = { age_max = "1ms" }"#);
    let newer = farm.dump("alice");
    let mounted = Mounted::onto_itself(&farm.data("alice").join("photo"));
    let risks = ["alice", "bob", "carol"].map(|name| format!("lost-writes:{name}"));
    let accept = risks.iter().flat_map(|risk| ["--accept-risk", risk]);
    let said = farm.lastgood(&["rollback", "--yes"].into_iter().chain(accept).collect::<Vec<_>>());
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(farm.version("bob"), "1.0.0");
    let database = farm.data("alice").join(DATA_FILE);
    assert!(farm.pid("alice").is_none() && !database.exists(), "the restore was to fail half-way: {said:?}");

    let said = farm.lastgood(&["run"]);
    assert!(farm.pid("alice").is_none(), "something runs on half of the data: {said:?}");
    assert!(!database.exists(), "a new database stands where the old one belongs: {said:?}");
    assert!(farm.log().contains("restore-unfinished"), "{}", farm.log());

    drop(mounted);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!((farm.version("alice"), farm.dump("alice")), ("1.0.0".into(), old));
    assert!(
        !fs::read_dir(farm.data("alice"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(".lastgood-") })
    );
    // The newer data is kept, and the log says where.
    let kept = kept_aside(&farm, "alice");
    let at = kept.iter().find(|folder| crate::kit::dump(&folder.join(DATA_FILE)) == newer);
    let at = at.unwrap_or_else(|| panic!("the newer database is in none of {kept:?}"));
    assert!(farm.log().contains(&*at.parent().unwrap().to_string_lossy()), "{} is in no record", at.display());
}

#[test]
fn a_way_back_waits_until_whoever_has_the_data_open_is_done() {
    let (farm, old) = moved("");
    let held = fs::File::open(farm.data("alice").join(DATA_FILE)).unwrap();
    let mut backup = Command::new("sleep").arg("6").stdin(Stdio::from(held)).spawn().unwrap();
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    backup.wait().unwrap();
    assert!(farm.log().contains("restore-still-held"), "nobody was in the way, so this proves nothing");
    assert_eq!((farm.version("alice"), farm.dump("alice")), ("1.0.0".into(), old));
}

#[test]
fn data_that_could_not_be_put_back_is_refused_before_anything_is_stopped() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    let before = farm.pids();
    let mounted = Mounted::onto_itself(&farm.data("alice"));
    let said = farm.lastgood(&["run"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(farm.log().contains("restore-aside-elsewhere"), "{said:?}");
    assert_eq!(farm.pids(), before);
    farm.lastgood(&["doctor", "--offline"]).says("[restore-aside-elsewhere]");
    drop(mounted);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
}

#[test]
fn an_instance_that_is_not_configured_any_more_stays_up_in_a_rollback_and_is_named() {
    let (farm, _) = moved("");
    let text = farm.config();
    let at = text.find("\n[[service.notebook.instance]]\nname = \"carol\"").unwrap();
    let end = at + 1 + text[at + 1..].find("\n[[service.notebook.probe]]").unwrap();
    farm.configure(&format!("{}{}", &text[..at], &text[end..]));
    let before = farm.pid("carol");
    let said = farm.lastgood(&["rollback", "--yes"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.out.contains("carol") || said.err.contains("carol"), "{said:?}");
    assert!(farm.log().contains("instance-unknown"), "{said:?}");
    assert_eq!((farm.pid("carol"), farm.version("carol")), (before, "2.0.0".into()));
    assert_eq!((farm.version("alice"), farm.version("bob")), ("1.0.0".into(), "1.0.0".into()));
    // Put back, it goes back as well.
    farm.configure(&text);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    until("carol's way back", || farm.version("carol") == "1.0.0");
}
