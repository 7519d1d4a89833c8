//! Units that somebody changed, against a real systemd: what differs is named, put back and read back.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

#[expect(dead_code, reason = "shared with the tests of processes, which need all of it")]
mod runtime_kit;
mod systemd_kit;
#[path = "systemd_kit/world.rs"]
mod systemd_world;

use lastgood_domain::{facts::Liveness, failure::Coded as _};
use lastgood_drivers::runtime::{Launch, PutBack, Runtime as _, RuntimeError, systemd::Output};
use std::{fs, path::Path};
use systemd_kit::in_systemd;
use systemd_world::{GRACE, SAYS_TAG, TEMPLATE, UNIT, World, systemctl};

const TEMPLATE_AT: &str = "/etc/systemd/system/notes@.service";
const BESIDE: &str = ".before-i0";

fn drop_ins() -> String {
    format!("/etc/systemd/system/{UNIT}.d")
}

/// As differences name a drop-in.
fn named(path: &str) -> &str {
    path.trim_start_matches("/etc/systemd/system/")
}

fn put_back(world: &World, launch: &Launch) -> PutBack {
    world.runtime.put_back(launch, BESIDE).unwrap().unwrap()
}

fn pid(world: &World) -> u32 {
    let Liveness::Up { pid, .. } = world.liveness() else { panic!("it does not run") };
    pid
}

fn write(path: &str, text: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

/// As a person does it: any of these is followed by a reload.
fn reload() {
    assert!(systemctl(&["daemon-reload"]).0);
}

#[test]
fn a_unit_as_declared_is_left_alone_and_its_program_runs_on() {
    in_systemd("a_unit_as_declared_is_left_alone_and_its_program_runs_on", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let launch = world.launch("v1", SAYS_TAG);
        let started = world.runtime.start(&launch).unwrap().pid;
        let as_declared = PutBack { unit: UNIT.into(), differed: Vec::new(), restarted: false };
        assert_eq!(put_back(&world, &launch), as_declared);
        // Nor is one that systemd itself started again, for its files are the same.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(started.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        systemctl(&["restart", UNIT]);
        let again = pid(&world);
        assert_ne!(again, started);
        assert_eq!(put_back(&world, &launch), as_declared);
        assert_eq!(pid(&world), again);
        world.stop(GRACE);
        assert_eq!(put_back(&world, &launch), as_declared, "a stopped one is compared too, and not started");
        assert!(matches!(world.liveness(), Liveness::Down { .. }));
    });
}

#[test]
fn files_that_were_edited_removed_or_added_are_put_back_and_the_program_that_never_saw_them_runs_on() {
    in_systemd(
        "files_that_were_edited_removed_or_added_are_put_back_and_the_program_that_never_saw_them_runs_on",
        || {
            let template_wide = "/etc/systemd/system/notes@.service.d/10-limits.conf";
            write(template_wide, "[Service]\nLimitNOFILE=4096\n");
            let world = World::new(TEMPLATE, Output::Journal);
            let launch = world.launch("v1", SAYS_TAG);
            let started = world.runtime.start(&launch).unwrap().pid;
            let (ours, added) = (format!("{}/50-lastgood.conf", drop_ins()), format!("{}/90-evil.conf", drop_ins()));
            let wanted = read(&ours);
            write(&ours, "[Service]\nExecStart=\nExecStart=/bin/sleep 1\n");
            write(&added, "[Service]\nExecStart=\nExecStart=/bin/sleep 2\nEnvironment=EVIL=1\n");
            write(TEMPLATE_AT, "[Service]\nExecStart=/bin/true\nUser=nobody\n");
            fs::remove_file(template_wide).unwrap();
            reload();
            let put = put_back(&world, &launch);
            let mut said = put.differed.clone();
            said.sort();
            let expected = [
                format!("added {}", named(&added)),
                format!("changed {TEMPLATE_AT}"),
                format!("changed {}", named(&ours)),
                format!("missing {}", named(template_wide)),
            ];
            assert_eq!(said, expected);
            assert!(!put.restarted, "what runs was started by lastgood, before all this");
            assert_eq!(pid(&world), started);
            assert_eq!((read(&ours), read(TEMPLATE_AT)), (wanted, TEMPLATE.to_owned()));
            assert_eq!(read(template_wide), "[Service]\nLimitNOFILE=4096\n");
            // What was there is kept, under names that systemd does not read.
            assert!(read(&format!("{added}{BESIDE}")).contains("EVIL"));
            assert!(read(&format!("{TEMPLATE_AT}{BESIDE}")).contains("User=nobody"));
            // One by one: asked together they come in an order of systemd's own.
            for (property, wanted) in [("NeedDaemonReload", "no"), ("Environment", ""), ("LimitNOFILE", "4096")] {
                assert_eq!(systemctl(&["show", "-P", property, UNIT]).1, wanted, "{property}");
            }
            assert!(put_back(&world, &launch).differed.is_empty(), "twice is the same as once");
            world.stop(GRACE);
        },
    );
}

