//! Who an instance runs as: a user's name made into numbers.
//!
//! The files are read first because that costs microseconds; names from a directory service are asked of
//! `getent` and `id`, which know the machine's whole name service configuration.

use std::{fs, path::PathBuf, process::Command};

/// A user, ready to be become.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Every group, the primary one included.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
}

/// Looks `name` up; none if the machine does not know it.
pub(crate) fn look_up(name: &str) -> Option<Account> {
    if name.is_empty() || name.contains([':', '\n', '\0']) || name.starts_with('-') {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(mut account) = passwd.lines().find_map(|line| from_line(line, name)) {
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        account.groups = groups_of(&groups, name, account.gid);
        return Some(account);
    }
    let mut account = from_line(answer("getent", &["passwd", name])?.trim_end(), name)?;
    account.groups = answer("id", &["-G", name])?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(account)
}

fn from_line(line: &str, name: &str) -> Option<Account> {
    let mut fields = line.split(':');
    if fields.next()? != name {
        return None;
    }
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1)?.into();
    Some(Account { name: name.into(), uid, gid, groups: vec![gid], home })
}

fn groups_of(groups: &str, name: &str, primary: u32) -> Vec<u32> {
    let mut found = vec![primary];
    for line in groups.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(Ok(gid)), Some(members)) = (fields.next().map(str::parse), fields.next()) else { continue };
        if members.split(',').any(|member| member == name) && !found.contains(&gid) {
            found.push(gid);
        }
    }
    found
}

fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supplementary_groups_are_found_and_a_longer_name_is_not_taken_for_it() {
        let groups = "root:x:0:\ndisk:x:6:alice,bob\nmail:x:8:alicea\nbroken\nusers:x:100:bob,alice\n";
        assert_eq!(groups_of(groups, "alice", 1000), [1000, 6, 100]);
        let line = "alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh";
        let account = from_line(line, "alice").unwrap();
        assert_eq!((account.uid, account.gid, account.home), (1000, 1001, PathBuf::from("/home/alice")));
        assert_eq!(from_line(line, "alic"), None);
    }

    #[test]
    fn a_name_that_is_an_option_or_a_line_is_unknown() {
        for name in ["", "-G", "a:b", "a\nb", "no-such-user-here"] {
            assert_eq!(look_up(name), None, "{name:?}");
        }
        assert_eq!(look_up("root").map(|root| root.uid), Some(0));
    }
}
