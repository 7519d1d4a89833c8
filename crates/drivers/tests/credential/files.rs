//! Files that a service reads, and commands.

use crate::{OLD, World};
use lastgood_domain::failure::Coded as _;
use std::fs;

/// A service that knows the secret it read last: `reload` has it read, `attempt` asks it.
fn service(world: &World) -> String {
    fs::write(world.path("served"), format!("{OLD}\n")).unwrap();
    let reload = world.script("reload", "cp secret served");
    let attempt =
        world.script("attempt", "if cmp -s \"$LASTGOOD_CREDENTIAL_FILE\" served; then exit 0; else exit 77; fi");
    format!("kind = \"file\"\nattempt = [\"{attempt}\"]\nreload = [\"{reload}\"]")
}

#[test]
fn a_file_goes_through_the_four_acts_and_each_may_be_repeated() {
    let world = World::new();
    let credential = world.credential(&service(&world), None);
    assert_eq!(credential.prove_refused().unwrap_err().code(), "credential-not-revoked");
    assert_eq!(credential.rotate().unwrap_err().code(), "credential-not-revoked");
    assert_eq!(credential.standing().unwrap(), "in use");
    for _ in 0..2 {
        credential.revoke(None).unwrap();
        assert_ne!(world.secret(), OLD);
        assert_eq!(credential.standing().unwrap(), "revoked");
        credential.prove_refused().unwrap();
        assert_eq!(credential.prove_consumers().unwrap_err().code(), "credential-not-rotated");
    }
    let nobodys = world.secret();
    credential.rotate().unwrap();
    let new = world.secret();
    assert_ne!(new, nobodys);
    credential.rotate().unwrap();
    world.file_is_as_it_was_but_new();
    credential.prove_refused().unwrap();
    credential.prove_consumers().unwrap();
    world.shelf_is_empty();
    assert_eq!(credential.standing().unwrap(), "in use");
    // And the same again, with the new one as the old one.
    credential.revoke(None).unwrap();
    credential.prove_refused().unwrap();
    credential.rotate().unwrap();
    credential.prove_consumers().unwrap();
    assert_ne!(world.secret(), new);
}

#[test]
fn a_rotation_without_a_proof_is_no_revocation_of_what_leaks_later() {
    let world = World::new();
    let credential = world.credential(&service(&world), None);
    // Rotated for an incident, and consumers were never proven: the same incident finds it done.
    credential.revoke(Some("incident i1")).unwrap();
    credential.rotate().unwrap();
    let first = world.secret();
    assert!(credential.revoke(Some("incident i1")).unwrap().what.contains("rotated before"));
    assert_eq!((world.secret(), credential.standing().unwrap()), (first.clone(), "rotated"));
    // Another one has the present secret revoked, and it is the one that is tried.
    credential.revoke(Some("incident i2")).unwrap();
    assert_eq!(fs::read_to_string(world.path("shelf/old")).unwrap().trim_end(), first);
    assert_eq!((world.secret() == first, credential.standing().unwrap()), (false, "revoked"));
    credential.prove_refused().unwrap();
    credential.rotate().unwrap();
    let second = world.secret();
    // What a person types is about what lies there now, whoever rotated it.
    credential.revoke(None).unwrap();
    assert_eq!(fs::read_to_string(world.path("shelf/old")).unwrap().trim_end(), second);
    credential.rotate().unwrap();
    credential.revoke(None).unwrap();
    credential.prove_refused().unwrap();
}

#[test]
fn a_secret_that_somebody_put_there_since_was_neither_revoked_nor_rotated() {
    let world = World::new();
    let credential = world.credential(&service(&world), None);
    credential.revoke(Some("incident i1")).unwrap();
    fs::write(world.path("secret"), "by-hand\n").unwrap();
    credential.revoke(Some("incident i1")).unwrap();
    assert_eq!(fs::read_to_string(world.path("shelf/old")).unwrap().trim_end(), "by-hand");
    credential.rotate().unwrap();
    fs::write(world.path("secret"), "by-hand-again\n").unwrap();
    assert_eq!(credential.rotate().unwrap_err().code(), "credential-not-revoked");
    credential.revoke(Some("incident i1")).unwrap();
    assert_eq!(fs::read_to_string(world.path("shelf/old")).unwrap().trim_end(), "by-hand-again");
}

#[test]
fn a_service_that_keeps_the_old_one_is_found_whatever_the_file_says() {
    let world = World::new();
    let attempt = service(&world).lines().take(2).collect::<Vec<_>>().join("\n");
    let credential = world.credential(&attempt, None);
    credential.revoke(None).unwrap();
    assert_eq!(credential.prove_refused().unwrap_err().code(), "credential-still-accepted");
}

#[test]
fn an_attempt_that_breaks_proves_nothing() {
    let world = World::new();
    for (how, wanted) in [("exit 1", "ended with 1"), ("kill -9 $$", "ended with 137"), ("sleep 60", "no end in time")]
    {
        let attempt = world.script("attempt", how);
        let credential =
            world.credential(&format!("kind = \"file\"\nattempt = [\"{attempt}\"]\ntimeout = \"1s\""), None);
        credential.revoke(None).unwrap();
        let error = credential.prove_refused().unwrap_err();
        assert_eq!(error.code(), "credential-cannot-tell", "{how}");
        assert!(error.to_string().contains(wanted), "{how}: {error}");
    }
}