#[test]
fn a_program_that_was_started_with_another_unit_is_started_again_with_the_declared_one() {
    in_systemd("a_program_that_was_started_with_another_unit_is_started_again_with_the_declared_one", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let mut launch = world.launch("v1", SAYS_TAG);
        world.runtime.start(&launch).unwrap();
        let added = format!("{}/90-local.conf", drop_ins());
        write(&added, "[Service]\nEnvironment=DEBUG=1\n");
        reload();
        systemctl(&["restart", UNIT]);
        let theirs = pid(&world);
        assert!(fs::read_to_string(format!("/proc/{theirs}/environ")).unwrap().contains("DEBUG=1"));
        let put = put_back(&world, &launch);
        assert_eq!((put.differed, put.restarted), (vec![format!("added {}", named(&added))], true));
        let ours = pid(&world);
        assert_ne!(ours, theirs);
        let environment = fs::read_to_string(format!("/proc/{ours}/environ")).unwrap();
        assert!(!environment.contains("DEBUG") && environment.contains("FOLDER="), "{environment}");
        // Another declaration since: the file is written, and what ran with the old one is started again.
        launch.env.insert("COLOUR".into(), "blue".into());
        let put = put_back(&world, &launch);
        let environment = world.path("state/units/notes/alice/environment");
        assert_eq!((put.differed, put.restarted), (vec![format!("changed {}", environment.display())], true));
        assert!(fs::read_to_string(format!("/proc/{}/environ", pid(&world))).unwrap().contains("COLOUR=blue"));
        assert!(!put_back(&world, &launch).restarted);
        world.stop(GRACE);
    });
}

#[test]
fn a_unit_that_was_edited_and_not_read_masked_replaced_or_disabled_is_usable_again() {
    in_systemd("a_unit_that_was_edited_and_not_read_masked_replaced_or_disabled_is_usable_again", || {
        let world = World::new(&format!("{TEMPLATE}[Install]\nWantedBy=multi-user.target\n"), Output::Journal);
        systemctl(&["enable", UNIT]);
        let launch = world.launch("v1", SAYS_TAG);
        let started = world.runtime.start(&launch).unwrap().pid;
        let added = format!("{}/90-quiet.conf", drop_ins());
        write(&added, "[Service]\nNice=19\n");
        let put = put_back(&world, &launch);
        assert_eq!(put.differed, ["not read by systemd".to_owned(), format!("added {}", named(&added))]);
        systemctl(&["disable", UNIT]);
        assert_eq!(put_back(&world, &launch).differed, ["disabled"]);
        assert_eq!(systemctl(&["is-enabled", UNIT]).1, "enabled");
        assert_eq!(pid(&world), started);
        // A unit of this instance alone stands before the template.
        let instead = format!("/etc/systemd/system/{UNIT}");
        write(&instead, "[Service]\nExecStart=/bin/true\n");
        reload();
        let put = put_back(&world, &launch);
        assert_eq!(put.differed, [format!("added {instead}")]);
        assert_eq!(pid(&world), started);
        assert_eq!(systemctl(&["show", "-P", "FragmentPath", UNIT]).1, TEMPLATE_AT);
        world.stop(GRACE);
        assert!(systemctl(&["mask", UNIT]).0);
        assert_eq!(world.runtime.start(&launch).unwrap_err().code(), "systemd-unit-missing");
        let put = put_back(&world, &launch);
        assert!(put.differed.contains(&"masked to systemd".to_owned()), "{:?}", put.differed);
        world.runtime.start(&launch).unwrap();
        world.stop(GRACE);
        fs::remove_file(TEMPLATE_AT).unwrap();
        reload();
        let put = put_back(&world, &launch);
        assert!(put.differed.contains(&format!("missing {TEMPLATE_AT}")), "{:?}", put.differed);
        world.runtime.start(&launch).unwrap();
        world.stop(GRACE);
    });
}

