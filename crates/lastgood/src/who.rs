//! Who types a command.

use lastgood_domain::terms::Actor;
use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// Names who asks: the person behind `sudo` where root asks or whoever owns the state folder, else the account whose
/// process this is.
///
/// What anybody else can set (`USER`, `LOGNAME`, `SUDO_USER`) is not looked at: two names of one account would be two
/// people. Root and the folder's owner can write the evidence themselves, so their word for who is behind them is taken.
pub(crate) fn actor(state_dir: &Path) -> Actor {
    let uid = rustix::process::getuid();
    let owns = || std::fs::metadata(state_dir).is_ok_and(|folder| folder.uid() == uid.as_raw());
    let behind = (uid.is_root() || owns()).then(|| std::env::var("SUDO_USER").ok()).flatten();
    person(&behind.unwrap_or_else(|| account(uid.as_raw())))
}

fn person(name: &str) -> Actor {
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    Actor::new(&format!("person:{plain}")).unwrap_or_else(|_| Actor::new("person:unknown").expect("a fixed valid name"))
}

/// Names an account by its number; one that nobody knows is `uid-NUMBER`.
pub(crate) fn account(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    named(&users, uid).or_else(|| named(&directory(uid), uid)).unwrap_or_else(|| format!("uid-{uid}"))
}

/// Tells whether a user id has a name on this machine.
pub(crate) fn has_account(uid: u32) -> bool {
    account(uid) != format!("uid-{uid}")
}

fn named(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Asks the name service, which knows the accounts of a directory too. By its full path and with nothing of the
/// caller's environment: the caller must not choose who answers.
fn directory(uid: u32) -> String {
    let mut ask = Command::new("/usr/bin/getent");
    ask.args(["passwd", &uid.to_string()]).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    ask.output().map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_number_alone() {
        let users =
            "root:x:0:0::/root:/bin/sh\nbad line\nanna:x:1000:1000::/home/anna:/bin/sh\n10000:x:7:7::/:/bin/sh\n";
        assert_eq!(named(users, 1000), Some("anna".into()));
        assert_eq!(named(users, 7), Some("10000".into()));
        assert_eq!(named(users, 10_000), None);
        assert_eq!(account(u32::MAX - 5), format!("uid-{}", u32::MAX - 5));
    }

    #[test]
    fn a_name_that_no_actor_may_have_becomes_one() {
        assert_eq!(person("anna.b").as_str(), "person:anna.b");
        assert_eq!(person("an na;rm").as_str(), "person:annarm");
        assert_eq!(person("§").as_str(), "person:unknown");
    }
}
