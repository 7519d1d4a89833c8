//! Every command that an error page, a guide or a hint names must exist, with its flags.

use super::Arguments;
use clap::{Command, CommandFactory as _};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What follows the product's name in sources that stand where a command could.
const PROSE: [&str; 8] = ["can't", "does", "evidence chain", "may", "notice", "plan 1", "serves", "tree v1"];
/// What stands before a command that is to be typed.
const BEFORE: [&str; 7] = ["\"", "`", "$ ", ": ", "; ", "with ", "then "];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Gives the texts of a folder and below it with this ending.
fn texts(folder: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(texts(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            let text = fs::read_to_string(&path).expect("a text");
            found.push((path, text));
        }
    }
    found
}

/// Finds what is written like a command: in quotes or code, or behind a colon or a prompt.
///
/// In a page only code counts: its prose has colons too.
fn commands(text: &str, is_page: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        is_fenced ^= line.starts_with("```");
        for (at, name) in line.match_indices("lastgood ") {
            let (before, rest) = (&line[..at], &line[at + name.len()..]);
            let is_typed = match is_page && !is_fenced {
                true => before.ends_with('`'),
                false => (before.is_empty() && is_fenced) || BEFORE.iter().any(|end| before.ends_with(end)),
            };
            let end = rest.find(['`', '"', ';', ',', '\\', '|', '#', '(']).unwrap_or(rest.len());
            let command = rest[..end].trim();
            let is_prose = PROSE.iter().any(|prose| command == *prose || command.starts_with(&format!("{prose} ")));
            if is_typed && !is_prose && !command.is_empty() && !command.starts_with('{') {
                found.push(command.to_owned());
            }
        }
    }
    found
}

/// Says what of a command line does not exist.
fn unknown(program: &Command, line: &str) -> Option<String> {
    let mut command = program;
    let mut words = line.split_whitespace().peekable();
    let known = |command: &Command, flag: &str| {
        let is = |one: &clap::Arg| match flag.strip_prefix("--") {
            Some(long) => one.get_long() == Some(long),
            None => one.get_short() == flag.chars().nth(1),
        };
        command.get_arguments().chain(program.get_arguments()).any(is) || ["--help", "--version"].contains(&flag)
    };
    // Options of the program may come before the command; what follows one may be its value.
    let mut value_may_follow = false;
    while let Some(word) = words.peek().copied() {
        if word.starts_with('-') {
            if !known(command, word) {
                return Some(format!("{word} is no flag of the program"));
            }
            value_may_follow = word == "--config" || word == "-c";
        } else if value_may_follow {
            value_may_follow = false;
        } else {
            break;
        }
        words.next();
    }
    while command.has_subcommands() {
        let Some(word) = words.next() else { break };
        let word = word.trim_end_matches(['.', ':', ')']);
        match command.find_subcommand(word) {
            Some(next) => command = next,
            None => return Some(format!("{word} is no command of {}", command.get_name())),
        }
    }
    let flags = words.filter(|word| word.starts_with('-') && word.len() > 1);
    let flags = flags.map(|word| word.trim_end_matches(['.', ':', ')']).split('=').next().unwrap_or_default());
    let mut wrong = flags.filter(|flag| !known(command, flag));
    wrong.next().map(|flag| format!("{flag} is no flag of {}", command.get_name()))
}

#[test]
fn every_command_that_pages_and_hints_name_exists_with_its_flags() {
    let mut program = Arguments::command();
    program.build();
    let mut all = texts(&root().join("docs/errors"), "md");
    all.extend(texts(&root().join("docs/guide"), "md"));
    for room in ["domain", "store", "drivers", "engine", "server", "lastgood", "verify"] {
        all.extend(texts(&root().join("crates").join(room).join("src"), "rs"));
    }
    let own = Path::new(file!()).file_name().expect("a file");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, text) in all.iter().filter(|(path, _)| path.file_name() != Some(own)) {
        for line in commands(text, path.extension().is_some_and(|one| one == "md")) {
            seen += 1;
            if let Some(what) = unknown(&program, &line) {
                wrong.push(format!("{}: lastgood {line}: {what}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {seen} commands don't exist:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen > 100, "only {seen} commands were found");
}

#[test]
fn a_command_or_a_flag_that_is_not_there_is_found() {
    let mut program = Arguments::command();
    program.build();
    let says = |line| unknown(&program, line);
    assert_eq!(says("rollback SERVICE --instance NAME --yes"), None);
    assert_eq!(says("--config FILE status"), None);
    assert_eq!(says("snapshot list").as_deref(), Some("snapshot is no command of lastgood"));
    assert_eq!(says("evidence key").as_deref(), Some("key is no command of evidence"));
    assert_eq!(says("run --everything").as_deref(), Some("--everything is no flag of run"));
}