#[test]
fn what_can_not_be_made_so_is_named_and_nothing_is_started_again() {
    in_systemd("what_can_not_be_made_so_is_named_and_nothing_is_started_again", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let (v1, v2) = (world.launch("v1", SAYS_TAG), world.launch("v2", SAYS_TAG));
        let started = world.runtime.start(&v1).unwrap().pid;
        let refused = |launch: &Launch| match world.runtime.put_back(launch, BESIDE) {
            Err(error @ RuntimeError::UnitDiffers { .. }) => (error.code(), error.to_string()),
            other => panic!("{other:?}"),
        };
        // A drop-in for all services is somebody else's, and decides what is loaded all the same.
        write("/etc/systemd/system/service.d/99-all.conf", "[Service]\nEnvironment=EVERYWHERE=1\n");
        reload();
        let (code, said) = refused(&v1);
        assert_eq!(code, "drift-unit");
        assert!(said.ends_with(": Environment as loaded"), "{said}");
        fs::remove_file("/etc/systemd/system/service.d/99-all.conf").unwrap();
        // Which release runs is decided by a run, so a link that leads to another is not flipped here.
        fs::create_dir(world.path("state/units/notes/alice/other")).unwrap();
        let now = world.path("state/units/notes/alice/now");
        let whole = fs::read_link(&now).unwrap();
        assert!(refused(&v2).1.ends_with(": the link of another release"), "{}", refused(&v2).1);
        // The installation behind the link is put back.
        let program = now.join("program");
        fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink("/tmp", &program).unwrap();
        assert_eq!(put_back(&world, &v1).differed.last().unwrap(), "the link to the installation");
        assert_eq!((fs::read_link(&program).unwrap(), fs::read_link(&now).unwrap()), (v1.installation.clone(), whole));
        // A link in the place of the template leads to somebody else's file.
        let elsewhere = world.path("elsewhere");
        fs::write(&elsewhere, "[Service]\nExecStart=/bin/true\n").unwrap();
        fs::remove_file(TEMPLATE_AT).unwrap();
        std::os::unix::fs::symlink(&elsewhere, TEMPLATE_AT).unwrap();
        reload();
        assert!(world.runtime.put_back(&v1, BESIDE).is_err());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "[Service]\nExecStart=/bin/true\n");
        assert_eq!(pid(&world), started);
        world.stop(GRACE);
    });
}

#[test]
fn what_is_kept_of_a_template_is_what_it_was_for_the_first_instance_of_the_release() {
    in_systemd("what_is_kept_of_a_template_is_what_it_was_for_the_first_instance_of_the_release", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let alice = world.launch("v1", SAYS_TAG);
        let bob = Launch { instance: lastgood_domain::terms::InstanceName::new("bob").unwrap(), ..alice.clone() };
        world.runtime.start(&alice).unwrap();
        write(TEMPLATE_AT, &format!("{TEMPLATE}Nice=5\n"));
        reload();
        world.runtime.start(&bob).unwrap();
        assert_eq!(put_back(&world, &bob).differed, [format!("changed {TEMPLATE_AT}")]);
        assert_eq!(read(TEMPLATE_AT), TEMPLATE);
        assert!(put_back(&world, &alice).differed.is_empty());
        // The next release takes it as it is then.
        write(TEMPLATE_AT, &format!("{TEMPLATE}Nice=5\n"));
        reload();
        world.stop(GRACE);
        let next = world.launch("v2", SAYS_TAG);
        world.runtime.start(&next).unwrap();
        assert!(put_back(&world, &next).differed.is_empty());
        world.stop(GRACE);
        world.runtime.stop(&bob.service, &bob.instance, GRACE).unwrap();
    });
}

