//! A channel of two commands, also when they hang, flood, lie or fail.

use crate::archive::{file, tar};
use crate::world::{World, channel, code, has_ended, read, tag};
use lastgood_domain::{
    failure::Failure,
    terms::{Digest, Timestamp},
};
use lastgood_drivers::channel::{ChannelConfig, ChannelError};
use std::{fs, os::unix::fs::PermissionsExt as _, sync::atomic::Ordering};

fn script(world: &World, name: &str, body: &str) {
    let at = world.put(name, format!("#!/bin/sh\n{body}\n"));
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
}

fn commands(world: &World, newest: &str, fetch: &str) -> ChannelConfig {
    commands_with(world, newest, fetch, "")
}

fn commands_with(world: &World, newest: &str, fetch: &str, keys: &str) -> ChannelConfig {
    script(world, "newest.sh", newest);
    script(world, "fetch.sh", fetch);
    channel(&format!(r#"command = ["./newest.sh"], fetch = ["./fetch.sh", "{{tag}}", "{{into}}"]{keys}"#))
}

#[test]
fn a_bare_tag_or_an_object_is_understood() {
    let world = World::new();
    let offer = commands(&world, "echo v1.2.3", "").newest(&world.context).unwrap();
    assert_eq!((offer.tag.as_str(), offer.mark, offer.published), ("v1.2.3", None, None));
    assert_eq!(offer.origin, "command:./newest.sh");
    // A command names one release and no other.
    let none = commands(&world, "echo v1.2.3", "").newest_but(&[offer.tag], &world.context).unwrap();
    assert_eq!(none, None);
    let json = r#"echo '{"tag": "v2", "mark": "abc", "published": "1970-01-01T00:00:05Z"}'"#;
    let offer = commands(&world, json, "").newest(&world.context).unwrap();
    assert_eq!(
        (offer.tag.as_str(), offer.mark.as_deref(), offer.published),
        ("v2", Some("abc"), Some(Timestamp(5_000)))
    );
}

#[test]
fn what_fetch_puts_there_is_installed_as_files_or_as_an_archive() {
    let world = World::new();
    let channel = commands(&world, "echo v1", r#"mkdir "$2/bin" && echo "$1" > "$2/bin/app""#);
    let installed = world.install_newest(&channel).unwrap();
    assert_eq!(read(&installed.path, "bin/app"), "v1\n");
    assert_eq!(installed.release.digest, installed.tree);

    let bytes = tar(&[file("app", "packed")]);
    world.put("v2.tar", &bytes);
    let channel = commands(&world, "echo v2", r#"cp v2.tar "$2/""#);
    let installed = world.install_newest(&channel).unwrap();
    assert_eq!(read(&installed.path, "app"), "packed");
    assert_eq!(installed.release.digest, Digest::of(&bytes));
}

#[test]
fn a_digest_as_mark_is_compared_with_what_was_fetched() {
    let world = World::new();
    let bytes = tar(&[file("app", "packed")]);
    world.put("app.tar", &bytes);
    let newest = |digest: Digest| format!(r#"echo '{{"tag": "v1", "mark": "{digest}"}}'"#);
    let fetch = r#"cp app.tar "$2/""#;
    let wrong = commands(&world, &newest(Digest::of(b"other")), fetch);
    assert_eq!(code(world.install_newest(&wrong)), "digest-mismatch");
    assert_eq!(world.left(), [""; 0]);
    let right = commands(&world, &newest(Digest::of(&bytes)), fetch);
    world.install_newest(&right).unwrap();
}

#[test]
fn the_same_tag_with_other_bytes_is_another_installation() {
    let world = World::new();
    let channel = commands(&world, "echo v1", r#"cp content "$2/app""#);
    world.put("content", "one");
    let first = world.install_newest(&channel).unwrap();
    assert_eq!(world.install_newest(&channel).unwrap(), first);
    world.put("content", "two");
    let second = world.install_newest(&channel).unwrap();
    assert_ne!(first.release.digest, second.release.digest);
    assert_eq!(read(&first.path, "app"), "one");
}

#[test]
fn an_answer_that_is_no_tag_is_refused() {
    let world = World::new();
    for nonsense in [
        "",
        "printf 'v1\\nv2\\n'",
        "echo -- v1",
        "echo '{\"tag\": 7}'",
        "echo '{\"tag\": \"a b\"}'",
        "echo '{\"mark\": \"x\"}'",
        "echo '{\"tag\": \"v1\", \"mark\": \"\"}'",
        "echo '{\"tag\": \"v1\", \"published\": \"yesterday\"}'",
        "echo '{\"tag\": \"v1\"'",
        "printf '\\377\\376'",
        "head -c 200 /dev/zero | tr '\\0' x",
    ] {
        let channel = commands(&world, nonsense, "");
        assert_eq!(code(channel.newest(&world.context)), "channel-answer-unreadable", "{nonsense:?}");
    }
}

#[test]
fn a_failing_command_is_quoted_without_its_secrets() {
    let world = World::new();
    let channel = commands(&world, "echo 'no access: https://bob:hunter2@host/x token=abc' >&2; exit 3", "");
    let error = channel.newest(&world.context).unwrap_err();
    let failure = Failure::of(&error);
    assert_eq!(failure.code, "channel-client-failed");
    assert_eq!(
        failure.message,
        "./newest.sh ended with exit status: 3; it said: no access: https://***@host/x token=***"
    );
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn a_command_that_is_not_there_or_not_executable_is_named() {
    let world = World::new();
    let channel = channel(r#"command = ["./absent.sh"], fetch = ["x", "{into}"]"#);
    assert_eq!(code(channel.newest(&world.context)), "channel-client-not-started");
    world.put("absent.sh", "#!/bin/sh\necho v1\n");
    assert_eq!(code(channel.newest(&world.context)), "channel-client-not-started");
}

#[test]
fn a_command_that_hangs_is_ended_with_all_its_children() {
    let world = World::new();
    let newest = "trap '' TERM; sleep 600 & echo $! > child; echo $$ > self; echo waiting >&2; wait; wait; sleep 600";
    let channel = commands_with(&world, newest, "", r#", timeout = "700ms""#);
    let error = channel.newest(&world.context).unwrap_err();
    let ChannelError::TimedOut { output, .. } = &error else { panic!("{error}") };
    assert_eq!(output, "waiting");
    for name in ["self", "child"] {
        assert!(has_ended(&fs::read_to_string(world.path(name)).unwrap()), "{name} still runs");
    }
}

#[test]
fn a_child_left_behind_does_not_hold_the_answer_up() {
    let world = World::new();
    let channel = commands(&world, "sleep 600 & echo $! > child; echo v1", "");
    assert_eq!(channel.newest(&world.context).unwrap().tag.as_str(), "v1");
    assert!(has_ended(&fs::read_to_string(world.path("child")).unwrap()));
}

#[test]
fn a_command_that_floods_is_ended() {
    let world = World::new();
    assert_eq!(code(commands(&world, "exec yes", "").newest(&world.context)), "channel-output-too-long");
    // What it says beside its answer is cut, not refused.
    let chatty = commands(&world, "head -c 3000000 /dev/zero >&2; echo v1", "");
    assert_eq!(chatty.newest(&world.context).unwrap().tag.as_str(), "v1");
}

#[test]
fn a_fetch_that_hangs_fails_or_gives_nothing_leaves_nothing() {
    let world = World::new();
    let hangs =
        commands_with(&world, "echo v1", r#"echo x > "$2/app"; exec sleep 600"#, r#", install_timeout = "500ms""#);
    assert_eq!(code(world.install_newest(&hangs)), "channel-timed-out");
    let fails = commands(&world, "echo v1", r#"echo x > "$2/app"; exit 1"#);
    assert_eq!(code(world.install_newest(&fails)), "channel-client-failed");
    let empty = commands(&world, "echo v1", "exit 0");
    assert_eq!(code(world.install_newest(&empty)), "unpack-empty");
    let fifo = commands(&world, "echo v1", r#"mkfifo "$2/pipe""#);
    assert_eq!(code(world.install_newest(&fifo)), "unpack-special-file");
    let closed = commands(&world, "echo v1", r#"mkdir "$2/a" && echo x > "$2/a/b" && chmod 555 "$2/a"; exit 1"#);
    assert_eq!(code(world.install_newest(&closed)), "channel-client-failed");
    assert_eq!(world.left(), [""; 0]);
}

#[test]
fn a_process_that_fetch_left_in_a_session_of_its_own_is_ended_too() {
    let world = World::new();
    let fetch = r#"setsid sh -c 'echo $$ > escaped; exec sleep 600' & while [ ! -s escaped ]; do :; done; exit 1"#;
    let channel = commands(&world, "echo v1", fetch);
    assert_eq!(code(world.install_newest(&channel)), "channel-client-failed");
    assert!(has_ended(&fs::read_to_string(world.path("escaped")).unwrap()));
}

#[test]
fn links_that_the_move_would_break_are_refused_and_others_kept() {
    let world = World::new();
    let breaks = commands(&world, "echo v1", r#"echo x > "$2/app"; ln -s "$2/app" "$2/link""#);
    assert_eq!(code(world.install_newest(&breaks)), "unpack-link-leaves");
    let keeps = commands(&world, "echo v1", r#"ln -s /bin/sh "$2/sh"; ln -s sh "$2/shell"; ln content "$2/hard""#);
    world.put("content", "one");
    let installed = world.install_newest(&keeps).unwrap();
    world.put("content", "two");
    assert_eq!(read(&installed.path, "hard"), "one");
    assert!(fs::metadata(format!("{}/shell", installed.path)).unwrap().is_file());
}

#[test]
fn a_cancel_ends_a_running_command() {
    let world = World::new();
    let channel = commands(&world, "echo $$ > self; exec sleep 600", "");
    let cancelled = world.context.cancelled.clone();
    let started = world.path("self");
    let canceller = std::thread::spawn(move || {
        while fs::read_to_string(&started).unwrap_or_default().is_empty() {
            std::thread::yield_now();
        }
        cancelled.store(true, Ordering::Relaxed);
    });
    assert_eq!(code(channel.newest(&world.context)), "channel-cancelled");
    canceller.join().unwrap();
}

#[test]
fn a_pinned_release_is_offered_by_its_name() {
    let world = World::new();
    let channel = commands(&world, "exit 1", r#"echo "$1" > "$2/app""#);
    let offer = channel.offer_of(&tag("v7"), &world.context).unwrap();
    assert_eq!(read(&world.install(&channel, &offer).unwrap().path, "app"), "v7\n");
}

#[test]
fn a_client_that_is_missing_is_named_with_the_package_that_brings_it() {
    let world = World::new();
    let said = |python: &str| {
        let channel = channel(&format!(r#"pypi = "six", python = "{python}""#));
        let failure = Failure::of(&channel.newest(&world.context).unwrap_err());
        (failure.code, failure.hint)
    };
    let hint = |package: &str| Some(format!("install it: apt install {package}"));
    assert_eq!(said("./no-such-python"), ("channel-client-missing".into(), hint("python3")));
    script(&world, "bare-python", "echo 'python3: No module named pip' >&2; exit 1");
    assert_eq!(said("./bare-python"), ("channel-client-missing".into(), hint("python3-pip")));
    script(&world, "odd-python", "echo '<html>try later</html>'");
    assert_eq!(said("./odd-python").0, "channel-answer-unreadable");
}

#[test]
fn an_installed_python_version_other_than_the_one_asked_for_is_refused() {
    let world = World::new();
    // A client that downloads what was asked for and installs something else.
    let body = r#"case "$*" in
        *--dry-run*) echo '{"install":[{"metadata":{"version":"1.0"},"download_info":{"archive_info":{}}}]}';;
        *download*) echo wheel > app-1.0.whl;;
        *--target*) mkdir -p lib/app-2.0.dist-info; echo 'Version: 2.0' > lib/app-2.0.dist-info/METADATA;;
        *sys.executable*) echo /usr/bin/python3;;
    esac"#;
    script(&world, "python", body);
    let channel = channel(r#"pypi = "app", python = "./python""#);
    assert_eq!(code(world.install_newest(&channel)), "version-mismatch");
    assert_eq!(world.left(), [""; 0]);
}
