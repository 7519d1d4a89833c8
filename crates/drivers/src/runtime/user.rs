//! Who an instance runs as: a user's name made into numbers.
//!
//! The files are read first because that costs microseconds; names from a directory service are asked of
//! `getent` and `id`, which know the machine's whole name service configuration.

use super::Groups;
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

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

impl Account {
    /// Puts it into groups as systemd does: the main one takes the place of its own, the others are added.
    ///
    /// Errors: the name of a group that the machine does not know.
    pub(crate) fn within(mut self, groups: &Groups) -> Result<Self, String> {
        let id = |name: &String| group_id(name).ok_or_else(|| name.clone());
        if let Some(main) = &groups.main {
            let own = std::mem::replace(&mut self.gid, id(main)?);
            self.groups.retain(|group| *group != own);
            self.groups.insert(0, self.gid);
        }
        for name in &groups.more {
            self.groups.push(id(name)?);
        }
        let mut seen = BTreeSet::new();
        self.groups.retain(|group| seen.insert(*group));
        Ok(self)
    }
}

/// Looks a group up by its name or number; none if the machine does not know it.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    if name.is_empty() || name.contains([':', '\n', '\0']) || name.starts_with('-') {
        return None;
    }
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    };
    let file = fs::read_to_string("/etc/group").unwrap_or_default();
    file.lines().find_map(of).or_else(|| of(answer("getent", &["group", name])?.trim_end()))
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
    fn the_groups_of_a_unit_are_taken_as_systemd_takes_them() {
        let account = Account { name: "a".into(), uid: 9, gid: 9, groups: vec![9, 6], home: "/".into() };
        let of = |main: Option<&str>, more: &[&str]| Groups {
            main: main.map(Into::into),
            more: more.iter().map(|group| (*group).to_owned()).collect(),
        };
        let within = |groups: Groups| account.clone().within(&groups).map(|account| (account.gid, account.groups));
        assert_eq!(within(of(None, &[])), Ok((9, vec![9, 6])));
        assert_eq!(within(of(Some("0"), &["6", "root", "42"])), Ok((0, vec![0, 6, 42])));
        assert_eq!(within(of(Some("no-such-group-here"), &[])), Err("no-such-group-here".into()));
        assert_eq!(within(of(None, &["-x"])), Err("-x".into()));
    }

    #[test]
    fn a_name_that_is_an_option_or_a_line_is_unknown() {
        for name in ["", "-G", "a:b", "a\nb", "no-such-user-here"] {
            assert_eq!(look_up(name), None, "{name:?}");
        }
        assert_eq!(look_up("root").map(|root| root.uid), Some(0));
    }
}