/// Names what is in the folder of a file and begins with its name.
fn beside(path: &str) -> Vec<String> {
    let path = Path::new(path);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|entry| entry.to_string_lossy().into_owned()).collect();
    names.retain(|other| other.starts_with(&name) && *other != name && !other.ends_with(".d"));
    names.sort();
    names
}

fn bob(alice: &Launch) -> Launch {
    Launch { instance: lastgood_domain::terms::InstanceName::new("bob").unwrap(), ..alice.clone() }
}

#[test]
fn files_that_broke_a_start_are_put_back_for_all_at_once_and_undone_when_that_helped_nobody() {
    in_systemd("files_that_broke_a_start_are_put_back_for_all_at_once_and_undone_when_that_helped_nobody", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let alice = world.launch("v1", SAYS_TAG);
        let bob = bob(&alice);
        let binary = format!("{}/20-binary.conf", drop_ins());
        fs::create_dir_all(drop_ins()).unwrap();
        fs::write(&binary, b"# caf\xe9\n[Service]\nNice=1\n").unwrap();
        reload();
        for one in [&alice, &bob] {
            world.runtime.start(one).unwrap();
            world.runtime.stop(&one.service, &one.instance, GRACE).unwrap();
        }
        let later = format!("{}/30-later.conf", drop_ins());
        fs::write(&later, b"# caf\xe9\n").unwrap();
        let added = format!("{}/40-added.conf", drop_ins());
        write(&added, "[Service]\nNice=2\n");
        let broken = format!("{TEMPLATE}ExecStartPre=/bin/false\n");
        for round in 1..=20 {
            write(TEMPLATE_AT, &broken);
            reload();
            assert_eq!(world.runtime.files_differ(&alice).unwrap().len(), 2);
            assert_eq!(world.runtime.files_differ(&bob).unwrap(), [format!("changed {TEMPLATE_AT}")]);
            let both = std::thread::scope(|scope| {
                let back = |one| world.runtime.put_files_back(one, BESIDE, true).unwrap();
                let threads = [&alice, &bob].map(|one| scope.spawn(move || back(one)));
                threads.map(|thread| thread.join().unwrap())
            });
            for done in both {
                assert!(done.failed.is_empty() && done.left.is_empty(), "{done:?}");
                assert!(done.put_back.iter().any(|one| one.starts_with(TEMPLATE_AT)), "{done:?}");
            }
            assert_eq!(read(TEMPLATE_AT), TEMPLATE, "round {round}");
            assert_eq!(beside(TEMPLATE_AT).len(), 1, "one of the two has moved it: {:?}", beside(TEMPLATE_AT));
            assert!(!Path::new(&added).exists() && Path::new(&binary).exists() && Path::new(&later).exists());
            // For alice it did not help; bob is about to start with it.
            let undone = world.runtime.undo_files_back(&alice).unwrap();
            assert_eq!(undone.put_back, std::slice::from_ref(&added), "{undone:?}");
            assert_eq!((read(TEMPLATE_AT).as_str(), read(&added).as_str()), (TEMPLATE, "[Service]\nNice=2\n"));
            let undone = world.runtime.undo_files_back(&bob).unwrap();
            assert_eq!(undone.put_back, [TEMPLATE_AT]);
            assert_eq!(read(TEMPLATE_AT), broken);
            assert_eq!(beside(TEMPLATE_AT), Vec::<String>::new());
            assert_eq!(systemctl(&["show", "-P", "NeedDaemonReload", UNIT]).1, "no");
        }
        // What has helped one stays, whatever another says of it.
        world.runtime.files_differ(&bob).unwrap();
        world.runtime.put_files_back(&alice, BESIDE, true).unwrap();
        assert!(world.runtime.files_differ(&bob).unwrap().is_empty());
        world.runtime.files_helped(&bob);
        assert!(!world.runtime.undo_files_back(&alice).unwrap().put_back.contains(&TEMPLATE_AT.to_owned()));
        assert_eq!(read(TEMPLATE_AT), TEMPLATE);
    });
}

