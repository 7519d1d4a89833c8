//! A machine that is beset: a full disk, locks that somebody holds, files that are torn, foreign or can't be looked at.

use crate::{
    kit::{Farm, Plan, until},
    sink::Sink,
};
use rustix::fs::{FlockOperation, flock, statvfs};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

/// A disk of 96 MiB, mounted at a folder until its end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path, image: &Path) -> Self {
        fs::File::create(image).unwrap().set_len(96 << 20).unwrap();
        // So small a disk gets blocks of 1 KiB, in which SQLite's shared memory has holes: where it is full, a write into one
        // ends the process. Larger disks have blocks of 4 KiB, as its pages.
        assert!(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", "4096"]).arg(image).status().unwrap().success());
        fs::create_dir(folder).unwrap();
        assert!(Command::new("mount").args(["-o", "loop"]).arg(image).arg(folder).status().unwrap().success());
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
        Self(folder.into())
    }

    fn free(&self) -> u64 {
        let disk = statvfs(&self.0).unwrap();
        disk.f_bfree * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Instances on it end with their farm, a moment later.
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_release_that_prints_without_end_is_cut_by_the_daemon_and_gone_back_from_on_a_full_disk() {
    let farm = Farm::new(one());
    let disk = SmallDisk::at(&farm.path("state"), &farm.path("image"));
    farm.lastgood(&["run"]).ended(0);
    farm.publish("1.1.0");
    let (program, flag) = (farm.path("releases/1.1.0/notebook"), farm.path("babble"));
    let text = fs::read_to_string(&program).unwrap();
    let babble = format!(
        "#!/bin/sh\n(while ! [ -e '{}' ]; do sleep 0.1; done; while :; do yes babble; sleep 0.02; done) &\n",
        flag.display()
    );
    fs::write(&program, text.replacen("#!/bin/sh\n", &babble, 1)).unwrap();
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");

    let daemon = farm.serve();
    fs::write(&flag, "").unwrap();
    let older = farm.path("state/services/notebook/instances/alice/output.log.1");
    until("a cut log", || older.exists());
    assert!(fs::read_to_string(&older).unwrap().contains("\nbabble\n"));
    assert_eq!(
        fs::read_dir(older.parent().unwrap())
            .unwrap()
            .filter(|one| { one.as_ref().unwrap().file_name().to_string_lossy().starts_with("output.log") })
            .count(),
        2
    );
    daemon.kill();
    // What it prints fills the disk by itself in the end; the test does not wait for that.
    let mut filler = fs::File::create(farm.path("state/filler")).unwrap();
    while filler.write_all(&[b'x'; 4096]).is_ok() {}
    // ext4 keeps a fiftieth back for itself.
    assert!(disk.free() < 4 << 20, "{}", disk.free());
    let reserve = farm.path("state/reserve");
    assert!(reserve.exists());
    // What keeps harm from going on makes room as a way back does.
    farm.lastgood(&["hold", "set", "--all", "--reason", "look"]).ended(0);
    farm.lastgood(&["hold", "lift", "hold-0", "--reason", "looked"]).ended(0);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn nothing_directly_in_the_state_folder_is_open_to_others() {
    let farm = Farm::running(one());
    let daemon = farm.serve();
    farm.lastgood(&["hold", "set", "--all", "--reason", "the fair is on"]).ended(0);
    farm.lastgood(&["rollback", "--yes"]);
    let open: Vec<String> = fs::read_dir(farm.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let meta = entry.metadata().unwrap();
            meta.is_file() && meta.permissions().mode() & 0o077 != 0
        })
        .map(|entry| entry.file_name().display().to_string())
        .collect();
    assert_eq!(open, Vec::<String>::new());
    daemon.stop();
}

#[test]
fn a_freeze_file_that_nobody_can_look_at_holds_and_so_does_a_link_to_nowhere() {
    let farm = Farm::running(one());
    farm.publish("1.1.0");
    let freeze = farm.path("state/FREEZE");
    for (target, says) in [("nowhere", "exists"), ("FREEZE", "exists")] {
        symlink(target, &freeze).unwrap();
        farm.lastgood(&["run"]).ended(9).says("FREEZE").says(says);
        farm.lastgood(&["why"]).ended(0).says("a freeze file holds every service");
        fs::remove_file(&freeze).unwrap();
    }
    // Behind a link that leads to itself nobody can look.
    symlink("loop", farm.path("loop")).unwrap();
    let config = farm.config();
    farm.configure(&format!("freeze_file = \"loop/FREEZE\"\n{config}"));
    farm.lastgood(&["run"]).ended(9).says("nobody can tell whether the freeze file");
    farm.lastgood(&["why"]).ended(0).says("nobody can tell whether the freeze file");
    let daemon = farm.serve();
    until("a healthy daemon", || {
        crate::kit::request(farm.port("listen"), "GET", "/health", "", "").is_ok_and(|(_, page)| page["status"] == "ok")
    });
    let metrics =
        Command::new("curl").arg(format!("http://127.0.0.1:{}/metrics", farm.port("listen"))).output().unwrap();
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    let frozen = metrics.lines().any(|line| line.contains("frozen") && line.ends_with(" 1"));
    assert!(frozen, "{metrics}");
    daemon.stop();
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.configure(&config);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
}

#[test]
fn a_daemon_that_finds_somebody_else_delivering_sends_once_that_one_is_done() {
    let sink = Sink::new(|_| ("204 No Content", String::new()));
    let tail = format!(
        "\n[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{}/hook\"\n\
         secret = \"hook\"\nallow_private = true\nkinds = [\"died\"]\n",
        sink.port
    );
    let farm = Farm::new(Plan { tail, ..one() });
    crate::kit::secret_file(&farm.path("hook"), crate::daemon::SIGNING);
    farm.lastgood(&["run"]).ended(0);
    let lock = fs::File::options().write(true).open(farm.path("state/deliver.lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let daemon = farm.serve();
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap();
    until("its word that somebody delivers", || said().contains("notice-sender-busy"));
    farm.kill("alice");
    until("the death", || farm.log().contains("\"died\""));
    assert_eq!(sink.taken().len(), 0);
    drop(lock);
    until("the notice", || sink.taken().len() == 1);
    assert_eq!(said().matches("notice-sender-busy").count(), 1);
    daemon.stop();
}

#[test]
fn a_rollback_goes_on_where_only_another_services_evidence_is_damaged() {
    let farm = Farm::new(one());
    let second = "\n[service.other]\nchannel = { directory = \"elsewhere\", version_file = \"VERSION\" }\n\
                  command = [\"{release}/other\"]\nready = { http = { path = \"/health\" }, expect = { status = 200 } }\n\
                  state = { directory = \"{data}\" }\n\n\
                  [[service.other.probe]]\nname = \"page\"\nhttp = { path = \"/health\" }\nexpect = { status = 200 }\n\n\
                  [[service.other.instance]]\nname = \"only\"\nport = 1\ndata = \"data/only\"\n";
    farm.configure(&(farm.config() + second));
    farm.lastgood(&["run", "notebook"]).ended(0);
    farm.lastgood(&["hold", "set", "other", "--reason", "something to sign"]).ended(0);
    farm.publish("1.1.0");
    farm.lastgood(&["run", "notebook"]).ended(0);
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    // What was signed of the other service's chain is not what is stored any more.
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    let changed = database.execute("UPDATE chain SET size = size - 1 WHERE name = 'service/other'", []).unwrap();
    assert_eq!(changed, 1);
    drop(database);
    farm.lastgood(&["rollback", "notebook", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert!(farm.lastgood(&["--json", "log", "notebook", "--all"]).out.contains("\"went-on-without\""));
    farm.publish("2.0.0");
    farm.lastgood(&["run", "notebook"]).ended(1).says("evidence-rewound");
}

#[test]
fn a_chain_that_cannot_be_signed_keeps_no_other_from_it() {
    let farm = Farm::running(one());
    farm.lastgood(&["hold", "set", "notebook", "--reason", "the first one"]).ended(0);
    farm.lastgood(&["hold", "set", "--all", "--reason", "the fair is on"]).ended(0);
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    // The chain of operations stands before those of services.
    let changed = database.execute("UPDATE chain SET size = size - 1 WHERE name = 'operations'", []).unwrap();
    assert_eq!(changed, 1);
    farm.lastgood(&["hold", "set", "notebook", "--reason", "a second one"]).ended(0);
    let sizes = || -> (i64, i64) {
        let text = "SELECT chain.size, checkpoint.size FROM checkpoint JOIN chain ON chain.id = checkpoint.chain
                    WHERE name = 'service/notebook'";
        database.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let (size, signed) = sizes();
    assert!(signed < size);
    farm.lastgood(&["evidence", "checkpoint"]).ended(1).says("evidence-rewound");
    assert_eq!(sizes(), (size, size));
}

#[test]
fn a_rollback_needs_no_key_and_what_goes_forward_does() {
    let farm = Farm::running(one());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let key = farm.path("state/evidence.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    farm.lastgood(&["rollback", "--yes"]).ended(0).says("evidence.key");
    assert_eq!(farm.version("alice"), "1.0.0");
    assert!(farm.log().contains("\"went-on-without\""), "{}", farm.log());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(1).says("evidence.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
}

#[test]
fn an_instance_whose_record_a_power_cut_tore_is_started_again() {
    let farm = Farm::running(one());
    farm.kill("alice");
    fs::write(farm.path("state/run/notebook/alice/record.json"), "").unwrap();
    let daemon = farm.serve();
    until("alice", || farm.pid("alice").is_some());
    until("its death in the log", || farm.log().contains("\"died\""));
    daemon.stop();
}

#[test]
fn an_instance_that_was_taken_out_of_the_configuration_is_left_alone() {
    let plan = Plan { instances: vec![("alice", "probe"), ("bob", "probe")], ..Plan::default() };
    let farm = Farm::running(plan);
    let config = farm.config();
    let (before, bob) = config.split_at(config.find("\n[[service.notebook.instance]]\nname = \"bob\"").unwrap());
    let after = &bob[bob.find("\n[[service.notebook.probe]]").unwrap()..];
    farm.configure(&format!("{before}{after}"));
    farm.kill("bob");
    let daemon = farm.serve();
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap();
    until("its word about bob", || said().contains("notebook/bob is no longer in the configuration"));
    // Twice around, so that whatever would be done about bob is done.
    for _ in 0..2 {
        let pid = farm.pid("alice");
        farm.kill("alice");
        until("alice again", || farm.pid("alice").is_some_and(|now| Some(now) != pid));
    }
    daemon.stop();
    let log = farm.log();
    assert!(!log.contains("\"not-revived\""), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("\"died\"") && line.contains("bob")).count(), 0, "{log}");
}