#[test]
fn a_kill_between_any_two_steps_leaves_what_a_repeat_makes_whole() {
    let world = World::new();
    let credential = world.credential(&service(&world), None);
    let shelf = |name: &str| world.path("shelf").join(name);
    // After the file was written and before it was noted: the old one is still what is tried.
    credential.revoke(None).unwrap();
    fs::remove_file(shelf("revoked")).unwrap();
    credential.revoke(None).unwrap();
    assert_eq!(fs::read_to_string(shelf("old")).unwrap().trim_end(), OLD);
    credential.prove_refused().unwrap();
    // After the new one was made and before it was in the file: the same one is taken.
    credential.rotate().unwrap();
    let new = world.secret();
    fs::remove_file(shelf("rotated")).unwrap();
    fs::write(world.path("secret"), "half").unwrap();
    fs::write(world.path(".secret.lastgood"), "what a killed one left").unwrap();
    credential.rotate().unwrap();
    assert_eq!(world.secret(), new);
    // In the middle of clearing up.
    fs::remove_file(shelf("new")).unwrap();
    fs::remove_file(shelf("old")).unwrap();
    credential.prove_consumers().unwrap();
    world.shelf_is_empty();
}

#[test]
fn a_secret_changed_by_hand_after_an_attempt_that_failed_is_the_one_that_is_revoked() {
    let world = World::new();
    let fails = "kind = \"command\"\nrevoke = [\"false\"]\nattempt = [\"false\"]\nrotate = [\"false\"]";
    assert_eq!(world.credential(fails, None).revoke(None).unwrap_err().code(), "credential-act-failed");
    fs::write(world.path("secret"), "changed-by-hand").unwrap();
    world.credential(fails, None).revoke(None).unwrap_err();
    assert_eq!(fs::read_to_string(world.path("shelf/old")).unwrap(), "changed-by-hand");
}

#[test]
fn commands_get_files_and_no_secret_is_said_though_they_say_it() {
    let world = World::new();
    fs::write(world.path("valid"), format!("{OLD}\n")).unwrap();
    let revoke = world.script("revoke", "cmp \"$LASTGOOD_OLD_FILE\" valid && rm valid");
    let rotate = world.script("rotate", "[ \"$LASTGOOD_CREDENTIAL\" = app ] && cp \"$LASTGOOD_NEW_FILE\" valid");
    let attempt = world.script("attempt", "cmp -s \"$LASTGOOD_CREDENTIAL_FILE\" valid && exit 0; exit 77");
    let consumers = world.script("consumers", "echo \"I got $(cat secret)\" >&2; exit $(cat status)");
    let credential = world.credential(
        &format!(
            "kind = \"command\"\nrevoke = [\"{revoke}\"]\nrotate = [\"{rotate}\"]\nattempt = [\"{attempt}\"]\n\
             consumers = [\"{consumers}\"]"
        ),
        None,
    );
    credential.revoke(None).unwrap();
    credential.prove_refused().unwrap();
    credential.rotate().unwrap();
    fs::write(world.path("status"), "3").unwrap();
    let error = credential.prove_consumers().unwrap_err();
    let said = format!("{error} {error:?} {credential:?}");
    assert!(said.contains("ended with 3: I got [secret]"), "{said}");
    assert!(!said.contains(&world.secret()), "{said}");
    fs::write(world.path("status"), "0").unwrap();
    credential.prove_consumers().unwrap();
    world.file_is_as_it_was_but_new();
    world.shelf_is_empty();
}

#[test]
fn a_link_and_a_file_open_to_all_are_no_secrets() {
    let world = World::new();
    let toml = service(&world);
    fs::rename(world.path("secret"), world.path("real")).unwrap();
    std::os::unix::fs::symlink(world.path("real"), world.path("secret")).unwrap();
    assert_eq!(world.credential(&toml, None).revoke(None).unwrap_err().code(), "credential-file");
    fs::remove_file(world.path("secret")).unwrap();
    fs::write(world.path("secret"), OLD).unwrap();
    assert_eq!(world.credential(&toml, None).revoke(None).unwrap_err().code(), "secret-exposed");
}

#[test]
fn two_who_rotate_at_once_leave_one_secret_in_the_file_and_with_who_accepts_it() {
    let world = World::new();
    // The server takes its time, so that two are at it.
    let rotate = world.script("rotate", "cp \"$LASTGOOD_NEW_FILE\" taken; sleep 0.05; mv taken served");
    let nothing = world.script("nothing", "exit 0");
    let refused = world.script("refused", "exit 77");
    let text =
        format!("kind = \"command\"\nrevoke = [\"{nothing}\"]\nrotate = [\"{rotate}\"]\nattempt = [\"{refused}\"]");
    let credential = world.credential(&text, None);
    for _ in 0..20 {
        credential.revoke(None).unwrap();
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| credential.rotate()));
            both.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
        });
        assert_eq!(fs::read_to_string(world.path("served")).unwrap().trim_end(), world.secret());
    }
}

#[test]
fn who_waits_too_long_for_somebody_elses_act_is_told_and_does_nothing() {
    let world = World::new();
    let refused = world.script("refused", "exit 77");
    let text = format!("kind = \"file\"\nattempt = [\"{refused}\"]\ntimeout = \"1s\"");
    let credential = world.credential(&text, None);
    credential.revoke(None).unwrap();
    let lock = fs::File::options().write(true).open(world.path("shelf.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(credential.rotate().unwrap_err().code(), "credential-busy");
    drop(lock);
    credential.rotate().unwrap();
}