#[test]
fn every_file_is_tried_and_what_others_share_is_left() {
    in_systemd("every_file_is_tried_and_what_others_share_is_left", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let (first, second) = (format!("{}/10-first.conf", drop_ins()), format!("{}/20-second.conf", drop_ins()));
        write(&first, "[Service]\nNice=1\n");
        write(&second, "[Service]\nNice=2\n");
        reload();
        let launch = world.launch("v1", SAYS_TAG);
        world.runtime.start(&launch).unwrap();
        world.stop(GRACE);
        // A link leads to somebody else's file, and is not replaced.
        fs::remove_file(&first).unwrap();
        let elsewhere = world.path("elsewhere.conf");
        fs::write(&elsewhere, "[Service]\nNice=3\n").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &first).unwrap();
        fs::remove_file(&second).unwrap();
        write(TEMPLATE_AT, &format!("{TEMPLATE}Nice=5\n"));
        reload();
        let done = world.runtime.put_files_back(&launch, BESIDE, false).unwrap();
        assert_eq!((done.put_back, done.left), (vec![second.clone()], vec![TEMPLATE_AT.to_owned()]));
        assert_eq!(done.failed.len(), 1);
        assert!(done.failed[0].to_string().contains("10-first.conf"), "{}", done.failed[0]);
        assert_eq!(read(&second), "[Service]\nNice=2\n");
        assert_eq!(read(TEMPLATE_AT), format!("{TEMPLATE}Nice=5\n"));
        // Nothing was there before: undone, nothing is.
        assert_eq!(world.runtime.undo_files_back(&launch).unwrap().put_back, std::slice::from_ref(&second));
        assert!(!Path::new(&second).exists());
    });
}

#[test]
fn what_a_release_last_ran_well_with_is_kept_for_all_its_instances() {
    in_systemd("what_a_release_last_ran_well_with_is_kept_for_all_its_instances", || {
        let world = World::new(TEMPLATE, Output::Journal);
        let alice = world.launch("v1", SAYS_TAG);
        let bob = bob(&alice);
        world.runtime.start(&alice).unwrap();
        world.runtime.start(&bob).unwrap();
        let keep = |one: &Launch| world.runtime.keep_files(&one.service, &one.instance).unwrap();
        let better = format!("{TEMPLATE}Nice=5\n");
        write(TEMPLATE_AT, &better);
        reload();
        // Neither was started with it: nobody knows that they run well with it.
        keep(&alice);
        assert_eq!(world.runtime.files_differ(&alice).unwrap(), [format!("changed {TEMPLATE_AT}")]);
        world.stop(GRACE);
        world.runtime.start(&alice).unwrap();
        keep(&alice);
        assert!(world.runtime.files_differ(&alice).unwrap().is_empty());
        assert!(world.runtime.files_differ(&bob).unwrap().is_empty(), "no two want a template otherwise");
        // What somebody else starts proves nothing for lastgood.
        write(TEMPLATE_AT, TEMPLATE);
        reload();
        systemctl(&["restart", UNIT]);
        keep(&alice);
        assert_eq!(world.runtime.files_differ(&alice).unwrap(), [format!("changed {TEMPLATE_AT}")]);
        world.stop(GRACE);
        world.runtime.stop(&bob.service, &bob.instance, GRACE).unwrap();
    });
}
